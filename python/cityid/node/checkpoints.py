"""Cosigning checkpoints, and collecting a quorum of cosignatures.

After a height is durable, a city signs the C2SP checkpoint (origin, size, root) as a timestamped cosignature, with the
time of the header: every city signs the same bytes. A precommit is never a cosignature: an undecided value may gather
some precommits. A note is published when a quorum of the committee signed it, with no more lines than that. A signature
that fails strict RFC 8032 verification never gets in: some readers refuse a whole note for one such line.

Who counts for a height is the committee that follows from its block, with the checkpoint keys of the state after it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cityid._native import (
    Genesis,
    checkpoint_body,
    checkpoint_note,
    cosignature_line,
    cosignature_message,
    verify_strict,
)
from cityid.node.messages import Cosignature
from cityid.node.ports import Signer

OPEN_HEIGHTS = 8  # cosignatures of so many heights back still count
EARLY_HEIGHTS = 8  # and of so many ahead are kept


def checkpoint_origin(genesis: Genesis) -> str:
    """The origin line of this network's log: no other network has the same."""
    return f"cityid/{genesis.hash.hex()}"


def cosigner_name(city: str) -> str:
    """The key name of a city in cosignature lines."""
    return f"cityid/{city}"


@dataclass(slots=True)
class Open:
    """A checkpoint that gathers signatures."""

    body: bytes
    message: bytes
    time_s: int
    keys: Mapping[str, bytes]  # of the cities that count
    signatures: dict[str, bytes] = field(default_factory=dict)


class Checkpoints:
    """The newest published checkpoint, and those on their way."""

    def __init__(self, genesis: Genesis, city: str) -> None:
        self._origin = checkpoint_origin(genesis)
        self._city = city
        self._signer: Signer | None = None
        self._keys: Mapping[str, bytes] = {}
        self._open: dict[int, Open] = {}
        self._early: dict[int, dict[str, bytes]] = {}
        self._tip = 0
        self.height = 0
        self.note: str | None = None

    def change(self, keys: Mapping[str, bytes], signer: Signer | None) -> None:
        """From the next height on these cities count, with these keys; `signer` is this city's, if it is one."""
        self._keys = dict(keys)
        self._signer = signer

    def sign(self, height: int, root: bytes, *, time_ms: int) -> Cosignature | None:
        """This city's cosignature for a durable height, if it counts; counts those of others that came early."""
        body = checkpoint_body(self._origin, height + 1, root)
        time_s = time_ms // 1_000
        message = cosignature_message(body, time_s)
        signature = None if self._signer is None else self._signer.sign(message)
        self._tip = height
        own = {} if signature is None else {self._city: signature}
        self._open[height] = Open(body, message, time_s, self._keys, own)
        self._open = {at: found for at, found in self._open.items() if at > height - OPEN_HEIGHTS}
        early = self._early.pop(height, {})
        self._early = {at: found for at, found in self._early.items() if at > height}
        for city, found in early.items():
            self._count(city, height, found)
        return None if signature is None else Cosignature(height, signature)

    def add(self, city: str, cosignature: Cosignature) -> None:
        """Another city's cosignature."""
        height = cosignature.height
        if height in self._open:
            self._count(city, height, cosignature.signature)
        elif self._tip < height <= self._tip + EARLY_HEIGHTS:  # of cities that may count by then
            self._early.setdefault(height, {})[city] = cosignature.signature

    def _count(self, city: str, height: int, signature: bytes) -> None:
        found = self._open[height]
        if height <= self.height or city in found.signatures or city not in found.keys:
            return
        if not verify_strict(found.keys[city], found.message, signature):
            return
        found.signatures[city] = signature
        if len(found.signatures) <= len(found.keys) * 2 // 3:
            return
        lines = [
            cosignature_line(cosigner_name(member), found.keys[member], found.time_s, found.signatures[member])
            for member in sorted(found.signatures)
        ]
        self.note = checkpoint_note(found.body, lines)
        self.height = height
