"""Four nodes as four processes over mutual TLS on loopback, each syncing to the disk under the results, under load.

Beside CometBFT with four validators, one Ed25519 signature a transaction and an IAVL tree (`regsig`), offered the same
load in the same run: 250-byte transactions, the same window or rate, latency from sending to the commit at node 0.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

import httpx
import trio

from benches import load, peers, registrations, rows
from benches.rows import Peer, Row
from cityid import keys
from cityid.cli import local

WARM_S: Final = 3.0
MEASURE_S: Final = 10
ORGANISATIONS: Final = 1_000
"""As many signers as the peer's load has."""
PEER: Final = "CometBFT 0.38 regsig"
# Enough for eighteen thousand a second; no organisation has more than a thousand serials.
TRANSACTIONS: Final = int(os.environ.get("CITYID_BENCH_TRANSACTIONS", "250000"))


@dataclass(frozen=True, slots=True)
class Offer:
    """A load, and how many transactions to sign for it."""

    window: int | None = None
    rate: int | None = None

    @property
    def prepared(self) -> int:
        """As many as it could send; a whole number for each organisation."""
        if self.rate is None:
            return TRANSACTIONS
        return int(self.rate * (WARM_S + MEASURE_S + 1)) // ORGANISATIONS * ORGANISATIONS + ORGANISATIONS


OFFERS: Final[Mapping[str, Offer]] = {
    "write.saturated.w4000": Offer(window=4_000),
    "write.saturated.w20000": Offer(window=20_000),
    "write.open.500": Offer(rate=500),
}


def run(names: Sequence[str], place: Path) -> Iterator[Row]:
    """The rows of these names, each with its latencies."""
    for name in names:
        offer = OFFERS[name]
        ours = trio.run(_measure, place / name, offer)
        peers.say(
            f"  {name}: {ours.blocks_per_s:.1f} blocks/s; cores: {ours.load_cores:.2f} load tool, "
            f"{ours.other_cores:.2f} other programs"
        )
        try:
            theirs: Mapping[str, Any] = peers.comet_bft(window=offer.window, rate=offer.rate, seconds=MEASURE_S)
        except peers.Missing as error:
            peers.say(str(error))
            theirs = {}
        yield from _rows(name, ours, theirs)


def _rows(name: str, ours: load.Offered, theirs: Mapping[str, Any]) -> Iterator[Row]:
    def peer(figure: str) -> Peer:
        return Peer(PEER, [theirs[figure]] if figure in theirs else ())

    yield rows.make(
        name,
        ours.slices_per_s,
        "transactions/s",
        better="higher",
        peer=peer("committed_per_s"),
        cpu_us_per_op=ours.cpu_us_per_transaction_and_node,
        value=ours.committed_per_s,
    )
    percent = quantiles(ours.latencies_ms, n=100)
    for suffix, value, figure in (
        (".p50", median(ours.latencies_ms), "p50_ms"),
        (".p99", percent[98], "p99_ms"),
    ):
        yield rows.make(name + suffix, [value], "ms", better="lower", peer=peer(figure))


async def _measure(directory: Path, offer: Offer) -> load.Offered:
    cities = sorted(local.FIRST_CITIES)
    ports = local.free_ports(2 * len(cities))
    addresses = {
        city: (f"127.0.0.1:{ports[2 * index]}", f"127.0.0.1:{ports[2 * index + 1]}")
        for index, city in enumerate(cities)
    }
    network, genesis = local.create(directory, cities, name="bench", addresses=addresses)
    chosen = registrations.organisations(ORGANISATIONS, cities)
    transactions = registrations.registrations(genesis.hash, chosen, offer.prepared)
    signers = {city: keys.load(keys.key_path(directory / city / "keys", "transaction")) for city in cities}
    with network.running():
        for city in cities:
            network.start(city)
        for city in cities:
            await network.wait_connected(city)
        urls = [network.urls[city] for city in cities]
        async with httpx.AsyncClient(timeout=60.0, trust_env=False) as http:
            await load.post(http, urls[0], list(registrations.admissions(genesis.hash, chosen, signers)), wait=True)
            await load.post(http, urls[0], list(registrations.openings(genesis.hash, chosen, size=1_000)), wait=True)
        return await load.Load(
            urls,
            [network.processes[city].pid for city in cities],
            transactions,
            warm_s=WARM_S,
            measure_s=MEASURE_S,
            window=offer.window,
            rate=offer.rate,
        ).run()
