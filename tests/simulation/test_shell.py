"""The real host on virtual time: its tasks, lanes and queues, under the faults of the event heap."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import trio
import trio._core._run as trio_run

from cityid.testing import Violation
from cityid.testing.faults import BROKEN, FULL
from cityid.testing.runs import Outcome, run_in_shell, scenario
from cityid.testing.schedule import What
from cityid.testing.shell import ShellSimulation
from cityid.testing.shell_ports import SWITCH, TornLog, deterministic

BUSY = {"heartbeat_ms": 100}


def test_trio_still_has_the_two_names_that_make_it_deterministic() -> None:
    """Without them it shuffles: a newer Trio that renames them must be found here, not in a run that differs."""
    assert vars(trio_run)[SWITCH] in (True, False)
    assert trio_run._r.seed is not None
    before = vars(trio_run)[SWITCH]
    with deterministic(1):
        assert vars(trio_run)[SWITCH] is True
    assert vars(trio_run)[SWITCH] is before


def order_of_tasks(seed: int) -> list[int]:
    order: list[int] = []

    async def append(number: int) -> None:
        await trio.lowlevel.checkpoint()
        order.append(number)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(append, number)

    with deterministic(seed):
        trio.run(main)
    return order


def test_the_order_of_tasks_follows_from_the_seed() -> None:
    assert order_of_tasks(1) == order_of_tasks(1)
    assert order_of_tasks(1) != order_of_tasks(2)


def test_no_seed_breaks_anything() -> None:
    played: dict[str, int] = {}
    for seed in range(12):
        outcome = run_in_shell(scenario(seed, cities=4, duration_ms=12_000, whole_network=True))
        assert outcome.violation is None, seed
        assert outcome.acknowledged > 10
        for what, count in outcome.played.items():
            played[what] = played.get(what, 0) + count
    assert played.keys() == {what.value for what in What}


def test_the_same_seed_gives_the_same_history_in_any_process(lines_of: Callable[[str, str], list[str]]) -> None:
    program = (
        "from cityid.testing.runs import run_in_shell, scenario\n"
        "for seed in range(3):\n"
        "    print(run_in_shell(scenario(seed, cities=4, duration_ms=5_000, whole_network=True)).trace)\n"
    )
    assert len({tuple(lines_of(program, hash_seed)) for hash_seed in ("0", "4242")}) == 1


def test_a_run_that_the_shell_cannot_play_is_refused() -> None:
    wanted = scenario(1, cities=4, duration_ms=1_000)
    for other in (replace(wanted, liars=1), replace(wanted, vote_log_lies=True)):
        with pytest.raises(ValueError, match="run this scenario on the event heap"):
            run_in_shell(other)


# ---------------------------------------------------------------- the vote log


def play(simulation: ShellSimulation, *, rounds: int) -> None:
    """Cut the whole network again and again in the middle of its writes, and let it settle."""

    async def cut_and_settle() -> None:
        for number in range(rounds):
            await trio.sleep(0.15 + number / 1_000)
            for city in simulation.cities:
                simulation.crash(city)
            for city in simulation.cities:
                simulation.restart(city)
        await simulation.settle(limit_ms=60_000)

    simulation.run(cut_and_settle)


def test_records_are_torn_and_no_vote_is_forgotten() -> None:
    simulation = ShellSimulation(4, 1, parameters=BUSY, sync_ms=(5, 30))
    play(simulation, rounds=40)
    assert simulation.torn > 10


def test_control_a_vote_log_that_writes_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def append(log: TornLog, height: int, entries: Sequence[bytes]) -> None:
        pass

    monkeypatch.setattr(TornLog, "append", append)
    found: list[str] = []
    for seed in range(20):
        try:
            play(ShellSimulation(4, seed, parameters=BUSY), rounds=20)
        except Violation as violation:
            found.append(violation.kind)
    assert "equivocation" in found


# ---------------------------------------------------------------- cancellation, back-pressure, disks


@pytest.mark.parametrize("why", [FULL, BROKEN])
def test_a_host_whose_disk_fails_halts_and_comes_back_after_a_restart(why: str) -> None:
    simulation = ShellSimulation(4, 1, parameters=BUSY)
    city = simulation.cities[0]

    async def fail() -> None:
        await trio.sleep(1)
        simulation.fail_disk(city, why)
        await trio.sleep(1)
        before = simulation.height(city)
        await trio.sleep(3)
        assert simulation.height(city) == before < simulation.checks.height - 5
        assert simulation.answer(f"MA.156.{city}", at=city).height == simulation.ledger(city).height  # reads go on
        simulation.restart(city)
        await simulation.settle(limit_ms=60_000)

    simulation.run(fail)


def test_a_flood_of_frames_waits_in_front_of_a_full_inbox_and_the_city_goes_on() -> None:
    simulation = ShellSimulation(4, 1, parameters=BUSY)
    target, sender, *_ = simulation.cities

    async def flood() -> None:
        await trio.sleep(0.5)
        for number in range(20_000):
            simulation._carry(sender, target, 77, number.to_bytes(4, "big"))
        await trio.sleep(3)
        assert simulation.height(target) >= simulation.checks.height - 1
        await simulation.settle(limit_ms=60_000)

    simulation.run(flood)


def test_violations_end_a_run_and_are_told_under_their_own_name() -> None:
    simulation = ShellSimulation(4, 1, parameters=BUSY)

    async def claim() -> None:
        await trio.sleep(1)
        height = simulation.checks.height
        simulation.checks._values[height + 1] = (b"x" * 32, b"y" * 32)
        await trio.sleep(5)

    with pytest.raises(Violation) as found:
        simulation.run(claim)
    assert found.value.kind == "fork"
    assert isinstance(run_in_shell(scenario(1, cities=4, duration_ms=500)), Outcome)
