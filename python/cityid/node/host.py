"""Trio obeys the driver: real time, real disks, real peers.

One task steps the driver (`drive`); the others each do one kind of effect and report back as events. What blocks runs
in threads: the two kinds of writing, reading for other cities, and verifying when it takes long. Writes that gathered
while a sync ran are made durable together by the next one.

Bounds: frames wait within `MAX_FRAMES` and `MAX_FRAME_BYTES` and then in the peers' inbox, which stops reading sockets;
requests of one city to serve beyond `MAX_SERVING` are dropped (it asks again, or another city); all other queues hold
only what the driver's own bounds let it ask for.
"""

import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from heapq import heappop, heappush
from typing import Generic, Protocol, TypeAlias, TypeVar, TypeVarTuple, assert_never

import trio

from cityid._native import Ledger
from cityid.errors import StorageError
from cityid.node import telemetry
from cityid.node.driver import Driver
from cityid.node.messages import EXCHANGE_KINDS, Frame
from cityid.node.ports import (
    Acknowledged,
    Admitted,
    AppendVotes,
    BlockSource,
    CancelTimer,
    Committed,
    Durable,
    Effect,
    Event,
    Failed,
    FetchSnapshot,
    FramesReceived,
    Halt,
    Log,
    Now,
    Refused,
    Send,
    ServeBatches,
    ServeBlocks,
    SetTimer,
    SnapshotMissing,
    TimerFired,
    TimerKey,
    Verified,
    Verify,
    WriteStore,
)
from cityid.node.sync import serve_batches, serve_blocks

MAX_FRAMES = 65_536
MAX_FRAME_BYTES = 64 * 1024 * 1024
MAX_SERVING = 8  # of one city, so that the others' requests never wait behind more of its
SERVE_BATCHES_BYTES = 16 * 1024 * 1024
INLINE_VERIFY_BYTES = 65_536  # verifying so much takes about as long as the way to a thread and back
VERIFY_AT_ONCE_BYTES = 4 * 1024 * 1024

Outcome: TypeAlias = Admitted | Acknowledged | Refused | Committed | Halt

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_Arguments = TypeVarTuple("_Arguments")


class StoreWriter(BlockSource, Protocol):
    """What a host needs of the store (`store.Store`)."""

    def write(self, writes: Sequence[WriteStore]) -> None:
        """Make these durable, all at once, or raise `StorageError`."""


class VoteWriter(Protocol):
    """What a host needs of the vote log (`wal.VoteLog`)."""

    def append(self, height: int, entries: Sequence[bytes]) -> None:
        """Make these durable, or raise `StorageError`."""


class RunBlocking(Protocol):
    """Runs what blocks beside the event loop: in a thread (`trio.to_thread.run_sync`), or on simulated time."""

    def __call__(self, function: Callable[[*_Arguments], _Result], /, *arguments: *_Arguments) -> Awaitable[_Result]:
        """Call it and return what it returns."""


