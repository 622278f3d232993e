"""What goes wrong in a run, written down before it begins: a list of faults with times, made from a seed.

    >>> faults = draw(1, cities=["130100", "320500", "330100", "430100"], duration_ms=60_000, every_ms=(500, 2_000))

A fault is a value: what, when, for how long, whom, how much. Because nothing else is random about it, a schedule that
ends in a violation can be made shorter (`shrink`), saved as JSON and played again. `Player` plays one on anything that
can fail (`Fallible`): the event heap and the shell alike. Times are milliseconds of virtual time since the start.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from heapq import heapify, heappop, heappush
from random import Random
from typing import Any, Final, Protocol, assert_never

from cityid.errors import MalformedInput
from cityid.testing.faults import BROKEN, FULL, NetworkFaults

MAX_CLOCK_ERROR_MS: Final = 2_000
MAX_EFFECTS: Final = 40
FOREVER_MS: Final = 10**12


class What(StrEnum):
    """The kinds of faults, with what `amount` means."""

    CRASH = "crash"  # power cut; after so many effects, or at once when negative
    PAUSE = "pause"  # stopped and continued
    CLOCK = "clock"  # the wall clock is wrong by so many milliseconds
    SPLIT = "split"  # these cities on one side, all others on the other
    DEAF = "deaf"  # nothing reaches these cities; what they send arrives
    MUTE = "mute"  # nothing that these cities send arrives
    LOSS = "loss"  # so many percent of all frames are lost
    DUPLICATION = "duplication"  # so many percent arrive twice
    REORDERING = "reordering"  # so many percent are overtaken by others
    DELAY = "delay"  # frames take up to so many milliseconds
    SLOW_DISK = "slow disk"  # a sync takes up to so many milliseconds, everywhere
    FULL_DISK = "full disk"  # no write succeeds, until the operator makes room and restarts
    DISK_ERROR = "disk error"  # a sync fails, and what it wrote may be there or not


ONE_CITY: Final = (What.CRASH, What.PAUSE, What.CLOCK, What.FULL_DISK, What.DISK_ERROR)
HURTING: Final = frozenset({What.CRASH, What.PAUSE, What.FULL_DISK, What.DISK_ERROR, What.DEAF, What.MUTE})
"""At most f cities may have one of these at a time in a run in which the network must go on."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault."""

    at_ms: int
    for_ms: int
    what: What
    cities: tuple[str, ...] = ()
    amount: int = 0

    def to_json(self) -> dict[str, Any]:
        """The form that stands in a schedule file."""
        return {
            "at_ms": self.at_ms, "for_ms": self.for_ms, "what": self.what.value, "cities": list(self.cities),
            "amount": self.amount,
        }  # fmt: skip

    @classmethod
    def from_json(cls, value: Any) -> "Fault":
        """Read one. Raises `MalformedInput`."""
        match value:
            case {
                "at_ms": int(at_ms), "for_ms": int(for_ms), "what": str(what), "cities": list(cities),
                "amount": int(amount),
            } if at_ms >= 0 and for_ms >= 0 and what in list(What):  # fmt: skip
                return cls(at_ms, for_ms, What(what), tuple(str(city) for city in cities), amount)
        raise MalformedInput(f"A schedule has a fault that does not read: {value!r}. Write it as `cityid sim` does.")


