"""`cityid audit export`, and the check of its folder that `cityid verify` does.

The check is offline by construction: it imports no network stack.
"""

from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cityid._native import Trust
from cityid.cli.acting import example
from cityid.cli.common import At, Json, TrustFile, client, gateways, load_trust
from cityid.cli.messages import choose
from cityid.cli.messages import local_time as local
from cityid.cli.output import progress, show
from cityid.moments import parse_moment

if TYPE_CHECKING:
    from cityid.audit import Audit

__all__ = ["add_commands", "verify_folder"]

group = typer.Typer(
    no_args_is_help=True, help="Show what happened to the codes under a prefix, with proofs, for an auditor."
)
Since = Annotated[
    Path | None,
    typer.Option(
        "--since", metavar="FOLDER", help="The folder of the visit before: show that nothing was removed since."
    ),
]


def add_commands(app: typer.Typer) -> None:
    """Adds the group `audit`."""
    app.add_typer(group, name="audit")


@group.command(
    "export",
    epilog=example("cityid audit export --prefix MA.156.130100.A7K2 --from 2026-01-01 --to 2026-03-31 --out visit-1"),
)
def export_folder(
    prefix: Annotated[
        str, typer.Option("--prefix", metavar="PREFIX", help="MA.156.130100, or any further parts of a code.")
    ],
    first: Annotated[str, typer.Option("--from", metavar="HEIGHT|DATE", help="The first height, or day, or time.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="A folder that does not exist yet.")],
    last: Annotated[
        str | None, typer.Option("--to", metavar="HEIGHT|DATE", help="The last one, included; now by default.")
    ] = None,
    since: Since = None,
    at: At = None,
    trust: TrustFile = None,
    as_json: Json = False,
) -> None:
    """Write one folder for an auditor: the codes under PREFIX, history, blocks, votes, receipts, proofs, a page."""
    from cityid.client.auditing import export

    believed = load_trust(trust)
    begin = parse_moment(first, zone=None)
    end = None if last is None else _end(last)
    if isinstance(begin, datetime):
        begin -= timedelta(milliseconds=1)  # the first height at that moment or after
    with client(at, believed) as asking, progress(choose("区块", "blocks")) as advance:
        audit = export(asking, prefix, begin, end, out, since=since, gateway=gateways(at)[0], advance=advance)
    _show(audit, out, as_json=as_json)


@group.command("verify", epilog=example("cityid audit verify visit-1 --trust genesis.json"))
def verify_command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER")],
    trust: TrustFile = None,
    since: Since = None,
    as_json: Json = False,
) -> None:
    """Check the folder of an audit without any network; the same as `cityid verify FOLDER`."""
    verify_folder(folder, load_trust(trust), since, as_json=as_json)


def verify_folder(folder: Path, trust: Trust, since: Path | None, *, as_json: bool) -> None:
    """Checks a folder and says what holds; raises what does not."""
    from cityid.audit import verify_audit

    _show(verify_audit(folder, trust, since=since), folder, as_json=as_json)


def _show(audit: "Audit", folder: Path, *, as_json: bool) -> None:
    manifest = audit.manifest
    value: dict[str, Any] = {
        "cityid": "audit",
        "folder": str(folder),
        "prefix": manifest.prefix,
        "from": {"height": str(manifest.first), "time_ms": str(audit.time_of(manifest.first))},
        "to": {"height": str(manifest.last), "time_ms": str(audit.time_of(manifest.last))},
        "head": {"height": str(audit.head_height), "time_ms": str(audit.head_time_ms)},
        "since": None
        if audit.since is None
        else {"sums": manifest.since, "size": str(audit.since.size), "records": len(audit.since.records)},
        "records": len(audit.subjects),
        "transactions": len(audit.transactions),
        "steps": [{"name": step.name, "passed": True, "detail": step.detail} for step in audit.steps],
    }
    first, last = local(audit.time_of(manifest.first) or 0), local(audit.time_of(manifest.last) or 0)
    lines = [
        choose(
            f"{manifest.prefix}：{first} 至 {last}（高度 {manifest.first}–{manifest.last}），全部验证通过",
            f"{manifest.prefix}: {first} to {last} (heights {manifest.first} to {manifest.last}), all of it verifies",
        ),
        *(f"  {step.name}: {step.detail}" for step in audit.steps),
        choose(f"供打印的页面：{folder / 'index.html'}", f"the page to print: {folder / 'index.html'}"),
    ]
    show(value, "\n".join(lines), as_json=as_json)


def _end(text: str) -> int | datetime:
    """The end of a span: a date without an hour is included to its last moment."""
    moment = parse_moment(text, zone=None)
    if isinstance(moment, datetime) and len(text.strip()) == len("2026-03-01"):
        return moment + timedelta(days=1) - timedelta(milliseconds=1)
    return moment
