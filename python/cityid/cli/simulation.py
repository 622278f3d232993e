"""`cityid sim`: whole networks on virtual time, one a seed, with whatever trouble is asked for.

The same seed, cities, seconds, pace and faults give the same history on every machine, told by its trace digest. A
violation ends with status 1; it is told with the version of the source and the command that plays that one seed again,
and its schedule of faults is made as short as it goes and kept in a file, which `--schedule` plays. The two kinds of
faults of the vote log break a promise that safety rests on: controls, each of which some seed must find out.
"""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TextIO

import typer

from cityid import __version__
from cityid.cli.common import Json
from cityid.cli.messages import choose
from cityid.cli.output import progress, say, show
from cityid.errors import MalformedInput

if TYPE_CHECKING:
    from cityid.testing.campaign import Job
    from cityid.testing.runs import Outcome, Scenario

__all__ = ["add_commands"]

MAX_SCHEDULE_BYTES: Final = 64 * 1024 * 1024
SHRINK_RUNS: Final = {"busy": 150, "long": 30}


# The words of `testing.campaign` and `testing.runs`, said again: importing those takes longer than `--help` may.
class Faults(StrEnum):
    """What goes wrong."""

    NONE = "none"
    TOLERATED = "tolerated"
    ANY = "any"
    VOTE_LOG_LIES = "vote-log-lies"
    VOTE_LOG_IS_LOST = "vote-log-is-lost"


class Pace(StrEnum):
    """How dense time is."""

    BUSY = "busy"
    LONG = "long"


class Suite(StrEnum):
    """Runs that belong together."""

    CI = "ci"
    YEAR = "year"


def add_commands(app: typer.Typer) -> None:
    """Adds `sim`."""
    app.command()(sim)


