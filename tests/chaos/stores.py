"""Reads the store of a node that does not run, with nothing of the node's own code: is every block whole?

The format is that of docs/architecture.md. A height is whole when its block, its changes and receipts, and the body of
every batch that it names are there; and nothing is above the tip.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rocksdict import AccessType, DBRecoveryMode, Options, Rdict

DIGEST_BYTES = 32


@dataclass(slots=True)
class Held:
    """What one store holds: the tip, (header, digests) of each height that was looked at, and what is not whole."""

    tip: int
    blocks: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    partial: list[str] = field(default_factory=list)


def inspect(data: Path, *, first: int = 1) -> Held:
    """Look at all heights from `first` on. Raises what RocksDB raises for files that it cannot read."""
    options = Options(raw_mode=True)
    options.set_wal_recovery_mode(DBRecoveryMode.tolerate_corrupted_tail_records())
    database = Rdict(str(data / "db"), options, access_type=AccessType.read_only())
    try:
        tip = database.get(b"t")
        held = Held(0 if tip is None else _height(tip[:8]))
        for height in range(max(1, first), held.tip + 1):
            key = height.to_bytes(8, "big")
            block, state = database.get(b"b" + key), database.get(b"s" + key)
            if block is None or state is None:
                held.partial.append(f"height {height} has {'no block' if block is None else 'no changes'}")
                continue
            header, _, digests = _parts(block)
            held.blocks[height] = header, digests
            if len(list(_parts(state))) != 2:
                held.partial.append(f"height {height} has something else than changes and receipts")
            for at in range(0, len(digests), DIGEST_BYTES):
                if database.get(b"B" + digests[at : at + DIGEST_BYTES]) is None:
                    held.partial.append(f"height {height} misses batch {digests[at : at + DIGEST_BYTES].hex()}")
        above = (held.tip + 1).to_bytes(8, "big")
        for kind in (b"b", b"s"):
            if database.get(kind + above) is not None:
                held.partial.append(f"height {held.tip + 1} is there, above the tip {held.tip}")
        return held
    finally:
        database.close()


def differences(stores: dict[str, Held]) -> list[str]:
    """Heights at which two cities hold different blocks."""
    found = []
    every = {height for held in stores.values() for height in held.blocks}
    for height in sorted(every):
        blocks = {city: held.blocks[height] for city, held in stores.items() if height in held.blocks}
        if len(set(blocks.values())) > 1:
            found.append(f"height {height} differs between {', '.join(sorted(blocks))}")
    return found


def _height(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _parts(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        yield data[at + 4 : at + 4 + length]
        at += 4 + length
