"""`cityid mutants` and `cityid twins`: tables, status, and the command that plays one schedule again."""

import json
import shlex

from typer.testing import CliRunner

from cityid.cli import app
from cityid.testing.mutants import MUTANTS


def run(command: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, shlex.split(command), env={"LC_ALL": "C"})
    return done.exit_code, done.stdout, done.stderr


def test_a_bug_that_is_found_is_one_line_and_status_0() -> None:
    status, out, _ = run("mutants tip-marker-absent marker-before-database --processes 1")
    assert status == 0
    rows = [line.split() for line in out.splitlines()[1:3]]
    assert [row[:3] for row in rows] == [
        ["tip-marker-absent", "Store._mark", "store"],
        ["marker-before-database", "Store.write", "store"],
    ]
    assert out.splitlines()[-1] == "2 bugs planted, 2 found"


def test_a_bug_that_survives_is_status_1() -> None:
    status, out, said = run("mutants vote-before-fsync --seeds 1 --processes 1 --json")
    assert status == 1
    assert json.loads(out)["survivors"] == ["vote-before-fsync"]
    assert "vote-before-fsync" in said


def test_what_cannot_be_planted_here_is_said_and_status_3() -> None:
    status, out, said = run("mutants lock-rule-missing tip-marker-absent --processes 1 --json")
    assert status == 3
    found = json.loads(out)
    assert (found["not_tried"], [row["mutant"] for row in found["mutants"]]) == (
        ["lock-rule-missing"],
        ["tip-marker-absent"],
    )
    assert "make sim-mutants" in said


def test_a_bug_that_nobody_knows_is_refused_with_their_names() -> None:
    done = CliRunner().invoke(app, ["mutants", "coffee"])
    assert "coffee" in str(done.exception)
    assert all(name in str(done.exception) for name in MUTANTS)


def test_schedules_that_do_not_fork_are_status_0() -> None:
    status, out, _ = run("twins --scenarios 20 --first 100 --json")
    found = json.loads(out)
    assert (status, found["violations"], sum(found["rounds"].values())) == (0, 0, 20)


def test_control_two_pairs_fork_and_each_fork_can_be_played_again() -> None:
    status, out, said = run("twins --scenarios 10 --pairs 2")
    assert status == 1
    line = next(line for line in out.splitlines() if "two certified values" in line)
    replay = next(line for line in said.splitlines() if line.startswith("replay: cityid "))
    status, again, _ = run(replay.removeprefix("replay: cityid "))
    assert status == 1
    assert line in again.splitlines()
