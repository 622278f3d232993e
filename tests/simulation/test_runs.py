"""Whole runs: no seed breaks anything, one seed has one history, a failure is shortened and can be played again."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from cityid.testing.runs import Outcome, Pace, Scenario, run, scenario, shrink
from cityid.testing.schedule import Fault, What


def test_no_seed_breaks_anything_whatever_fails() -> None:
    played: dict[str, int] = {}
    for seed in range(20):
        outcome = run(scenario(seed, cities=4, duration_ms=15_000, liars=seed % 2, whole_network=True))
        assert outcome.violation is None, seed
        assert outcome.acknowledged > 10
        assert outcome.reads > 40
        for what, count in outcome.played.items():
            played[what] = played.get(what, 0) + count
    assert played.keys() == {what.value for what in What}
    assert min(played.values()) >= 5


def test_a_simulated_hour_of_seven_cities_with_two_liars() -> None:
    outcome = run(scenario(1, cities=7, duration_ms=3_600_000, pace=Pace.LONG, liars=2, whole_network=True))
    assert outcome.violation is None
    assert outcome.sent >= 3_600
    assert sum(outcome.played.values()) >= 60
    assert outcome.height > 60


def test_twenty_seeds_have_one_history_each_in_any_process(lines_of: Callable[[str, str], list[str]]) -> None:
    program = (
        "from cityid.testing.runs import run, scenario\n"
        "for seed in range(20):\n"
        "    print(run(scenario(seed, cities=4, duration_ms=5_000, liars=seed % 2, whole_network=True)).trace)\n"
    )
    first = lines_of(program, "1")
    assert len(set(first)) == 20
    assert lines_of(program, "4242") == first


LOST_LOG = [
    replace(scenario(seed, cities=4, duration_ms=15_000, whole_network=True), vote_log_is_lost=True)
    for seed in range(20)
]


def test_a_violation_is_shortened_to_a_few_faults_that_still_lead_to_it() -> None:
    failing, outcome = next((wanted, found) for wanted in LOST_LOG if (found := run(wanted)).kind == "equivocation")
    shorter = shrink(failing, outcome)
    assert len(shorter.faults) <= 5 < len(failing.faults)
    assert shorter.duration_ms <= failing.duration_ms
    saved = Scenario.from_json(json.loads(json.dumps(shorter.to_json())))
    once, twice = run(shorter), run(saved)
    assert once == twice
    assert once.kind == "equivocation"
    sound = run(replace(shorter, vote_log_is_lost=False))
    assert sound.violation is None, "the same faults do no harm where the log is kept"


@pytest.mark.parametrize("needed", [0, 1, 2, 3])
def test_shrinking_keeps_what_is_needed_and_the_kind(needed: int) -> None:
    faults = tuple(Fault(at_ms, 10, What.PAUSE, ("130100",)) for at_ms in range(0, 4_000, 100))
    wanted = Scenario(1, 4, 60_000, faults=faults)
    culprits = set(faults[5 : 5 + 7 * needed : 7])
    runs = 0

    def play(candidate: Scenario) -> Outcome:
        nonlocal runs
        runs += 1
        kind = "fork" if culprits <= set(candidate.faults) else "stuck"
        return Outcome(1, 0, 0, 0, 0, 50.0, "", {}, kind, "made up")

    shorter = shrink(wanted, play(wanted), play=play)
    assert set(shorter.faults) == culprits
    assert runs < 151
    few = shrink(wanted, play(wanted), play=play, max_runs=3)
    assert culprits <= set(few.faults)


def test_faults_after_the_violation_go_without_a_run() -> None:
    faults = tuple(Fault(at_ms, 10, What.PAUSE, ("130100",)) for at_ms in (100, 5_000))
    outcome = Outcome(1, 0, 0, 0, 0, 1.0, "", {}, "fork", "made up")
    shorter = shrink(Scenario(1, 4, 60_000, faults=faults), outcome, max_runs=0)
    assert (len(shorter.faults), shorter.duration_ms) == (1, 1_001)
