"""Many runs, on all cores: each in a process that ends with it, so that a year takes no more memory than a day.

A `Job` is small and says how its scenario is made. `play` yields outcomes in the order of the jobs, whatever finishes
first, so that the digest of a campaign follows from its jobs alone. `SUITES` are the campaigns that have a name.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum
from multiprocessing import get_context, parent_process
from typing import Final

from cityid.testing.runs import Outcome, Pace, Scenario, run, run_in_shell, scenario

DAY_S: Final = 86_400
AHEAD: Final = 4
"""Jobs that wait for a free process, for each process."""


class Faults(StrEnum):
    """What goes wrong."""

    NONE = "none"
    TOLERATED = "tolerated"
    ANY = "any"
    VOTE_LOG_LIES = "vote-log-lies"
    VOTE_LOG_IS_LOST = "vote-log-is-lost"


@dataclass(frozen=True, slots=True)
class Job:
    """One run, by what it is drawn from; or by a schedule that was kept."""

    seed: int
    cities: int
    seconds: int
    faults: Faults = Faults.ANY
    liars: int = 0
    pace: Pace = Pace.BUSY
    shell: bool = False
    kept: Scenario | None = None

    def scenario(self) -> Scenario:
        """What it plays."""
        if self.kept is not None:
            return self.kept
        drawn = scenario(
            self.seed,
            cities=self.cities,
            duration_ms=self.seconds * 1_000,
            pace=self.pace,
            whole_network=self.faults is not Faults.TOLERATED,
            liars=self.liars,
        )
        return replace(
            drawn,
            vote_log_lies=self.faults is Faults.VOTE_LOG_LIES,
            vote_log_is_lost=self.faults is Faults.VOTE_LOG_IS_LOST,
            faults=() if self.faults is Faults.NONE else drawn.faults,
        )

    def play(self) -> Outcome:
        """Run it here."""
        return run_in_shell(self.scenario()) if self.shell else run(self.scenario())

    @property
    def command(self) -> str:
        """The command that plays it again."""
        words = f"cityid sim --seed {self.seed} --seeds 1 --cities {self.cities} --seconds {self.seconds}"
        words += f" --faults {self.faults.value}"
        words += f" --liars {self.liars}" if self.liars else ""
        words += f" --pace {self.pace.value}" if self.pace is not Pace.BUSY else ""
        return words + (" --shell" if self.shell else "")


def _ci() -> list[Job]:
    """Ten days of four to seven cities, an hour of twenty, and dense trouble: what a change has to pass."""
    long = Pace.LONG
    days = [Job(1, 4, DAY_S, Faults.ANY, 1, long), Job(2, 4, DAY_S, Faults.TOLERATED, 0, long)]
    days += [Job(3, 4, DAY_S, Faults.ANY, 0, long), Job(4, 4, DAY_S, Faults.TOLERATED, 1, long)]
    days += [Job(5, 5, DAY_S, Faults.ANY, 1, long), Job(6, 5, DAY_S, Faults.TOLERATED, 0, long)]
    days += [Job(7, 6, DAY_S, Faults.ANY, 0, long), Job(8, 6, DAY_S, Faults.TOLERATED, 1, long)]
    days += [Job(9, 7, DAY_S, Faults.ANY, 2, long), Job(10, 7, DAY_S, Faults.TOLERATED, 1, long)]
    hour = Job(11, 20, 3_600, Faults.ANY, 3, long)
    dense = [Job(seed, 4, 20, Faults.ANY, seed % 2) for seed in range(100, 140)]
    dense += [Job(seed, 7, 20, Faults.ANY, seed % 3) for seed in range(200, 210)]
    shell = [Job(seed, 4, 20, Faults.ANY, shell=True) for seed in range(300, 310)]
    return [*reversed(days), hour, *dense, *shell]  # the longest first, so that no core waits for the last one


def _year() -> list[Job]:
    """A year, a day a seed: half of the days with what a network tolerates, half of them with anything."""
    return [
        Job(seed, 4, DAY_S, Faults.ANY if seed % 2 else Faults.TOLERATED, seed // 2 % 2, Pace.LONG)
        for seed in range(1_000, 1_365)
    ]


SUITES: Final[Mapping[str, Callable[[], list[Job]]]] = {"ci": _ci, "year": _year}


def play(jobs: Sequence[Job], *, processes: int) -> Iterator[tuple[Job, Outcome]]:
    """Play all of them, so many at once; one process plays them here."""
    if processes <= 1:
        for job in jobs:
            yield job, job.play()
        return
    context = get_context("spawn")
    with ProcessPoolExecutor(
        processes, mp_context=context, initializer=_end_with_parent, max_tasks_per_child=1
    ) as pool:
        yield from _in_order(pool, jobs, bound=processes * AHEAD)


def _end_with_parent() -> None:
    """A run must not outlive the command that wanted it, also when that was killed."""
    parent = parent_process()
    assert parent is not None, "this runs in a process of the pool"

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _in_order(pool: ProcessPoolExecutor, jobs: Iterable[Job], *, bound: int) -> Iterator[tuple[Job, Outcome]]:
    waiting: list[tuple[Job, Future[Outcome]]] = []
    try:
        for job in jobs:
            waiting.append((job, pool.submit(job.play)))
            if len(waiting) >= bound:
                first, future = waiting.pop(0)
                yield first, future.result()
        while waiting:
            first, future = waiting.pop(0)
            yield first, future.result()
    finally:
        for _, future in waiting:
            future.cancel()