def draw(
    seed: int | str,
    *,
    cities: Sequence[str],
    duration_ms: int,
    every_ms: tuple[int, int],
    lasting_ms: tuple[int, int] = (20, 4_000),
    slow_ms: int = 900,
    whole_network: bool = False,
    kinds: Sequence[What] = tuple(What),
    spared: int = 0,
) -> list[Fault]:
    """Random faults, one every so often, each lasting a while.

    `whole_network` allows more cities to be down at once than the network tolerates: it stops then, and must not break.
    Without it at most f cities, less `spared` (the liars), are hurt at one time, and no split cuts a quorum.
    """
    random = Random(f"schedule {seed}")
    tolerated = max(0, (len(cities) - 1) // 3 - spared)
    busy: list[tuple[int, str]] = []  # until when which city is hurt
    faults: list[Fault] = []
    at_ms = random.randint(*every_ms)
    while at_ms < duration_ms:
        what = random.choice(kinds)
        for_ms = int(lasting_ms[0] * (lasting_ms[1] / lasting_ms[0]) ** random.random())
        busy = [found for found in busy if found[0] > at_ms]
        hurt = {city for _, city in busy}
        fault = _one(random, what, at_ms, for_ms, cities, slow_ms, tolerated - len(hurt), whole_network, hurt)
        if fault is not None:
            faults.append(fault)
            if what in HURTING or what is What.SPLIT:
                busy += [(at_ms + for_ms, city) for city in fault.cities]
        at_ms += random.randint(*every_ms)
    return faults


def _one(
    random: Random,
    what: What,
    at_ms: int,
    for_ms: int,
    cities: Sequence[str],
    slow_ms: int,
    room: int,
    whole: bool,
    hurt: Collection[str],
) -> Fault | None:
    """A fault of this kind, or None when no more cities may be hurt."""
    healthy = [city for city in cities if city not in hurt]
    amount = 0
    chosen: tuple[str, ...] = ()
    if what in HURTING or what is What.SPLIT:
        if whole:
            chosen = (random.choice(cities),)
            if what is What.SPLIT or (what is What.CRASH and random.random() < 0.1):
                chosen = tuple(city for city in cities if random.random() < 0.5)
        elif room < 1 or not healthy:
            return None
        else:
            chosen = tuple(sorted(random.sample(healthy, random.randint(1, min(room, len(healthy))))))
            chosen = chosen[:1] if what in ONE_CITY else chosen
    match what:
        case What.CRASH:
            amount = random.choice((-1, random.randint(0, MAX_EFFECTS)))
        case What.CLOCK:
            chosen = (random.choice(cities),)
            amount = random.randint(-MAX_CLOCK_ERROR_MS, MAX_CLOCK_ERROR_MS)
        case What.LOSS | What.DUPLICATION | What.REORDERING:
            amount = random.randint(1, 30)
        case What.DELAY | What.SLOW_DISK:
            amount = random.randint(slow_ms // 10, slow_ms)
        case _:
            pass
    return Fault(at_ms, for_ms, what, chosen, amount)


class Fallible(Protocol):
    """A network to which all of this can happen; a call about a city that is in that state already changes nothing."""

    cities: list[str]

    def crash(self, city: str, *, after_effects: int | None = None) -> None:
        """Cut a city's power: now, or after it obeyed so many more effects."""

    def restart(self, city: str) -> None:
        """Start a city from its disk; one that runs is cut first."""

    def pause(self, city: str) -> None:
        """Stop a city as SIGSTOP does."""

    def resume(self, city: str) -> None:
        """Let it go on."""

    def set_clock(self, city: str, *, ahead_ms: int) -> None:
        """Let a city's wall clock be wrong."""

    def block(self, pairs: Iterable[tuple[str, str]]) -> None:
        """What the first of a pair sends does not reach the second, until the next call."""

    def set_network(self, faults: NetworkFaults) -> None:
        """How bad the network is from now on."""

    def set_sync(self, sync_ms: tuple[int, int]) -> None:
        """How long a sync takes from now on, at every city."""

    def fail_disk(self, city: str, why: str) -> None:
        """No sync of this disk succeeds until the city is restarted."""


class Player:
    """Plays a schedule: `advance` to a moment, in order; `next_ms` is the next moment at which there is something."""

    def __init__(
        self,
        network: Fallible,
        faults: Iterable[Fault],
        *,
        usual: NetworkFaults | None = None,
        usual_sync_ms: tuple[int, int] = (1, 3),
    ) -> None:
        self.played: dict[What, int] = {}
        self._network = network
        self._usual = usual or NetworkFaults()
        self._usual_sync_ms = usual_sync_ms
        self._moments: list[tuple[int, int, int, Fault]] = []  # when, 0 begins and 1 ends, number, what
        for number, fault in enumerate(faults):
            self._moments.append((fault.at_ms, 0, number, fault))
        heapify(self._moments)
        self._active: dict[int, Fault] = {}

    @property
    def next_ms(self) -> int:
        """When the next fault begins or ends; `FOREVER_MS` after the last."""
        return self._moments[0][0] if self._moments else FOREVER_MS

    def advance(self, now_ms: int) -> None:
        """Begin and end what is due."""
        while self._moments and self._moments[0][0] <= now_ms:
            at_ms, ends, number, fault = heappop(self._moments)
            if ends:
                del self._active[number]
                self._end(fault)
            else:
                self._active[number] = fault
                self.played[fault.what] = self.played.get(fault.what, 0) + 1
                heappush(self._moments, (at_ms + fault.for_ms, 1, number, fault))
                self._begin(fault)

    def _begin(self, fault: Fault) -> None:
        network = self._network
        for city in fault.cities if fault.what in ONE_CITY else ():
            match fault.what:
                case What.CRASH:
                    network.crash(city, after_effects=None if fault.amount < 0 else fault.amount)
                case What.PAUSE:
                    network.pause(city)
                case What.CLOCK:
                    network.set_clock(city, ahead_ms=fault.amount)
                case What.FULL_DISK:
                    network.fail_disk(city, FULL)
                case What.DISK_ERROR:
                    network.fail_disk(city, BROKEN)
        self._apply(fault.what)

    def _end(self, fault: Fault) -> None:
        network = self._network
        for city in fault.cities if fault.what in ONE_CITY else ():
            if any(city in other.cities and other.what is fault.what for other in self._active.values()):
                continue  # another one of the kind goes on
            match fault.what:
                case What.PAUSE:
                    network.resume(city)
                case What.CLOCK:
                    network.set_clock(city, ahead_ms=0)
                case What.CRASH | What.FULL_DISK | What.DISK_ERROR:
                    network.restart(city)  # also one that did not get as far as its crash
        self._apply(fault.what)

    def _apply(self, changed: What) -> None:
        """What follows from all faults of the network and the disks that are on now."""
        match changed:
            case What.SPLIT | What.DEAF | What.MUTE:
                self._network.block(self._blocked())
            case What.LOSS | What.DUPLICATION | What.REORDERING | What.DELAY:
                self._network.set_network(
                    NetworkFaults(
                        loss=max(self._usual.loss, self._worst(What.LOSS) / 100),
                        duplication=max(self._usual.duplication, self._worst(What.DUPLICATION) / 100),
                        straggling=max(self._usual.straggling, self._worst(What.REORDERING) / 100),
                        latency_ms=(
                            self._usual.latency_ms[0],
                            max(self._usual.latency_ms[1], self._worst(What.DELAY)),
                        ),
                    )
                )
            case What.SLOW_DISK:
                slowest = max(self._usual_sync_ms[1], self._worst(What.SLOW_DISK))
                self._network.set_sync((self._usual_sync_ms[0], slowest))
            case What.CRASH | What.PAUSE | What.CLOCK | What.FULL_DISK | What.DISK_ERROR:
                pass
            case _:
                assert_never(changed)

    def _worst(self, what: What) -> int:
        return max((fault.amount for fault in self._active.values() if fault.what is what), default=0)

    def _blocked(self) -> set[tuple[str, str]]:
        pairs: set[tuple[str, str]] = set()
        cities = self._network.cities
        for fault in self._active.values():
            inside = set(fault.cities)
            outside = [city for city in cities if city not in inside]
            if fault.what in (What.SPLIT, What.MUTE):
                pairs |= {(one, other) for one in inside for other in outside}
            if fault.what in (What.SPLIT, What.DEAF):
                pairs |= {(other, one) for one in inside for other in outside}
        return pairs
