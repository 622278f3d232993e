"""`cityid twins`: a validator that runs twice with one key, and schedules of who hears whom; nothing may fork.

Schedules have numbers, and the same number is the same schedule everywhere. With one pair of twins in four cities no
two values may be decided; with two pairs the network must fork, which is the control. A violation ends with status 1
and the command that plays that one schedule again.
"""

import os
import time
from collections import Counter
from typing import Annotated, Any, Final

import typer

from cityid.cli.acting import example
from cityid.cli.common import Json
from cityid.cli.messages import choose
from cityid.cli.output import progress, say, show

__all__ = ["add_commands"]

MAX_TOLD: Final = 10
"""Violations that are told one by one; more of them are counted."""


def add_commands(app: typer.Typer) -> None:
    """Adds `twins`."""
    app.command(epilog=example("cityid twins --scenarios 16000", "cityid twins --scenarios 100 --pairs 2"))(twins)


def twins(
    scenarios: Annotated[
        int, typer.Option("--scenarios", min=1, max=100_000_000, help="How many schedules, one network each.")
    ] = 1_000,
    first: Annotated[int, typer.Option("--first", min=0, help="The number of the first.")] = 0,
    pairs: Annotated[
        int, typer.Option("--pairs", min=1, max=2, help="How many of four cities run twice; with 2 it must fork.")
    ] = 1,
    processes: Annotated[int, typer.Option("--processes", min=1, max=256, help="How many play at once.")] = (
        os.cpu_count() or 1
    ),
    as_json: Json = False,
) -> None:
    """Play schedules in which a validator runs twice; status 1 when one ends in a fork, or never ends."""
    from cityid.testing.twins import CHUNK, play_many

    began = time.monotonic()
    rounds: Counter[int] = Counter()
    violations: list[dict[str, Any]] = []
    many = processes if scenarios > CHUNK else 1
    done = 0
    with progress(choose("场景", "schedules")) as advance:
        for outcomes in play_many(range(first, first + scenarios), pairs=pairs, processes=many):
            for outcome in outcomes:
                rounds[outcome.rounds] += 1
                if outcome.violation is None:
                    continue
                violations.append({"number": outcome.number, "kind": outcome.kind, "violation": outcome.violation})
                if len(violations) <= MAX_TOLD and not as_json:
                    show({}, f"{outcome.number}: {outcome.violation} ({outcome.scenario})", as_json=False)
                    replay = f"cityid twins --first {outcome.number} --scenarios 1 --pairs {pairs}"
                    say(choose(f"重放：{replay}", f"replay: {replay}"))
            done += len(outcomes)
            advance(done, scenarios)
    seconds = time.monotonic() - began
    found: dict[str, Any] = {"scenarios": scenarios, "first": first, "pairs": pairs, "violations": len(violations)}
    found |= {"rounds": {str(number): count for number, count in sorted(rounds.items())}, "seconds": round(seconds, 1)}
    found["found"] = violations[:MAX_TOLD]
    played = ", ".join(f"{number}: {count}" for number, count in sorted(rounds.items()))
    summary = choose(
        f"{scenarios} 个场景，{len(violations)} 次违例，用时 {seconds:.1f} 秒；各轮数的场景：{played}",
        f"{scenarios} schedules, {len(violations)} violations, {seconds:.1f} s; schedules by rounds begun: {played}",
    )
    show(found, summary, as_json=as_json)
    if violations:
        raise typer.Exit(1)
