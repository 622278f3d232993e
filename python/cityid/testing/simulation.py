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
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from heapq import heappop, heappush
from random import Random
from typing import Any

from cityid._native import (
    NEWEST_PROTOCOL,
    Answer,
    Genesis,
    Ledger,
    build_transaction,
    finish_transaction,
    possession_message,
)
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
    Settings,
    SnapshotMissing,
    Start,
    Submitted,
    TimerFired,
    TimerKey,
    Verified,
    Verify,
    WriteStore,
)
from cityid.node.sync import serve_batches, serve_blocks
from cityid.testing.checks import Checks, Violation
from cityid.testing.faults import Disk, DiskFaults, Network, NetworkFaults
from cityid.testing.keys import GENESIS_TIME_MS, SeededSigner, city_codes, seeded_genesis, seeded_signer

VERIFY_US = 1_000
SERVE_BYTES = 16 * 1024 * 1024
EARLY_HEIGHTS = 4


@dataclass(slots=True)
class City:
    """One city: what survives a crash, and what does not."""

    code: str
    disk: Disk = field(default_factory=Disk)
    life: int = 0  # counts starts; events of an earlier life are void
    driver: Driver | None = None
    ledger: Ledger | None = None
    inbox: list[Frame] = field(default_factory=list)
    timers: dict[TimerKey, int] = field(default_factory=dict)
    votes_syncing: int = 0
    store_syncing: int = 0
    crash_after_effects: int | None = None
    clock_ahead_ms: int = 0
    logs: list[Log] = field(default_factory=list)
    keys: dict[tuple[str, bytes], SeededSigner] = field(default_factory=dict)  # what lies in its folder of keys
    newest_protocol: int = NEWEST_PROTOCOL  # what its software knows
    links: frozenset[str] = frozenset()  # the cities that it is connected with

    def find(self, purpose: str, public_key: bytes) -> SeededSigner | None:
        """A key of this city, as its driver asks for it (`ports.Keyring`)."""
        return self.keys.get((purpose, public_key))


@dataclass(frozen=True, slots=True)
class Synced:
    """A sync of one lane is over."""

    votes: bool


@dataclass(frozen=True, slots=True)
class Drain:
    """Everything that arrives at this moment is in the inbox."""


