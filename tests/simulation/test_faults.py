"""Crashes at every moment, random trouble, and the controls: what must break when a rule is broken."""

from collections.abc import Callable

import pytest

from cityid.testing import DiskFaults, Simulation, Violation
from cityid.testing.chaos import torment
from cityid.testing.checks import Checks

SEEDS = range(40)


def violations(disks: Callable[[], DiskFaults], seeds: range) -> list[str]:
    found = []
    for seed in seeds:
        simulation = Simulation(cities=4, seed=seed, disks=disks())
        try:
            torment(simulation, duration_ms=15_000)
            simulation.settle()
        except Violation as violation:
            found.append(str(violation))
    return found


def test_no_seed_breaks_anything() -> None:
    assert violations(DiskFaults, SEEDS) == []


def test_seven_cities_break_nothing_either() -> None:
    for seed in range(5):
        simulation = Simulation(cities=7, seed=seed)
        torment(simulation, duration_ms=10_000)
        simulation.settle()


def test_control_a_vote_that_leaves_before_its_log_is_durable_is_found() -> None:
    found = violations(lambda: DiskFaults(vote_log_lies=True), range(20))
    assert [violation for violation in found if "signed two" in violation]


def test_control_a_lost_vote_log_is_found() -> None:
    found = violations(lambda: DiskFaults(vote_log_is_lost=True), range(10))
    assert [violation for violation in found if "signed two" in violation]


def test_lost_vote_logs_that_are_found_out_make_nobody_sign_twice() -> None:
    """The seeds of the control. A height may wait for ever when too many lost their votes of it; nothing forks."""
    found = violations(lambda: DiskFaults(vote_log_is_lost=True, loss_is_found=True), range(10))
    assert not [violation for violation in found if "does not recover" not in violation], found


def decided_and_cut(disks: DiskFaults) -> Simulation:
    """The power of the whole network is cut when a decision exists and no block is durable; then all come back."""
    simulation = Simulation(cities=4, seed=1, disks=disks)
    simulation.admit_organisation(simulation.cities[0], "A7K2", name="Water works")
    decided = [False]

    def is_decided() -> bool:
        decided[0] = any(simulation.ledger(city).height == 1 for city in simulation.cities)
        return decided[0]

    simulation.run_until(is_decided, limit_ms=5_000)
    assert simulation.checks.height == 0  # nobody has written the block yet
    # long enough for every vote, too short for the store
    simulation.run_for(10 if disks.store_lies else 0)
    for city in simulation.cities:
        simulation.crash(city)
    for city in simulation.cities:
        simulation.restart(city)
    return simulation


def test_a_decision_survives_the_restart_of_the_whole_network() -> None:
    decided_and_cut(DiskFaults(sync_ms=(5, 5))).settle()


def test_control_bodies_that_are_not_durable_before_the_vote_are_found_at_the_vote() -> None:
    with pytest.raises(Violation, match="does not hold") as found:
        decided_and_cut(DiskFaults(sync_ms=(5, 5), store_lies=True))
    assert found.value.kind == "unheld"


def test_control_such_bodies_stop_the_network_when_nobody_looks_at_the_votes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Checks, "check_body", lambda *_: None)
    simulation = decided_and_cut(DiskFaults(sync_ms=(5, 5), store_lies=True))
    with pytest.raises(Violation, match="does not recover") as found:
        simulation.settle(limit_ms=20_000)
    assert found.value.kind == "stuck"


def crash_everywhere(disks: Callable[[], DiskFaults], *, found: list[str] | None = None) -> int:
    """One city, and in every other run the whole network, is cut after each number of effects, and comes back.

    Returns how many cuts there were; violations are raised, or gathered in `found`.
    """
    for effects in range(200):
        simulation = Simulation(cities=4, seed=4, disks=disks())
        city, author, *_ = simulation.cities
        simulation.crash(city, after_effects=effects)
        simulation.admit_organisation(author, "A7K2", name="Water works")
        simulation.run_for(150)
        if simulation.is_up(city):
            return effects
        if effects % 2:
            for other in simulation.cities:
                simulation.crash(other)
        try:
            simulation.restart(city)
            simulation.settle()
        except Violation as violation:
            if found is None:
                raise
            found.append(str(violation))
    raise AssertionError("200 effects were not enough for one height")


def test_a_crash_between_any_two_effects_breaks_nothing() -> None:
    assert crash_everywhere(DiskFaults) > 20


def test_control_without_its_vote_log_a_crash_between_two_effects_equivocates() -> None:
    found: list[str] = []
    assert crash_everywhere(lambda: DiskFaults(vote_log_is_lost=True), found=found) > 20
    assert [violation for violation in found if "signed two" in violation]


def test_an_acknowledged_transaction_survives_the_loss_of_its_author() -> None:
    simulation = Simulation(cities=4, seed=6)
    author, *others = simulation.cities
    ids = simulation.admit_organisation(author, "A7K2", name="Water works")
    simulation.run_until(lambda: simulation.acknowledged.issuperset(ids), limit_ms=1_000)
    simulation.crash(author)
    simulation.run_until(lambda: all(simulation.is_committed(ids, at=other) for other in others), limit_ms=10_000)
