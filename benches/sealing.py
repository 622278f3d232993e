"""Sealing a million items: four nodes as four processes on loopback, each syncing to the disk under the results.

Timed from the CSV file on disk (a million rows with one attribute each) to the receipt of the committed transaction:
building the table, uploading it to one city, two cities opening, checking and keeping it, and the seal. `.build`,
`.upload`, `.receipts` and `.commit` are its steps; `.everywhere` is how long after the commit the last of the four
cities answers about an item, which needs the file at every one of them.
"""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import trio

from benches import rows
from benches.network import running
from benches.rows import Row
from cityid import keys
from cityid._native import Table, TableWriter, Trust, make_item_code
from cityid.cli import local
from cityid.client import SyncClient, operations

ITEMS: Final = int(os.environ.get("CITYID_BENCH_SEALED_ITEMS", "1000000"))
CITY, ORG, USE, CLASS, MODEL = "130100", "A7K2", "60", "010203", "1"
PIECE_BYTES: Final = 4 * 1024 * 1024
MILLION: Final = 1_000_000
PATIENCE_S: Final = 120


def run(names: Sequence[str], place: Path) -> Iterator[Row]:
    """The row, and its steps."""
    [name] = names
    place.mkdir(parents=True, exist_ok=True)
    steps = trio.run(_measure, place)
    total = sum(seconds for step, seconds in steps.items() if step != "everywhere")
    yield rows.make(name, [total], "s", better="lower")
    for step, seconds in steps.items():
        yield rows.make(f"{name}.{step}", [seconds], "s", better="lower")


async def _measure(place: Path) -> dict[str, float]:
    async with running(place) as network:
        trust = Trust.load(str(network.directory / "genesis.json"))
        return await trio.to_thread.run_sync(_seal, place, network, trust, trust.genesis_hash)


def _seal(place: Path, network: local.LocalNetwork, trust: Trust, genesis_hash: bytes) -> dict[str, float]:
    office = keys.generate(place / "office.pem")
    city_key = keys.load(keys.key_path(place / "network" / CITY / "keys", "transaction"))
    entry = operations.prove_possession(office, genesis_hash, f"MA.156.{CITY}.{ORG}")
    with SyncClient(network.urls[CITY], trust) as client:
        client.transact(
            [operations.admit_organisation(CITY, ORG, name="bench", quota=MILLION, keys=[entry])], [city_key]
        )
        category = operations.register_category(CITY, ORG, use=USE, class_code=CLASS, model=MODEL, name="bench")
        allocation = operations.allocate_range(CITY, ORG, class_code=CLASS, size=MILLION)
        [_, found] = client.transact([category, allocation], [office]).outputs
        assert isinstance(found, tuple)
        base = found[0]
        rows_path = place / "items.csv"
        _write_rows(rows_path, base)
        height = int(client.status()["height"])

        steps: dict[str, float] = {}
        began = time.monotonic()

        def step(name: str) -> None:
            nonlocal began
            steps[name], began = time.monotonic() - began, time.monotonic()

        table = _build(place / "table", rows_path, genesis_hash, base, height)
        step("build")
        client.upload(table.path)
        step("upload")
        receipts = client.storage_receipts(table.digest, 1)
        step("receipts")
        sealed: dict[str, Any] = {
            "op": "seal_range",
            "range": {"city": CITY, "class": CLASS, "base": base, "size": MILLION},
            "expected_version": 1,
            "table": {"root": table.root.hex(), "digest": table.digest.hex(), "count": table.count},
            "receipts": receipts,
        }
        client.transact([sealed], [office])
        step("commit")
    code = make_item_code(CITY, ORG, USE, CLASS, MODEL, base + ITEMS - 1)
    for city in local.FIRST_CITIES:
        with SyncClient(network.urls[city], trust) as client:
            while (verdict := client.resolve(code).verdict.verdict) != "REGISTERED":
                if time.monotonic() - began > PATIENCE_S:
                    raise TimeoutError(f"{city} still says {verdict} about {code} {PATIENCE_S} s after the seal")
                time.sleep(0.01)
    step("everywhere")
    print(f"  seal: {table.count} items, {table.size_bytes / 1e6:.0f} MB", file=sys.stderr)
    return steps


def _write_rows(path: Path, base: int) -> None:
    with path.open("w") as file:
        file.write("serial,use,model,pole\n")
        for serial in range(base, base + ITEMS):
            file.write(f"{serial},{USE},{MODEL},P-{serial:09d}\n")


def _build(path: Path, rows_path: Path, genesis_hash: bytes, base: int, height: int) -> Table:
    writer = TableWriter(
        path, genesis_hash=genesis_hash, city=CITY, cls=CLASS, base=base, size=MILLION, org=ORG, seed=os.urandom(32),
        height=height,
    )  # fmt: skip
    with rows_path.open("rb") as file, path.with_name("disclosures.csv").open("wb") as kept:
        while piece := file.read(PIECE_BYTES):
            kept.write(writer.add_csv(piece))
        kept.write(writer.add_csv(b""))
    return writer.finish()
