"""Clients that write and read all the time, and check what they are told.

`Writer` registers items, allocates ranges, and now and then sends the same transaction to two cities, or claims one
serial twice. `Reader` asks random cities about codes that are there and codes that are not, verifies each answer with
nothing but what it trusted at first, and remembers the highest checkpoint: it takes no older answer, so its reads never
go back. What liars answer must verify too, or is not believed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final, Protocol

from cityid._native import Answer, Genesis, Ledger, Trust, make_item_code, verify
from cityid.client import operations
from cityid.client.operations import Item
from cityid.node.ports import HeightRecord
from cityid.testing.checks import Checks, Violation
from cityid.testing.clients import Clients
from cityid.testing.keys import SeededSigner

USE: Final = "60"
CLASS: Final = "010203"
OTHER_CLASS: Final = "010204"  # of which only ranges are taken
MODEL: Final = "1"
MAX_KNOWN: Final = 10_000
"""Codes that are asked for."""


class Served(Protocol):
    """A network that clients use: on the event heap or in the shell."""

    cities: list[str]
    genesis: Genesis
    checks: Checks
    clients: Clients

    @property
    def honest(self) -> list[str]:
        """The cities that do not lie."""

    def is_up(self, city: str) -> bool:
        """Whether a city runs."""

    def signer(self, city: str) -> SeededSigner:
        """A city's transaction key."""

    def send(self, city: str, data: bytes, *, ids: Sequence[bytes]) -> int:
        """Send encoded transactions to a city."""

    def ledger(self, city: str) -> Ledger:
        """The ledger of a city that runs."""

    def answer(self, code: str, *, at: str) -> Answer:
        """A city's answer for a code."""

    def record(self, city: str, height: int) -> HeightRecord:
        """A decided height as it lies on the disk of a city."""


@dataclass(slots=True)
class Registrar:
    """One city's own register: it is opened once, then filled."""

    city: str
    opening: tuple[bytes, bytes] | None = None
    open: bool = False
    next_serial: int = 0


class Writer:
    """Sends transactions to whoever is up."""

    def __init__(self, simulation: Served, random: Random) -> None:
        self.registered: dict[str, int] = {}  # code → height
        self.sent = 0
        self._simulation = simulation
        self._random = random
        self._registrars = [Registrar(city) for city in simulation.honest]

    def write(self, count: int) -> None:
        """Send so many transactions, in one request."""
        simulation, random = self._simulation, self._random
        up = [city for city in simulation.cities if simulation.is_up(city)]
        if not up:
            self.sent += count  # nobody takes them
            return
        registrar = random.choice(self._registrars)
        if not registrar.open:
            self._open(registrar, random.choice(up))
        built = [self._one(registrar) for _ in range(count)]
        data, ids = b"".join(data for _, data in built), [id_ for id_, _ in built]
        simulation.send(random.choice(up), data, ids=ids)
        if random.random() < 0.05:
            simulation.send(random.choice(up), data, ids=ids)  # an impatient client asks another city too
        self.sent += count

    def _open(self, registrar: Registrar, city: str) -> None:
        simulation = self._simulation
        if registrar.opening is None:
            what = [
                operations.register_category(
                    registrar.city, None, use=USE, class_code=CLASS, model=MODEL, name="Measured"
                ),
                operations.allocate_range(registrar.city, None, class_code=CLASS, size=1_000_000),
            ]
            id_, data = registrar.opening = self._build(registrar, what)
            simulation.clients.when_decided(id_, lambda *_: setattr(registrar, "open", True))
        id_, data = registrar.opening
        simulation.send(city, data, ids=[id_])

    def _one(self, registrar: Registrar) -> tuple[bytes, bytes]:
        random = self._random
        if random.random() < 0.02:
            return self._build(
                registrar, [operations.allocate_range(registrar.city, None, class_code=OTHER_CLASS, size=1_000)]
            )
        serial = registrar.next_serial
        if serial and random.random() < 0.02:
            serial = random.randrange(serial)  # somebody has it already: only one of them may get it
        else:
            registrar.next_serial += 1
        items = [Item(serial, {})]
        built = self._build(
            registrar,
            [operations.register_items(registrar.city, None, use=USE, class_code=CLASS, model=MODEL, items=items)],
        )
        code = make_item_code(registrar.city, None, USE, CLASS, MODEL, serial)
        self._simulation.clients.when_decided(built[0], lambda height, receipt: self._learn(code, height, receipt))
        return built

    def _build(self, registrar: Registrar, what: list[dict[str, Any]]) -> tuple[bytes, bytes]:
        simulation = self._simulation
        newest = simulation.checks.height
        signer = simulation.signer(registrar.city)
        return simulation.clients.build(what, [signer], valid_until=newest + 1_500)

    def _learn(self, code: str, height: int, receipt: dict[str, Any]) -> None:
        if receipt["status"] == "committed":
            self.registered[code] = height
            if len(self.registered) > MAX_KNOWN:
                del self.registered[next(iter(self.registered))]


