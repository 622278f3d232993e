"""Faults as values: drawn from a seed, kept in files, played in order; and that each of them really happens."""

import json

import pytest

from cityid.errors import MalformedInput
from cityid.testing import Simulation
from cityid.testing.faults import BROKEN, FULL, NetworkFaults
from cityid.testing.keys import city_codes
from cityid.testing.runs import Pace, Scenario, scenario
from cityid.testing.schedule import FOREVER_MS, HURTING, Fault, Player, What, draw

BUSY = {"heartbeat_ms": 100}
SEVEN = city_codes(7)


def test_a_seed_draws_one_schedule_and_every_kind_of_fault() -> None:
    first = draw(1, cities=SEVEN, duration_ms=200_000, every_ms=(100, 900))
    assert first == draw(1, cities=SEVEN, duration_ms=200_000, every_ms=(100, 900))
    assert first != draw(2, cities=SEVEN, duration_ms=200_000, every_ms=(100, 900))
    assert {fault.what for fault in first} == set(What)


@pytest.mark.parametrize("spared", [0, 1, 2])
def test_a_tolerated_schedule_never_hurts_more_than_f_cities(spared: int) -> None:
    faults = draw(3, cities=SEVEN, duration_ms=500_000, every_ms=(100, 500), lasting_ms=(100, 20_000), spared=spared)
    cutting = [fault for fault in faults if fault.what in HURTING or fault.what is What.SPLIT]
    for fault in cutting:
        at_once = {
            city
            for other in cutting
            if other.at_ms <= fault.at_ms < other.at_ms + other.for_ms
            for city in other.cities
        }
        assert len(at_once) <= 2 - spared
    assert bool(cutting) == (spared < 2)


def test_a_schedule_file_reads_back_as_it_was() -> None:
    wanted = scenario(5, cities=7, duration_ms=20_000, liars=2, whole_network=True)
    assert wanted.faults
    assert Scenario.from_json(json.loads(json.dumps(wanted.to_json()))) == wanted


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        ({"format": "cityid schedule 0"}, "This is no schedule"),
        ({"cities": 3}, "This is no schedule"),
        ({"pace": "slow"}, "This is no schedule"),
        ({"seed": "1"}, "This is no schedule"),
        ({"liars": 7}, "This is no schedule"),
        ({"faults": [{"at_ms": 1}]}, "does not read"),
        ({"faults": [{"at_ms": -1, "for_ms": 1, "what": "pause", "cities": [], "amount": 0}]}, "does not read"),
        ({"faults": [{"at_ms": 1, "for_ms": 1, "what": "fire", "cities": [], "amount": 0}]}, "does not read"),
        ({"faults": [{"at_ms": 1, "for_ms": 1, "what": "pause", "cities": ["999999"], "amount": 0}]}, "lacks: 999999"),
    ],
)
def test_what_is_no_schedule_is_refused_with_a_reason(edit: dict[str, object], why: str) -> None:
    value = scenario(5, cities=7, duration_ms=2_000).to_json()
    with pytest.raises(MalformedInput, match=why):
        Scenario.from_json(value | edit)
    assert Scenario.from_json(value).seed == 5
    with pytest.raises(MalformedInput):
        Scenario.from_json([])


