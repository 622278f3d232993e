"""Cosigning checkpoints, and collecting a quorum of cosignatures.

After a height is durable, a city signs the C2SP checkpoint (origin, size, root) as a timestamped cosignature, with the
time of the header: every city signs the same bytes. A precommit is never a cosignature: an undecided value may gather
some precommits. A note is published when a quorum of cities signed it, with no more lines than that. A signature that
fails strict RFC 8032 verification never gets in: some readers refuse a whole note for one such line.
"""

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
    signatures: dict[str, bytes] = field(default_factory=dict)


class Checkpoints:
    """The newest published checkpoint, and those on their way."""

    def __init__(self, genesis: Genesis, city: str, signer: Signer) -> None:
        self._origin = checkpoint_origin(genesis)
        self._city = city
        self._signer = signer
        self._keys: dict[str, bytes] = {member: genesis.city(member)["checkpoint"] for member in genesis.cities}
        self._quorum = len(self._keys) * 2 // 3 + 1
        self._open: dict[int, Open] = {}
        self._early: dict[int, dict[str, bytes]] = {}
        self._tip = 0
        self.height = 0
        self.note: str | None = None

    def sign(self, height: int, root: bytes, *, time_ms: int) -> Cosignature:
        """This city's cosignature for a durable height; counts those of others that came early."""
        body = checkpoint_body(self._origin, height + 1, root)
        time_s = time_ms // 1_000
        message = cosignature_message(body, time_s)
        signature = self._signer.sign(message)
        self._tip = height
        self._open[height] = Open(body, message, time_s, {self._city: signature})
        self._open = {at: found for at, found in self._open.items() if at > height - OPEN_HEIGHTS}
        early = self._early.pop(height, {})
        self._early = {at: found for at, found in self._early.items() if at > height}
        for city, found in early.items():
            self._count(city, height, found)
        return Cosignature(height, signature)

    def add(self, city: str, cosignature: Cosignature) -> None:
        """Another city's cosignature."""
        height = cosignature.height
        if height in self._open:
            self._count(city, height, cosignature.signature)
        elif self._tip < height <= self._tip + EARLY_HEIGHTS and city in self._keys:
            self._early.setdefault(height, {})[city] = cosignature.signature

    def _count(self, city: str, height: int, signature: bytes) -> None:
        found = self._open[height]
        if height <= self.height or city in found.signatures or city not in self._keys:
            return
        if not verify_strict(self._keys[city], found.message, signature):
            return
        found.signatures[city] = signature
        if len(found.signatures) < self._quorum:
            return
        lines = [
            cosignature_line(cosigner_name(member), self._keys[member], found.time_s, found.signatures[member])
            for member in sorted(found.signatures)
        ]
        self.note = checkpoint_note(found.body, lines)
        self.height = height
