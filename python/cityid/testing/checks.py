"""What must hold in every network at every moment, whatever fails: checked from outside, by other code than the node's.

After each step:

- At one height one value is certified, whoever has seen the certificate: precommits of a quorum count as soon as they
  are sent. Two rounds of one value are no fork.
- No honest city signs two different proposals, prevotes or precommits for one height and round, and none votes for a
  block that its disk does not hold whole (P37): so no block is decided that nobody has. None cosigns, or reports, a
  height that its disk does not hold.
- Only cities of a height's committee sign for it, each with the key that the chain names; the commit certificate of
  every height counts under that committee.
- One value, one state root and one next committee a height, for all honest cities, also across restarts; the state root
  of a city's ledger is the one that its header names.
- Of every height that anybody committed, an honest disk holds header, certificate and every batch.

What clients see is checked in `clients` (nothing acknowledged is lost, no code is issued twice) and `readers` (every
answer verifies, no read goes back). Honest are all cities but `liars`; what liars say and commit is not looked at.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from struct import Struct
from typing import Final

from cityid._native import header_json, verify_certificate, verify_signature
from cityid.errors import CertificateInvalid
from cityid.node.messages import decode_cosignature
from cityid.testing.faults import Disk

_HEAD = Struct(">BQI")  # kind, height, round of a consensus message
_SLOTS = {b"P"[0]: "proposal", b"v"[0]: "prevote", b"n"[0]: "prevote", b"V"[0]: "precommit", b"N"[0]: "precommit"}
_VOTES_FOR_VALUE: Final = b"vV"
_PRECOMMIT: Final = b"V"[0]
_PRECOMMIT_BYTES: Final = _HEAD.size + 32 + 20 + 64
_ROUNDS = Struct(">QIi")  # height, round, pol_round


class Violation(AssertionError):
    """The network did what must never happen; `kind` is one of a few words, the same for the same sort of it."""

    def __init__(self, message: str, *, kind: str = "other") -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class _Committee:
    """Who decides a height."""

    keys: Mapping[str, bytes]
    cities: Mapping[bytes, str]  # by the address that votes carry

    @classmethod
    def of(cls, committee: Sequence[tuple[str, bytes]]) -> "_Committee":
        keys = dict(committee)
        return cls(keys, {sha256(key).digest()[:20]: city for city, key in keys.items()})

    @property
    def quorum(self) -> int:
        return len(self.keys) * 2 // 3 + 1


class Checks:
    """Watches one network."""

    def __init__(self, genesis_hash: bytes, committee: Sequence[tuple[str, bytes]]) -> None:
        self.liars: set[str] = set()
        self._genesis_hash = genesis_hash
        self._values: dict[int, tuple[bytes, bytes]] = {}
        self._committees: dict[int, _Committee] = {1: _Committee.of(committee)}
        self._signed: dict[int, dict[tuple[str, str, int], bytes]] = {}  # by height
        self._precommits: dict[int, dict[tuple[int, bytes], set[str]]] = {}
        self._certified: dict[int, bytes] = {}
        self._unheld: set[int] = set()
        self._height = 0

    def on_message(self, city: str, message: bytes) -> None:
        """A city lets a consensus message out."""
        if city in self.liars:
            self._listen_to_liar(message)
            return
        kind, height, round_ = _HEAD.unpack_from(message)
        if (slot := _SLOTS.get(kind)) is None:
            return  # certificates carry what was looked at before
        # Whoever signs for a height has committed the one below, so its committee is known here.
        author = self._committees[height].cities.get(message[-84:-64])
        if author is None or (author != city and slot != "proposal"):  # in late rounds others repeat a proposal
            why = f"{city} signed a {slot} for height {height} and is not in its committee with that key"
            raise Violation(why, kind="outsider")
        if kind == _PRECOMMIT:
            self._count(author, height, round_, message[_HEAD.size : -84])
        if author in self.liars:
            return
        said = message[:1] + message[_HEAD.size : -64]
        if self._signed.setdefault(height, {}).setdefault((author, slot, round_), said) != said:
            raise Violation(f"{author} signed two {slot}s for height {height} round {round_}", kind="equivocation")

    def _listen_to_liar(self, message: bytes) -> None:
        """A precommit that it really signed counts, whatever else it says: a certificate may hold it."""
        if len(message) != _PRECOMMIT_BYTES or message[0] != _PRECOMMIT:
            return
        _, height, round_ = _HEAD.unpack_from(message)
        if (committee := self._committees.get(height)) is None:
            return
        author = committee.cities.get(message[-84:-64])
        if author not in self.liars:
            return  # replayed
        value = message[_HEAD.size : -84]
        signed = b"cityid/1/V" + self._genesis_hash + _ROUNDS.pack(height, round_, -1) + value  # P35
        if verify_signature(committee.keys[author], signed, message[-64:]):
            self._count(author, height, round_, value)

    def _count(self, author: str, height: int, round_: int, value: bytes) -> None:
        """A precommit that anybody may have collected."""
        supporters = self._precommits.setdefault(height, {}).setdefault((round_, value), set())
        supporters.add(author)
        if len(supporters) >= self._committees[height].quorum:
            certified = self._certified.setdefault(height, value)
            if certified != value:
                raise Violation(
                    f"height {height} has two certified values: {certified.hex()}, and {value.hex()} in round {round_}",
                    kind="fork",
                )

    def check_body(self, city: str, message: bytes, disk: Disk) -> None:
        """What a vote is for lies on the disk of the city that lets it out, or lay there before the store was lost."""
        if city not in self.liars and message[0] in _VOTES_FOR_VALUE:
            _, height, _ = _HEAD.unpack_from(message)
            if height > disk.repeats_until and not disk.holds(height, message[_HEAD.size : -84]):
                why = f"{city} votes at height {height} for a block that its disk does not hold"
                raise Violation(why, kind="unheld")

    def check_cosigned(self, city: str, payload: bytes, disk: Disk) -> None:
        """What an honest city cosigns survives a power cut there."""
        if city not in self.liars and (height := decode_cosignature(payload).height) > len(disk.heights):
            raise Violation(f"{city} cosigns height {height}, which its disk does not hold", kind="unheld")

    def on_commit(
        self,
        city: str,
        height: int,
        *,
        value: bytes,
        state_root: bytes,
        next_committee: Sequence[tuple[str, bytes]],
        certificate: bytes,
        header: bytes,
    ) -> bool:
        """A city committed a height, now or before a restart; whether it is the first."""
        if city in self.liars:
            return False
        self._learn_committee(city, height + 1, next_committee)
        if height in self._committees:
            self._check_certificate(city, height, value, certificate)
        named = json.loads(header_json(header))["state_root"]
        if named != state_root.hex():
            why = f"height {height} of {city} has the state root {state_root.hex()}, and its header names {named}"
            raise Violation(why, kind="root")
        first = height not in self._values
        found = self._values.setdefault(height, (value, state_root))
        if found[0] != value:
            why = f"height {height} has two values: {city} committed {value.hex()}, others {found[0].hex()}"
            raise Violation(why, kind="fork")
        if found[1] != state_root:
            raise Violation(f"height {height} has two state roots: {city} has {state_root.hex()}", kind="root")
        if first:
            self._unheld.add(height)
            self._height = max(self._height, height)
        return first

    def _learn_committee(self, city: str, height: int, committee: Sequence[tuple[str, bytes]]) -> None:
        keys = dict(committee)
        if (known := self._committees.get(height)) is None:
            below = self._committees.get(height - 1)
            self._committees[height] = below if below is not None and below.keys == keys else _Committee.of(committee)
        elif known.keys != keys:
            raise Violation(f"height {height} has two committees: {city} has {keys}", kind="committee")

    def _check_certificate(self, city: str, height: int, value: bytes, certificate: bytes) -> None:
        keys = list(self._committees[height].keys.values())
        try:
            at, _, certified, _ = verify_certificate(self._genesis_hash, keys, certificate)
        except CertificateInvalid as error:
            why = f"{city} committed height {height} with a certificate of others: {error}"
            raise Violation(why, kind="certificate") from None
        if (at, certified) != (height, value):
            why = f"{city} committed height {height} with the certificate of something else"
            raise Violation(why, kind="certificate")

    def committee(self, height: int) -> list[str]:
        """The cities that decide or decided a height, ascending; of a height that is known."""
        return sorted(self._committees[height].keys)

    @property
    def height(self) -> int:
        """The highest height that an honest city committed."""
        return self._height

    def check_held(self, disks: Iterable[Disk], *, again: bool = False) -> None:
        """Some honest disk holds every committed block, whole; `again`: also those that were looked at before."""
        found = list(disks)
        for height in sorted(self._values if again else self._unheld):
            if not any(disk.holds_decided(height) for disk in found):
                raise Violation(f"height {height} is committed, and no disk holds it whole", kind="unheld")
        self._unheld.clear()

    def forget_below(self, height: int) -> None:
        """No honest city can sign for heights below this one any more: what was signed for them need not be kept."""
        for kept in (self._signed, self._precommits, self._certified):
            for old in [old for old in kept if old < height]:
                del kept[old]
