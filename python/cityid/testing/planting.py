"""Planting a bug, and hunting it: a rule is broken from outside, for a while, in this process alone.

    >>> with planted(mutant):
    ...     mutant.hunt(seed)  # must raise Violation

A mutant in Python replaces one function of the product, which knows nothing of it. Planting is refused when there is
no such function any more; and a hunt in which the replacement never ran is an error, since nothing was tried then. A
mutant in Rust needs an extension that was built for nothing else (Cargo feature `mutants`, `make sim-mutants`).

A hunt plays something that follows from a seed, and raises `Violation` when what must hold does not. The same hunt
with the same seed must pass when nothing is planted: `search` tries that too, so that a check which always fails
finds nothing.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from cityid import _native
from cityid.errors import CityIDError
from cityid.testing.checks import Violation

Hunt = Callable[[int], None]
BROKE: Final = "broke"
"""The kind of violation when a node raises an error where it must not."""


class NothingPlanted(AssertionError):
    """What was to be broken is not there, or breaking it changed nothing that ran."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One bug: what it breaks, how it is hunted, and what must be found within so many seeds."""

    name: str
    breaks: str
    hunt: Hunt
    finds: tuple[str, ...]  # kinds of violation
    seeds: int
    owner: Any = None  # a class or module of the product; None for a mutant in Rust
    attribute: str = ""
    change: Callable[[Callable[..., Any]], Callable[..., Any]] | None = None  # from the function to the broken one

    @property
    def is_native(self) -> bool:
        """Whether it is planted in the extension."""
        return self.change is None

    @property
    def target(self) -> str:
        """What is replaced."""
        if self.is_native:
            return "Rust"
        return f"{getattr(self.owner, '__qualname__', self.owner.__name__).removeprefix('cityid.')}.{self.attribute}"


@dataclass(slots=True)
class Trace:
    """How often what was planted ran."""

    runs: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """What a search came to; plain values, so that another process can say it."""

    name: str
    target: str
    hunt: str
    kind: str | None  # of the violation; None when the mutant survived
    violation: str
    seed: int
    tried: int
    seconds: float


def can_plant_native() -> bool:
    """Whether this extension was built with bugs to plant."""
    return hasattr(_native, "plant")


@contextmanager
def planted(mutant: Mutant) -> Iterator[Trace]:
    """The bug is there inside the block, and gone after it.

    Raises:
        NothingPlanted: the function to replace does not exist, or the extension has no bugs to plant.
    """
    trace = Trace()
    if mutant.change is None:
        plant = getattr(_native, "plant", None)
        if plant is None:
            raise NothingPlanted(
                f"{mutant.name} is planted in the extension, and this one is a build without the feature `mutants`. "
                "Use `make sim-mutants`."
            )
        plant(mutant.name)
        try:
            yield trace
        finally:
            plant(None)
        return
    original = vars(mutant.owner).get(mutant.attribute)
    if not callable(original):
        raise NothingPlanted(
            f"{mutant.name} replaces {mutant.target}, which is no function any more. Aim it at what took its place."
        )
    changed = mutant.change(original)

    def replacement(*arguments: Any, **named: Any) -> Any:
        trace.runs += 1
        return changed(*arguments, **named)

    setattr(mutant.owner, mutant.attribute, replacement)
    try:
        yield trace
    finally:
        setattr(mutant.owner, mutant.attribute, original)


def hunted(mutant: Mutant, seed: int) -> Violation | None:
    """One hunt with the bug planted; what it found. An error of the product that nobody caught is a find too.

    Raises:
        NothingPlanted: the hunt passed, and what was planted never ran.
    """
    with planted(mutant) as trace:
        try:
            mutant.hunt(seed)
        except Violation as found:
            return found
        except CityIDError as error:
            return Violation(f"{type(error).__name__}: {error}", kind=BROKE)
    if not mutant.is_native and not trace.runs:
        raise NothingPlanted(
            f"{mutant.name}: {mutant.target} never ran in the hunt {mutant.hunt.__name__}, seed {seed}."
        )
    return None


def search(mutant: Mutant, *, first: int = 0, seeds: int | None = None) -> Found:
    """Hunt seed by seed until the bug is found, as the right kind of violation; then the same seed without the bug.

    Raises:
        NothingPlanted: see `planted` and `hunted`.
        Violation: the hunt finds something in the product as it is.
    """
    began = time.monotonic()
    about = (mutant.name, mutant.target, mutant.hunt.__name__)
    tried = mutant.seeds if seeds is None else seeds
    for seed in range(first, first + tried):
        found = hunted(mutant, seed)
        if found is not None and found.kind in mutant.finds:
            seconds = time.monotonic() - began
            mutant.hunt(seed)
            return Found(*about, found.kind, str(found), seed, seed - first + 1, seconds)
    return Found(*about, None, "", first + tried - 1, tried, time.monotonic() - began)
