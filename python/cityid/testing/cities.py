"""One city of a simulated network: what survives a crash, and what does not; and what may wait for it in the heap."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

from cityid._native import NEWEST_PROTOCOL, Ledger
from cityid.node.driver import Driver
from cityid.node.messages import Frame
from cityid.node.ports import AppendVotes, Effect, Event, Log, TimerKey, WriteStore
from cityid.testing.faults import Disk
from cityid.testing.keys import SeededSigner

MAX_LOGS: Final = 20_000
"""Of each city the newest are kept."""


@dataclass(frozen=True, slots=True)
class Synced:
    """A sync of one lane is over."""

    votes: bool


@dataclass(frozen=True, slots=True)
class Drain:
    """Everything that arrives at this moment is in the inbox."""


@dataclass(frozen=True, slots=True)
class Due:
    """A timer, if it was not set anew meanwhile."""

    key: TimerKey
    at_us: int


Waiting: TypeAlias = Event | Synced | Drain | Due


class Crashed(Exception):
    """A city went down in the middle of its effects."""


class Liar(Protocol):
    """Makes a city dishonest: it stands between the driver and the world (`byzantine`)."""

    def attach(self, city: "City") -> None:
        """A new life of the city begins: it has another driver."""

    def distort(self, event: Event, effects: list[Effect]) -> list[Effect]:
        """What the city does instead of what its driver wants."""


@dataclass(slots=True)
class City:
    """One city. `name` is the place in the network and `code` who it claims to be: for twins they differ."""

    name: str
    code: str
    disk: Disk = field(default_factory=Disk)
    life: int = 0  # counts starts; events of an earlier life are void
    driver: Driver | None = None
    ledger: Ledger | None = None
    inbox: list[Frame] = field(default_factory=list)
    timers: dict[TimerKey, int] = field(default_factory=dict)
    votes_syncing: int = 0
    store_syncing: int = 0
    disk_failed: bool = False  # the driver was told; no lane writes any more
    crash_after_effects: int | None = None
    paused: bool = False
    held: list[Waiting] = field(default_factory=list)  # what came while it was paused
    clock_ahead_ms: int = 0
    logs: deque[Log] = field(default_factory=lambda: deque(maxlen=MAX_LOGS))
    keys: dict[tuple[str, bytes], SeededSigner] = field(default_factory=dict)  # what lies in its folder of keys
    newest_protocol: int = NEWEST_PROTOCOL  # what its software knows
    links: frozenset[str] = frozenset()  # names of those that it is connected with
    liar: Liar | None = None

    def find(self, purpose: str, public_key: bytes) -> SeededSigner | None:
        """A key of this city, as its driver asks for it (`ports.Keyring`)."""
        return self.keys.get((purpose, public_key))

    def begin_sync(self, *, votes: bool) -> bool:
        """Whether a sync of this lane begins: there is something to write, and none is under way."""
        waiting, syncing = self._lane(votes)
        if syncing or not waiting:
            return False
        if votes:
            self.votes_syncing = len(waiting)
        else:
            self.store_syncing = len(waiting)
        return True

    def end_sync(self, *, votes: bool) -> list[AppendVotes | WriteStore]:
        """The sync of this lane is over: what it made durable."""
        waiting, syncing = self._lane(votes)
        done = list(waiting[:syncing])
        if votes:
            self.disk.sync_votes(syncing)
            self.votes_syncing = 0
        else:
            self.disk.sync_store(syncing)
            self.store_syncing = 0
        return done

    def _lane(self, votes: bool) -> tuple[Sequence[AppendVotes | WriteStore], int]:
        if votes:
            return self.disk.waiting_votes, self.votes_syncing
        return self.disk.waiting_writes, self.store_syncing

    def go_down(self) -> None:
        """Everything but the disk and the keys is gone."""
        self.driver = self.ledger = None
        self.links = frozenset()
        self.inbox.clear()
        self.timers.clear()
        self.held.clear()
        self.paused = self.disk_failed = False
        self.votes_syncing = self.store_syncing = 0
        self.life += 1
