"""`cityid mutants`: every known bug is planted in turn, and the checks must find it (`make sim-mutants`).

One line a bug: its name, what is replaced, the kind of violation that found it, the hunt, the seeds that it took,
seconds. A bug that survives its seeds is a defect of the checks, and ends with status 1. Bugs in Rust need the
extension that `make sim-mutants` builds; with any other they are named as not tried, and the status is 3.
"""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from cityid.cli.acting import example
from cityid.cli.common import Json
from cityid.cli.messages import choose
from cityid.cli.output import say, show
from cityid.errors import MalformedInput

if TYPE_CHECKING:
    from cityid.testing.planting import Found

__all__ = ["add_commands"]

LINE: Final = "{:<30} {:<32} {:<14} {:<26} {:>6} {:>8}"


def add_commands(app: typer.Typer) -> None:
    """Adds `mutants`."""
    app.command(epilog=example("cityid mutants vote-before-fsync tip-marker-absent"))(mutants)


def mutants(
    names: Annotated[list[str] | None, typer.Argument(help="Which bugs; all of them when none is named.")] = None,
    seeds: Annotated[
        int | None, typer.Option("--seeds", min=1, max=1_000_000, help="Seeds to try; each bug has its own bound.")
    ] = None,
    processes: Annotated[int, typer.Option("--processes", min=1, max=256, help="How many bugs at once.")] = (
        os.cpu_count() or 1
    ),
    as_json: Json = False,
) -> None:
    """Plant each known bug in turn; status 1 when the checks do not find one."""
    from cityid.testing.mutants import MUTANTS
    from cityid.testing.planting import can_plant_native

    wanted = names or list(MUTANTS)
    if unknown := [name for name in wanted if name not in MUTANTS]:
        known = ", ".join(MUTANTS)
        raise MalformedInput(f"No bug is called {unknown[0]!r}. Next: name one of {known}.")
    skipped = [name for name in wanted if MUTANTS[name].is_native and not can_plant_native()]
    tried = [name for name in wanted if name not in skipped]
    if not as_json:
        show({}, LINE.format("mutant", "replaced", "found as", "hunt", "seeds", "seconds"), as_json=False)
    rows: list[dict[str, Any]] = []
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for found in pool.map(_search, tried, [seeds] * len(tried)):
            rows.append(_row(found))
            if not as_json:
                show({}, _line(found), as_json=False)
    survivors = [row["mutant"] for row in rows if row["kind"] is None]
    summary = choose(
        f"{len(rows)} 个植入的缺陷，{len(rows) - len(survivors)} 个被发现",
        f"{len(rows)} bugs planted, {len(rows) - len(survivors)} found",
    )
    value = {"mutants": rows, "survivors": survivors, "not_tried": skipped}
    show(value, summary, as_json=as_json)
    for name in survivors:
        say(choose(f"未被发现：{name}", f"survived: {name}. The checks do not bite there: mend them"))
    if skipped:
        why = f"not tried, since this extension has no bugs to plant: {', '.join(skipped)}. Next: make sim-mutants"
        say(choose(f"未尝试（此扩展不能植入缺陷）：{'、'.join(skipped)}。请运行 make sim-mutants", why))
    if survivors or skipped:
        raise typer.Exit(1 if survivors else 3)


def _search(name: str, seeds: int | None) -> "Found":
    from cityid.testing.mutants import MUTANTS
    from cityid.testing.planting import search

    return search(MUTANTS[name], seeds=seeds)


def _row(found: "Found") -> dict[str, Any]:
    return {
        "mutant": found.name, "replaced": found.target, "kind": found.kind, "hunt": found.hunt, "seed": found.seed,
        "seeds": found.tried, "seconds": round(found.seconds, 2), "violation": found.violation,
    }  # fmt: skip


def _line(found: "Found") -> str:
    kind = found.kind or choose("未发现", "NOT FOUND")
    return LINE.format(found.name, found.target, kind, found.hunt, found.tried, f"{found.seconds:.2f}")