def sim(
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=1_000_000, help="How many, one network each.")] = 10,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The first of them.")] = 1,
    cities: Annotated[int, typer.Option("--cities", min=4, max=100, help="How many.")] = 4,
    seconds: Annotated[int, typer.Option("--seconds", min=1, max=604_800, help="Of virtual time, with trouble.")] = 15,
    faults: Annotated[
        Faults,
        typer.Option(
            "--faults",
            help="none; tolerated: at most f cities hurt at once; any: the whole network may be cut; the vote-log "
            "ones are controls that break a promise and must be found out.",
        ),
    ] = Faults.ANY,
    liars: Annotated[int, typer.Option("--liars", min=0, max=33, help="Cities that lie, at most f of them.")] = 0,
    pace: Annotated[
        Pace, typer.Option("--pace", help="busy: dense trouble, for seconds; long: a fault a minute, for hours.")
    ] = Pace.BUSY,
    shell: Annotated[bool, typer.Option("--shell", help="Run the real asynchronous host, not the event heap.")] = False,
    suite: Annotated[
        Suite | None, typer.Option("--suite", help="A named list of runs instead: ci takes minutes, year a day.")
    ] = None,
    schedule: Annotated[
        Path | None, typer.Option("--schedule", help="Play a schedule that was kept, instead of a seed.")
    ] = None,
    keep: Annotated[Path, typer.Option("--keep", help="The folder for schedules of violations.")] = Path(),
    resume: Annotated[
        Path | None, typer.Option("--resume", help="A file of outcomes: what it has is not run again.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=256, help="How many at once, a process each.")] = 1,
    as_json: Json = False,
) -> None:
    """Run seeded networks on virtual time; status 1 when one does what must never happen."""
    from cityid.testing import campaign, runs

    if liars > (cities - 1) // 3:
        bound = (cities - 1) // 3
        raise MalformedInput(
            f"A network of {cities} cities stands at most {bound} liars. Give --liars {bound} or less."
        )
    if shell and (liars or faults in (Faults.VOTE_LOG_LIES, Faults.VOTE_LOG_IS_LOST)):
        raise MalformedInput("The shell has neither liars nor lying disks. Leave --shell out for them.")
    if suite is not None:
        wanted = campaign.SUITES[suite.value]()
    elif schedule is not None:
        wanted = [_kept(schedule, shell=shell)]
    else:
        wanted = [
            campaign.Job(each, cities, seconds, campaign.Faults(faults.value), liars, runs.Pace(pace.value), shell)
            for each in range(seed, seed + seeds)
        ]
    began = time.monotonic()
    done: list[Outcome] = []
    with progress(choose("仿真", "runs")) as advance, _outcomes(resume) as file:
        for job, outcome in _play(wanted, file, jobs):
            done.append(outcome)
            if not as_json:
                show({}, _line(outcome), as_json=False)
            if outcome.violation is not None:
                say(choose(f"源代码：{_source()}", f"source: {_source()}"))
                replay = f"cityid sim --schedule {schedule}" if schedule else job.command
                say(choose(f"重放：{replay}", f"replay: {replay}"))
                if schedule is None:
                    _shorten(job, outcome, keep)
            advance(len(done), len(wanted))
    digest = sha256("".join(f"{run.seed} {run.trace}\n" for run in done).encode()).hexdigest()
    violations = sum(run.violation is not None for run in done)
    value: dict[str, Any] = {"cities": cities, "seconds": seconds, "faults": faults.value, "violations": violations}
    value |= {"digest": digest, "runs": [_json(run) for run in done]}
    virtual, real = sum(run.seconds for run in done), time.monotonic() - began
    sent, played = sum(run.sent for run in done), sum(sum(run.played.values()) for run in done)
    summary = choose(
        f"{len(done)} 次运行，{violations} 次违例，{played} 次故障，{sent} 笔交易，{virtual:.0f} 虚拟秒用时 "
        f"{real:.1f} 秒，摘要 {digest}",
        f"{len(done)} runs, {violations} violations, {played} faults, {sent} transactions, {virtual:.0f} virtual "
        f"seconds in {real:.1f} s, digest {digest}",
    )
    show(value, summary, as_json=as_json)
    if violations:
        raise typer.Exit(1)


def _kept(path: Path, *, shell: bool) -> "Job":
    from cityid.testing.campaign import Job
    from cityid.testing.runs import Scenario

    if path.stat().st_size > MAX_SCHEDULE_BYTES:
        raise MalformedInput(f"{path} has more than {MAX_SCHEDULE_BYTES} bytes: it is no schedule of `cityid sim`.")
    try:
        found = Scenario.from_json(json.loads(path.read_bytes()))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise MalformedInput(f"{path} is no JSON: {error}. Name a file that `cityid sim` kept.") from error
    return Job(found.seed, found.cities, found.duration_ms // 1_000, liars=found.liars, shell=shell, kept=found)


def _play(wanted: "list[Job]", file: TextIO | None, processes: int) -> "Iterator[tuple[Job, Outcome]]":
    """Outcomes in the order of the jobs: those that the file has, then new ones, which are added to it."""
    from cityid.testing import campaign
    from cityid.testing.runs import Outcome

    known: dict[str, Outcome] = {}
    if file is not None:
        file.seek(0)
        for line in file:
            try:
                entry = json.loads(line)
                known[entry["command"]] = Outcome(**entry["outcome"])
            except (ValueError, KeyError, TypeError):
                break  # the line that was being written when the last campaign ended
        file.truncate(_end_of_lines(file, len(known)))
    for job in wanted:
        if job.command in known:
            yield job, known[job.command]
    rest = [job for job in wanted if job.command not in known]
    for job, outcome in campaign.play(rest, processes=processes):
        if file is not None:
            print(json.dumps({"command": job.command, "outcome": asdict(outcome)}), file=file, flush=True)
        yield job, outcome


def _end_of_lines(file: TextIO, count: int) -> int:
    file.seek(0)
    for _ in range(count):
        file.readline()
    return file.tell()


def _outcomes(path: Path | None) -> Any:
    if path is None:
        return nullcontext()
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("a+", encoding="utf-8")


def _shorten(job: "Job", outcome: "Outcome", keep: Path) -> None:
    """Keep the shortest schedule that still leads to this kind of violation, and say what happens in it."""
    from cityid.testing.runs import run, run_in_shell, shrink

    wanted = job.scenario()
    shorter = shrink(wanted, outcome, play=run_in_shell if job.shell else run, max_runs=SHRINK_RUNS[wanted.pace.value])
    path = keep / f"sim-{outcome.seed}.json"
    path.write_text(_pretty(shorter), encoding="utf-8")
    again = f"cityid sim --schedule {path}" + (" --shell" if job.shell else "")
    say(
        choose(
            f"{len(wanted.faults)} 次故障缩减为 {len(shorter.faults)} 次；重放：{again}",
            f"{len(wanted.faults)} faults became {len(shorter.faults)}; replay: {again}",
        )
    )
    for fault in shorter.faults:
        whom = " ".join(fault.cities)
        say(f"  {fault.at_ms / 1_000:.3f} s  {fault.what.value} {whom} for {fault.for_ms} ms, {fault.amount}")


def _pretty(kept: "Scenario") -> str:
    """One fault a line."""
    value = kept.to_json()
    faults = ",\n".join(json.dumps(fault) for fault in value.pop("faults"))
    return json.dumps(value)[:-1] + ', "faults": [\n' + faults + "\n]}\n"


def _source() -> str:
    """The commit of the source that runs, where it lies in a repository of its own; else the version."""
    package = Path(__file__).resolve().parents[1]
    where = ["git", "-C", str(package)]
    try:
        tracked = subprocess.run([*where, "ls-files", "--error-unmatch", "__init__.py"], capture_output=True, text=True)
        commit = subprocess.run([*where, "rev-parse", "HEAD"], capture_output=True, text=True)
        changed = subprocess.run([*where, "status", "--porcelain"], capture_output=True, text=True)
    except OSError:
        return f"cityid {__version__}"  # no git here
    if tracked.returncode or commit.returncode:
        return f"cityid {__version__}"
    return commit.stdout.strip() + ("-dirty" if changed.stdout else "")


def _line(run: "Outcome") -> str:
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


def _json(run: "Outcome") -> dict[str, Any]:
    return {
        "seed": run.seed,
        "height": run.height,
        "acknowledged": run.acknowledged,
        "seconds": run.seconds,
        "trace": run.trace,
        "violation": run.violation,
    }
