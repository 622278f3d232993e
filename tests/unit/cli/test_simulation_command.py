"""`cityid sim`: the same seeds give the same digest; a broken promise ends with status 1 and a command to replay it."""

import json
import shlex

import pytest
from typer.testing import CliRunner

from cityid.cli import app


def run(command: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, shlex.split(command), env={"LC_ALL": "C"})
    return done.exit_code, done.stdout, done.stderr


@pytest.mark.parametrize("faults", ["none", "tolerated", "any"])
def test_no_seed_breaks_anything_and_a_seed_is_one_history(faults: str) -> None:
    command = f"sim --seeds 3 --seconds 5 --faults {faults} --json"
    status, out, _ = run(command)
    first = json.loads(out)
    assert (status, first["violations"], len(first["runs"])) == (0, 0, 3)
    assert all(found["height"] > 0 for found in first["runs"])
    assert json.loads(run(command)[1]) == first
    alone = json.loads(run(f"sim --seed 2 --seeds 1 --seconds 5 --faults {faults} --json")[1])
    assert alone["runs"] == first["runs"][1:2]
    assert alone["digest"] != first["digest"]


def test_control_a_lost_vote_log_is_a_violation_that_can_be_played_again() -> None:
    status, out, said = run("sim --seeds 2 --faults vote-log-is-lost")
    assert status == 1
    violation = next(line for line in out.splitlines() if "violation at" in line)
    replay = next(line for line in said.splitlines() if line.startswith("replay: cityid "))
    status, again, _ = run(replay.removeprefix("replay: cityid "))
    assert status == 1
    assert violation in again.splitlines()
