"""SHA-256 of many 64-byte messages in one call, beside a loop over hashlib (OpenSSL)."""

import hashlib
import random
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Final

import cityid
from benches import rows, timing
from benches.rows import Peer, Row

MESSAGES: Final = 50_000
REPETITIONS: Final = 9


def run(names: Sequence[str], place: Path) -> Iterator[Row]:
    """The rows of these names."""
    del place
    data = random.Random(1).randbytes(64 * MESSAGES)
    offsets = array("I", range(0, 64 * MESSAGES + 1, 64)).tobytes()
    messages = [data[start : start + 64] for start in range(0, len(data), 64)]

    def loop() -> bytes:
        return b"".join([hashlib.sha256(message).digest() for message in messages])

    if cityid.sha256_many(data, offsets) != loop():
        raise AssertionError("other digests than hashlib's")
    contestants = {
        "ours": timing.clocked(lambda: cityid.sha256_many(data, offsets)),
        "hashlib loop": timing.clocked(loop),
    }
    taken = timing.alternate(contestants, repetitions=REPETITIONS)
    ours, theirs = ([us * 1000 for us in timing.per_us(taken[name], MESSAGES)] for name in ("ours", "hashlib loop"))
    for name in names:
        yield rows.make(
            name,
            ours,
            "ns per hash",
            better="lower",
            peer=Peer("hashlib loop", theirs),
            cpu_us_per_op=median(ours) / 1000,
        )
