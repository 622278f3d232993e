"""Taking times. Ours and a peer's take turns, so that whatever disturbs the machine disturbs both.

What runs on one core is measured in CPU time, of this process or of the peer's: on a quiet machine that is the time on
the wall, and on a shared one it is still right.
"""

import os
import time
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

__all__ = ["Contestant", "alternate", "clocked", "cpu_clock_of", "on_one_core", "per_us"]

Contestant: TypeAlias = Callable[[], float]
"""Does the work once and returns the seconds it took."""

CPUCLOCK_SCHED: Final = 2  # Linux, include/linux/posix-timers.h


def on_one_core() -> None:
    """Rayon's threads in this process, and in those it starts, are one; to be called before anything uses them."""
    os.environ["RAYON_NUM_THREADS"] = "1"


def cpu_clock_of(pid: int) -> int:
    """The clock of another process's CPU time, for `time.clock_gettime` (what clock_getcpuclockid(3) returns)."""
    return (~pid << 3) | CPUCLOCK_SCHED


def clocked(work: Callable[[], object]) -> Contestant:
    """A contestant that works in this process."""

    def once() -> float:
        began = time.process_time()
        work()
        return time.process_time() - began

    return once


def alternate(contestants: Mapping[str, Contestant], *, repetitions: int) -> dict[str, list[float]]:
    """Runs all in turn, once to warm up and then so many times; the seconds of each."""
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for repetition in range(repetitions + 1):
        for name, run in contestants.items():
            seconds = run()
            if repetition:
                taken[name].append(seconds)
    return taken


def per_us(seconds: list[float], operations: int) -> list[float]:
    """Microseconds an operation, by repetition."""
    return [each / operations * 1e6 for each in seconds]
