"""`make chaos`: all scenarios, each in a private place and a process of its own; a table in build/chaos.

make chaos                                      everything
make chaos ARGS="power kills --parts 10"        some scenarios, with ten parts each: a hundred kills, fifty cuts
make chaos ARGS="--short"                       what `make test` runs
make chaos ARGS="--list"
"""

import argparse
import json
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import trio

from tests.chaos import machine, report
from tests.chaos.disks import Disk
from tests.chaos.namespaces import Wires
from tests.chaos.scenarios import SCENARIOS
from tests.chaos.trials import Result, Scenario, run_trial

SHORT = ("kill", "short-cut", "lying-disk")
TRIAL_S = 3_600
RESULT = "result: "


def main(arguments: list[str]) -> int:
    """The exit status: 0 when everything was as it must be, 1 when something was not, 2 when it cannot run here."""
    parser = argparse.ArgumentParser(prog="make chaos")
    parser.add_argument("names", nargs="*", metavar="SCENARIO")
    parser.add_argument("--list", action="store_true", help="the scenarios")
    parser.add_argument("--short", action="store_true", help=f"only {', '.join(SHORT)}")
    parser.add_argument(
        "--parts", type=int, default=1, help="how often each is done, one after the other on one network"
    )
    parser.add_argument("--seed", type=int, default=1, help="of what is drawn by lot")
    parser.add_argument("--patience", type=float, default=1.0, help="how often longer a recovery may take")
    parser.add_argument("--rate", type=int, help="transactions a second, instead of the scenario's own")
    parser.add_argument("--out", type=Path, default=machine.REPOSITORY / "build" / "chaos", help="where the table goes")
    parser.add_argument("--probe", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--trial", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.probe:
        return probe()
    unknown = [name for name in options.names if name not in SCENARIOS]
    if unknown:
        parser.error(f"no scenario {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    if options.list:
        for scenario in SCENARIOS.values():
            print(f"{scenario.name:14} {scenario.equipment.cities} nodes  {scenario.what}")
        return 0
    if options.trial is not None:
        return trial(SCENARIOS[options.names[0]], options)
    why = machine.missing()
    if why is not None:
        print(f"make chaos: {why}", file=sys.stderr)
        return 2
    return run_all(options.names or (SHORT if options.short else tuple(SCENARIOS)), options)


def run_all(names: tuple[str, ...] | list[str], options: argparse.Namespace) -> int:
    """One after the other; the table is written after each, so that an interrupted run leaves what it had."""
    results: list[Result] = []
    about = {"system": platform.platform(), "python": platform.python_version(), "processors": _processors()}
    for name in names:
        results.append(run_one(SCENARIOS[name], options))
        print(report.line(results[-1]), flush=True)
        report.write(results, options.out, about)
    print(f"{options.out / 'results.md'}")
    return 0 if all(result.ok for result in results) else 1


def run_one(scenario: Scenario, options: argparse.Namespace) -> Result:
    """One scenario in a place of its own. What a wrong one leaves is kept, and said where."""
    directory = Path(tempfile.mkdtemp(prefix="cityid-chaos-"))
    given = ["--parts", str(options.parts), "--seed", str(options.seed), "--patience", str(options.patience)]
    if options.rate is not None:
        given += ["--rate", str(options.rate)]
    try:
        done = subprocess.run(
            machine.inside(scenario.name, "--trial", str(directory), *given),
            capture_output=True, text=True, check=False, timeout=TRIAL_S, cwd=machine.REPOSITORY,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        why = f"the trial did not end within {TRIAL_S} s"
        return Result.of_a_crash(scenario, options.seed, f"{why}; kept: {directory}")
    told = [line for line in done.stdout.splitlines() if line.startswith(RESULT)]
    if told:
        found = json.loads(told[-1].removeprefix(RESULT))
        result = Result(**found | {"wrong": tuple(found["wrong"])})
    else:
        (directory / "trial.log").write_text(done.stdout + done.stderr, encoding="utf-8")
        last = [line for line in done.stderr.splitlines() if "Error" in line][-1:] or done.stderr.splitlines()[-1:]
        result = Result.of_a_crash(scenario, options.seed, f"the trial ended with {done.returncode}: {' '.join(last)}")
    if result.ok:
        shutil.rmtree(directory)
        return result
    return replace(result, wrong=(*result.wrong, f"kept: {directory}"))


def trial(scenario: Scenario, options: argparse.Namespace) -> int:
    """Inside: one scenario, and its result as the last line."""
    if options.rate is not None:
        scenario = replace(scenario, rate=options.rate)
    result = trio.run(
        lambda: run_trial(
            scenario, seed=options.seed, directory=options.trial, parts=options.parts, patience=options.patience
        )
    )
    print(RESULT + json.dumps(result.to_json(), ensure_ascii=False))
    return 0


def probe() -> int:
    """Inside: make and use one of everything."""
    with tempfile.TemporaryDirectory() as directory:
        wires = Wires(["first", "second"])
        wires.split(["first"], ["second"])
        wires.lose(20)
        wires.narrow("first", 1_000)
        folder = Path(directory) / "data"
        folder.mkdir()
        disk = Disk(folder)
        disk.go_on_with(disk.picture())
        machine.run("umount", folder)
    return 0


def _processors() -> int:
    return len([line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("processor")])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
