"""`cityid sim`: whole networks on virtual time, one a seed, with whatever trouble is asked for.

The same seed, cities, seconds and faults give the same history on every machine, told by its trace digest. A violation
ends with status 1 and the command that plays that one seed again. The two kinds of faults of the vote log break a
promise that safety rests on: they are controls, and some seed must find each of them out.
"""

import time
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from cityid.cli.common import Json
from cityid.cli.messages import choose
from cityid.cli.output import progress, say, show

if TYPE_CHECKING:
    from cityid.testing import DiskFaults, Simulation

__all__ = ["add_commands"]

CLIENT_EVERY_MS: Final = 500


class Faults(StrEnum):
    """What goes wrong."""

    NONE = "none"
    TOLERATED = "tolerated"
    ANY = "any"
    VOTE_LOG_LIES = "vote-log-lies"
    VOTE_LOG_IS_LOST = "vote-log-is-lost"


@dataclass(frozen=True, slots=True)
class Run:
    """One seed's history."""

    seed: int
    height: int
    acknowledged: int
    seconds: float
    trace: str
    violation: str | None


def add_commands(app: typer.Typer) -> None:
    """Adds `sim`."""
    app.command()(sim)


def sim(
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=1_000_000, help="How many, one network each.")] = 10,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The first of them.")] = 1,
    cities: Annotated[int, typer.Option("--cities", min=4, max=100, help="How many.")] = 4,
    seconds: Annotated[int, typer.Option("--seconds", min=1, max=86_400, help="Of virtual time, with trouble.")] = 15,
    faults: Annotated[
        Faults,
        typer.Option(
            "--faults",
            help="none; tolerated: at most f cities down at once; any: the whole network may be cut; the vote-log "
            "ones are controls that break a promise and must be found out.",
        ),
    ] = Faults.ANY,
    as_json: Json = False,
) -> None:
    """Run seeded networks on virtual time; status 1 when one does what must never happen."""
    began = time.monotonic()
    runs: list[Run] = []
    with progress(choose("种子", "seeds")) as advance:
        for each in range(seed, seed + seeds):
            replay = f"cityid sim --seed {each} --seeds 1 --cities {cities} --seconds {seconds} --faults {faults.value}"
            try:
                run = _run(each, cities, seconds, faults)
            except Exception:
                say(
                    choose(
                        f"种子 {each} 使仿真自身出错；重放：{replay}",
                        f"seed {each} breaks the simulation itself; replay: {replay}",
                    )
                )
                raise
            runs.append(run)
            if not as_json:
                show({}, _line(run), as_json=False)
            if run.violation is not None:
                say(choose(f"重放：{replay}", f"replay: {replay}"))
            advance(len(runs), seeds)
    digest = sha256("".join(f"{run.seed} {run.trace}\n" for run in runs).encode()).hexdigest()
    violations = sum(run.violation is not None for run in runs)
    value: dict[str, Any] = {"cities": cities, "seconds": seconds, "faults": faults.value, "violations": violations}
    value |= {"digest": digest, "runs": [_json(run) for run in runs]}
    virtual, real = sum(run.seconds for run in runs), time.monotonic() - began
    summary = choose(
        f"{seeds} 个种子，{violations} 次违例，{virtual:.0f} 虚拟秒用时 {real:.1f} 秒，摘要 {digest}",
        f"{seeds} seeds, {violations} violations, {virtual:.0f} virtual seconds in {real:.1f} s, digest {digest}",
    )
    show(value, summary, as_json=as_json)
    if violations:
        raise typer.Exit(1)


def _run(seed: int, cities: int, seconds: int, faults: Faults) -> Run:
    from cityid.testing import Simulation, Violation

    simulation = Simulation(cities=cities, seed=seed, disks=_disks(faults))
    violation: str | None = None
    try:
        _trouble(simulation, seconds * 1_000, faults)
        simulation.settle()
    except Violation as found:
        violation = str(found)
    return Run(
        seed,
        simulation.checks.height,
        len(simulation.acknowledged),
        simulation.now_us / 1e6,
        simulation.trace,
        violation,
    )


def _trouble(simulation: "Simulation", duration_ms: int, faults: Faults) -> None:
    from cityid.testing.chaos import torment

    if faults is not Faults.NONE:
        torment(simulation, duration_ms=duration_ms, whole_network=faults is not Faults.TOLERATED)
        return
    for number in range(duration_ms // CLIENT_EVERY_MS):
        city = simulation.cities[number % len(simulation.cities)]
        simulation.admit_organisation(city, f"OR{number:06}", name="An office")
        simulation.run_for(CLIENT_EVERY_MS)
        simulation.check()


def _disks(faults: Faults) -> "DiskFaults":
    from cityid.testing import DiskFaults

    return DiskFaults(
        vote_log_lies=faults is Faults.VOTE_LOG_LIES,
        vote_log_is_lost=faults is Faults.VOTE_LOG_IS_LOST,
    )


def _line(run: Run) -> str:
    if run.violation is not None:
        return choose(
            f"种子 {run.seed}：违例，第 {run.seconds:.3f} 秒：{run.violation}",
            f"seed {run.seed}: violation at {run.seconds:.3f} s: {run.violation}",
        )
    return choose(
        f"种子 {run.seed}：高度 {run.height}，{run.acknowledged} 笔交易已确认并提交，{run.seconds:.1f} 秒，"
        f"轨迹 {run.trace[:16]}",
        f"seed {run.seed}: height {run.height}, {run.acknowledged} acknowledged and committed, {run.seconds:.1f} s, "
        f"trace {run.trace[:16]}",
    )


def _json(run: Run) -> dict[str, Any]:
    return {
        "seed": run.seed,
        "height": run.height,
        "acknowledged": run.acknowledged,
        "seconds": run.seconds,
        "trace": run.trace,
        "violation": run.violation,
    }
