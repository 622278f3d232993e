"""A city that joins with nothing, by a snapshot, beside three nodes with a million records; and its next start.

The three are given the blocks of a ledger that executed them before, so that nobody waits for a million registrations.
Each makes a snapshot at the next multiple of `SNAPSHOT_HEIGHTS`; then the fourth is started. Four processes, mutual
TLS, loopback. `CITYID_BENCH_JOIN_RECORDS` sets another number of records.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import trio

from benches import registrations, rows
from benches.chain import Chain
from benches.resolving import keep
from benches.rows import Row
from cityid import genesis, keys
from cityid.cli import local
from cityid.keys import Signer
from cityid.node import config, node
from cityid.node.store import Store

RECORDS: Final = int(os.environ.get("CITYID_BENCH_JOIN_RECORDS", "1000000"))
PER_TRANSACTION: Final = 500
PER_BLOCK: Final = 100
SNAPSHOT_HEIGHTS: Final = 200
FIRST_HEIGHT: Final = SNAPSHOT_HEIGHTS - 5
"""Where the nodes begin: five heartbeats before their first snapshot."""
PAST_MS: Final = 3_600_000
"""The chain was made before the nodes start, a second a block: none of its blocks lies in the future."""
SETTINGS: Final = f"\n[store]\nsnapshot_heights = {SNAPSHOT_HEIGHTS}\nsnapshot_lag_heights = 64\n"


def run(names: Sequence[str], place: Path) -> Iterator[Row]:
    """The rows of these names."""
    network = _make(place / "joining")
    joined, restarted = trio.run(_measure, network)
    taken = {"join.snapshot.1m": joined, "join.snapshot.1m.restart": restarted}
    for name in names:
        yield rows.make(name, [taken[name]], "s", better="lower")


def _make(directory: Path) -> local.LocalNetwork:
    cities = local.FIRST_CITIES
    ports = local.free_ports(2 * len(cities))
    addresses = {
        city: (f"127.0.0.1:{ports[2 * index]}", f"127.0.0.1:{ports[2 * index + 1]}")
        for index, city in enumerate(cities)
    }
    names = genesis.member_names()
    made = genesis.create_network(
        directory,
        [(city, names[city]) for city in cities],
        name="bench",
        time_ms=time.time_ns() // 1_000_000 - PAST_MS,
        addresses=addresses,
        parameters={"heartbeat_ms": 1_000},
    )
    for city in cities:
        with (directory / city / "node.toml").open("a", encoding="utf-8") as file:
            file.write(SETTINGS)
        node.prepare(config.load(directory / city / "node.toml"))

    @cache
    def signer(city: str, purpose: str) -> Signer:
        return keys.load(keys.key_path(directory / city / "keys", purpose))

    chain = Chain(len(cities), genesis=made, signer=signer)
    first = directory / cities[0] / "data"
    store = Store.open(first, made.hash)
    organisations = registrations.organisations(-(-RECORDS // 1_000_000), chain.cities)
    chain.open(organisations, size=1_000_000)
    for organisation in organisations:
        for begin in range(0, min(RECORDS, 1_000_000), PER_TRANSACTION * PER_BLOCK):
            starts = range(begin, min(begin + PER_TRANSACTION * PER_BLOCK, RECORDS), PER_TRANSACTION)
            transactions = [
                registrations.register(made.hash, organisation, range(start, start + PER_TRANSACTION))
                for start in starts
            ]
            chain.commit_all(transactions)
            keep(store, chain)
    while chain.ledger.height < FIRST_HEIGHT:
        chain.commit(chain.execute(b""))
    keep(store, chain)
    store.close()
    for city in cities[1:3]:
        shutil.copytree(first, directory / city / "data", dirs_exist_ok=True)
    return local.LocalNetwork(directory, {city: f"http://{addresses[city][1]}" for city in cities})


async def _measure(network: local.LocalNetwork) -> tuple[float, float]:
    *others, joiner = local.FIRST_CITIES
    with network.running():
        for city in others:
            network.start(city)
        for city in others:
            while not _events(network, city, "snapshot_made"):  # noqa: ASYNC110 - another process makes it
                await trio.sleep(0.1)
        began = time.perf_counter()
        network.start(joiner)
        await network.wait_ready(joiner)
        joined = time.perf_counter() - began
        [installed] = _events(network, joiner, "snapshot_installed")
        if int(installed["records"]) < RECORDS:
            raise AssertionError(f"it joined by a snapshot of {installed['records']} records")
        network.kill(joiner)
        network.start(joiner)
        await network.wait_ready(joiner)
        return joined, float(_events(network, joiner, "store_opened")[-1]["seconds"])


def _events(network: local.LocalNetwork, city: str, name: str) -> list[dict[str, Any]]:
    path = network.directory / city / "node.log"
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
    return [event for event in events if event["event"] == name]
