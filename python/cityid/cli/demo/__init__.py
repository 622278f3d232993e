"""`cityid demo`: four cities on this machine, the whole path, one fact a line.

`story` tells it, `stage` sets it up, `relay` are the cables between cities, `outside` is the relying party without a
network, `tamper` is the forger, `lamps` makes the register, `lines` holds the words in both languages.
"""

import json
import shutil
from pathlib import Path
from typing import Annotated

import typer

from cityid.cli.common import Json
from cityid.cli.network import run_until_stopped
from cityid.cli.output import leaf_error, say
from cityid.errors import InputError

__all__ = ["add_commands", "demo"]


def add_commands(app: typer.Typer) -> None:
    """Adds `demo`."""
    app.command()(demo)


def demo(
    directory: Annotated[
        Path, typer.Option("--dir", metavar="DIR", help="Everything is kept here; made anew each time.")
    ] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="Of the synthetic register.")] = 2026,
    as_json: Json = False,
) -> None:
    """Tell the whole story with four real node processes on loopback; under a minute, and nothing is left running."""
    from cityid.cli.demo.lines import Narrator
    from cityid.cli.demo.stage import DemoFailure
    from cityid.cli.demo.story import tell

    _clear(directory)
    narrator = Narrator(quiet=as_json)
    finished = False

    async def main() -> None:
        nonlocal finished
        await tell(directory.absolute(), narrator, seed=seed, shown=directory)
        finished = True

    try:
        run_until_stopped(main)
    except (DemoFailure, BaseExceptionGroup) as error:
        leaf = leaf_error(error)
        if not isinstance(leaf, DemoFailure):
            raise
        narrator.failed(str(leaf))
        raise typer.Exit(1) from None
    if not finished:
        say("cityid: interrupted")
        raise typer.Exit(130)
    if as_json:
        print(json.dumps({"directory": str(directory), "facts": narrator.facts}, ensure_ascii=False, default=str))


def _clear(directory: Path) -> None:
    """Makes room: removes what an earlier demo left there, and nothing else."""
    from cityid.cli.demo.stage import MARK

    if directory.exists() and any(directory.iterdir()):
        if not (directory / MARK).exists():
            raise InputError(f"{directory} is not empty and no demo made it. Next: name another directory with --dir")
        shutil.rmtree(directory)
    directory.mkdir(parents=True, exist_ok=True)
