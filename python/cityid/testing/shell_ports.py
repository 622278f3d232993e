"""What stands in for threads, sockets and disks under a real host (`shell`), one set for each life of a city.

A crash ends a life: from then on nothing of it reaches the world, whatever its tasks still do until Trio has cancelled
them. When and with what the world answers is for `shell`.
"""

import os
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final, TypeVar, TypeVarTuple

import trio
import trio._core._run as trio_run

from cityid._native import Ledger
from cityid.errors import StorageError
from cityid.node.driver import Driver
from cityid.node.host import Host
from cityid.node.messages import Frame
from cityid.node.ports import AppendVotes, Effect, Event, Now, WriteStore
from cityid.node.wal import VoteLog
from cityid.testing.faults import Disk
from cityid.testing.keys import SeededSigner

SWITCH: Final = "_ALLOW_DETERMINISTIC_SCHEDULING"  # and the generator `_r`, which it makes Trio use

_Result = TypeVar("_Result")
_Arguments = TypeVarTuple("_Arguments")


@contextmanager
def deterministic(seed: object) -> Iterator[None]:
    """Within it Trio schedules its tasks in an order that follows from the seed alone."""
    names = vars(trio_run)
    before = names[SWITCH]
    names[SWITCH] = True
    trio_run._r.seed(f"trio {seed}")
    try:
        yield
    finally:
        names[SWITCH] = before


class TornLog:
    """The vote log of one city on a file in memory; a crash may leave half of a record."""

    def __init__(self, city: str) -> None:
        self._path = Path(f"votes of {city}")
        self._descriptor = os.memfd_create(city)
        VoteLog.make(self._path, self._descriptor)
        self._log = VoteLog(self._path, self._descriptor)

    def recover(self, next_height: int) -> tuple[int, tuple[bytes, ...]]:
        """Open it anew, as a node does that starts."""
        self._log = VoteLog(self._path, self._descriptor)
        return self._log.recover(next_height)

    def append(self, height: int, entries: Sequence[bytes]) -> None:
        """As the real one does, because it is the real one."""
        self._log.append(height, entries)

    def tear(self, height: int, entries: Sequence[bytes], random: Random) -> bool:
        """The power goes while this is written: some first bytes of it reach the file. Whether some are missing."""
        before = self._read()
        self._log.append(height, entries)
        after = self._read()
        changed = [at for at in range(len(after)) if after[at : at + 1] != before[at : at + 1]]
        cut = random.randint(changed[0], changed[-1] + 1) if changed else len(after)
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, after[:cut] + before[cut:], 0)
        return bool(changed) and changed[0] < cut <= changed[-1]

    def close(self) -> None:
        """Free the memory."""
        os.close(self._descriptor)

    def _read(self) -> bytes:
        return os.pread(self._descriptor, os.fstat(self._descriptor).st_size, 0)


@dataclass(slots=True)
class Life:
    """One life of a city, from start to crash. After the crash nothing of it reaches the world."""

    city: "ShellCity"
    ledger: Ledger
    inbox: trio.MemorySendChannel[list[Frame]]
    receive: trio.MemoryReceiveChannel[list[Frame]]
    host: Host = field(init=False)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    in_flight: list[list[AppendVotes | WriteStore]] = field(default_factory=list)
    over: bool = False


@dataclass(slots=True)
class ShellCity:
    """One city: what survives a crash, and its present life."""

    code: str
    votes: TornLog
    disk: Disk = field(default_factory=Disk)
    keys: dict[tuple[str, bytes], SeededSigner] = field(default_factory=dict)
    life: Life | None = None
    lives: int = 0
    clock_ahead_ms: int = 0
    crash_after_effects: int | None = None
    running: trio.Event = field(default_factory=trio.Event)  # not set while it is paused
    arrivals: list[tuple[int, int, Frame]] = field(default_factory=list)  # when, number
    arrived: trio.Event = field(default_factory=trio.Event)

    def find(self, purpose: str, public_key: bytes) -> SeededSigner | None:
        """A key of this city (`ports.Keyring`)."""
        return self.keys.get((purpose, public_key))


class LastEffects(list[Effect]):
    """Effects after which the power goes."""

    def __init__(self, effects: Iterable[Effect], then: Callable[[], None]) -> None:
        super().__init__(effects)
        self._then = then

    def __iter__(self) -> Iterator[Effect]:
        yield from super().__iter__()
        self._then()


class CutDriver(Driver):
    """A driver whose city may lose its power between two effects."""

    watch: Callable[[Event, list[Effect]], list[Effect]]

    def step(self, event: Event, now: Now) -> list[Effect]:
        """The effects that the city lives to obey."""
        return self.watch(event, super().step(event, now))


class Peers:
    """Frames of one life (`host.Sender`)."""

    def __init__(self, send: Callable[[str | None, int, bytes], None]) -> None:
        self._send = send

    def send(self, peer: str, kind: int, payload: bytes, *, urgent: bool) -> bool:
        """One frame to one city."""
        self._send(peer, kind, payload)
        return True

    def broadcast(self, kind: int, payload: bytes, *, urgent: bool) -> int:
        """One frame to all."""
        self._send(None, kind, payload)
        return 0


class Threads:
    """What threads do, on virtual time, for one life (`host.RunBlocking`).

    Of a write that a crash cuts off some first part happens (`ShellSimulation._cut`).
    """

    def __init__(self, life: Life, wait: Callable[[bool], Awaitable[None]]) -> None:
        self._life = life
        self._wait = wait

    async def __call__(self, function: Callable[[*_Arguments], _Result], /, *arguments: *_Arguments) -> _Result:
        """Call it after a while."""
        life, node = self._life, self._life.city
        writes = [write for argument in arguments for write in durable_writes(argument)]
        if writes:
            life.in_flight.append(writes)
        await self._wait(bool(writes))
        await node.running.wait()
        if writes:
            life.in_flight.remove(writes)
            if node.disk.failure is not None:
                raise StorageError(f"The disk of {node.code} failed: {node.disk.failure}.")
        return function(*arguments)


class Store:
    """The store of one life (`host.StoreWriter`)."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.batch = disk.batch
        self.block = disk.block

    def write(self, writes: Sequence[WriteStore]) -> None:
        """All of it, at once."""
        self._disk.waiting_writes += writes
        self._disk.sync_store(len(writes))


def durable_writes(argument: object) -> list[AppendVotes | WriteStore]:
    """What a call makes durable, if anything."""
    if not isinstance(argument, list):
        return []
    return [write for write in argument if isinstance(write, AppendVotes | WriteStore)]
