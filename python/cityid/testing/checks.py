"""What must hold in every network at every moment, whatever fails: checked from outside, by other code than the node's.

- One value, one state root and one next committee a height, for all cities, also across restarts.
- No city signs two different proposals, prevotes or precommits for one height and round.
- Only cities of a height's committee sign for it, each with the key that the chain names; the commit certificate of
  every height counts under that committee.
- Of every height that anybody committed, somebody's disk holds header, certificate and every batch.
- Every transaction that was acknowledged is in a block in the end (`check_kept`).
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from struct import Struct

from cityid._native import verify_certificate
from cityid.errors import CertificateInvalid
from cityid.testing.faults import Disk

_HEAD = Struct(">BQI")  # kind, height, round of a consensus message
_SLOTS = {b"P"[0]: "proposal", b"v"[0]: "prevote", b"n"[0]: "prevote", b"V"[0]: "precommit", b"N"[0]: "precommit"}


class Violation(AssertionError):
    """The network did what must never happen."""


class Checks:
    """Watches one network."""

    def __init__(self, genesis_hash: bytes, committee: Sequence[tuple[str, bytes]]) -> None:
        self._genesis_hash = genesis_hash
        self._values: dict[int, tuple[bytes, bytes]] = {}
        self._committees: dict[int, dict[str, bytes]] = {1: dict(committee)}
        self._signed: dict[tuple[str, str, int, int], bytes] = {}

    def on_message(self, city: str, message: bytes) -> None:
        """A city lets a consensus message out."""
        kind, height, round_ = _HEAD.unpack_from(message)
        if (slot := _SLOTS.get(kind)) is None:
            return  # certificates carry what was looked at before
        # Whoever signs for a height has committed the one below, so its committee is known here.
        addresses = {sha256(key).digest()[:20]: member for member, key in self._committees[height].items()}
        author = addresses.get(message[-84:-64])
        if author is None or (author != city and slot != "proposal"):  # in late rounds others repeat a proposal
            raise Violation(f"{city} signed a {slot} for height {height} and is not in its committee with that key")
        said = message[:1] + message[_HEAD.size : -64]
        if self._signed.setdefault((author, slot, height, round_), said) != said:
            raise Violation(f"{author} signed two {slot}s for height {height} round {round_}")

    def on_commit(
        self,
        city: str,
        height: int,
        *,
        value: bytes,
        state_root: bytes,
        next_committee: Sequence[tuple[str, bytes]],
        certificate: bytes,
    ) -> None:
        """A city committed a height, now or before a restart."""
        committee = self._committees.setdefault(height + 1, dict(next_committee))
        if committee != dict(next_committee):
            raise Violation(f"height {height + 1} has two committees: {city} has {dict(next_committee)}")
        if height in self._committees:
            self._check_certificate(city, height, value, certificate)
        found = self._values.setdefault(height, (value, state_root))
        if found[0] != value:
            raise Violation(f"height {height} has two values: {city} committed {value.hex()}, others {found[0].hex()}")
        if found[1] != state_root:
            raise Violation(f"height {height} has two state roots: {city} has {state_root.hex()}")

    def _check_certificate(self, city: str, height: int, value: bytes, certificate: bytes) -> None:
        keys = list(self._committees[height].values())
        try:
            at, _, certified, _ = verify_certificate(self._genesis_hash, keys, certificate)
        except CertificateInvalid as error:
            raise Violation(f"{city} committed height {height} with a certificate of others: {error}") from None
        if (at, certified) != (height, value):
            raise Violation(f"{city} committed height {height} with the certificate of something else")

    def committee(self, height: int) -> list[str]:
        """The cities that decide or decided a height, ascending; of a height that is known."""
        return sorted(self._committees[height])

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
