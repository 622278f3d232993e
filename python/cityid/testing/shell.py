"""The second driver of the simulation: the real `node.host.Host` of every city, on Trio's virtual clock.

The event heap (`simulation`) is many times faster and has the volume; here the asynchronous shell itself is under test:
its tasks, lanes, queues, cancellation and back-pressure, and the real vote log with torn records. Three ports of the
host are simulated (`shell_ports`): threads (a call takes virtual time, and a crash cuts it off), peers (frames over
`faults.Network`, into the host's bounded inbox), and the store (`faults.Disk`). The vote log is the real one, on a file
in memory.

Trio is deterministic only by two of its private names (`deterministic`); a test guards them. A paused city is one
whose calls and frames do not come back: its timers still fire, unlike under SIGSTOP. The clients, checks and schedules
are those of the event heap.
"""

import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from hashlib import sha256
from heapq import heappop, heappush
from random import Random
from typing import Final

import trio
from trio.testing import MockClock

from cityid._native import Answer, Genesis, Ledger
from cityid.node import messages
from cityid.node.host import Host, Outcome
from cityid.node.messages import Frame
from cityid.node.ports import (
    Acknowledged,
    Admitted,
    AppendVotes,
    Committed,
    Effect,
    Event,
    HeightRecord,
    Recovered,
    Refused,
    Settings,
    Start,
    Submitted,
    WriteStore,
)
from cityid.node.telemetry import Log
from cityid.testing.checks import Checks, Violation
from cityid.testing.clients import Clients
from cityid.testing.faults import FULL, Network, NetworkFaults
from cityid.testing.keys import GENESIS_TIME_MS, SeededSigner, city_codes, seeded_genesis, seeded_signer
from cityid.testing.shell_ports import (
    CutDriver,
    LastEffects,
    Life,
    Peers,
    ShellCity,
    Store,
    Threads,
    TornLog,
    deterministic,
)

INBOX: Final = 256
"""Lots of frames that wait for a host; then the network waits."""
MAX_UNDELIVERED: Final = 50_000
"""Frames on their way to one city; a sender's further ones are lost, as a full outbox loses them."""


