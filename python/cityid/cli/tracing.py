"""`cityid trace`: every version of a code, verified: when, what changed, why, and by which document.

Times come first, heights second. What changed is said field by field, as a record has them; what the fields mean stands
in docs/protocol.md, P11.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from cityid.cli.acting import example
from cityid.cli.common import At, Json, TrustFile, client, load_trust
from cityid.cli.messages import STATUS, choose
from cityid.cli.messages import local_time as local
from cityid.cli.output import VERDICT_EXIT, show
from cityid.cli.verdicts import bare_code, describe, verdict_json
from cityid.errors import InputError, Unavailable
from cityid.moments import parse_moment

if TYPE_CHECKING:
    from cityid._native import Told
    from cityid.client import Then

__all__ = ["add_commands", "changed", "show_then"]

CHAIN: Final = frozenset({"kind", "version", "height", "previous", "previous_height", "reason", "basis"})
"""Fields that every version has or that stand in a line of their own."""


def add_commands(app: typer.Typer) -> None:
    """Adds `trace`."""
    line = "cityid trace MA.156.130100.A7K2/60.010203.1/000012345B"
    app.command(epilog=example(line))(trace)


def trace(
    code: Annotated[str, typer.Argument(metavar="CODE", help="A code, a 21-digit alias, or the URL of a label.")],
    at: At = None,
    trust: TrustFile = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Keep the verified history, in CBOR.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show every version of CODE, newest first, with reasons and documents; verified before it is shown."""
    from cityid._native import History

    believed = load_trust(trust)
    with client(at, believed) as asking:
        traced = asking.history(bare_code(code))
    if out is not None:
        out.write_bytes(History.join(traced.parts).to_bytes())
    told = traced.told
    value = json.loads(told.to_json()) | {"code": traced.code, "gateway": traced.gateway}
    text = "\n".join([traced.code, describe(told.verdict, believed), "", *lines(told)])
    show(value, text, as_json=as_json)
    if told.verdict.verdict == "REGISTERED" and not told.complete:
        raise Unavailable(_gap(told))
    raise typer.Exit(VERDICT_EXIT[told.verdict.verdict])


def lines(told: "Told") -> Iterator[str]:
    """A history in words, newest first."""
    rows = [(version, height, time_ms, json.loads(record)) for version, height, time_ms, record in told.versions]
    for place, (version, height, time_ms, record) in enumerate(rows):
        before = rows[place + 1][3] if place + 1 < len(rows) else None
        when = choose("时间不明", "time not shown") if time_ms is None else local(time_ms)
        status = choose(*STATUS.get(record["status"], (record["status"], record["status"])))
        yield choose(
            f"{when}（高度 {height}）第 {version} 版：{status}", f"{when} (height {height}) version {version}: {status}"
        )
        if before is not None:
            for name, old, new in changed(before, record):
                yield f"    {name}: {old} → {new}"
        if "reason" in record:
            yield f"    {choose('原因代码', 'reason')} {record['reason']}"
        if "basis" in record:
            yield f"    {choose('依据文件', 'basis')} {record['basis']}"
    if not told.complete and rows:
        yield _gap(told)


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(field, before, after) of what differs between two versions of a record, in the order of their fields."""
    for name in [*before, *(name for name in after if name not in before)]:
        if name not in CHAIN and before.get(name) != after.get(name):
            yield name, _short(before.get(name)), _short(after.get(name))


def show_then(then: "Then", when: str, *, as_json: bool) -> None:
    """What held at a moment; ends the command with the status of its verdict."""
    row = {
        "version": then.version,
        "height": then.height,
        "time_ms": None if then.time_ms is None else str(then.time_ms),
    }
    value = {
        "code": then.code,
        "when": when,
        "verdict": then.verdict,
        "why": then.why,
        **row,
        "record": then.record,
        "gateway": then.traced.gateway,
        "proven_by": verdict_json(then.traced.told.verdict),
    }
    text = [then.code]
    if then.record is not None:
        since = choose("时间不明", "a time that is not shown") if then.time_ms is None else local(then.time_ms)
        status = choose(*STATUS.get(then.record["status"], (then.record["status"], then.record["status"])))
        text += [
            choose(
                f"{when} 时：{then.verdict}（{status}），第 {then.version} 版，自 {since}（高度 {then.height}）起",
                f"at {when}: {then.verdict} ({status}), version {then.version}, since {since} (height {then.height})",
            ),
            choose("状态为该记录自身的状态", "the status is the record's own, not the worst along its chain"),
            json.dumps(then.record, ensure_ascii=False, indent=1),
        ]
    else:
        text.append(
            choose(f"{when} 时：{then.verdict}", f"at {when}: {then.verdict}") + (f": {then.why}" if then.why else "")
        )
    show(value, "\n".join(text), as_json=as_json)
    raise typer.Exit(VERDICT_EXIT[then.verdict])


def resolve_then(
    code: str, when: str, at: list[str] | None, trust: Path | None, out: Path | None, *, as_json: bool
) -> None:
    """`cityid resolve CODE --when HEIGHT|DATE`."""
    from cityid._native import History

    moment = parse_moment(when, zone=None)
    with client(at, load_trust(trust)) as asking:
        then = asking.resolve(bare_code(code), at=moment)
    if out is not None:
        out.write_bytes(History.join(then.traced.parts).to_bytes())
    said = f"{choose('高度', 'height')} {moment}" if isinstance(moment, int) else local(int(moment.timestamp() * 1000))
    show_then(then, said, as_json=as_json)


def _gap(told: "Told") -> str:
    missing = told.missing
    if missing is None:
        raise InputError("No version is missing.")
    version, height, _ = missing
    return choose(
        f"第 {version} 版及更早版本（高度 {height} 及以下）各节点均未提供",
        f"version {version} and those before it (height {height} and below) are not at hand at any gateway that "
        "was asked",
    )


def _short(value: Any) -> str:
    if value is None:
        return "–"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else text[:200] + "…"
