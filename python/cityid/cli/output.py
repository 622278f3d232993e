"""Where output goes and how a command ends.

Data goes to stdout, talk to stderr. `--json` puts one JSON object on stdout, with integers that may pass 2^53 as
strings where an interface says so; its keys are stable. A failure is a sentence on stderr, and under `--json` also
`{"error": {"type", "reason", "message"}}` on stdout.

Exit status: 0 done or REGISTERED, 1 INVALID, 2 wrong usage or input, 3 unreachable, 4 NOT_REGISTERED or MISMATCH,
5 this node is hurt, 6 UNKNOWN, UNAVAILABLE or NOT_OURS, 130 interrupted.
"""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Protocol

from cityid.cli.messages import choose
from cityid.errors import CityIDError, InputError, StorageError, Unavailable, VerificationError

__all__ = ["EXIT", "VERDICT_EXIT", "Advance", "fail", "leaf_error", "progress", "say", "show"]

VERDICT_EXIT: Final[Mapping[str, int]] = {
    "REGISTERED": 0,
    "INVALID": 1,
    "NOT_REGISTERED": 4,
    "MISMATCH": 4,
    "UNKNOWN": 6,
    "UNAVAILABLE": 6,
    "NOT_OURS": 6,
}
EXIT: Final[tuple[tuple[type[BaseException], int], ...]] = (
    (VerificationError, 1),
    (InputError, 2),
    (Unavailable, 3),
    (StorageError, 5),
    (KeyboardInterrupt, 130),
    (BrokenPipeError, 141),  # before OSError, which it is
    (OSError, 2),  # a file that was named cannot be read or written
    (CityIDError, 1),
)


class Advance(Protocol):
    """Tells a progress bar how far things are."""

    def __call__(self, done: int, total: int) -> None:
        """`done` of `total`."""


def show(value: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """One result on stdout: the object under --json, else the text."""
    try:
        print(json.dumps(value, ensure_ascii=False) if as_json else text, flush=True)
    except BrokenPipeError:
        # Whoever read our output has gone. Said here, because typer would end with 1, which means INVALID.
        sys.exit(_broken_pipe())


def say(text: str) -> None:
    """Talk, on stderr."""
    print(text, file=sys.stderr)


def leaf_error(error: BaseException) -> BaseException:
    """What a nursery's group of errors is about: the first of ours in it, else the first."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [leaf_error(inner) for inner in error.exceptions]
    return next((leaf for leaf in leaves if isinstance(leaf, CityIDError)), leaves[0])


def fail(error: BaseException, *, as_json: bool) -> int:
    """Says what went wrong; the exit status for it. What is not ours to explain is raised again."""
    error = leaf_error(error)
    status = next((status for kind, status in EXIT if isinstance(error, kind)), None)
    if status is None:
        raise error
    if isinstance(error, BrokenPipeError):
        return _broken_pipe()
    message = _sentence(error)
    if as_json:
        reason = getattr(error, "reason", None)
        print(json.dumps({"error": {"type": type(error).__name__, "reason": reason, "message": message}}))
    say(f"cityid: {message}")
    return status


def _broken_pipe() -> int:
    """Silence, also for what Python flushes at exit; the status of a process that SIGPIPE ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 141


def _sentence(error: BaseException) -> str:
    match error:
        case KeyboardInterrupt():
            return choose("已中断", "interrupted")
        case OSError(filename=str() as name, strerror=str() as why):
            return f"{name}: {why}. Next: look at the path, its owner and its mode."
        case _:
            return str(error)


@contextmanager
def progress(label: str) -> Iterator[Advance]:
    """A progress bar on stderr when it is a terminal; silence otherwise."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
