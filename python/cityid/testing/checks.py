"""What must hold in every network at every moment, whatever fails: checked from outside, by other code than the node's.

- One value and one state root a height, for all cities, also across restarts.
- No city signs two different proposals, prevotes or precommits for one height and round.
- Of every height that anybody committed, somebody's disk holds header, certificate and every batch.
- Every transaction that was acknowledged is in a block in the end (`check_kept`).
"""

from collections.abc import Iterable
from struct import Struct

from cityid.testing.faults import Disk

_HEAD = Struct(">BQI")  # kind, height, round of a consensus message
_SLOTS = {b"P"[0]: "proposal", b"v"[0]: "prevote", b"n"[0]: "prevote", b"V"[0]: "precommit", b"N"[0]: "precommit"}


class Violation(AssertionError):
    """The network did what must never happen."""


class Checks:
    """Watches one network."""

    def __init__(self) -> None:
        self._values: dict[int, tuple[bytes, bytes]] = {}
        self._signed: dict[tuple[str, str, int, int], bytes] = {}

    def on_message(self, city: str, message: bytes) -> None:
        """A city lets a consensus message out."""
        kind, height, round_ = _HEAD.unpack_from(message)
        if (slot := _SLOTS.get(kind)) is None:
            return  # certificates carry what was looked at before
        said = message[:1] + message[_HEAD.size : -64]
        if self._signed.setdefault((city, slot, height, round_), said) != said:
            raise Violation(f"{city} signed two {slot}s for height {height} round {round_}")

    def on_commit(self, city: str, height: int, *, value: bytes, state_root: bytes) -> None:
        """A city committed a height, now or before a restart."""
        found = self._values.setdefault(height, (value, state_root))
        if found[0] != value:
            raise Violation(f"height {height} has two values: {city} committed {value.hex()}, others {found[0].hex()}")
        if found[1] != state_root:
            raise Violation(f"height {height} has two state roots: {city} has {state_root.hex()}")

    @property
    def height(self) -> int:
        """The highest height that anybody committed."""
        return max(self._values, default=0)

    def check_held(self, disks: Iterable[Disk]) -> None:
        """Somebody holds every committed block, whole."""
        held: set[int] = set()
        for disk in disks:
            for record in disk.heights:
                starts = range(0, len(record.digests), 32)
                if all(record.digests[start : start + 32] in disk.batches for start in starts):
                    held.add(record.height)
        for height in self._values:
            if height not in held:
                raise Violation(f"height {height} is committed, and no disk holds it whole")
