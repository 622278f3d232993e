"""A validator that runs twice with one key: no schedule makes honest cities differ; two such validators do."""

from math import gcd

import pytest

from cityid.testing import twins
from cityid.testing.twins import BOTH, FIRST, NOBODY, SECOND, Scenario, Twins, View, play, play_many, scenario

ALL_HEAR_ALL = View((BOTH,) * 4)


def test_no_schedule_of_one_pair_forks() -> None:
    numbers = [*range(400), *range(twins.SYSTEMATIC, twins.SYSTEMATIC + 200)]
    outcomes = [outcome for some in play_many(numbers) for outcome in some]
    assert [outcome.number for outcome in outcomes] == numbers
    assert [outcome for outcome in outcomes if outcome.violation is not None] == []
    assert max(outcome.rounds for outcome in outcomes) >= 3, "no schedule got anywhere: this test shows nothing"


def test_control_two_pairs_of_four_fork() -> None:
    outcomes = [outcome for some in play_many(range(40), pairs=2) for outcome in some]
    assert {outcome.kind for outcome in outcomes if outcome.violation is not None} == {"fork"}


def test_control_two_pairs_fork_when_each_honest_city_hears_one_of_each() -> None:
    apart = View((BOTH, BOTH, FIRST, SECOND), split=True)
    outcome = play(Scenario((0, 1), ((apart, apart),)))
    assert outcome.kind == "fork"
    assert play(Scenario((0, 1), ((ALL_HEAR_ALL, ALL_HEAR_ALL),))).violation is None


def test_a_twin_that_leads_equivocates() -> None:
    """The schedule in which a lock matters: one city decides, another is locked, and the twin and a third go on."""
    prevotes = View((FIRST, BOTH, SECOND, FIRST))  # city 1 leads round 0, and 2 round 1
    precommits = View((FIRST, BOTH, SECOND, SECOND))
    later = View((NOBODY, BOTH, SECOND, SECOND))
    network = Twins(Scenario((1,), ((prevotes, precommits), (later, later))))
    network.play()
    assert network.rounds >= 2
    values = {network.record(city, 1).header for city in network.honest}
    assert len(values) == 1
    evidence = [log for city in network.honest for log in network.logs(city) if log.event == "equivocation"]
    assert evidence, "nobody saw two words of one city: this test shows nothing"


def test_the_small_family_is_played_once_each() -> None:
    assert gcd(twins._SCATTER, twins.SYSTEMATIC) == 1
    assert len({scenario(number) for number in range(twins.SYSTEMATIC)}) == twins.SYSTEMATIC
    assert scenario(5) != scenario(5 + twins.SYSTEMATIC)


@pytest.mark.parametrize("number", [7, 16_007])
def test_a_number_is_one_history(number: int) -> None:
    traces = set()
    for _ in range(2):
        network = Twins(scenario(number))
        network.play()
        traces.add(network.trace)
    assert len(traces) == 1
    assert scenario(number) == scenario(number)


def test_processes_play_the_same_schedules() -> None:
    numbers = range(10)
    [alone] = play_many(numbers)
    [together] = play_many(numbers, processes=2)
    assert alone == together


def test_two_twins_are_one_city_to_the_others() -> None:
    network = Twins(Scenario((2,), ((ALL_HEAR_ALL, ALL_HEAR_ALL),)))
    code = network.cities[2]
    assert network.checks.liars == {code}
    assert sorted(name for name in network._nodes if network._nodes[name].code == code) == [code, f"{code}'"]
    assert network._nodes[code].keys is network._nodes[f"{code}'"].keys
    network.play()
    assert {network.height(name) for name in network._nodes} >= {1}
