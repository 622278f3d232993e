"""The effects of one step, and what must wait until a write is durable.

Two rules live here and nowhere else. A consensus message is held back until every vote-log entry that came before it is
durable (P37). What follows from a write to the store happens when that write is reported durable, in order.
"""

from collections import deque
from collections.abc import Callable
from typing import Literal

from cityid.node.messages import CONSENSUS
from cityid.node.ports import (
    AppendVotes,
    CancelTimer,
    Effect,
    HeightRecord,
    Log,
    PendingProposal,
    Send,
    SetTimer,
    SnapshotBase,
    TimerKey,
    WriteStore,
)


class Outbox:
    """Collects the effects of a step."""

    def __init__(self) -> None:
        self._effects: list[Effect] = []
        self._last_token = 0
        self._entries: list[bytes] = []
        self._messages: list[Send] = []
        self._held: deque[tuple[int, Send]] = deque()
        self._votes_written = 0  # token of the newest AppendVotes
        self._votes_durable = 0
        self._then: dict[int, Callable[[], None]] = {}

    def add(self, effect: Effect) -> None:
        """An effect that waits for nothing."""
        self._effects.append(effect)

    def send(self, peer: str | None, kind: int, payload: bytes, *, urgent: bool = False) -> None:
        """A frame that follows from no vote."""
        self._effects.append(Send(peer, kind, payload, urgent))

    def log(self, level: Literal["debug", "info", "warning", "error"], event: str, **fields: object) -> None:
        """An event for the log."""
        self._effects.append(Log(level, event, fields))

    def timer(self, key: TimerKey, *, after_us: int) -> None:
        """Set a timer."""
        self._effects.append(SetTimer(key, max(0, after_us)))

    def cancel(self, key: TimerKey) -> None:
        """Cancel a timer."""
        self._effects.append(CancelTimer(key))

    # ------------------------------------------------------------ the store lane

    def write(
        self,
        then: Callable[[], None],
        *,
        batches: tuple[tuple[bytes, bytes], ...] = (),
        proposals: tuple[PendingProposal, ...] = (),
        forget: tuple[bytes, ...] = (),
        height: HeightRecord | None = None,
        base: SnapshotBase | None = None,
    ) -> None:
        """One atomic write; `then` runs once it is durable."""
        token = self._token()
        self._then[token] = then
        self._effects.append(WriteStore(token, batches, proposals, forget, height, base))

    # ------------------------------------------------------------ the vote lane

    def log_vote(self, entry: bytes) -> None:
        """An entry that every later message of this node depends on."""
        self._entries.append(entry)

    def publish(self, message: bytes) -> None:
        """A consensus message, for after the entries before it."""
        self._messages.append(Send(None, CONSENSUS, message, True))

    def close_votes(self, height: int) -> None:
        """Turn what was logged and published since the last call into effects; at the end of a step or height."""
        if self._entries:
            self._votes_written = self._token()
            self._effects.append(AppendVotes(self._votes_written, height, tuple(self._entries)))
            self._entries.clear()
        for message in self._messages:
            if self._votes_durable < self._votes_written:
                self._held.append((self._votes_written, message))
            else:
                self._effects.append(message)
        self._messages.clear()

    # ------------------------------------------------------------ both

    def on_durable(self, token: int) -> None:
        """A write is durable: release what waited for it."""
        if (then := self._then.pop(token, None)) is not None:
            then()
            return
        self._votes_durable = max(self._votes_durable, token)
        while self._held and self._held[0][0] <= token:
            self._effects.append(self._held.popleft()[1])

    def drain(self) -> list[Effect]:
        """The effects of this step."""
        effects, self._effects = self._effects, []
        return effects

    def _token(self) -> int:
        self._last_token += 1
        return self._last_token
