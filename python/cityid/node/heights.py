"""What a node knows about the height that is being decided: bodies, verdicts, offers, the decision.

A *body* is a header with its batch digests, found under the value that consensus votes on. An *offer* says that some
round proposes a body. Both are dropped when the height is over.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from cityid._native import Candidate, Ledger, header_json, leaf_hash, log_root
from cityid.errors import InputError
from cityid.node.committee import Committee
from cityid.node.log_edge import right_edge, value_after
from cityid.node.messages import decode_digests
from cityid.node.ports import PendingProposal


@dataclass(slots=True)
class Offer:
    """A body proposed in a round, on its way to the engine."""

    round: int
    valid_round: int
    proposer: int  # position in the validator set
    sender: str
    value: bytes
    given: bool = False


@dataclass(slots=True)
class Decision:
    """What consensus decided."""

    value: bytes
    certificate: bytes
    evidence: tuple[bytes, ...] = ()
    final: bool = False


@dataclass(frozen=True, slots=True)
class Invalid:
    """A body that was executed and refused."""

    reason: str


@dataclass(slots=True)
class Height:
    """The height after the tip."""

    number: int
    edge: list[bytes]
    committee: Committee  # the one that the header below names as next, and no other (P36)
    running: bool = False
    committing: bool = False
    round: int = -1
    bodies: dict[bytes, PendingProposal] = field(default_factory=dict)
    durable: set[bytes] = field(default_factory=set)
    verdicts: dict[bytes, Candidate | Invalid] = field(default_factory=dict)
    offers: dict[tuple[int, str], Offer] = field(default_factory=dict)
    wish: tuple[int, int] | None = None  # round in which the engine wants a value, and since when (microseconds)
    decision: Decision | None = None
    synced: bool = False  # a certificate was given to the engine
    sync_offer: Offer | None = None
    timers: set[tuple[str, int]] = field(default_factory=set)

    def add_body(self, header: bytes, digests: bytes) -> PendingProposal | None:
        """Binds a header and digests to their value; None when they do not belong together or to this height."""
        if not follows(header, digests, self.number):
            return None
        value = value_after(self.edge, header)
        return self.bodies.setdefault(value, PendingProposal(self.number, value, header, digests))

    def executed_digests(self) -> bytes | None:
        """The batches of a body that was executed and found valid."""
        valid = (self.bodies[value] for value, found in self.verdicts.items() if not isinstance(found, Invalid))
        return next((body.digests for body in valid if body.digests), None)

    def judge(self, ledger: Ledger, body: PendingProposal) -> Candidate | Invalid:
        """Execute a body once, whoever asks."""
        if (known := self.verdicts.get(body.value)) is not None:
            return known
        verdict: Candidate | Invalid
        try:
            verdict = ledger.validate(body.header, body.digests)
        except InputError as error:
            verdict = Invalid(str(error))
        self.verdicts[body.value] = verdict
        return verdict


def next_height(ledger: Ledger) -> Height:
    """The state of the height after the ledger's tip."""
    return Height(ledger.height + 1, right_edge(ledger), Committee.of(ledger.validators))


def header_fields(header: bytes) -> dict[str, Any]:
    """The fields of a header."""
    fields: dict[str, Any] = json.loads(header_json(header))
    return fields


def follows(header: bytes, digests: bytes, height: int) -> bool:
    """Whether these are the digests that the header commits to, and the header claims this height (P31)."""
    try:
        fields = header_fields(header)
        root = log_root([leaf_hash(digest) for digest in decode_digests(digests)])
        return int(fields["height"]) == height and fields["batches_root"] == root.hex()
    except InputError:
        return False
