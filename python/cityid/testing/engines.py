"""One consensus engine among validators whose keys lie here: what they say to it, and what nobody said.

Positions are those in the validator set. The engine is validator 0, at height 1, round 0, where validator 1
proposes.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from struct import pack

from cityid._native import Consensus
from cityid.testing.keys import seeded_signer

VALIDATORS = 4


class LoneEngine:
    """The engine, and the pens of everybody."""

    def __init__(self, seed: int) -> None:
        self._genesis = sha256(f"genesis {seed}".encode()).digest()
        self._signers = [seeded_signer(seed, "validator", position) for position in range(VALIDATORS)]
        keys = [signer.public_key for signer in self._signers]
        self._engine = Consensus(keys[0], self._signers[0], self._genesis, bytes(32))
        self._engine.start_height(1, keys)

    def propose(self) -> bytes:
        """Show the engine a valid block of the proposer; returns its value."""
        value = sha256(b"a block").digest()
        self._engine.proposed_value(1, 0, -1, 1, value, True, False)
        head = b"P" + pack(">QIi", 1, 0, -1) + value + self._address(1)
        self.receive([head + self._sign(1, b"P", value)])
        return value

    def receive(self, messages: Sequence[bytes]) -> set[int]:
        """Give it messages; the kinds of those that it publishes about them."""
        return {effect[1][0] for effect in self._engine.receive(messages) if effect[0] == "publish"}

    def vote(self, position: int, value: bytes, *, signed: bool = True) -> bytes:
        """A prevote of a validator, or one with a signature that is none."""
        signature = self._sign(position, b"v", value) if signed else sha256(value).digest() * 2
        return b"v" + pack(">QI", 1, 0) + value + self._address(position) + signature

    def polka(self, positions: Iterable[int], value: bytes) -> bytes:
        """A certificate of the prevotes of these validators, well signed, as often as they are named."""
        entries = [self._address(position) + self._sign(position, b"v", value) for position in positions]
        return b"K" + pack(">QI", 1, 0) + value + pack(">H", len(entries)) + b"".join(entries)

    def _address(self, position: int) -> bytes:
        return sha256(self._signers[position].public_key).digest()[:20]

    def _sign(self, position: int, kind: bytes, value: bytes) -> bytes:
        """P35."""
        return self._signers[position].sign(b"cityid/1/" + kind + self._genesis + pack(">Qii", 1, 0, -1) + value)
