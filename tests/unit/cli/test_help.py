"""Every command, however deep, has a help that a newcomer can follow, with examples that would run."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from cityid import cli

WITHOUT_JSON = {"run"}  # its output is the log
WITHOUT_EXAMPLE = {
    *("init", "genesis", "run", "up", "status", "verify", "resolve", "demo", "sim"),
    *("keys new", "keys show", "keys possession", "keys introduction"),
    *("trust show", "trust fetch", "trust pin", "trust update"),
}
"""Their arguments are few, or docs/operating.md shows them in order."""


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


ROOT: Any = typer.main.get_command(cli.app)
ALL = dict(commands(ROOT))


@pytest.mark.parametrize("name", ALL)
def test_help_and_json(name: str) -> None:
    done = CliRunner().invoke(cli.app, [*name.split(), "--help"])
    assert done.exit_code == 0
    assert "Usage:" in done.stdout
    assert "\x1b" not in done.stdout
    assert ALL[name].help, f"{name} says nothing of itself"
    assert ("--json" in done.stdout) == (name not in WITHOUT_JSON)


@pytest.mark.parametrize("name", [name for name in ALL if name not in WITHOUT_EXAMPLE])
def test_examples_name_commands_and_options_that_exist(name: str) -> None:
    text = (ALL[name].epilog or "").replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip().startswith("cityid ")]
    assert any(line.startswith(f"cityid {name}") for line in lines), f"{name} has no example of itself"
    for line in lines:
        words = shlex.split(line, comments=True)[1:]
        command = ROOT
        while hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        used = [word for word in words if word.startswith("--")]
        assert set(used) <= known, line
        required = [
            parameter.opts[0]
            for parameter in command.params
            if parameter.required and parameter.param_type_name == "option"
        ]
        assert set(required) <= set(used), f"{line}: it lacks an option that the command demands"


def test_control_a_missing_option_would_be_noticed() -> None:
    assert re.search(r"--holder", ALL["org admit"].epilog)
    assert any(parameter.required for parameter in ALL["org admit"].params)


def test_every_command_is_used_by_a_test_against_live_nodes() -> None:
    sources = "".join(path.read_text() for path in (Path(__file__).parents[2] / "integration").glob("test_*.py"))
    used = re.sub(r"\s+", " ", sources)
    # A helper says the first words of every proposal.
    words = {name: name.removeprefix("gov propose ").split() for name in ALL if name not in STARTED}
    missing = [name for name, spoken in words.items() if '"' + '", "'.join(spoken) + '"' not in used]
    assert not missing, f"a command exists only if an end-to-end test uses it: {missing}"


STARTED = {"up", "run", "demo", "sim", "twins", "mutants"}
"""By the fixtures of those tests, or as whole programs; the last three have no nodes but their own."""