def wall_clock_ms() -> int:
    """What the clock on the wall says, milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Sender(Protocol):
    """The other cities, as a place to put frames."""

    def send(self, peer: str, kind: int, payload: bytes, *, urgent: bool) -> bool:
        """Queue a frame for one city."""

    def broadcast(self, kind: int, payload: bytes, *, urgent: bool) -> int:
        """Queue a frame for every city."""


class Host:
    """Runs one driver. `tell` gets what concerns clients, `divert` frames that do not concern the driver (files and
    storage receipts), `fetch_snapshot` the wish for one; none may block.
    """

    def __init__(
        self,
        driver: Driver,
        ledger: Ledger,
        *,
        store: StoreWriter,
        votes: VoteWriter,
        peers: Sender,
        log: telemetry.Log,
        tell: Callable[[Outcome], None],
        divert: Callable[[Frame], None] | None = None,
        run_blocking: RunBlocking = trio.to_thread.run_sync,
        wall_ms: Callable[[], int] = wall_clock_ms,
        fetch_snapshot: Callable[[int], None] | None = None,
    ) -> None:
        self._driver = driver
        self._ledger = ledger
        self._store = store
        self._votes = votes
        self._peers = peers
        self._log = log
        self._tell = tell
        self._divert = divert
        self._run_blocking = run_blocking
        self._wall_ms = wall_ms
        self._fetch_snapshot = fetch_snapshot
        self._events: deque[Event] = deque()
        self._frames: list[Frame] = []
        self._frame_bytes = 0
        self._frames_taken = trio.Event()
        self._wake = trio.Event()
        self._timers: dict[TimerKey, float] = {}
        self._due: list[tuple[float, int, TimerKey]] = []
        self._timer_number = 0
        self._vote_lane = _Lane[AppendVotes]()
        self._store_lane = _Lane[WriteStore]()
        self._verify_lane = _Lane[bytes]()
        self._serve_lane = _Lane[ServeBatches | ServeBlocks]()
        self._serving: Counter[str] = Counter()
        self.steps = 0
        self.vote_syncs = 0
        self.store_syncs = 0
        self.requests_dropped = 0

    def post(self, event: Event) -> None:
        """Give the driver an event."""
        self._events.append(event)
        self._wake.set()

    def figures(self) -> dict[str, int]:
        """For metrics."""
        return {
            "steps_total": self.steps,
            "vote_syncs_total": self.vote_syncs,
            "store_syncs_total": self.store_syncs,
            "requests_dropped_total": self.requests_dropped,
            "frames_waiting": len(self._frames),
        }

    async def run(
        self,
        inbox: trio.MemoryReceiveChannel[list[Frame]],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Drive until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._receive, inbox)
            nursery.start_soon(self._write_votes)
            nursery.start_soon(self._write_store)
            nursery.start_soon(self._verify)
            nursery.start_soon(self._serve)
            task_status.started()
            await self._drive()

    # ------------------------------------------------------------ the driver's task

    async def _drive(self) -> None:
        while True:
            await self._wait()
            frames, self._frames = self._frames, []
            self._frame_bytes = 0
            self._frames_taken.set()
            if frames:
                self._step(FramesReceived(frames))
            for _ in range(len(self._events)):
                self._step(self._events.popleft())
            now = trio.current_time()
            while self._due and self._due[0][0] <= now:
                deadline, _, key = heappop(self._due)
                if self._timers.get(key) == deadline:
                    del self._timers[key]
                    self._step(TimerFired(key))
            await trio.lowlevel.checkpoint()

    async def _wait(self) -> None:
        if self._events or self._frames:
            return
        self._wake = trio.Event()
        with trio.move_on_at(self._due[0][0] if self._due else float("inf")):
            await self._wake.wait()

    def _step(self, event: Event) -> None:
        self.steps += 1
        now = Now(int(trio.current_time() * 1_000_000), self._wall_ms())
        for effect in self._driver.step(event, now):
            self._obey(effect)

    def _obey(self, effect: Effect) -> None:
        match effect:
            case Send(peer, kind, payload, urgent):
                if peer is None:
                    self._peers.broadcast(kind, payload, urgent=urgent)
                else:
                    self._peers.send(peer, kind, payload, urgent=urgent)
            case AppendVotes():
                self._vote_lane.put(effect)
            case WriteStore():
                self._store_lane.put(effect)
            case Verify(bodies):
                for body in bodies:
                    self._verify_lane.put(body)
            case SetTimer(key, after_us):
                deadline = trio.current_time() + after_us / 1_000_000
                self._timers[key] = deadline
                self._timer_number += 1
                heappush(self._due, (deadline, self._timer_number, key))
            case CancelTimer(key):
                self._timers.pop(key, None)
            case ServeBatches() | ServeBlocks():
                if self._serving[effect.peer] < MAX_SERVING:
                    self._serving[effect.peer] += 1
                    self._serve_lane.put(effect)
                else:
                    self.requests_dropped += 1
            case FetchSnapshot(above):
                if self._fetch_snapshot is not None:
                    self._fetch_snapshot(above)
                else:
                    self.post(SnapshotMissing("this host fetches none"))
            case Admitted() | Acknowledged() | Refused() | Committed() | Halt():
                self._tell(effect)
            case Log(level, event, fields):
                self._log.limited(level, event, **fields)
            case _:
                assert_never(effect)

    # ------------------------------------------------------------ the other tasks

    async def _receive(self, inbox: trio.MemoryReceiveChannel[list[Frame]]) -> None:
        async for frames in inbox:
            if self._divert is not None and any(frame.kind in EXCHANGE_KINDS for frame in frames):
                for frame in frames:
                    if frame.kind in EXCHANGE_KINDS:
                        self._divert(frame)
                frames = [frame for frame in frames if frame.kind not in EXCHANGE_KINDS]
            while len(self._frames) > MAX_FRAMES or self._frame_bytes > MAX_FRAME_BYTES:
                self._frames_taken = trio.Event()
                await self._frames_taken.wait()
            self._frames += frames
            self._frame_bytes += sum(len(frame.payload) for frame in frames)
            self._wake.set()

    async def _write_votes(self) -> None:
        while True:
            appends = await self._vote_lane.take()
            try:
                await self._run_blocking(self._append_votes, appends)
            except StorageError as error:
                self.post(Failed(str(error)))
                return
            self.vote_syncs += 1
            for append in appends:
                self.post(Durable(append.token))

    def _append_votes(self, appends: list[AppendVotes]) -> None:
        """Entries of one height become one record and one sync; nearly always they all are."""
        waiting: list[bytes] = []
        for position, append in enumerate(appends):
            waiting += append.entries
            if position + 1 == len(appends) or appends[position + 1].height != append.height:
                self._votes.append(append.height, waiting)
                waiting = []

    async def _write_store(self) -> None:
        while True:
            writes = await self._store_lane.take()
            try:
                await self._run_blocking(self._store.write, writes)
            except StorageError as error:
                self.post(Failed(str(error)))
                return
            self.store_syncs += 1
            for write in writes:
                self.post(Durable(write.token))

    async def _verify(self) -> None:
        while True:
            bodies = await self._verify_lane.take(weight=len, limit=VERIFY_AT_ONCE_BYTES)
            if sum(map(len, bodies)) <= INLINE_VERIFY_BYTES:
                results = self._ledger.ingest(bodies)
            else:
                results = await self._run_blocking(self._ledger.ingest, bodies)
            self.post(Verified(results))

    async def _serve(self) -> None:
        while True:
            for request in await self._serve_lane.take(limit=1):
                self._serving[request.peer] -= 1
                try:
                    frames = await self._run_blocking(self._read, request)
                except StorageError as error:
                    self._log.error("reading_failed", why=str(error))
                    continue
                for kind, payload in frames:
                    self._peers.send(request.peer, kind, payload, urgent=False)

    def _read(self, request: ServeBatches | ServeBlocks) -> list[tuple[int, bytes]]:
        if isinstance(request, ServeBatches):
            return list(serve_batches(self._store, request.digests, max_bytes=SERVE_BATCHES_BYTES))
        found = serve_blocks(self._store, first=request.first, count=request.count, max_bytes=request.max_bytes)
        return list(found)


class _Lane(Generic[_Item]):
    """First in, first out, from the driver's task to one other."""

    def __init__(self) -> None:
        self._items: deque[_Item] = deque()
        self._filled = trio.Event()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: _Item) -> None:
        self._items.append(item)
        self._filled.set()

    async def take(self, *, weight: Callable[[_Item], int] = lambda _: 1, limit: int = 4_096) -> list[_Item]:
        """Wait until there is something; then take what there is, up to a total weight, but at least one."""
        if not self._items:
            self._filled = trio.Event()
            await self._filled.wait()
        taken = [self._items.popleft()]
        limit -= weight(taken[0])
        while self._items and weight(self._items[0]) <= limit:
            limit -= weight(self._items[0])
            taken.append(self._items.popleft())
        return taken