class ShellSimulation:
    """A network of hosts; `run` plays what is given to it. Its methods are those of `Simulation`."""

    def __init__(
        self,
        cities: int = 4,
        seed: int = 1,
        *,
        parameters: dict[str, int] | None = None,
        settings: Settings | None = None,
        network: NetworkFaults | None = None,
        sync_ms: tuple[int, int] = (1, 3),
    ) -> None:
        self.seed = seed
        self.cities = city_codes(cities)
        self.genesis: Genesis = seeded_genesis(self.cities, seed=seed, parameters=parameters)
        self.checks = Checks(self.genesis.hash, Ledger(self.genesis).validators)
        self.clients = Clients(self.genesis.hash)
        self.network = Network(network or NetworkFaults(), Random(f"network {seed}"))
        self._usual = replace(self.network.faults)
        self._settings = settings or Settings()
        self._usual_sync_ms = self._sync_ms = sync_ms
        self._random = Random(f"disk {seed}")
        self._trace = sha256()
        self._number = 0
        self._progress = trio.Event()  # somebody committed a height
        self._nursery: trio.Nursery | None = None
        self._log: Log | None = None
        self._nodes: dict[str, ShellCity] = {}
        self.torn = 0
        """How many crashes cut a record of a vote log in two."""

    def run(self, play: Callable[[], Awaitable[None]]) -> None:
        """Start all cities, play, stop. Raises the `Violation` that ended it."""
        with deterministic(self.seed), open(os.devnull, "w", encoding="utf-8") as nowhere, ExitStack() as stack:
            self._log = Log(nowhere, clock=lambda: 0.0, level="error")
            for code in self.cities:
                self._nodes[code] = node = ShellCity(code, TornLog(code))
                stack.callback(node.votes.close)
                node.running.set()
                for purpose in ("consensus", "checkpoint"):
                    signer = self.signer(code, purpose)
                    node.keys[purpose, signer.public_key] = signer
            try:
                trio.run(self._main, play, clock=MockClock(autojump_threshold=0))
            except BaseExceptionGroup as group:
                raise _first(group) from group

    async def _main(self, play: Callable[[], Awaitable[None]]) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for code in self.cities:
                self.restart(code)
            await play()
            nursery.cancel_scope.cancel()

    @property
    def now_us(self) -> int:
        """Microseconds since the start."""
        return round(trio.current_time() * 1_000_000)

    @property
    def now_ms(self) -> int:
        """Virtual wall-clock time, milliseconds since 1970."""
        return GENESIS_TIME_MS + self.now_us // 1_000

    @property
    def trace(self) -> str:
        """A digest of everything that happened so far: equal for equal seeds."""
        return self._trace.hexdigest()

    # ------------------------------------------------------------ faults (schedule.Fallible)

    def crash(self, city: str, *, after_effects: int | None = None) -> None:
        """Cut a city's power: now, or after it obeyed so many more effects."""
        node = self._nodes[city]
        if after_effects is not None:
            node.crash_after_effects = after_effects
        elif node.life is not None:
            self._cut(node.life)

    def restart(self, city: str) -> None:
        """Start a city from its disk; one that runs is cut first."""
        node = self._nodes[city]
        if node.life is not None:
            self._cut(node.life)
        assert self._nursery is not None, "cities start within run"
        node.lives += 1
        node.crash_after_effects = node.disk.failure = None
        life, recovered = self._begin(node)
        node.life = life
        if life.ledger.height:
            self._check_commit(life)
        self._nursery.start_soon(self._live, life, recovered)
        for other in self.cities:
            if other != city and self._nodes[other].life is not None:
                self._carry(city, other, messages.HELLO, b"")
                self._carry(other, city, messages.HELLO, b"")

    def pause(self, city: str) -> None:
        """No call of this city comes back, and no frame reaches it."""
        node = self._nodes[city]
        if node.running.is_set():
            node.running = trio.Event()

    def resume(self, city: str) -> None:
        """They do again."""
        self._nodes[city].running.set()

    def set_clock(self, city: str, *, ahead_ms: int) -> None:
        """Let a city's wall clock be wrong."""
        self._nodes[city].clock_ahead_ms = ahead_ms

    def block(self, pairs: Iterable[tuple[str, str]]) -> None:
        """What the first of a pair sends does not reach the second, until the next call."""
        self.network.block(pairs)

    def set_network(self, faults: NetworkFaults) -> None:
        """How bad the network is from now on."""
        self.network.faults = faults

    def set_sync(self, sync_ms: tuple[int, int]) -> None:
        """How long a sync takes from now on, at every city."""
        self._sync_ms = sync_ms

    def fail_disk(self, city: str, why: str) -> None:
        """No sync of this disk succeeds until the city is restarted."""
        self._nodes[city].disk.failure = why

    # ------------------------------------------------------------ clients (traffic.Served)

    @property
    def honest(self) -> list[str]:
        """All of them: liars are for the event heap."""
        return self.cities

    def signer(self, city: str, purpose: str = "transaction") -> SeededSigner:
        """A city's key."""
        return seeded_signer(self.seed, city, purpose)

    def send(self, city: str, data: bytes, *, ids: Sequence[bytes]) -> int:
        """Send encoded transactions to a city; returns the ticket of the request."""
        node = self._nodes[city]
        ticket = self.clients.open_ticket(city, ids)
        if node.life is None or not node.running.is_set():
            self.clients.tell(Refused(ticket, "unreachable", f"{city} does not answer"), honest=True)
        else:
            node.life.host.post(Submitted(ticket, data))
        return ticket

    def is_up(self, city: str) -> bool:
        """Whether a city runs."""
        return self._nodes[city].life is not None

    def ledger(self, city: str) -> Ledger:
        """The ledger of a city that runs."""
        life = self._nodes[city].life
        if life is None:
            raise LookupError(f"{city} is down; restart it first")
        return life.ledger

    def height(self, city: str) -> int:
        """The durable height of a city."""
        return len(self._nodes[city].disk.heights)

    def answer(self, code: str, *, at: str) -> Answer:
        """A city's answer for a code."""
        return self.ledger(at).answer(code)

    def record(self, city: str, height: int) -> HeightRecord:
        """A decided height as it lies on the disk of a city."""
        return self._nodes[city].disk.heights[height - 1]

    def check(self) -> None:
        """What holds now, faults or not, and no single step shows."""
        disks = [node.disk for node in self._nodes.values()]
        self.checks.check_held(disks)
        self.checks.forget_below(min(len(disk.heights) for disk in disks) - 1)

    async def settle(self, *, limit_ms: int) -> None:
        """End every fault; then all must reach one tip in bounded time and keep every acknowledged transaction."""
        self.block(())
        self.set_network(self._usual)
        self.set_sync(self._usual_sync_ms)
        for node in self._nodes.values():
            node.clock_ahead_ms = 0
            node.crash_after_effects = None
            node.running.set()
            if node.life is None or node.disk.failure is not None:
                self.restart(node.code)
        goal = self.checks.height + 2
        with trio.move_on_after(limit_ms / 1_000) as limit:
            while min(map(self.height, self.cities)) < goal or self.clients.unkept():
                self._progress = trio.Event()
                await self._progress.wait()
        if limit.cancelled_caught:
            heights = {city: self.height(city) for city in self.cities}
            raise Violation(f"faults ended, and the network does not recover: heights are {heights}", kind="stuck")
        self.check()
        self.checks.check_held([node.disk for node in self._nodes.values()], again=True)
        self.clients.check_kept(self.ledger(city) for city in self.cities)

    # ------------------------------------------------------------ a life

    def _begin(self, node: ShellCity) -> tuple[Life, Recovered]:
        ledger = Ledger(self.genesis)
        if records := node.disk.heights:
            ledger.replay(
                [record.header for record in records],
                [record.changes for record in records],
                [record.receipts for record in records],
                records[-1].certificate,
            )
        vote_height, vote_entries = node.votes.recover(ledger.height + 1)
        recovered = replace(node.disk.recovered(), vote_height=vote_height, vote_entries=vote_entries)
        driver = CutDriver(
            genesis=self.genesis,
            ledger=ledger,
            city=node.code,
            keyring=node,
            seed=sha256(f"{self.seed} {node.code} {node.lives}".encode()).digest(),
            settings=self._settings,
        )
        assert self._log is not None, "cities start within run"
        send, receive = trio.open_memory_channel[list[Frame]](INBOX)
        life = Life(node, ledger, send, receive)
        driver.watch = partial(self._watch, life)
        life.host = Host(
            driver,
            ledger,
            store=Store(node.disk),
            votes=node.votes,
            peers=Peers(partial(self._send, life)),
            log=self._log,
            tell=partial(self._tell, life),
            run_blocking=Threads(life, self._wait),
            wall_ms=lambda: self.now_ms + node.clock_ahead_ms,
        )
        return life, recovered

    async def _live(self, life: Life, recovered: Recovered) -> None:
        with life.scope:
            life.host.post(Start(recovered))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._receive, life)
                await life.host.run(life.receive)

    def _cut(self, life: Life) -> None:
        """The power goes: what is in flight reaches the disk in part, and nothing more of this life the world."""
        node, random = life.city, self._random
        life.over = True
        life.scope.cancel()
        for writes in life.in_flight:
            if isinstance(writes[0], WriteStore):
                node.disk.waiting_writes += [write for write in writes if isinstance(write, WriteStore)]
            elif node.disk.failure != FULL:
                appends = [append for append in writes if isinstance(append, AppendVotes)]
                first = [append for append in appends if append.height == appends[0].height]
                self.torn += node.votes.tear(first[0].height, [e for append in first for e in append.entries], random)
        node.disk.crash(random, lose_everything=False, lose_votes=False)
        node.arrivals.clear()
        node.running.set()
        node.life = None
        self.clients.on_crash(node.code)
        self._trace.update(f"{self.now_us} {node.code} cut".encode())

    def _watch(self, life: Life, event: Event, effects: list[Effect]) -> list[Effect]:
        if life.over:
            return []
        node = life.city
        self._trace.update(f"{self.now_us} {node.code} {type(event).__name__} {len(effects)}".encode())
        if node.crash_after_effects is None:
            return effects
        if len(effects) <= node.crash_after_effects:
            node.crash_after_effects -= len(effects)
            return effects
        return LastEffects(effects[: node.crash_after_effects], partial(self._cut, life))

    # ------------------------------------------------------------ ports of the host

    async def _wait(self, writes: bool) -> None:
        await trio.sleep((self._random.randint(*self._sync_ms) if writes else 1) / 1_000)

    def _send(self, life: Life, peer: str | None, kind: int, payload: bytes) -> None:
        if life.over:
            return
        sender = life.city
        if kind == messages.CONSENSUS:
            self.checks.on_message(sender.code, payload)
            self.checks.check_body(sender.code, payload, sender.disk)
        self._trace.update(payload)
        for receiver in self.cities if peer is None else [peer]:
            if receiver != sender.code:
                self._carry(sender.code, receiver, kind, payload)

    def _carry(self, sender: str, receiver: str, kind: int, payload: bytes) -> None:
        node = self._nodes[receiver]
        if node.life is None or len(node.arrivals) >= MAX_UNDELIVERED:
            return
        for after_us in self.network.arrivals_us(sender, receiver):
            self._number += 1
            heappush(node.arrivals, (self.now_us + after_us, self._number, Frame(sender, kind, payload)))
            node.arrived.set()

    async def _receive(self, life: Life) -> None:
        """Bring frames into the inbox when they arrive; a full inbox makes them wait."""
        node = life.city
        while True:
            await node.running.wait()
            frames: list[Frame] = []
            while node.arrivals and node.arrivals[0][0] <= self.now_us:
                frames.append(heappop(node.arrivals)[2])
            if frames:
                await life.inbox.send(frames)
                continue
            node.arrived = trio.Event()
            with trio.move_on_at(node.arrivals[0][0] / 1_000_000 if node.arrivals else float("inf")):
                await node.arrived.wait()

    def _tell(self, life: Life, outcome: Outcome) -> None:
        if life.over:
            return
        match outcome:
            case Admitted() | Acknowledged() | Refused():
                self.clients.tell(outcome, honest=True)
            case Committed(height) if height == life.ledger.height:
                self._check_commit(life)
            case _:
                pass

    def _check_commit(self, life: Life) -> None:
        self._progress.set()
        ledger = life.ledger
        record = life.city.disk.heights[ledger.height - 1]
        first = self.checks.on_commit(
            life.city.code, ledger.height, value=ledger.log_root, state_root=ledger.state_root,
            next_committee=ledger.validators, certificate=record.certificate, header=record.header,
        )  # fmt: skip
        if first:
            self.clients.on_first_commit(ledger)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """A violation, if one is among them, else whatever went wrong."""
    leaves: list[BaseException] = []
    waiting: list[BaseException] = [group]
    while waiting:
        found = waiting.pop()
        if isinstance(found, BaseExceptionGroup):
            waiting += found.exceptions
        else:
            leaves.append(found)
    return next((leaf for leaf in leaves if isinstance(leaf, Violation)), leaves[0])
