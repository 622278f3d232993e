"""One run of a simulated network: who takes part, what they do, what goes wrong; its outcome; how it is shortened.

A `Scenario` is a value: the same one gives the same history, told by the trace of its `Outcome`, on every machine. Its
faults are a schedule (`schedule`), drawn from the seed when it is made. `shrink` drops faults as long as the violation
stays the same kind (delta debugging, Zeller and Hildebrandt, 2002).

Two paces. `busy`: the settings of real nodes, a fault every few hundred milliseconds; for seconds. `long`: a block
every 20 s, slow links and disks, a transaction a second, a fault a minute; for days. Its links are slow, so that a good
part of the time something is being decided and a fault finds it in the middle.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from random import Random
from typing import Any, Final

import trio

from cityid.errors import MalformedInput
from cityid.node.ports import Settings
from cityid.testing.byzantine import Byzantine
from cityid.testing.checks import Violation
from cityid.testing.faults import DiskFaults, NetworkFaults
from cityid.testing.keys import city_codes
from cityid.testing.schedule import Fault, Player, draw
from cityid.testing.shell import ShellSimulation
from cityid.testing.simulation import Simulation
from cityid.testing.traffic import Reader, Writer

FORMAT: Final = "cityid schedule 1"
SETTLE_MS: Final = 600_000
"""So soon after the end of all faults every honest city is at the tip."""
MAX_SHRINK_RUNS: Final = 150


class Pace(StrEnum):
    """How dense time is."""

    BUSY = "busy"
    LONG = "long"


@dataclass(frozen=True, slots=True)
class _Tempo:
    settings: Settings
    parameters: dict[str, int]
    network: NetworkFaults
    sync_ms: tuple[int, int]
    write_every_ms: int
    write_count: int
    fault_every_ms: tuple[int, int]
    fault_lasting_ms: tuple[int, int]
    slow_ms: int


_TEMPI: Final = {
    Pace.BUSY: _Tempo(
        Settings(), {}, NetworkFaults(), (1, 3), write_every_ms=250, write_count=1,
        fault_every_ms=(50, 700), fault_lasting_ms=(20, 4_000), slow_ms=900,
    ),
    Pace.LONG: _Tempo(
        Settings(
            propose_ms=2_500, step_ms=1_500, precommit_ms=300, delta_ms=1_000, block_interval_ms=20_000,
            empty_wait_ms=1_000, clock_drift_ms=2_500, seal_after_ms=100, tick_ms=20_000, sync_patience_ms=3_000,
            fetch_patience_ms=2_000,
        ),
        {"heartbeat_ms": 60_000}, NetworkFaults(latency_ms=(5, 300)), (1, 100), write_every_ms=20_000, write_count=20,
        fault_every_ms=(10_000, 100_000), fault_lasting_ms=(1_000, 600_000), slow_ms=3_000,
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scenario:
    """What one run is made of."""

    seed: int
    cities: int
    duration_ms: int
    pace: Pace = Pace.BUSY
    liars: int = 0
    vote_log_lies: bool = False
    vote_log_is_lost: bool = False
    faults: tuple[Fault, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The form of a schedule file."""
        return {
            "format": FORMAT, "seed": self.seed, "cities": self.cities, "duration_ms": self.duration_ms,
            "pace": self.pace.value, "liars": self.liars, "vote_log_lies": self.vote_log_lies,
            "vote_log_is_lost": self.vote_log_is_lost, "faults": [fault.to_json() for fault in self.faults],
        }  # fmt: skip

    @classmethod
    def from_json(cls, value: Any) -> "Scenario":
        """Read a schedule file. Raises `MalformedInput`."""
        match value:
            case {
                "format": "cityid schedule 1", "seed": int(seed), "cities": int(cities), "pace": str(pace),
                "duration_ms": int(duration_ms), "liars": int(liars), "vote_log_lies": bool(lies),
                "vote_log_is_lost": bool(lost), "faults": list(faults),
            } if pace in list(Pace) and 4 <= cities <= 100 and 0 <= liars < cities and duration_ms >= 0:  # fmt: skip
                found = tuple(Fault.from_json(fault) for fault in faults)
                if unknown := {city for fault in found for city in fault.cities} - set(city_codes(cities)):
                    raise MalformedInput(f"The schedule names cities that a network of {cities} lacks: {min(unknown)}.")
                return cls(seed, cities, duration_ms, Pace(pace), liars, lies, lost, found)
        raise MalformedInput(f"This is no schedule: it needs the format {FORMAT!r} and all that `cityid sim` writes.")


