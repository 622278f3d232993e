"""Taking times. Ours and a peer's take turns, so that whatever disturbs the machine disturbs both.

Wall time, because that is what a user waits for; CPU time of the process beside it, because a busy neighbour spoils the
first and not the second.
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median

__all__ = ["Taken", "alternate", "clocked", "on_one_core"]


@dataclass(slots=True)
class Taken:
    """What one contestant took in each repetition, in seconds."""

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)

    def each_us(self, operations: int) -> list[float]:
        """Microseconds of wall time an operation, by repetition."""
        return [seconds / operations * 1e6 for seconds in self.wall_s]

    def per_s(self, operations: int) -> list[float]:
        """Operations per second, by repetition."""
        return [operations / seconds for seconds in self.wall_s]

    def cpu_us(self, operations: int) -> float:
        """Microseconds of CPU time an operation, the median."""
        return median(self.cpu_s) / operations * 1e6


def on_one_core() -> None:
    """Rayon's threads in this process, and in those it starts, are one; to be called before anything uses them."""
    os.environ["RAYON_NUM_THREADS"] = "1"


def clocked(work: Callable[[], object]) -> Callable[[], float]:
    """A contestant that runs here: does the work and says how many seconds it took."""

    def once() -> float:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    return once


def alternate(contestants: Mapping[str, Callable[[], float]], *, repetitions: int) -> dict[str, Taken]:
    """Runs all in turn, once to warm up and then so many times; each call says how many seconds it took."""
    taken = {name: Taken() for name in contestants}
    for repetition in range(repetitions + 1):
        for name, run in contestants.items():
            began = time.process_time()
            seconds = run()
            if repetition:
                taken[name].wall_s.append(seconds)
                taken[name].cpu_s.append(time.process_time() - began)
    return taken
