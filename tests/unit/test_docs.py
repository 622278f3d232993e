"""The documents are true: their Python runs, their commands and options exist, their links and paths lead somewhere.

A fenced `python` block runs in a folder with `genesis.json` and `answer.cbor` of a small simulated network, all blocks
of a document in one namespace. Of a fenced `sh` block every line that starts with `cityid` or `make` is looked up: the
command, each of its options, the make target.
"""

import inspect
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest
import typer

from cityid import cli
from cityid._native import make_item_code
from cityid.genesis import PARAMETERS
from cityid.node.config import Limits, Timeouts
from cityid.node.control.problems import TYPES
from cityid.node.exchange import Exchange
from cityid.node.face import Face
from cityid.node.host import Host
from cityid.node.peers import Peers
from cityid.testing import Simulation

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("python/cityid/data/*.md")])
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]


def blocks(document: str, language: str) -> list[str]:
    return [text for name, text in FENCE.findall((ROOT / document).read_text()) if name == language]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """genesis.json, and in answer.cbor what the documents' example code resolves to."""
    directory = tmp_path_factory.mktemp("documents")
    simulation = Simulation(cities=4, seed=1)
    city, org, class_code = "130100", "A7K2", "010203"
    office = simulation.organisation_signer(city, org)
    category = {"use": "60", "class": class_code, "model": "1"}
    ids = simulation.admit_organisation(city, org, name="Lighting")
    for operation in (
        {"op": "register_category", "city": city, "org": org, **category, "name": "lamp"},
        {"op": "allocate_range", "city": city, "org": org, "class": class_code, "size": 1_000_000},
        {"op": "register_items", "city": city, "org": org, **category,
         "items": [{"serial": 12_345, "commitments": {}, "services": [], "status": "active"}]},
    ):  # fmt: skip
        ids += simulation.submit(city, [operation], signers=[office])
    simulation.run_until(lambda: simulation.is_committed(ids), limit_ms=5_000)
    code = make_item_code(city, org, "60", class_code, "1", 12_345)
    (directory / "genesis.json").write_text(simulation.genesis.to_json())
    (directory / "answer.cbor").write_bytes(simulation.answer(code, at="320500").to_bytes())
    return directory


@pytest.mark.parametrize("document", [name for name in NAMES if blocks(name, "python")])
def test_python_runs(
    document: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for number, text in enumerate(blocks(document, "python")):
        exec(compile(text, f"{document} block {number}", "exec"), namespace)
    out = capsys.readouterr().out
    assert "REGISTERED" in out
    assert "INVALID" not in out


def test_control_an_answer_about_another_code_would_be_noticed(folder: Path) -> None:
    [text] = [text for text in blocks("README.md", "python") if "000012345B" in text]
    namespace: dict[str, Any] = {}
    here = Path.cwd()
    try:
        os.chdir(folder)
        exec(text.replace("000012345B", "0000123464"), namespace)
    finally:
        os.chdir(here)
    assert namespace["verdict"].verdict == "INVALID"


def shell_lines() -> Iterator[tuple[str, str]]:
    for document in NAMES:
        for text in blocks(document, "sh"):
            for line in text.replace("\\\n", " ").splitlines():
                if line.startswith(("cityid ", "make ")):
                    yield document, line


@pytest.mark.parametrize(("document", "line"), list(shell_lines()))
def test_commands_exist_with_their_options(document: str, line: str) -> None:
    program, *words = shlex.split(line, comments=True)
    if program == "make":
        assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), line
        return
    command: Any = typer.main.get_command(cli.app)
    while isinstance(command, click.Group) or hasattr(command, "commands"):
        name = words.pop(0)
        assert name in command.commands, f"{document}: {line}: there is no command {name}"
        command = command.commands[name]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for word in words:
        if word.startswith("--"):
            assert word.partition("=")[0] in known, f"{document}: {line}: {word} is no option"


@pytest.mark.parametrize("document", NAMES)
def test_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
        assert target.startswith("https://") or (path.parent / target).exists(), f"{document}: {target}"


@pytest.mark.parametrize("document", NAMES)
def test_paths_that_are_named_exist(document: str) -> None:
    places = (ROOT, ROOT / "python" / "cityid", ROOT / "python")
    for name in re.findall(r"`((?:rust|python|node|tests|docs|cli|examples)/[\w./-]+)`", (ROOT / document).read_text()):
        assert any((place / name).exists() for place in places), f"{document}: {name}"


def test_every_setting_stands_in_the_operating_guide_with_its_default() -> None:
    text = (ROOT / "docs" / "operating.md").read_text()
    for kind in (Limits, Timeouts):
        for setting in fields(kind):
            assert f"| `{setting.name}` | {setting.default:,} |" in text, setting.name


def test_every_command_problem_and_metric_stands_in_the_operating_guide() -> None:
    text = (ROOT / "docs" / "operating.md").read_text()
    app: Any = typer.main.get_command(cli.app)
    for name in app.commands:
        assert f"`{name}" in text or f"cityid {name}" in text, name
    for name, (status, _) in TYPES.items():
        assert f"| `{name}` | {status} |" in text, name
    watched = ("ledger", Face.figures), ("peers", Peers.stats), ("host", Host.figures), ("exchange", Exchange.figures)
    for part, figures in watched:
        names = re.findall(r'"([a-z_]+)(?::\w+)?":', inspect.getsource(figures))
        assert names
        for name in names:
            assert f"`{part}_{name}" in text, name


def test_the_parameters_of_the_protocol_are_those_of_a_new_genesis() -> None:
    text = (ROOT / "docs" / "protocol.md").read_text()
    [line] = [line for line in text.splitlines() if line.startswith("- **P6**")]
    for name, value in PARAMETERS.items():
        assert f"`{name}` {value}" in line, name