def scenario(
    seed: int, *, cities: int, duration_ms: int, pace: Pace = Pace.BUSY, whole_network: bool = False, liars: int = 0
) -> Scenario:
    """A scenario with faults drawn from its seed; `whole_network` as in `schedule.draw`."""
    tempo = _TEMPI[pace]
    faults = draw(
        seed,
        cities=city_codes(cities),
        duration_ms=duration_ms,
        every_ms=tempo.fault_every_ms,
        lasting_ms=tempo.fault_lasting_ms,
        slow_ms=tempo.slow_ms,
        whole_network=whole_network,
        spared=liars,
    )
    return Scenario(seed, cities, duration_ms, pace, liars, faults=tuple(faults))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run."""

    seed: int
    height: int
    acknowledged: int
    sent: int
    reads: int
    seconds: float
    trace: str
    played: dict[str, int]
    kind: str = ""
    violation: str | None = None


def run(wanted: Scenario) -> Outcome:
    """Play it on the event heap, to its end or to the first violation."""
    tempo = _TEMPI[wanted.pace]
    simulation = Simulation(
        wanted.cities,
        wanted.seed,
        parameters=tempo.parameters,
        settings=tempo.settings,
        network=replace(tempo.network),
        disks=DiskFaults(tempo.sync_ms, wanted.vote_log_lies, vote_log_is_lost=wanted.vote_log_is_lost),
    )
    programme = _Programme(simulation, wanted, tempo)
    kind, violation = "", None
    try:
        for city in sorted(Random(f"liars {wanted.seed}").sample(simulation.cities, wanted.liars)):
            simulation.corrupt(city, _liar(simulation, city))
        while (wait_ms := programme.advance(simulation.now_us // 1_000)) is not None:
            simulation.check()
            simulation.run_for(wait_ms)
        simulation.settle(limit_ms=SETTLE_MS)
    except Violation as found:
        kind, violation = found.kind, str(found)
    return programme.outcome(simulation.now_us, simulation.trace, kind, violation)


def run_in_shell(wanted: Scenario) -> Outcome:
    """Play it with the real hosts on virtual time. `ValueError` for liars and lying disks: they are for the heap."""
    if wanted.liars or wanted.vote_log_lies or wanted.vote_log_is_lost:
        raise ValueError("the shell has neither liars nor lying disks; run this scenario on the event heap")
    tempo = _TEMPI[wanted.pace]
    simulation = ShellSimulation(
        wanted.cities, wanted.seed, parameters=tempo.parameters, settings=tempo.settings,
        network=replace(tempo.network), sync_ms=tempo.sync_ms,
    )  # fmt: skip
    programme = _Programme(simulation, wanted, tempo)
    ended_us = 0

    async def play() -> None:
        nonlocal ended_us
        try:
            while (wait_ms := programme.advance(simulation.now_us // 1_000)) is not None:
                simulation.check()
                await trio.sleep(wait_ms / 1_000)
            await simulation.settle(limit_ms=SETTLE_MS)
        finally:
            ended_us = simulation.now_us

    kind, violation = "", None
    try:
        simulation.run(play)
    except Violation as found:
        kind, violation = found.kind, str(found)
    return programme.outcome(ended_us, simulation.trace, kind, violation)


class _Programme:
    """What happens to a network and what its clients do, moment by moment."""

    def __init__(self, network: Simulation | ShellSimulation, wanted: Scenario, tempo: _Tempo) -> None:
        random = Random(f"clients {wanted.seed}")
        self._network = network
        self._wanted = wanted
        self._tempo = tempo
        self._player = Player(network, wanted.faults, usual=tempo.network, usual_sync_ms=tempo.sync_ms)
        self._writer, self._reader = Writer(network, random), Reader(network, random)
        self._write_ms = 0

    def advance(self, now_ms: int) -> int | None:
        """Do what is due; how long to wait until there is more, or None at the end."""
        end_ms = self._wanted.duration_ms
        if now_ms >= end_ms:
            return None
        self._player.advance(now_ms)
        if self._write_ms <= now_ms:
            self._write_ms += self._tempo.write_every_ms
            self._writer.write(self._tempo.write_count)
            self._reader.read(self._writer.registered)
        return max(0, min(self._player.next_ms, self._write_ms, end_ms) - now_ms)

    def outcome(self, now_us: int, trace: str, kind: str, violation: str | None) -> Outcome:
        """How it went."""
        network = self._network
        played = {what.value: count for what, count in sorted(self._player.played.items())}
        return Outcome(
            self._wanted.seed, network.checks.height, len(network.clients.acknowledged), self._writer.sent,
            self._reader.reads, now_us / 1e6, trace, played, kind, violation,
        )  # fmt: skip


def _liar(simulation: Simulation, city: str) -> Byzantine:
    signer = simulation.signer(city, "consensus")
    return Byzantine(simulation.genesis.hash, signer, seed=f"{simulation.seed} {city}")


def shrink(
    failing: Scenario,
    outcome: Outcome,
    *,
    play: Callable[[Scenario], Outcome] = run,
    max_runs: int = MAX_SHRINK_RUNS,
) -> Scenario:
    """The same kind of violation with fewer faults, as few as so many runs find."""
    runs = 0

    def fails(faults: Sequence[Fault], duration_ms: int) -> bool:
        nonlocal runs
        runs += 1
        return play(replace(failing, faults=tuple(faults), duration_ms=duration_ms)).kind == outcome.kind

    # What came after the violation cannot have led to it.
    duration_ms = min(failing.duration_ms, int(outcome.seconds * 1_000) + 1)
    faults = [fault for fault in failing.faults if fault.at_ms <= duration_ms]
    share = max(1, len(faults) // 2)
    while faults and runs < max_runs:
        for start in _starts(len(faults), share):
            fewer = faults[:start] + faults[start + share :]
            if runs < max_runs and fails(fewer, duration_ms):
                faults = fewer
                break
        else:
            if share == 1:
                break
            share = max(1, share // 2)
    shorter = max((fault.at_ms + 1 for fault in faults), default=0)
    for wanted_ms in (shorter, (shorter + duration_ms) // 2):
        if wanted_ms < duration_ms and runs < max_runs and fails(faults, wanted_ms):
            duration_ms = wanted_ms
            break
    return replace(failing, faults=tuple(faults), duration_ms=duration_ms)


def _starts(count: int, share: int) -> Iterator[int]:
    """Where pieces begin, the last first: what came after the violation goes at once."""
    yield from reversed(range(0, count, share))
