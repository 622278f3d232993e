"""Bugs that are planted on purpose: the checks find each of them, and find nothing where none is planted."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cityid.errors import StorageError
from cityid.node.outbox import Outbox
from cityid.node.store import Store
from cityid.testing import Violation, planting
from cityid.testing.mutants import MUTANTS
from cityid.testing.planting import Mutant, NothingPlanted, can_plant_native, hunted, planted, search

IN_PYTHON = [name for name, mutant in MUTANTS.items() if not mutant.is_native]
IN_RUST = [name for name, mutant in MUTANTS.items() if mutant.is_native]


@pytest.mark.parametrize("name", IN_PYTHON)
def test_a_planted_bug_is_found(name: str) -> None:
    found = search(MUTANTS[name])  # and the same seed without the bug passes
    assert found.kind is not None, f"{name} survives {found.tried} seeds"


def test_what_is_installed_has_nothing_to_plant() -> None:
    assert IN_RUST
    assert not can_plant_native()
    with pytest.raises(NothingPlanted, match="make sim-mutants"), planted(MUTANTS[IN_RUST[0]]):
        pass


def test_there_are_enough_of_them_and_each_says_what_it_breaks() -> None:
    assert len(MUTANTS) >= 15
    assert len({mutant.breaks for mutant in MUTANTS.values()}) == len(MUTANTS)
    assert all(mutant.finds and mutant.seeds > 0 for mutant in MUTANTS.values())


# ---------------------------------------------------------------- how bugs are planted


class Kettle:
    """Something to break."""

    def boil(self) -> str:
        return "hot"


def cold(original: Callable[..., str]) -> Callable[..., str]:
    return lambda self: f"not {original(self)}"


def mutant(hunt: Callable[[int], None], *, attribute: str = "boil", finds: tuple[str, ...] = ("cold",)) -> Mutant:
    return Mutant("cold-kettle", "water is hot", hunt, finds, 3, Kettle, attribute, cold)


def drink(seed: int) -> None:
    if seed == 2 and Kettle().boil() != "hot":
        raise Violation("the tea is cold", kind="cold")


def test_a_bug_is_there_while_it_is_planted_and_gone_afterwards() -> None:
    with planted(mutant(drink)) as trace:
        assert Kettle().boil() == "not hot"
    assert Kettle().boil() == "hot"
    assert trace.runs == 1


def test_a_bug_is_taken_out_when_the_hunt_breaks() -> None:
    with pytest.raises(ZeroDivisionError), planted(mutant(drink)):
        raise ZeroDivisionError
    assert Kettle().boil() == "hot"


def test_seeds_are_tried_until_one_finds_it() -> None:
    def taste(seed: int) -> None:
        Kettle().boil()
        drink(seed)

    sure = mutant(taste)
    found = search(sure)
    assert (found.kind, found.seed, found.tried) == ("cold", 2, 3)
    assert search(sure, seeds=2).kind is None
    assert search(mutant(taste, finds=("empty",))).kind is None


def test_a_function_that_is_no_longer_there_is_refused() -> None:
    with pytest.raises(NothingPlanted, match=r"Kettle\.whistle"), planted(mutant(drink, attribute="whistle")):
        pass


def test_a_bug_that_never_ran_is_refused() -> None:
    with pytest.raises(NothingPlanted, match="never ran"):
        hunted(mutant(drink), 0)


def test_a_check_that_always_fails_finds_nothing() -> None:
    def always(seed: int) -> None:
        Kettle().boil()
        raise Violation("there is no tea", kind="cold")

    with pytest.raises(Violation, match="no tea"):
        search(mutant(always))


def test_an_error_that_a_node_raises_is_a_find_and_any_other_error_is_not() -> None:
    def store(seed: int) -> None:
        Kettle().boil()
        raise StorageError("the disk is gone")

    found = hunted(mutant(store), 0)
    assert found is not None
    assert found.kind == planting.BROKE

    def typing_error(seed: int) -> None:
        raise TypeError("the hunt is broken")

    with pytest.raises(TypeError):
        hunted(mutant(typing_error), 0)


@contextmanager
def unbroken(mutants: list[Mutant]) -> Iterator[None]:
    before: list[Any] = [vars(each.owner)[each.attribute] for each in mutants]
    yield
    assert before == [vars(each.owner)[each.attribute] for each in mutants]


def test_every_target_exists_and_is_put_back() -> None:
    targets = [MUTANTS[name] for name in IN_PYTHON]
    with unbroken(targets):
        for each in targets:
            with planted(each):
                assert vars(each.owner)[each.attribute].__name__ == "replacement"
    assert Outbox.write.__qualname__ == "Outbox.write"
    assert Store.write.__qualname__ == "Store.write"


def test_the_page_lists_what_is_planted() -> None:
    page = (Path(__file__).parents[2] / "docs/reliability.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    listed = [tuple(cell.strip(" `") for cell in row.split("|")[1:5]) for row in rows]
    expected = [(each.name, each.breaks, each.target, each.hunt.__name__) for each in MUTANTS.values()]
    assert [row for row in listed if row[0] in MUTANTS] == expected
