"""A million registered items: looking codes up from Python, the memory a record takes, and opening the store again.

`memory.bytes_per_record` is what the process grew by, per record, with the record, its map entry, its index and what
the allocator keeps. `restart.1m` opens a store that holds the blocks of these items and rebuilds the ledger from it.
"""

import ctypes
import os
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Final

from benches import registrations, rows, timing
from benches.chain import Chain
from benches.rows import Row
from cityid import Ledger
from cityid._native import header_hash, make_item_code
from cityid.node.ports import HeightRecord, WriteStore
from cityid.node.store import Store

ITEMS: Final = 1_000_000
PER_TRANSACTION: Final = 500
PER_BLOCK: Final = 100
CODES: Final = 20_000
PER_CALL: Final = 1_000
REPETITIONS: Final = 5
RESTARTS: Final = 3


def run(names: Sequence[str], place: Path) -> Iterator[Row]:
    """The rows of these names."""
    chain = Chain(4)
    organisation = registrations.organisations(1, chain.cities)[0]
    chain.open([organisation], size=1_000_000)
    Store.create(place / "store", chain.genesis.hash)
    store = Store.open(place / "store", chain.genesis.hash)
    keep(store, chain)
    records, before = chain.ledger.records, _resident_bytes()
    for first in range(0, ITEMS, PER_TRANSACTION * PER_BLOCK):
        chain.commit_all(
            [
                registrations.register(chain.genesis.hash, organisation, range(start, start + PER_TRANSACTION))
                for start in range(first, first + PER_TRANSACTION * PER_BLOCK, PER_TRANSACTION)
            ]
        )
        keep(store, chain)
    store.close()
    bytes_per_record = (_resident_bytes() - before) / (chain.ledger.records - records)
    for name in names:
        match name:
            case "memory.bytes_per_record":
                yield rows.make(name, [bytes_per_record], "bytes", better="lower")
            case "restart.1m":
                yield rows.make(name, [_restart(place / "store", chain) for _ in range(RESTARTS)], "s", better="lower")
            case _:
                yield _resolve(name, chain)


def keep(store: Store, chain: Chain) -> None:
    """Writes what was committed since the last time, and lets go of it."""
    for candidate, commit, certificate in chain.commits:
        record = HeightRecord(
            height=commit.height,
            header=candidate.header,
            header_hash=header_hash(candidate.header),
            certificate=certificate,
            digests=b"",
            changes=commit.changes,
            receipts=commit.receipts,
        )
        store.write([WriteStore(token=0, height=record)])
    chain.commits.clear()


def _restart(directory: Path, chain: Chain) -> float:
    began = time.perf_counter()
    store = Store.open(directory, chain.genesis.hash)
    ledger = Ledger(chain.genesis)
    store.replay(ledger)
    seconds = time.perf_counter() - began
    store.close()
    if ledger.state_root != chain.ledger.state_root:
        raise AssertionError("another state after the restart")
    return seconds


def _resolve(name: str, chain: Chain) -> Row:
    draw = random.Random(1)
    serials = [draw.randrange(ITEMS) for _ in range(CODES)]
    codes = [make_item_code(chain.cities[0], "B00000", "60", "000000", "1", serial) for serial in serials]
    calls = [codes[start : start + PER_CALL] for start in range(0, CODES, PER_CALL)]
    if not all('"REGISTERED"' in row for row in chain.ledger.resolve_many(calls[0])):
        raise AssertionError("a registered code was not found")
    contestants = {"ours": timing.clocked(lambda: [chain.ledger.resolve_many(call) for call in calls])}
    taken = timing.alternate(contestants, repetitions=REPETITIONS)["ours"]
    rates = [CODES / seconds for seconds in taken]
    return rows.make(name, rates, "codes/s", better="higher", cpu_us_per_op=median(timing.per_us(taken, CODES)))


def _resident_bytes() -> int:
    """After what is free was given back to the system, so that only what is held counts."""
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE")
