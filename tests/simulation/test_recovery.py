"""Lost disks: a city whose store or vote log is gone comes back, and never contradicts what it signed.

The control without the rule is `test_control_a_lost_vote_log_is_found` in test_faults.py: a vote log that is lost and
not known to be makes a city sign twice.
"""

import pytest

from cityid.testing import Simulation


def running(seed: int) -> tuple[Simulation, str]:
    """Four cities in the middle of a height that a number of effects chose, one of them just cut."""
    simulation = Simulation(cities=4, seed=seed)
    victim = simulation.cities[seed % 4]
    for number, city in enumerate(simulation.cities):
        simulation.admit_organisation(city, f"A7K{number}", name="Water works")
    simulation.run_for(400 + 37 * seed)
    simulation.crash(victim, after_effects=seed % 23)
    simulation.admit_organisation(simulation.cities[(seed + 1) % 4], "B7K2", name="Lighting")
    simulation.run_for(2_000)
    simulation.crash(victim)
    return simulation, victim


@pytest.mark.parametrize("seed", range(12))
def test_a_city_without_its_store_comes_back_and_contradicts_nothing(seed: int) -> None:
    simulation, victim = running(seed)
    simulation.lose(victim, store=True)
    for duration_ms in (20, 150):  # cut again while it comes back: the vote log is still there
        simulation.restart(victim)
        simulation.run_for(duration_ms)
        simulation.crash(victim)
    simulation.restart(victim)
    simulation.settle()
    assert not simulation.halted()
    driver = simulation.driver(victim)
    assert driver.roles.votes
    assert driver.ledger.height >= driver.roles.silent_until


@pytest.mark.parametrize("seed", range(12))
def test_a_city_without_its_votes_stays_silent_where_it_may_have_voted(seed: int) -> None:
    simulation, victim = running(seed)
    simulation.lose(victim, votes=True)
    simulation.restart(victim)
    simulation.run_for(50)
    silent_until = simulation.driver(victim).roles.silent_until
    assert silent_until > 0
    simulation.crash(victim)  # another start in between changes nothing
    simulation.restart(victim)
    simulation.settle()
    assert not simulation.halted()
    assert simulation.driver(victim).roles.silent_until == silent_until
    simulation.admit_organisation(victim, "C7K2", name="Heating")
    simulation.settle()
    assert simulation.driver(victim).roles.votes
