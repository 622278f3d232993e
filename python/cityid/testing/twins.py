"""Twins: a validator that runs twice with one key, and schedules that say in each step who hears whom.

    >>> play(scenario(0)).violation

A twin is the real node once more, with the same keys and another clock: together the two propose and vote against
each other, and each of them forgets what the other is locked on. That is the strongest liar there is short of
forging signatures, and nothing of it has to be written. The method is that of Bano and others (Twins: BFT Systems
Made Robust, OPODIS 2021), with two differences that this protocol asks for. It votes twice in a round, so a schedule
says who hears whom for prevotes and precommits apart; and whose turn it is to propose follows from height and round,
so that leaders are varied by which city has the twin.

A schedule ends after a few rounds, or when no round begins any more; then everybody hears everybody, and all honest
cities must decide one value. `scenario` numbers the schedules: first all of a small family, in a scattered order,
then drawn ones of a much larger family without end. The same number is the same schedule everywhere.

Up to f cities may have twins: then no two values are ever decided. With f + 1 the network must fork: that is the
control.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count, islice, product, takewhile
from multiprocessing import get_context
from random import Random
from struct import Struct
from typing import Final

from cityid.node import messages
from cityid.node.ports import Committed, Settings
from cityid.testing.checks import Violation
from cityid.testing.cities import City
from cityid.testing.faults import DiskFaults, NetworkFaults
from cityid.testing.simulation import Simulation

CITIES: Final = 4
PATIENCE_MS: Final = 400
"""So long without a new round: nobody hears enough to go on, and the schedule is over."""
LIMIT_MS: Final = 60_000
CHUNK: Final = 256
"""Schedules that a process plays before it reports."""

FIRST: Final = 0  # hears the city itself, not its twin
SECOND: Final = 1  # hears the twin, not the city itself
BOTH: Final = 2
NOBODY: Final = 3

_HEAD: Final = Struct(">BQI")  # kind, height, round of a consensus message
_PREVOTING: Final = b"Pvn"
_PRECOMMITTING: Final = b"VN"
_HURRY: Final = Settings(propose_ms=60, step_ms=40, precommit_ms=20, delta_ms=20, empty_wait_ms=0, block_interval_ms=2)


@dataclass(frozen=True, slots=True)
class View:
    """Who hears whom in one step of one round."""

    sides: tuple[int, ...]  # of every city, in order; of one with a twin it does not count
    split: bool = False  # whether honest cities of different sides do not hear each other either

    def __str__(self) -> str:
        return "".join("12+-"[side] for side in self.sides) + ("|" if self.split else "")


@dataclass(frozen=True, slots=True)
class Scenario:
    """Which cities have twins, and for each round a view for prevotes and one for precommits."""

    twins: tuple[int, ...]
    rounds: tuple[tuple[View, View], ...]

    def __str__(self) -> str:
        rounds = ", ".join(f"{prevotes} {precommits}" for prevotes, precommits in self.rounds)
        return f"twins of {list(self.twins)}; rounds {rounds}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one schedule."""

    number: int
    scenario: Scenario
    rounds: int  # how many were begun
    violation: str | None = None
    kind: str = ""


# ---------------------------------------------------------------- schedules

_PLAIN: Final = [sides for sides in product((FIRST, SECOND, NOBODY), repeat=CITIES - 1) if sides.count(NOBODY) <= 1]
"""Views of three honest cities, by their sides. With two of them cut off nobody can decide: those are left out."""
_OPENING: Final = [sides for sides in _PLAIN if next(side for side in sides if side != NOBODY) == FIRST]
"""Half of them: which of two twins is called the first makes no difference."""
SYSTEMATIC: Final = CITIES * len(_OPENING) * len(_PLAIN) ** 2
"""One twin; round 0 with every view for prevotes and every one for precommits; round 1 with every view for both."""
_SCATTER: Final = 9_887  # coprime to SYSTEMATIC: neighbours in the enumeration are far apart in the numbering


def scenario(number: int, *, pairs: int = 1) -> Scenario:
    """The schedule of this number, with so many cities that have twins; from 0."""
    if pairs == 1 and number < SYSTEMATIC:
        return _systematic(number * _SCATTER % SYSTEMATIC)
    return _drawn(Random(f"twins {pairs} {number}"), pairs)


def _systematic(index: int) -> Scenario:
    index, twin = divmod(index, CITIES)
    views = []
    for family in (_OPENING, _PLAIN, _PLAIN):
        index, chosen = divmod(index, len(family))
        sides = list(family[chosen])
        sides.insert(twin, BOTH)
        views.append(View(tuple(sides)))
    opening, precommits, later = views
    return Scenario((twin,), ((opening, precommits), (later, later)))


def _drawn(random: Random, pairs: int) -> Scenario:
    leaders = [(1 + round_) % CITIES for round_ in range(CITIES)]  # of height 1: a twin that leads early does more
    twins = set(random.choices(leaders, (4, 2, 1, 1)))
    while len(twins) < pairs:
        twins.add(random.randrange(CITIES))

    def view() -> View:
        sides = random.choices((FIRST, SECOND, BOTH, NOBODY), (5, 5, 1, 1), k=CITIES)
        return View(tuple(sides), split=random.random() < 0.2)

    rounds = []
    for _ in range(random.randint(2, 5)):
        prevotes = view()
        rounds.append((prevotes, prevotes if random.random() < 0.3 else view()))
    return Scenario(tuple(sorted(twins)), tuple(rounds))


