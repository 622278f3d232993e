"""The command line: `cityid COMMAND`, or `python -m cityid COMMAND`.

One file per group of commands. Modules here import typer and the native core at the top and everything that waits
(Trio, HTTP, the store) inside the command that needs it, so that checking an answer starts fast and touches no network.
"""

import sys
from typing import Final

import typer

from cityid.cli import (
    adopting,
    auditing,
    classes,
    demo,
    founding,
    governing,
    importing,
    items,
    key_files,
    mutants,
    network,
    organisations,
    profiles,
    ranges,
    sealing,
    simulation,
    tracing,
    transactions,
    trusts,
    twins,
    verdicts,
)
from cityid.cli.output import fail

__all__ = ["app", "main"]

app = typer.Typer(
    name="cityid",
    help="Identification codes that cities issue together, and answers about them that anyone can verify offline.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
GROUPS: Final = (
    *(
        founding,
        network,
        key_files,
        trusts,
        organisations,
        ranges,
        items,
        classes,
        profiles,
        importing,
        adopting,
        sealing,
        transactions,
    ),
    *(governing, verdicts, tracing, auditing, demo, simulation, twins, mutants),
)
for group in GROUPS:
    group.add_commands(app)


def main() -> None:
    """Runs a command and exits with its status."""
    try:
        app(prog_name="cityid")
    except BaseException as error:
        if isinstance(error, SystemExit):
            raise
        sys.exit(fail(error, as_json="--json" in sys.argv))