class Crashed(Exception):
    """A city went down in the middle of its effects."""


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
        self.results: dict[bytes, tuple[str | None, str | None]] = {}  # id → reason, message at admission
        self.acknowledged: set[bytes] = set()
        self.refused: dict[int, Refused] = {}
        self._settings = settings or Settings()
        self._random = Random(f"disk {seed}")
        self._heap: list[tuple[int, int, str, int, Event | Synced | Drain]] = []
        self._sequence = 0
        self._nonce = 0
        self._tickets: dict[int, list[bytes]] = {}
        self._trace = sha256()
        self._nodes: dict[str, City] = {}
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
            city=city,
            keyring=node,
            seed=sha256(f"{self.seed} {city} {node.life}".encode()).digest(),
            settings=self._settings,
            newest_protocol=node.newest_protocol,
        )
        self._step(node, Start(node.disk.recovered()))
        self._connect(node)

    def partition(self, *groups: Iterable[str]) -> None:
        """Only cities of one group reach each other."""
        self.network.split(groups)

    def heal(self) -> None:
        """End the partition."""
        self.network.heal()

    def set_clock(self, city: str, *, ahead_ms: int) -> None:
        """Let a city's wall clock be wrong."""
        self._nodes[city].clock_ahead_ms = ahead_ms

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
        operations: Sequence[dict[str, Any]],
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
        operations: Sequence[dict[str, Any]],
        *,
        signers: Sequence[SeededSigner] | None = None,
        valid_for: int = 1_000,
    ) -> tuple[bytes, bytes]:
        """The id and the bytes of a signed transaction, to be sent to a city."""
        signing = sorted(signers or [self.signer(city)], key=lambda signer: signer.public_key)
        self._nonce += 1
        body, id_, message = build_transaction(
            self.genesis.hash,
            self.height(city) + valid_for,
            self._nonce.to_bytes(8, "big"),
            [signer.public_key for signer in signing],
            json.dumps(list(operations)),
        )
        return id_, finish_transaction(body, [signer.sign(message) for signer in signing])

    def send(self, city: str, data: bytes, *, ids: Sequence[bytes]) -> int:
        """Send encoded transactions to a city; returns the ticket of the request."""
        node = self._nodes[city]
        ticket = len(self._tickets) + 1
        self._tickets[ticket] = list(ids)
        if node.driver is None:
            self.refused[ticket] = Refused(ticket, "unreachable", f"{city} is down")
        else:
            self._step(node, Submitted(ticket, data))
        return ticket

    def admit_organisation(self, city: str, org: str, *, name: str, quota: int = 1_000_000) -> list[bytes]:
        """Submit the operation that admits an organisation with one key."""
        key = self.organisation_signer(city, org).public_key
        message = possession_message(self.genesis.hash, f"MA.156.{city}.{org}", "transaction", key)
        entry = {
            "purpose": "transaction",
            "key": key.hex(),
            "possession": self.organisation_signer(city, org).sign(message).hex(),
        }
        operation = {
            "op": "admit_organisation", "city": city, "org": org, "name": name, "quota": quota, "keys": [entry],
            "commitments": {},
        }  # fmt: skip
        return self.submit(city, [operation])

    # ------------------------------------------------------------ looking

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
        return self._nodes[city].logs

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
        """All that must hold now, faults or not."""
        self.checks.check_held(node.disk for node in self._nodes.values())

    def settle(self, *, limit_ms: int = 120_000) -> None:
        """End every fault, start every city; then all must reach one tip and keep every acknowledged transaction."""
        self.network.heal()
        self.network.faults = NetworkFaults()
        self.disk_faults.sync_ms = (1, 3)
        for city in self.cities:
            self._nodes[city].clock_ahead_ms = 0
            self._nodes[city].crash_after_effects = None
            if not self.is_up(city):
                self.restart(city)
        self.check()
        goal = self.checks.height + 2
        settling = [city for city in self.cities if city in self.members()]
        try:
            self.run_until(lambda: min(self.height(city) for city in settling) >= goal, limit_ms=limit_ms)
            for city in settling:
                self.run_until(partial(self.is_committed, self.acknowledged, at=city), limit_ms=limit_ms)
        except TimeoutError as error:
            raise Violation(f"faults ended, and the network does not recover: {error}; {self.halted()}") from error
        self.check()

    # ------------------------------------------------------------ the event heap

    def _schedule(self, node: City, after_us: int, event: Event | Synced | Drain) -> None:
        self._sequence += 1
        heappush(self._heap, (self.now_us + after_us, self._sequence, node.code, node.life, event))

    def _next(self) -> None:
        self.now_us, _, code, life, event = heappop(self._heap)
        node = self._nodes[code]
        if node.life != life or node.driver is None:
            return
        match event:
            case TimerFired(key) if node.timers.get(key) != self.now_us:
                return
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
        """A sync that took a while is over: everything that waited when it began is durable."""
        disk = node.disk
        if votes:
            told = [append.token for append in disk.waiting_votes[: node.votes_syncing]]
            disk.sync_votes(node.votes_syncing)
            node.votes_syncing = 0
            if self.disk_faults.vote_log_lies:
                told = []  # they were told at once
        else:
            writes = disk.waiting_writes[: node.store_syncing]
            told = [write.token for write in writes if not self._is_lied_about(write)]
            disk.sync_store(node.store_syncing)
            node.store_syncing = 0
        self._sync(node)
        for token in told:
            self._step(node, Durable(token))

    def _is_lied_about(self, write: WriteStore) -> bool:
        return self.disk_faults.store_lies and write.height is None

    def _sync(self, node: City) -> None:
        """Begin a sync of each lane that has writes and none under way."""
        faults = self.disk_faults
        usual_us = self._random.randint(*faults.sync_ms) * 1_000
        if node.disk.waiting_votes and not node.votes_syncing:
            node.votes_syncing = len(node.disk.waiting_votes)
            self._schedule(node, faults.lie_ms * 1_000 if faults.vote_log_lies else usual_us, Synced(votes=True))
        if node.disk.waiting_writes and not node.store_syncing:
            node.store_syncing = len(node.disk.waiting_writes)
            self._schedule(node, faults.lie_ms * 1_000 if faults.store_lies else usual_us, Synced(votes=False))

    def _cut(self, node: City) -> None:
        node.driver = node.ledger = None
        for other in self._nodes.values():
            other.links -= {node.code}
        node.links = frozenset()
        node.inbox.clear()
        node.timers.clear()
        node.votes_syncing = node.store_syncing = 0
        node.life += 1
        faults = self.disk_faults
        lying = faults.vote_log_lies or faults.store_lies
        node.disk.crash(
            self._random, lose_everything=lying, lose_votes=faults.vote_log_is_lost, found=faults.loss_is_found
        )
        self._trace.update(f"{self.now_us} {node.code} cut".encode())

    # ------------------------------------------------------------ hosting a driver

    def _step(self, node: City, event: Event) -> None:
        driver = node.driver
        if driver is None:
            return
        now = Now(self.now_us, self.now_ms + node.clock_ahead_ms)
        effects = driver.step(event, now)
        self._trace.update(f"{self.now_us} {node.code} {type(event).__name__} {len(effects)}".encode())
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
                self._trace.update(payload)
                for receiver in self.cities if peer is None else [peer]:
                    if receiver in node.links:
                        self._deliver(node.code, receiver, kind, payload)
            case AppendVotes():
                node.disk.waiting_votes.append(effect)
                if self.disk_faults.vote_log_lies:
                    self._schedule(node, 0, Durable(effect.token))
            case WriteStore():
                node.disk.waiting_writes.append(effect)
                if self._is_lied_about(effect):
                    self._schedule(node, 0, Durable(effect.token))
            case SetTimer(key, after_us):
                node.timers[key] = self.now_us + after_us
                self._schedule(node, after_us, TimerFired(key))
            case CancelTimer(key):
                node.timers.pop(key, None)
            case Verify(bodies):
                if node.ledger is not None:
                    self._schedule(node, VERIFY_US, Verified(node.ledger.ingest(bodies)))
            case ServeBatches(peer, digests):
                for kind, payload in serve_batches(node.disk, digests, max_bytes=SERVE_BYTES):
                    self._deliver(node.code, peer, kind, payload)
            case ServeBlocks(peer, first, count, max_bytes):
                for kind, payload in serve_blocks(node.disk, first=first, count=count, max_bytes=max_bytes):
                    self._deliver(node.code, peer, kind, payload)
            case FetchSnapshot():
                self._schedule(node, VERIFY_US, SnapshotMissing("cities of the simulation keep all blocks"))
            case Committed():
                self._on_committed(node, effect)
            case Admitted(ticket, rows):
                self.results |= {id_: (reason, message) for id_, reason, message in rows}
                self._tickets[ticket] = [id_ for id_, reason, _ in rows if reason is None]
            case Acknowledged(ticket):
                self.acknowledged.update(self._tickets[ticket])
            case Refused(ticket):
                self.refused[ticket] = effect
            case Log():
                node.logs.append(effect)
            case Halt():
                self._trace.update(b"halt")

    def _on_committed(self, node: City, done: Committed) -> None:
        if node.ledger is not None and node.ledger.height == done.height:
            self._check_commit(node)
        if done.configuration:
            self._connect(node)

    def _check_commit(self, node: City) -> None:
        """What a city has committed and made durable is what the others have."""
        ledger = node.ledger
        assert ledger is not None, "only cities that run commit"
        record = node.disk.heights[ledger.height - 1]
        self.checks.on_commit(
            node.code, ledger.height, value=ledger.log_root, state_root=ledger.state_root,
            next_committee=ledger.validators, certificate=record.certificate,
        )  # fmt: skip

    # ------------------------------------------------------------ who is connected with whom

    def _add(self, code: str) -> None:
        self._nodes[code] = node = City(code)
        for purpose in ("consensus", "checkpoint"):
            signer = self.signer(code, purpose)
            node.keys[purpose, signer.public_key] = signer

    def _connect(self, node: City) -> None:
        """Make the links that a city has now, and end those that it has no longer; a new one opens with a hello."""
        for other in [found for found in self._nodes.values() if found is not node]:
            linked = self.is_up(node.code) and self.is_up(other.code) and self.is_linked(node.code, other.code)
            if linked and other.code not in node.links:
                node.links |= {other.code}
                other.links |= {node.code}
                self._deliver(node.code, other.code, messages.HELLO, b"")
                self._deliver(other.code, node.code, messages.HELLO, b"")
            elif not linked:
                node.links -= {other.code}
                other.links -= {node.code}

    def _welcomes(self, one: str, other: str) -> bool:
        """A city lets in members; one that is behind, or no member yet, cannot know them and lets in anybody."""
        driver = self.driver(one)
        behind = self.height(one) + EARLY_HEIGHTS < self.checks.height
        return other in driver.members or one not in driver.members or behind

    def _deliver(self, sender: str, receiver: str, kind: int, payload: bytes) -> None:
        node = self._nodes[receiver]
        if node.driver is None:
            return
        for after_us in self.network.arrivals_us(sender, receiver):
            self._schedule(node, after_us, FramesReceived((Frame(sender, kind, payload),)))