# ---------------------------------------------------------------- one schedule


class Twins(Simulation):
    """A network in which some cities run twice; see the head of this file."""

    def __init__(self, played: Scenario) -> None:
        self._scenario = played
        self._round = -1
        self._since_us = 1_000_000  # of that round; the first begins earlier
        self._healed = False
        self._undecided = CITIES - len(played.twins)
        super().__init__(
            CITIES, 0, settings=_HURRY, network=NetworkFaults(latency_ms=(1, 1)), disks=DiskFaults(sync_ms=(1, 1))
        )
        position = {code: number for number, code in enumerate(self.cities)}
        self._position = dict(position)  # by name
        self._second: frozenset[str] = frozenset(f"{self.cities[twin]}'" for twin in played.twins)
        self._liar = [number in played.twins for number in range(CITIES)]
        for twin in played.twins:
            code = self.cities[twin]
            self.checks.liars.add(code)
            name = f"{code}'"
            self._position[name] = twin
            self._nodes[name] = node = City(name, code)
            node.keys = self._nodes[code].keys
            node.clock_ahead_ms = 7  # so that the two never build the same block
            self.restart(name)

    @property
    def rounds(self) -> int:
        """How many rounds of the first height anybody began."""
        return self._round + 1

    def play(self) -> None:
        """The whole schedule, and what must come after it. Raises `Violation`."""
        self.run_until(lambda: not self._undecided or self._is_stalled(), limit_ms=LIMIT_MS)
        self._healed = True
        try:
            self.run_until(lambda: not self._undecided, limit_ms=LIMIT_MS)
        except TimeoutError as error:
            raise Violation(f"everybody hears everybody, and not all decide: {error}", kind="stuck") from error
        self.check()

    def _is_stalled(self) -> bool:
        return self.now_us - self._since_us > PATIENCE_MS * 1_000

    def _on_committed(self, node: City, done: Committed) -> None:
        super()._on_committed(node, done)
        if done.height == 1 and node.code not in self.checks.liars:
            self._undecided -= 1

    def _deliver(self, sender: str, receiver: str, kind: int, payload: bytes) -> None:
        if self._healed or self._hears(sender, receiver, self._view(kind, payload)):
            super()._deliver(sender, receiver, kind, payload)

    def _view(self, kind: int, payload: bytes) -> View | None:
        """Votes and proposals follow the view of their round and step; all else, that which the network has come to."""
        round_, step = self._round, 1
        if kind == messages.CONSENSUS:
            what, height, of_round = _HEAD.unpack_from(payload)
            if height == 1 and what in _PREVOTING + _PRECOMMITTING:
                round_, step = of_round, int(what in _PRECOMMITTING)
                if round_ > self._round:
                    self._round, self._since_us = round_, self.now_us
        elif kind == messages.PROPOSAL:
            proposal = messages.decode_proposal(payload)
            if proposal.height == 1:
                round_, step = proposal.round, 0
        rounds = self._scenario.rounds
        return rounds[round_][step] if 0 <= round_ < len(rounds) else None

    def _hears(self, sender: str, receiver: str, view: View | None) -> bool:
        if view is None:
            return True
        one, other = self._position[sender], self._position[receiver]
        if self._liar[one] and self._liar[other]:
            return (sender in self._second) == (receiver in self._second)
        if self._liar[one] or self._liar[other]:
            twin, honest = (sender, other) if self._liar[one] else (receiver, one)
            side = view.sides[honest]
            return side == BOTH or side == (SECOND if twin in self._second else FIRST)
        sides = {view.sides[one], view.sides[other]}
        return NOBODY not in sides and not (view.split and sides == {FIRST, SECOND})


def play(played: Scenario, number: int = 0) -> Outcome:
    """Play one schedule to its end."""
    network: Twins | None = None
    try:
        network = Twins(played)
        network.play()
    except Violation as found:
        return Outcome(number, played, 0 if network is None else network.rounds, str(found), found.kind)
    return Outcome(number, played, network.rounds)


# ---------------------------------------------------------------- many schedules


def play_many(numbers: Iterable[int], *, pairs: int = 1, processes: int = 1) -> Iterator[list[Outcome]]:
    """Play schedules by their numbers, on so many processes; yields what came of them in order, some at a time."""
    source = iter(numbers)
    chunks = takewhile(bool, (list(islice(source, CHUNK)) for _ in count()))
    if processes == 1:
        for chunk in chunks:
            yield _play_chunk(chunk, pairs)
        return
    with ExitStack() as stack:
        pool = stack.enter_context(ProcessPoolExecutor(processes, mp_context=get_context("spawn")))
        stack.callback(pool.shutdown, cancel_futures=True)
        waiting = [pool.submit(_play_chunk, chunk, pairs) for chunk in islice(chunks, 2 * processes)]
        while waiting:
            yield waiting.pop(0).result()
            waiting += [pool.submit(_play_chunk, chunk, pairs) for chunk in islice(chunks, 1)]


def _play_chunk(numbers: list[int], pairs: int) -> list[Outcome]:
    return [play(scenario(number, pairs=pairs), number) for number in numbers]
