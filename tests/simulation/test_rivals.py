"""Concurrent clients of a network in trouble: what they record is judged, and a wrong recording is found out."""

from dataclasses import replace

import pytest

from cityid.testing import Simulation
from cityid.testing.chaos import torment
from cityid.testing.consistency import Report, check, judge
from cityid.testing.histories import Saw
from cityid.testing.rivals import Rivals

SEEDS = 16
BUSY = {"heartbeat_ms": 500}


def recorded(seed: int, cities: int = 4) -> Rivals:
    simulation = Simulation(cities=cities, seed=seed, parameters=BUSY)
    clients = Rivals(simulation)
    torment(simulation, duration_ms=20_000, also=clients.step)
    simulation.settle()
    clients.finish()
    return clients


def test_clients_of_a_network_in_trouble_see_one_history() -> None:
    reports: list[Report] = []
    for seed in range(SEEDS):
        try:
            reports.append(check(recorded(seed, cities=4 if seed % 5 else 7).history))
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
    assert min(report.committed for report in reports) > 0, "a run without a commit shows nothing"
    assert sum(report.committed for report in reports) > 8 * SEEDS
    assert sum(report.rejected for report in reports) > SEEDS, "nobody raced for a version"
    assert sum(report.reads for report in reports) > 20 * SEEDS


def test_the_same_seed_gives_the_same_recording() -> None:
    one, other = recorded(3), recorded(3)
    assert one.history.calls == other.history.calls


@pytest.mark.parametrize("height_change", [0, 1])
def test_a_reader_who_is_lied_to_is_found_out(height_change: int) -> None:
    """The control: one answer of one recording shows the version before, at its height or a later one."""
    history = recorded(3).history
    assert not judge(history).findings
    call = next(call for call in reversed(history.calls) if isinstance(call.outcome, Saw) and call.outcome.version > 1)
    assert isinstance(call.outcome, Saw)
    saw = call.outcome
    call.outcome = replace(
        saw, version=saw.version - 1, changed=saw.changed - 1, height=saw.height + height_change, root="shown alone"
    )
    assert judge(history).findings