class Reader:
    """One client that never takes an answer older than what it has seen."""

    def __init__(self, simulation: Served, random: Random, *, remembers: bool = True) -> None:
        self.height = 0
        """The highest checkpoint that it has accepted."""
        self.reads = 0
        self.refused = 0
        """Answers that were honest and too old."""
        self._simulation = simulation
        self._random = random
        self._remembers = remembers  # False is a control
        self._trust = Trust.from_json(simulation.genesis.to_json())
        self._seen: dict[str, int] = {}  # code → height at which it was seen registered

    def read(self, registered: dict[str, int]) -> None:
        """Ask a random city for a random code; `registered` says which there are, and since when."""
        simulation, random = self._simulation, self._random
        up = [city for city in simulation.cities if simulation.is_up(city) and simulation.ledger(city).height > 0]
        if not up:
            return
        city = random.choice(up)
        if self._seen and random.random() < 0.3:
            code = random.choice(list(self._seen))
        elif registered and random.random() < 0.6:
            code = random.choice(list(registered))
        else:
            code = make_item_code(city, None, USE, CLASS, MODEL, 999_000 + random.randrange(1_000))
        answer = simulation.answer(code, at=city).to_bytes()
        if city in simulation.checks.liars:
            answer = self._spoil(answer)
        self.check(city, code, answer, registered)

    def check(self, city: str, code: str, answer: bytes, registered: dict[str, int]) -> None:
        """Judge one answer as a client does, and the client as the outside does."""
        self.reads += 1
        least = self.height if self._remembers else 0
        found = verify(answer, self._trust, code=code, min_height=least)
        if found.verdict == "UNKNOWN" and found.was is None and self._walk(city):
            found = verify(answer, self._trust, code=code, min_height=least)
        honest = city not in self._simulation.checks.liars
        if found.verdict == "UNKNOWN" or (found.verdict == "INVALID" and not honest):
            self.refused += 1
            if honest and (found.height is None or found.height >= least):
                raise Violation(f"the answer of {city} about {code} is UNKNOWN: {found.steps}", kind="answer")
            return
        if found.verdict not in ("REGISTERED", "NOT_REGISTERED") or found.height is None:
            raise Violation(f"the answer of {city} about {code} is {found.verdict}: {found.steps}", kind="answer")
        since = registered.get(code, self._seen.get(code))
        should_be = since is not None and since <= found.height
        if should_be != (found.verdict == "REGISTERED"):
            why = f"{city} proves at height {found.height} that {code} is {found.verdict}, registered since {since}"
            raise Violation(why, kind="answer")
        if found.height < self.height or (found.verdict == "NOT_REGISTERED" and code in self._seen):
            why = f"a client saw height {self.height}, then height {found.height} of {city}: {code} {found.verdict}"
            raise Violation(why, kind="stale read")
        self.height = found.height
        if since is not None and found.verdict == "REGISTERED":
            self._seen[code] = since
            if len(self._seen) > MAX_KNOWN:
                del self._seen[next(iter(self._seen))]

    def _spoil(self, answer: bytes) -> bytes:
        """What a liar makes of an answer: now and then it changes a byte."""
        if self._random.random() < 0.5:
            return answer
        changed = bytearray(answer)
        changed[self._random.randrange(len(changed))] ^= 1 << self._random.randrange(8)
        return bytes(changed)

    def _walk(self, city: str) -> bool:
        """Follow the committee from what is trusted, by the headers that change it; whether there was one."""
        ledger, trust = self._simulation.ledger(city), self._trust
        for height, next_set in ledger.set_changes(trust.height):
            record = self._simulation.record(city, height)
            path = ledger.inclusion(height, height + 1)
            self._trust = self._trust.advance(record.header, path, record.certificate, next_set)
        return self._trust is not trust
