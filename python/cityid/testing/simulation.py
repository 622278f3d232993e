"""A whole network in one process on virtual time: the same seed gives the same history, anywhere.

    >>> simulation = Simulation(cities=4, seed=1)
    >>> ids = simulation.admit_organisation("130100", "A7K2", name="Water works")
    >>> simulation.run_until(lambda: simulation.is_committed(ids))
    >>> simulation.resolve("MA.156.130100.A7K2", at="320500")["verdict"]
    'REGISTERED'

Every city runs the driver, the consensus engine and the ledger of a real node. An event heap takes the place of the
clock, and `faults` those of the network and the disks. A city may be crashed between any two effects, loses what its
disk had not synced, and comes back through the same recovery as a real one. `checks` watches every message and commit;
what must never happen raises `Violation`.

There are no files here: the exchange of tables and storage receipts (`node/exchange`) is left out, it decides nothing
that the network agrees on. A city of a simulation has no table of a sealed range; answers about its items are
UNAVAILABLE unless the caller gives the ledger tables (`Ledger.use_tables`).

Times are microseconds of virtual time since the start; methods that people call take milliseconds.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from heapq import heappop, heappush
from random import Random
from typing import Any

from cityid._native import Answer, Genesis, Ledger
from cityid.client.operations import Operation, admit_organisation, prove_possession
from cityid.node import messages
from cityid.node.driver import Driver
from cityid.node.messages import Frame
from cityid.node.ports import (
    Acknowledged,
    Admitted,
    AppendVotes,
    CancelTimer,
    Committed,
    Durable,
    Effect,
    Event,
    Failed,
    FetchSnapshot,
    FramesReceived,
    Halt,
    HeightRecord,
    Log,
    Now,
    Refused,
    Send,
    ServeBatches,
    ServeBlocks,
    SetTimer,
    Settings,
    SnapshotMissing,
    Start,
    Submitted,
    TimerFired,
    Verified,
    Verify,
    WriteStore,
)
from cityid.node.sync import serve_batches, serve_blocks
from cityid.testing.checks import Checks, Violation
from cityid.testing.cities import City, Crashed, Drain, Due, Liar, Synced, Waiting
from cityid.testing.clients import Clients
from cityid.testing.faults import DiskFaults, Network, NetworkFaults
from cityid.testing.keys import GENESIS_TIME_MS, SeededSigner, city_codes, seeded_genesis, seeded_signer

VERIFY_US = 1_000
SERVE_BYTES = 16 * 1024 * 1024
EARLY_HEIGHTS = 4


class Simulation:
    """A network of cities; see the head of this file."""

    def __init__(
        self,
        cities: int = 4,
        seed: int = 1,
        *,
        parameters: dict[str, int] | None = None,
        settings: Settings | None = None,
        network: NetworkFaults | None = None,
        disks: DiskFaults | None = None,
    ) -> None:
        self.seed = seed
        self.cities = city_codes(cities)
        self.genesis: Genesis = seeded_genesis(self.cities, seed=seed, parameters=parameters)
        self.now_us = 0
        self.checks = Checks(self.genesis.hash, Ledger(self.genesis).validators)
        self.network = Network(network or NetworkFaults(), Random(f"network {seed}"))
        self.disk_faults = disks or DiskFaults()
        self.clients = Clients(self.genesis.hash)
        self._settings = settings or Settings()
        self._random = Random(f"disk {seed}")
        self._heap: list[tuple[int, int, str, int, Waiting]] = []
        self._sequence = 0
        self._trace = sha256()
        self._nodes: dict[str, City] = {}  # by name
        self._generation: dict[tuple[str, str], int] = {}  # how often a city got new keys of a purpose
        for code in self.cities:
            self._add(code)
        for code in self.cities:
            self.restart(code)

    # ------------------------------------------------------------ time

    def run_for(self, duration_ms: int) -> None:
        """Let so much time pass."""
        end_us = self.now_us + duration_ms * 1_000
        while self._heap and self._heap[0][0] <= end_us:
            self._next()
        self.now_us = end_us

    def run_until(self, condition: Callable[[], bool], *, limit_ms: int = 60_000) -> None:
        """Let time pass until something holds; `TimeoutError` when it does not within the limit."""
        end_us = self.now_us + limit_ms * 1_000
        while not condition():
            if not self._heap or self._heap[0][0] > end_us:
                raise TimeoutError(f"not within {limit_ms} ms; heights are {self.heights()}")
            self._next()

    @property
    def now_ms(self) -> int:
        """Virtual wall-clock time, milliseconds since 1970."""
        return GENESIS_TIME_MS + self.now_us // 1_000

    @property
    def trace(self) -> str:
        """A digest of everything that happened so far: equal for equal seeds."""
        return self._trace.hexdigest()

    # ------------------------------------------------------------ faults

    def crash(self, city: str, *, after_effects: int | None = None) -> None:
        """Cut a city's power: now, or after it obeyed so many more effects."""
        node = self._nodes[city]
        if after_effects is not None:
            node.crash_after_effects = after_effects
        elif node.driver is not None:
            self._cut(node)

    def lose(self, city: str, *, store: bool = False, votes: bool = False) -> None:
        """The disk of a city that is down loses its store or its vote log, and the next start finds out."""
        if store:
            self._nodes[city].disk.lose_store()
        if votes:
            self._nodes[city].disk.lose_votes()

    def restart(self, city: str) -> None:
        """Start a city from its disk, through recovery."""
        node = self._nodes[city]
        if node.driver is not None:
            self._cut(node)
        node.life += 1
        node.crash_after_effects = None
        node.disk.failure = None
        node.ledger = ledger = Ledger(self.genesis)
        if records := node.disk.heights:
            ledger.replay(
                [record.header for record in records],
                [record.changes for record in records],
                [record.receipts for record in records],
                records[-1].certificate,
            )
            self._check_commit(node)
        node.driver = Driver(
            genesis=self.genesis,
            ledger=ledger,
            city=node.code,
            keyring=node,
            seed=sha256(f"{self.seed} {city} {node.life}".encode()).digest(),
            settings=self._settings,
            newest_protocol=node.newest_protocol,
        )
        if node.liar is not None:
            node.liar.attach(node)
        self._step(node, Start(node.disk.recovered()))
        self._connect(node)

    def partition(self, *groups: Iterable[str]) -> None:
        """Only cities of one group reach each other."""
        self.network.split(groups)

    def heal(self) -> None:
        """End the partition."""
        self.network.heal()

    def block(self, pairs: Iterable[tuple[str, str]]) -> None:
        """What the first of a pair sends does not reach the second, until the next call."""
        self.network.block(pairs)

    def set_network(self, faults: NetworkFaults) -> None:
        """How bad the network is from now on."""
        self.network.faults = faults

    def set_sync(self, sync_ms: tuple[int, int]) -> None:
        """How long a sync takes from now on, at every city."""
        self.disk_faults.sync_ms = sync_ms

    def set_clock(self, city: str, *, ahead_ms: int) -> None:
        """Let a city's wall clock be wrong."""
        self._nodes[city].clock_ahead_ms = ahead_ms

    def pause(self, city: str) -> None:
        """Stop a city as SIGSTOP does: clocks go on, whatever comes waits."""
        self._nodes[city].paused = True

    def resume(self, city: str) -> None:
        """Let a paused city go on: all that waited comes at once, in order."""
        node = self._nodes[city]
        node.paused = False
        held, node.held = node.held, []
        for waiting in held:
            self._schedule(node, 0, waiting)

    def fail_disk(self, city: str, why: str) -> None:
        """From now on no sync of this disk succeeds (`faults.FULL`, `faults.BROKEN`), until the city is restarted."""
        self._nodes[city].disk.failure = why

    def corrupt(self, city: str, liar: Liar) -> None:
        """Make a city dishonest: the others must stand at most f of them. It starts anew."""
        self._nodes[city].liar = liar
        self.checks.liars.add(self._nodes[city].code)
        self.restart(city)

    # ------------------------------------------------------------ cities and keys that change

    def add_city(self) -> str:
        """Start the node of one more city, which nobody has admitted yet: it has the genesis and reaches no one."""
        code = next(code for code in city_codes(len(self.cities) + 1) if code not in self.cities)
        self.cities = sorted([*self.cities, code])
        self._add(code)
        self.restart(code)
        return code

    def renew(self, city: str, purpose: str, *, at_once: bool = True) -> SeededSigner:
        """Make a city a new key; it lies in the folder of keys unless it is only put there later (`hand_over`)."""
        self._generation[city, purpose] = self._generation.get((city, purpose), 0) + 1
        if at_once:
            self.hand_over(city, purpose)
        return self.signer(city, purpose)

    def hand_over(self, city: str, purpose: str) -> None:
        """Put a city's newest key of a purpose into its folder of keys."""
        signer = self.signer(city, purpose)
        self._nodes[city].keys[purpose, signer.public_key] = signer

    def set_software(self, city: str, *, newest_protocol: int) -> None:
        """Install another version of the software: it holds from the city's next start on."""
        self._nodes[city].newest_protocol = newest_protocol

    # ------------------------------------------------------------ clients

    def signer(self, city: str, purpose: str = "transaction") -> SeededSigner:
        """A city's newest key."""
        generation = self._generation.get((city, purpose), 0)
        return seeded_signer(self.seed, city, purpose, *[generation] * (generation > 0))

    def organisation_signer(self, city: str, org: str) -> SeededSigner:
        """The key that `admit_organisation` registers."""
        return seeded_signer(self.seed, city, org)

    def submit(
        self,
        city: str,
        operations: Sequence[Operation],
        *,
        signers: Sequence[SeededSigner] | None = None,
        valid_for: int = 1_000,
    ) -> list[bytes]:
        """Send one transaction to a city, signed by the city itself unless others are given; returns its id."""
        id_, data = self.build(city, operations, signers=signers, valid_for=valid_for)
        self.send(city, data, ids=[id_])
        return [id_]

    def build(
        self,
        city: str,
        operations: Sequence[Operation],
        *,
        signers: Sequence[SeededSigner] | None = None,
        valid_for: int = 1_000,
    ) -> tuple[bytes, bytes]:
        """The id and the bytes of a signed transaction, to be sent to a city."""
        return self.clients.build(operations, signers or [self.signer(city)], valid_until=self.height(city) + valid_for)

    def send(self, city: str, data: bytes, *, ids: Sequence[bytes]) -> int:
        """Send encoded transactions to a city; returns the ticket of the request."""
        node = self._nodes[city]
        ticket = self.clients.open_ticket(city, ids)
        if node.driver is None or node.paused:
            self._tell(node, Refused(ticket, "unreachable", f"{city} does not answer"))
        else:
            self._step(node, Submitted(ticket, data))
        return ticket

    def admit_organisation(self, city: str, org: str, *, name: str, quota: int = 1_000_000) -> list[bytes]:
        """Submit the operation that admits an organisation with one key."""
        entry = prove_possession(self.organisation_signer(city, org), self.genesis.hash, f"MA.156.{city}.{org}")
        return self.submit(city, [admit_organisation(city, org, name=name, quota=quota, keys=[entry])])

    @property
    def results(self) -> dict[bytes, tuple[str | None, str | None]]:
        """Reason and message of each transaction at its admission; None and None for one that was taken."""
        return self.clients.results

    @property
    def acknowledged(self) -> set[bytes]:
        """The transactions that an honest city acknowledged."""
        return self.clients.acknowledged

    @property
    def refused(self) -> dict[int, Refused]:
        """Requests that were refused as a whole."""
        return self.clients.refused

    # ------------------------------------------------------------ looking

    @property
    def honest(self) -> list[str]:
        """The cities that do not lie, ascending."""
        return [city for city in self.cities if city not in self.checks.liars]

    def is_linked(self, one: str, other: str) -> bool:
        """Whether two cities that run would connect: each is a member in what the other knows."""
        return self._welcomes(one, other) and self._welcomes(other, one)

    def is_up(self, city: str) -> bool:
        """Whether a city runs."""
        return self._nodes[city].driver is not None

    def driver(self, city: str) -> Driver:
        """The driver of a city that runs."""
        if (driver := self._nodes[city].driver) is None:
            raise LookupError(f"{city} is down; restart it first")
        return driver

    def ledger(self, city: str) -> Ledger:
        """The ledger of a city that runs."""
        return self.driver(city).ledger

    def height(self, city: str) -> int:
        """The durable height of a city, up or down."""
        return len(self._nodes[city].disk.heights)

    def record(self, city: str, height: int) -> HeightRecord:
        """A decided height as it lies on the disk of a city."""
        return self._nodes[city].disk.heights[height - 1]

    def members(self) -> frozenset[str]:
        """The member cities, as the city that is furthest knows them."""
        up = [city for city in self.cities if self.is_up(city)]
        return self.driver(max(up, key=self.height)).members if up else frozenset(self.cities)

    def heights(self) -> dict[str, int]:
        """The durable heights of all cities."""
        return {city: self.height(city) for city in self.cities}

    def halted(self) -> dict[str, str]:
        """Cities whose driver halted, and why."""
        drivers = ((code, node.driver) for code, node in self._nodes.items())
        return {code: driver.halted for code, driver in drivers if driver is not None and driver.halted is not None}

    def logs(self, city: str) -> list[Log]:
        """What a city logged, over all its lives."""
        return list(self._nodes[city].logs)

    def is_committed(self, ids: Iterable[bytes], *, at: str | None = None) -> bool:
        """Whether these transactions are in a block of one city, or of every one that runs."""
        cities = [city for city in self.cities if self.is_up(city)] if at is None else [at]
        wanted = list(ids)
        return all(self.ledger(city).receipt(id_) is not None for city in cities for id_ in wanted)

    def resolve(self, code: str, *, at: str) -> dict[str, Any]:
        """A city's record and verdict for a code."""
        found: dict[str, Any] = json.loads(self.ledger(at).resolve(code))
        return found

    def answer(self, code: str, *, at: str) -> Answer:
        """A city's answer for a code, to be verified."""
        return self.ledger(at).answer(code)

    def check(self) -> None:
        """What holds now, faults or not, and no single step shows."""
        disks = [self._nodes[city].disk for city in self.honest]
        self.checks.check_held(disks)
        self.checks.forget_below(min(len(disk.heights) for disk in disks) - 1)

    def end_faults(self) -> None:
        """Mend the network, the disks and the clocks, and start every city; liars go on lying."""
        self.network.heal()
        self.network.faults = NetworkFaults()
        self.disk_faults.sync_ms = (1, 3)
        for city in self.cities:
            node = self._nodes[city]
            node.clock_ahead_ms = 0
            node.crash_after_effects = None
            if node.paused:
                self.resume(city)
            if not self.is_up(city) or node.disk.failure is not None:
                self.restart(city)

    def settle(self, *, limit_ms: int = 120_000) -> None:
        """End every fault; then all must reach one tip in bounded time and keep every acknowledged transaction."""
        self.end_faults()
        self.check()
        goal = self.checks.height + 2
        settling = [city for city in self.honest if city in self.members()]
        try:
            self.run_until(lambda: min(self.height(city) for city in settling) >= goal, limit_ms=limit_ms)
            self.run_until(lambda: not self.clients.unkept(), limit_ms=limit_ms)
        except TimeoutError as error:
            why = f"faults ended, and the network does not recover: {error}; {self.halted()}"
            lost = f"; {len(self.clients.unkept())} acknowledged transactions are in no block"
            raise Violation(why + lost, kind="stuck") from error
        self.check()
        self.checks.check_held([self._nodes[city].disk for city in self.honest], again=True)
        self.clients.check_kept(self.ledger(city) for city in settling)

    # ------------------------------------------------------------ the event heap

    def _schedule(self, node: City, after_us: int, event: Waiting) -> None:
        self._sequence += 1
        heappush(self._heap, (self.now_us + after_us, self._sequence, node.name, node.life, event))

    def _next(self) -> None:
        self.now_us, _, name, life, event = heappop(self._heap)
        node = self._nodes[name]
        if node.life != life or node.driver is None:
            return
        if node.paused:
            node.held.append(event)
            return
        match event:
            case Due(key, at_us):
                if node.timers.get(key) == at_us:
                    del node.timers[key]
                    self._step(node, TimerFired(key))
            case FramesReceived(frames):
                if not node.inbox:
                    self._schedule(node, 0, Drain())
                node.inbox += frames
            case Drain():
                received, node.inbox = tuple(node.inbox), []
                self._step(node, FramesReceived(received))
            case Synced(votes):
                self._on_synced(node, votes=votes)
            case _:
                self._step(node, event)

    def _on_synced(self, node: City, *, votes: bool) -> None:
        """A sync that took a while is over: everything that waited when it began is durable, unless the disk failed."""
        if node.disk.failure is not None or node.disk_failed:
            if not node.disk_failed:
                node.disk_failed = True
                self._step(node, Failed(f"the disk of {node.name} failed: {node.disk.failure}"))
            return
        told = [write.token for write in node.end_sync(votes=votes) if not self._is_lied_about(write)]
        self._sync(node)
        for token in told:
            self._step(node, Durable(token))

    def _is_lied_about(self, write: AppendVotes | WriteStore) -> bool:
        """Whether it was said to be durable as soon as it was asked for."""
        if isinstance(write, AppendVotes):
            return self.disk_faults.vote_log_lies
        return self.disk_faults.store_lies and write.height is None

    def _sync(self, node: City) -> None:
        """Begin a sync of each lane that has writes and none under way."""
        faults = self.disk_faults
        for votes, lies in ((True, faults.vote_log_lies), (False, faults.store_lies)):
            if node.begin_sync(votes=votes):
                after_ms = faults.lie_ms if lies else self._random.randint(*faults.sync_ms)
                self._schedule(node, after_ms * 1_000, Synced(votes))

    def _cut(self, node: City) -> None:
        for other in self._nodes.values():
            other.links -= {node.name}
        node.go_down()
        self.clients.on_crash(node.name)
        faults = self.disk_faults
        lying = faults.vote_log_lies or faults.store_lies
        node.disk.crash(
            self._random, lose_everything=lying, lose_votes=faults.vote_log_is_lost, found=faults.loss_is_found
        )
        self._trace.update(f"{self.now_us} {node.name} cut".encode())

    # ------------------------------------------------------------ hosting a driver

    def _step(self, node: City, event: Event) -> None:
        driver = node.driver
        if driver is None:
            return
        now = Now(self.now_us, self.now_ms + node.clock_ahead_ms)
        effects = driver.step(event, now)
        if node.liar is not None:
            effects = node.liar.distort(event, effects)
        self._trace.update(f"{self.now_us} {node.name} {type(event).__name__} {len(effects)}".encode())
        try:
            for effect in effects:
                if node.crash_after_effects is not None:
                    node.crash_after_effects -= 1
                    if node.crash_after_effects < 0:
                        raise Crashed
                self._obey(node, effect)
        except Crashed:
            self._cut(node)
            return
        self._sync(node)

    def _obey(self, node: City, effect: Effect) -> None:
        match effect:
            case Send(peer, kind, payload, _):
                if kind == messages.CONSENSUS:
                    self.checks.on_message(node.code, payload)
                    self.checks.check_body(node.code, payload, node.disk)
                elif kind == messages.COSIGNATURE:
                    self.checks.check_cosigned(node.code, payload, node.disk)
                self._trace.update(payload)
                for receiver in self._nodes if peer is None else self._named(peer):
                    if receiver in node.links:
                        self._deliver(node.name, receiver, kind, payload)
            case AppendVotes():
                node.disk.waiting_votes.append(effect)
                if self._is_lied_about(effect):
                    self._schedule(node, 0, Durable(effect.token))
            case WriteStore():
                node.disk.waiting_writes.append(effect)
                if self._is_lied_about(effect):
                    self._schedule(node, 0, Durable(effect.token))
            case SetTimer(key, after_us):
                node.timers[key] = self.now_us + after_us
                self._schedule(node, after_us, Due(key, self.now_us + after_us))
            case CancelTimer(key):
                node.timers.pop(key, None)
            case Verify(bodies):
                if node.ledger is not None:
                    self._schedule(node, VERIFY_US, Verified(node.ledger.ingest(bodies)))
            case ServeBatches(peer, digests):
                self._serve(node, peer, serve_batches(node.disk, digests, max_bytes=SERVE_BYTES))
            case ServeBlocks(peer, first, count, max_bytes):
                self._serve(node, peer, serve_blocks(node.disk, first=first, count=count, max_bytes=max_bytes))
            case FetchSnapshot():
                self._schedule(node, VERIFY_US, SnapshotMissing("cities of the simulation keep all blocks"))
            case Committed():
                self._on_committed(node, effect)
            case Admitted() | Acknowledged() | Refused():
                self._tell(node, effect)
            case Log():
                node.logs.append(effect)
            case Halt():
                self._trace.update(b"halt")

    def _named(self, code: str) -> Iterable[str]:
        """Everybody who claims to be this city: itself, and its twins."""
        return [node.name for node in self._nodes.values() if node.code == code]

    def _serve(self, node: City, peer: str, frames: Iterable[tuple[int, bytes]]) -> None:
        found = list(frames)
        for receiver in self._named(peer):
            for kind, payload in found:
                self._deliver(node.name, receiver, kind, payload)

    def _tell(self, node: City, effect: Admitted | Acknowledged | Refused) -> None:
        self.clients.tell(effect, honest=node.code not in self.checks.liars)

    def _on_committed(self, node: City, done: Committed) -> None:
        if node.ledger is not None and node.ledger.height == done.height:
            self._check_commit(node)
        if done.configuration:
            self._connect(node)

    def _check_commit(self, node: City) -> None:
        """What a city has committed and made durable is what the others have."""
        ledger = node.ledger
        assert ledger is not None, "only cities that run commit"
        if ledger.height > len(node.disk.heights):
            raise Violation(f"{node.name} reports height {ledger.height}, which its disk does not hold", kind="unheld")
        record = node.disk.heights[ledger.height - 1]
        first = self.checks.on_commit(
            node.code, ledger.height, value=ledger.log_root, state_root=ledger.state_root,
            next_committee=ledger.validators, certificate=record.certificate, header=record.header,
        )  # fmt: skip
        if first:
            self.clients.on_first_commit(ledger)

    # ------------------------------------------------------------ who is connected with whom

    def _add(self, code: str) -> None:
        self._nodes[code] = node = City(code, code)
        for purpose in ("consensus", "checkpoint"):
            signer = self.signer(code, purpose)
            node.keys[purpose, signer.public_key] = signer

    def _connect(self, node: City) -> None:
        """Make the links that a city has now, and end those that it has no longer; a new one opens with a hello."""
        for other in [found for found in self._nodes.values() if found.code != node.code]:
            up = node.driver is not None and other.driver is not None
            linked = up and self.is_linked(node.name, other.name)
            if linked and other.name not in node.links:
                node.links |= {other.name}
                other.links |= {node.name}
                self._deliver(node.name, other.name, messages.HELLO, b"")
                self._deliver(other.name, node.name, messages.HELLO, b"")
            elif not linked:
                node.links -= {other.name}
                other.links -= {node.name}

    def _welcomes(self, one: str, other: str) -> bool:
        """A city lets in members; one that is behind, or no member yet, cannot know them and lets in anybody."""
        members = self.driver(one).members
        behind = self.height(one) + EARLY_HEIGHTS < self.checks.height
        return self._nodes[other].code in members or self._nodes[one].code not in members or behind

    def _deliver(self, sender: str, receiver: str, kind: int, payload: bytes) -> None:
        node = self._nodes[receiver]
        if node.driver is None:
            return
        frame = Frame(self._nodes[sender].code, kind, payload)
        for after_us in self.network.arrivals_us(sender, receiver):
            self._schedule(node, after_us, FramesReceived((frame,)))
