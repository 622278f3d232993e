"""What clients did and what they were told, with times: the recording that `consistency` judges.

Every call begins (`History.begin`) before its request leaves and ends after its reply is read, by one clock for all
clients. How it ended is one of:

- `Decided`: a receipt: the transaction is in the block of that height, with effect or, with a reason, without one.
- `Saw`: a verified answer: the state of a key at the height of its header.
- `Failed`: certainly without effect, for example refused at the door.
- `Unknown`: no reply, or none that says. Such a write may have happened, may happen later, or never.

A client does one thing at a time; whoever wants more at once records more clients. Nothing here waits, sends or knows
where the calls came from: a simulation records with virtual time, a test of real processes with a monotonic clock.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeAlias

__all__ = ["Call", "Decided", "Failed", "History", "Look", "Outcome", "Read", "Saw", "Unknown", "Write"]


@dataclass(frozen=True, slots=True)
class Write:
    """A transaction that makes the next version of a key if it finds `expected`; 0 registers the key.

    `sets` are the fields that it changes, as a reader sees them.
    """

    key: str
    id: str
    expected: int
    sets: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Read:
    """A question about a key that takes no header below `min_height` for an answer."""

    key: str
    min_height: int = 0


@dataclass(frozen=True, slots=True)
class Look:
    """The question to one city what became of a write."""

    id: str


@dataclass(frozen=True, slots=True)
class Decided:
    """The write is in the block of this height; with a reason it had no effect there."""

    height: int
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Saw:
    """A key at the height of a header with this state root. Version 0: proven absent. `changed` is the height at which
    the version was made, as the record says.
    """

    height: int
    root: str
    version: int
    changed: int
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Failed:
    """Certainly without effect."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody said what became of it."""

    reason: str


Question: TypeAlias = Write | Read | Look
Outcome: TypeAlias = Decided | Saw | Failed | Unknown


@dataclass(slots=True)
class Call:
    """One call of one client. Times are the history's clock; `acknowledged` is when a node promised to keep it."""

    client: str
    question: Question
    invoked: float
    acknowledged: float | None = None
    ended: float | None = None
    outcome: Outcome | None = None


@dataclass(slots=True)
class History:
    """All calls, in the order in which they began."""

    clock: Callable[[], float]
    calls: list[Call] = field(default_factory=list)

    def begin(self, client: str, question: Question) -> Call:
        """A client is about to ask."""
        call = Call(client, question, self.clock())
        self.calls.append(call)
        return call

    def acknowledge(self, call: Call) -> None:
        """A node answered that the transaction is safe."""
        call.acknowledged = self.clock()

    def end(self, call: Call, outcome: Outcome) -> None:
        """The reply is here, or it is given up."""
        call.ended = self.clock()
        call.outcome = outcome

    def save(self, path: Path) -> None:
        """One JSON object a call and line, for people who look for the reason of a finding."""
        path.write_text("".join(line + "\n" for line in map(_line, self.calls)), encoding="utf-8")


def _line(call: Call) -> str:
    outcome = None if call.outcome is None else {type(call.outcome).__name__: asdict(call.outcome)}
    question = {type(call.question).__name__: asdict(call.question)}
    return json.dumps(asdict(call) | {"question": question, "outcome": outcome}, ensure_ascii=False)


def writes(calls: Sequence[Call]) -> list[tuple[Call, Write]]:
    """The calls that write, with what they write."""
    return [(call, call.question) for call in calls if isinstance(call.question, Write)]


def reads(calls: Sequence[Call]) -> list[tuple[Call, Read, Saw]]:
    """The calls that read and were told, with what they saw."""
    return [
        (call, call.question, call.outcome)
        for call in calls
        if isinstance(call.question, Read) and isinstance(call.outcome, Saw)
    ]