def test_faults_begin_and_end_when_they_say_and_overlap() -> None:
    simulation = Simulation(cities=4, seed=1, parameters=BUSY)
    a, b, *_ = simulation.cities
    faults = [
        Fault(100, 500, What.LOSS, amount=20), Fault(300, 600, What.LOSS, amount=10),
        Fault(200, 400, What.DEAF, (a,)), Fault(250, 100, What.MUTE, (b,)),
    ]  # fmt: skip
    player = Player(simulation, faults, usual=NetworkFaults(latency_ms=(2, 3)))
    seen = []
    while player.next_ms < FOREVER_MS:
        now_ms = player.next_ms
        simulation.run_for(now_ms - simulation.now_us // 1_000)
        player.advance(now_ms)
        network = simulation.network
        seen.append(
            (now_ms, network.faults.loss, network.reaches(b, a), network.reaches(a, b), network.reaches(b, "x"))
        )
    assert [moment[:2] for moment in seen] == [
        (100, 0.2), (200, 0.2), (250, 0.2), (300, 0.2), (350, 0.2), (600, 0.1), (900, 0.0)
    ]  # fmt: skip
    assert [moment[2] for moment in seen] == [True, False, False, False, False, True, True]
    assert all(moment[3] for moment in seen), "what a deaf city sends arrives"
    assert simulation.network.faults.latency_ms == (2, 3)


def simulation_with(*faults: Fault, seconds: int = 3) -> Simulation:
    simulation = Simulation(cities=4, seed=1, parameters=BUSY)
    player = Player(simulation, faults)
    end_ms = seconds * 1_000
    while (now_ms := simulation.now_us // 1_000) < end_ms:
        player.advance(now_ms)
        simulation.run_for(min(player.next_ms, end_ms) - now_ms)
    return simulation


def test_a_deaf_city_falls_behind_and_a_mute_one_does_not() -> None:
    city = city_codes(4)[0]
    deaf = simulation_with(Fault(500, 5_000, What.DEAF, (city,)))
    assert deaf.height(city) < deaf.checks.height - 5
    mute = simulation_with(Fault(500, 5_000, What.MUTE, (city,)))
    assert mute.height(city) >= mute.checks.height - 1
    deaf.settle()
    mute.settle()


def test_a_paused_city_does_nothing_and_then_goes_on_with_what_came() -> None:
    simulation = Simulation(cities=4, seed=1, parameters=BUSY)
    city = simulation.cities[0]
    simulation.run_for(500)
    simulation.pause(city)
    before = simulation.height(city)
    simulation.admit_organisation(city, "A7K2", name="Water works")
    assert [refused.kind for refused in simulation.refused.values()] == ["unreachable"]
    simulation.run_for(3_000)
    assert simulation.height(city) == before < simulation.checks.height - 5
    simulation.resume(city)
    simulation.run_until(lambda: simulation.height(city) >= simulation.checks.height - 1, limit_ms=5_000)
    simulation.settle()


@pytest.mark.parametrize("why", [FULL, BROKEN])
def test_a_city_whose_disk_fails_stops_signing_answers_on_and_comes_back_after_a_restart(why: str) -> None:
    simulation = Simulation(cities=4, seed=1, parameters=BUSY)
    city, other, *_ = simulation.cities
    simulation.run_for(500)
    simulation.fail_disk(city, why)
    simulation.run_for(500)
    assert why in simulation.halted()[city]
    before = simulation.height(city)
    simulation.run_for(2_000)
    assert simulation.height(city) == before < simulation.checks.height - 5
    assert simulation.resolve(f"MA.156.{other}", at=city)["verdict"] == "REGISTERED"  # reads go on
    simulation.admit_organisation(city, "A7K2", name="Water works")
    assert [refused.kind for refused in simulation.refused.values()] == ["storage"]
    simulation.restart(city)
    ids = simulation.admit_organisation(city, "A7K3", name="Water works")
    simulation.run_until(lambda: simulation.is_committed(ids), limit_ms=10_000)
    simulation.settle()


def test_nothing_of_a_write_on_a_full_disk_is_there_afterwards() -> None:
    simulation = Simulation(cities=4, seed=1, parameters=BUSY)
    city = simulation.cities[0]
    simulation.run_for(450)
    node = simulation._nodes[city]
    simulation.fail_disk(city, FULL)
    simulation.run_until(lambda: bool(node.disk.waiting_votes) or bool(node.disk.waiting_writes), limit_ms=2_000)
    held = (node.disk.vote_height, list(node.disk.vote_entries), dict(node.disk.batches), len(node.disk.heights))
    simulation.crash(city)
    assert held == (node.disk.vote_height, node.disk.vote_entries, node.disk.batches, len(node.disk.heights))


def test_stragglers_are_overtaken() -> None:
    quick = Simulation(cities=4, seed=1, network=NetworkFaults(latency_ms=(1, 1))).network
    assert quick.arrivals_us("a", "b") == [1_000]
    quick.faults = NetworkFaults(latency_ms=(1, 1), straggling=0.5)
    arrivals = [quick.arrivals_us("a", "b")[0] for _ in range(200)]
    assert {arrivals.count(1_000) > 50, max(arrivals) > 10_000} == {True}


def test_a_fault_that_names_a_city_twice_or_one_that_is_down_changes_nothing() -> None:
    city = city_codes(4)[0]
    simulation = simulation_with(
        Fault(200, 1_000, What.CRASH, (city,), -1), Fault(300, 200, What.PAUSE, (city,)),
        Fault(400, 300, What.CRASH, (city,), 3), Fault(450, 100, What.FULL_DISK, (city,)),
    )  # fmt: skip
    simulation.settle()
    assert simulation.height(city) >= simulation.checks.height - 1


def test_a_long_run_has_a_fault_a_minute() -> None:
    drawn = scenario(1, cities=7, duration_ms=86_400_000, pace=Pace.LONG, whole_network=True).faults
    assert len(drawn) >= 1_440
