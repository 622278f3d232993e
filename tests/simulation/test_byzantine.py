"""Cities that lie: f of them do no harm, and the lies are real ones."""

import pytest

from cityid.node import messages
from cityid.testing import Simulation, Violation
from cityid.testing.byzantine import MOODS, Byzantine
from cityid.testing.runs import run, scenario
from cityid.testing.schedule import What

BUSY = {"heartbeat_ms": 100}


def corrupt(simulation: Simulation, city: str, *moods: str) -> Byzantine:
    signer = simulation.signer(city, "consensus")
    liar = Byzantine(simulation.genesis.hash, signer, seed=f"{simulation.seed} {city}", moods=moods or MOODS)
    simulation.corrupt(city, liar)
    return liar


@pytest.mark.parametrize("mood", MOODS)
def test_one_liar_of_four_harms_nobody_whatever_it_does(mood: str) -> None:
    simulation = Simulation(cities=4, seed=7, parameters=BUSY)
    liar = corrupt(simulation, simulation.cities[1], mood)
    away = simulation.cities[3]
    for number in range(80):
        if number >= 20 and liar.told[mood]:
            break
        if number % 6 == 4:
            simulation.crash(away)  # and asks somebody for blocks when it comes back
        if number % 6 == 5:
            simulation.restart(away)
        simulation.admit_organisation(simulation.cities[number % 3], f"ORG{number:04}", name="An office")
        simulation.run_for(500)
        simulation.check()
    simulation.settle()
    assert liar.told[mood] > 0, "it never lied in this way: this test shows nothing"
    assert {other: count for other, count in liar.told.items() if count and other != mood} == {}
    assert simulation.checks.height > 5
    assert not [city for city in simulation.halted() if city in simulation.honest]


def test_two_liars_of_seven_under_faults_harm_nobody() -> None:
    played: set[str] = set()
    for seed in range(4):
        outcome = run(scenario(seed, cities=7, duration_ms=15_000, liars=2, whole_network=True))
        assert outcome.violation is None
        played |= outcome.played.keys()
    assert played >= {What.CRASH, What.SPLIT, What.DEAF, What.MUTE, What.PAUSE, What.FULL_DISK, What.DISK_ERROR}


def test_the_others_keep_what_an_equivocator_signed_as_evidence() -> None:
    simulation = Simulation(cities=4, seed=7, parameters=BUSY)
    corrupt(simulation, simulation.cities[1], "equivocate")
    simulation.run_for(10_000)
    logs = [log for city in simulation.honest for log in simulation.logs(city)]
    assert [log for log in logs if log.event == "equivocation"]


def test_control_an_equivocator_that_passes_for_honest_is_found() -> None:
    simulation = Simulation(cities=4, seed=7, parameters=BUSY)
    corrupt(simulation, simulation.cities[1], "equivocate")
    simulation.checks.liars.clear()
    with pytest.raises(Violation) as found:
        simulation.run_for(10_000)
    assert found.value.kind in ("equivocation", "unheld")


def test_control_two_withholding_liars_of_four_stop_the_network() -> None:
    """More than f are more than it stands: their batches come to nobody, and so do the votes of one more city."""
    simulation = Simulation(cities=4, seed=7, parameters=BUSY)
    for city in simulation.cities[:2]:
        corrupt(simulation, city, "silent", "invalid", "equivocate", "withhold")
    simulation.run_for(20_000)
    reached = simulation.checks.height
    other = Simulation(cities=4, seed=7, parameters=BUSY)
    other.run_for(20_000)
    assert reached < other.checks.height // 2


def test_batches_that_nobody_has_keep_no_city_from_hearing_of_those_that_somebody_has() -> None:
    """Seed 100 of a long run with a boasting liar: what was heard of and never came was asked for ever after."""
    simulation = Simulation(cities=4, seed=100, parameters=BUSY)
    author, liar, other, target = simulation.cities
    corrupt(simulation, liar, "boast")
    digests = [number.to_bytes(32, "big") for number in range(1, 6_001)]
    for start in range(0, 6_000, 1_000):
        payload = messages.encode_digests(digests[start : start + 1_000])
        for city in simulation.honest:
            simulation._deliver(liar, city, messages.HAVE, payload)
    simulation.run_for(500)
    simulation.network.block([(author, target)])  # it hears of the batch from others alone
    ids = simulation.admit_organisation(author, "A7K2", name="Water works")
    simulation.run_until(lambda: simulation.is_committed(ids, at=target), limit_ms=5_000)
    simulation.network.heal()
    simulation.run_for(20_000)
    assert len(simulation.driver(other).batches.pool._heard) < 200, "they are still asked for"


def test_garbage_of_a_liar_is_dropped_by_name_and_the_next_request_is_served() -> None:
    simulation = Simulation(cities=4, seed=7, parameters=BUSY)
    liar = simulation.cities[1]
    corrupt(simulation, liar, "garbage", "replay")
    simulation.run_for(10_000)
    dropped = [log for city in simulation.honest for log in simulation.logs(city) if log.event == "frame_dropped"]
    assert {log.fields["peer"] for log in dropped} == {liar}
    assert len({log.fields["kind"] for log in dropped}) > len(messages.NAMES) // 4
    ids = simulation.admit_organisation(simulation.cities[0], "A7K2", name="Water works")
    simulation.run_until(lambda: simulation.is_committed(ids, at=simulation.cities[2]), limit_ms=5_000)
