"""`cityid sim`: the same seeds give the same digest; a broken promise ends with status 1 and a command to replay it."""

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cityid.cli import app, simulation
from cityid.errors import MalformedInput
from cityid.testing import campaign, runs


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


def test_control_a_lost_vote_log_is_a_violation_that_can_be_played_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # schedules of violations are kept where the command runs
    status, out, said = run("sim --seeds 2 --faults vote-log-is-lost")
    assert status == 1
    violation = next(line for line in out.splitlines() if "violation at" in line)
    replay = next(line for line in said.splitlines() if line.startswith("replay: cityid "))
    status, again, _ = run(replay.removeprefix("replay: cityid "))
    assert status == 1
    assert violation in again.splitlines()


def test_a_violation_names_its_source_and_keeps_a_short_schedule(tmp_path: Path) -> None:
    status, _, said = run(f"sim --seeds 1 --faults vote-log-is-lost --keep {tmp_path}")
    assert status == 1
    assert re.search(r"^source: ([0-9a-f]{40}(-dirty)?|cityid \S+)$", said, re.MULTILINE)
    assert (tmp_path / "sim-1.json").exists()
    replay = next(line for line in said.splitlines() if "--schedule" in line).partition("replay: cityid ")[2]
    status, out, said = run(replay)
    assert status == 1
    assert "signed two" in out
    assert "replay: cityid " + replay in said
    kept = json.loads((tmp_path / "sim-1.json").read_text())
    assert len(kept["faults"]) < 10
    (tmp_path / "sound.json").write_text(json.dumps(kept | {"vote_log_is_lost": False}))
    assert run(f"sim --schedule {tmp_path / 'sound.json'}")[0] == 0


@pytest.mark.parametrize(
    ("text", "why"),
    [("", "is no JSON"), ("{}", "This is no schedule"), ('{"format": "cityid schedule 1"}', "This is no schedule")],
)
def test_what_is_no_schedule_is_refused(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "schedule.json").write_text(text)
    with pytest.raises(MalformedInput, match=why):
        CliRunner().invoke(app, ["sim", "--schedule", str(tmp_path / "schedule.json")], catch_exceptions=False)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ("--liars 2", "at most 1 liars"),
        ("--shell --liars 1", "neither liars"),
        ("--shell --faults vote-log-lies", "nor"),
    ],
)
def test_what_cannot_be_run_is_refused(options: str, why: str) -> None:
    with pytest.raises(MalformedInput, match=why):
        CliRunner().invoke(app, ["sim", *options.split()], catch_exceptions=False)


def test_liars_the_shell_and_several_processes_give_the_same_history_each_time(tmp_path: Path) -> None:
    for options in ("--liars 1", "--shell", "--pace long --cities 5"):
        command = f"sim --seeds 2 --seconds 4 {options} --json"
        status, out, _ = run(command)
        assert (status, json.loads(out)["violations"]) == (0, 0)
    assert json.loads(run(f"{command} --jobs 2")[1]) == json.loads(out)


def test_a_campaign_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    file = tmp_path / "outcomes.jsonl"
    whole = json.loads(run("sim --seeds 3 --seconds 2 --json")[1])
    run(f"sim --seeds 2 --seconds 2 --resume {file}")
    kept = file.read_text()
    file.write_text(kept + '{"command": "cityid si')  # killed while it wrote
    assert json.loads(run(f"sim --seeds 3 --seconds 2 --resume {file} --json")[1]) == whole
    lines = file.read_text().splitlines()
    assert (len(lines), "".join(line + "\n" for line in lines[:2])) == (3, kept)


def test_the_words_of_the_command_are_those_of_the_runs() -> None:
    assert [each.value for each in simulation.Faults] == [each.value for each in campaign.Faults]
    assert [each.value for each in simulation.Pace] == [each.value for each in runs.Pace]
    assert {each.value for each in simulation.Suite} == campaign.SUITES.keys()


def test_the_suites_are_as_large_as_they_say() -> None:
    ci, year = campaign.SUITES["ci"](), campaign.SUITES["year"]()
    few = [job for job in ci if job.cities <= 7 and job.pace is runs.Pace.LONG]
    assert sum(job.seconds for job in few) == 10 * 86_400
    assert {job.cities for job in few} == {4, 5, 6, 7}
    assert [job.seconds for job in ci if job.cities == 20] == [3_600]
    assert sum(job.seconds for job in year) == 365 * 86_400
    assert len({job.command for job in [*ci, *year]}) == len(ci) + len(year)
