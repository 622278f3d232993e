"""The main job, as anyone runs it: `cityid demo` with four real processes, in both languages; nothing is left over."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cityid.cli.demo.lines import LINES

TIMEOUT_S = 120


def run(directory: Path, *arguments: str, lang: str = "en_US.UTF-8") -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CITYID_", "LC_"))}
    return subprocess.run(
        [sys.executable, "-m", "cityid", *arguments],
        capture_output=True, text=True, cwd=directory, timeout=TIMEOUT_S, env=environment | {"LANG": lang},
    )  # fmt: skip


def processes_about(directory: Path) -> list[str]:
    """Command lines that name the directory, of processes that still run."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            command = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            state = (place / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if str(directory) in command and state != "Z":
            found.append(command)
    return found


@pytest.mark.processes
def test_the_demo_tells_its_whole_story_and_leaves_nothing(tmp_path: Path) -> None:
    done = run(tmp_path, "demo", "--json")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    told = json.loads(done.stdout)
    facts = {fact["fact"]: fact for fact in told["facts"]}
    assert set(facts) == set(LINES) - {"kernel", "hook"}
    assert facts["imported"]["imported"] == 5_000
    assert facts["imported"]["again"] == 0
    assert facts["resolved"]["bytes"] == 0
    assert facts["stalled"]["behind"] is not None
    assert facts["killed"]["after"] > facts["killed"]["before"]
    assert processes_about(tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]

    # What the last lines promise: the saved answer, checked again, from the files alone.
    again = run(tmp_path, "verify", "demo/answer.cbor", "--trust", "demo/genesis.json", "--max-age", "any", "--json")
    assert again.returncode == 0
    assert json.loads(again.stdout)["verdict"] == "REGISTERED"


@pytest.mark.processes
def test_the_demo_in_chinese_is_one_fact_a_line(tmp_path: Path) -> None:
    done = run(tmp_path, "demo", lang="zh_CN.UTF-8")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(LINES) - 2  # two words are no lines
    assert all(any("\u4e00" <= letter <= "\u9fff" for letter in line) for line in lines)
    assert "\x1b" not in done.stdout
