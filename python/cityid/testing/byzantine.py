"""A city that lies: a wrapper round a real driver that distorts what it says. At most f of them must do no harm.

Its driver and its keys are those of an honest city, so that it is always in the middle of what goes on. What leaves it
is changed, in a mood that is drawn anew for each height:

- equivocate: half of the cities see another proposal, prevote or precommit than the other half, all well signed; the
  second block is a valid one, executed like the first.
- withhold: batches are announced and proposed, and shown to one city or to none.
- invalid: the block that is proposed claims a state that does not follow from it.
- garbage: frames of every kind with random bytes, and true frames cut short, lengthened or with a flipped bit.
- replay: what this city or another one said before, again, to anybody.
- boast: absurd heights, batches that nobody has.
- spoil: blocks that are asked for come with another header, certificate or body.
- silent: some cities hear nothing.

It does not know the secrets of others, and it breaks no cryptography.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from hashlib import sha256
from random import Random
from struct import Struct
from typing import Final

from cityid._native import Ledger
from cityid.errors import CityIDError
from cityid.node import messages
from cityid.node.heights import header_fields
from cityid.node.log_edge import right_edge, value_after
from cityid.node.messages import Proposal
from cityid.node.ports import Effect, Event, FramesReceived, Send, ServeBatches, ServeBlocks
from cityid.node.sync import serve_blocks
from cityid.testing.cities import City
from cityid.testing.keys import SeededSigner

MOODS: Final = ("equivocate", "withhold", "invalid", "garbage", "replay", "boast", "spoil", "silent")
MAX_REMEMBERED: Final = 300
MAX_GARBAGE_BYTES: Final = 400
OFTEN: Final = 0.1
"""How likely each step of the driver brings something that the city was not asked for."""

_HEAD = Struct(">BQI")  # kind, height, round
_SIGNED = Struct(">QIi")  # height, round, pol_round
_VOTES = {b"v"[0]: b"n", b"V"[0]: b"N"}  # for a value → for nothing
_NILS = {b"n"[0]: b"v", b"N"[0]: b"V"}


class Byzantine:
    """One lying city (`cities.Liar`). `told` counts the lies of each mood."""

    def __init__(
        self, genesis_hash: bytes, signer: SeededSigner, *, seed: object, moods: Sequence[str] = MOODS
    ) -> None:
        self.told: dict[str, int] = dict.fromkeys(MOODS, 0)
        self._genesis_hash = genesis_hash
        self._signer = signer  # of consensus
        self._address = sha256(self._signer.public_key).digest()[:20]
        self._random = Random(f"liar {seed}")
        self._possible = moods
        self._city: City | None = None
        self._height = -1
        self._moods: frozenset[str] = frozenset()
        self._heard: deque[tuple[int, bytes]] = deque(maxlen=MAX_REMEMBERED)
        self._second: dict[tuple[int, int], tuple[bytes, bytes, str]] = {}  # height, round → header, value, mood
        self._last_value: bytes | None = None

    def attach(self, city: City) -> None:
        """The driver of the city's next life."""
        self._city = city

    def distort(self, event: Event, effects: list[Effect]) -> list[Effect]:
        """What the city does instead of what its driver wants."""
        city = self._city
        if city is None or city.ledger is None:
            return effects
        if city.ledger.height != self._height:
            self._height = city.ledger.height
            chance = 0.4 if len(self._possible) > 1 else 1.0
            self._moods = frozenset(mood for mood in self._possible if self._random.random() < chance)
            self._second.clear()
        if isinstance(event, FramesReceived):
            self._heard.extend((frame.kind, frame.payload) for frame in event.frames)
        out: list[Effect] = []
        for effect in effects:
            match effect:
                case Send():
                    self._heard.append((effect.kind, effect.payload))
                    out += self._send(city, effect)
                case ServeBatches() if "withhold" in self._moods:
                    self._tell("withhold")
                case ServeBlocks(peer, first, count, max_bytes) if "spoil" in self._moods:
                    for kind, payload in serve_blocks(city.disk, first=first, count=count, max_bytes=max_bytes):
                        self._tell("spoil")
                        out.append(Send(peer, kind, self._flip(payload), False))
                case _:
                    out.append(effect)
        out += self._unasked(city)
        return out

    # ------------------------------------------------------------ what the driver wants to say

    def _send(self, city: City, effect: Send) -> Iterator[Send]:
        """One frame, as several that differ."""
        peers = sorted(city.links) if effect.peer is None else [effect.peer]
        half = {peer for peer in peers if self._random.random() < 0.5}
        other = self._other(city, effect.kind, effect.payload)
        for peer in peers:
            payload = effect.payload
            if "silent" in self._moods and self._is_ignored(peer):
                self._tell("silent")
                continue
            if effect.kind == messages.BATCH and "withhold" in self._moods and peer != min(peers):
                self._tell("withhold")
                continue
            if other is not None and (peer in half or other[1] == "invalid"):
                payload, mood = other
                self._tell(mood)
            yield Send(peer, effect.kind, payload, effect.urgent)

    def _other(self, city: City, kind: int, payload: bytes) -> tuple[bytes, str] | None:
        """Another payload for those that are lied to, and the mood that it comes from."""
        if kind == messages.PROPOSAL:
            return self._second_block(city, messages.decode_proposal(payload))
        if kind == messages.STATUS and "boast" in self._moods:
            height = self._random.choice((0, self._height + 1, self._height + 1_000, 10**12))
            return messages.encode_status(messages.Status(height, self._random.randbytes(32))), "boast"
        if kind == messages.CONSENSUS and payload[-84:-64] == self._address:
            return self._second_message(payload)
        return None

    def _second_block(self, city: City, proposal: Proposal) -> tuple[bytes, str] | None:
        """Another block for the round: an invalid one, or one that is as good as the first."""
        ledger = city.ledger
        assert ledger is not None, "only a city that runs proposes"
        at = (proposal.height, proposal.round)
        if at not in self._second:
            if "invalid" in self._moods:
                header = self._with_another_root(proposal.header)
                self._second[at] = (header, value_after(right_edge(ledger), header), "invalid")
            elif "equivocate" in self._moods and (twin := self._valid_twin(ledger, city, proposal)) is not None:
                self._second[at] = (twin, value_after(right_edge(ledger), twin), "equivocate")
            else:
                return None
        header, _, mood = self._second[at]
        second = Proposal(proposal.height, proposal.round, proposal.valid_round, header, proposal.digests)
        return messages.encode_proposal(second), mood

    def _with_another_root(self, header: bytes) -> bytes:
        root = bytes.fromhex(str(header_fields(header)["state_root"]))
        return header.replace(root, self._random.randbytes(32))

    def _valid_twin(self, ledger: Ledger, city: City, proposal: Proposal) -> bytes | None:
        """The same batches a millisecond later."""
        try:
            time_ms = int(str(header_fields(proposal.header)["time_ms"])) + 1
            return ledger.execute(proposal.height, time_ms, city.code, proposal.digests).header
        except CityIDError:
            return None  # it is not the height after the tip any more: there is nothing to equivocate about

    def _second_message(self, payload: bytes) -> tuple[bytes, str] | None:
        """A proposal or vote of its own that contradicts this one."""
        kind, height, round_ = _HEAD.unpack_from(payload)
        second = self._second.get((height, round_))
        if kind == b"P"[0]:
            if second is None:
                return None
            pol_round = int.from_bytes(payload[_HEAD.size : _HEAD.size + 4], "big", signed=True)
            return self._sign(b"P", height, round_, second[1], pol_round), second[2]
        if kind in _VOTES:
            self._last_value = payload[_HEAD.size : -84]
        if "equivocate" not in self._moods:
            return None
        if kind in _VOTES:
            if second is not None and self._random.random() < 0.7:
                return self._sign(bytes([kind]), height, round_, second[1]), "equivocate"
            return self._sign(_VOTES[kind], height, round_, b""), "equivocate"
        if kind in _NILS and self._last_value is not None:
            return self._sign(_NILS[kind], height, round_, self._last_value), "equivocate"
        return None

    def _sign(self, kind: bytes, height: int, round_: int, value: bytes, pol_round: int = -1) -> bytes:
        """A consensus message of this city (P35); those of the nil kinds have no value."""
        what = b"cityid/1/" + kind + self._genesis_hash + _SIGNED.pack(height, round_, pol_round) + value
        pol = pol_round.to_bytes(4, "big", signed=True) if kind == b"P" else b""
        head = _HEAD.pack(kind[0], height, round_)
        return head + pol + value + self._address + self._signer.sign(what)

    # ------------------------------------------------------------ what nobody asked for

    def _unasked(self, city: City) -> Iterator[Effect]:
        random = self._random
        if not city.links or random.random() > OFTEN:
            return
        peer = random.choice(sorted(city.links))
        if "garbage" in self._moods:
            self._tell("garbage")
            if self._heard and random.random() < 0.5:
                kind, payload = random.choice(self._heard)
                yield Send(peer, kind, self._flip(payload), False)
            else:
                kind = random.choice([*messages.NAMES, 0, 255])
                yield Send(peer, kind, random.randbytes(random.randrange(MAX_GARBAGE_BYTES)), False)
        if "replay" in self._moods and self._heard:
            self._tell("replay")
            for _ in range(3):
                kind, payload = random.choice(self._heard)
                yield Send(peer, kind, payload, random.random() < 0.5)
        if "boast" in self._moods:
            self._tell("boast")
            yield Send(peer, messages.HAVE, random.randbytes(32 * random.randint(1, 3)), False)

    def _is_ignored(self, peer: str) -> bool:
        """The same cities for a whole height."""
        return Random(f"{self._height} {peer}").random() < 0.4

    def _flip(self, payload: bytes) -> bytes:
        """A bit flipped, or an end cut off or added."""
        random = self._random
        if not payload or random.random() < 0.2:
            return payload + random.randbytes(random.randint(1, 4))
        if random.random() < 0.2:
            return payload[: random.randrange(len(payload))]
        changed = bytearray(payload)
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
        return bytes(changed)

    def _tell(self, mood: str) -> None:
        self.told[mood] += 1
