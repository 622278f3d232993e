"""`cityid verify` and `cityid resolve`: an answer, checked, in words.

`verify` is offline by construction: it imports no network stack, opens two files and reads the clock.
"""

import json
import math
import time
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn
from urllib.parse import unquote

import typer

from cityid._native import Answer, Trust, Verdict
from cityid._native import verify as verify_answer
from cityid.cli.common import At, Json, TrustFile, client, load_trust, read_bounded
from cityid.cli.messages import STATUS, VERDICT, choose
from cityid.cli.messages import local_time as local
from cityid.cli.output import VERDICT_EXIT, show
from cityid.errors import InputError, MalformedInput

__all__ = ["add_commands", "bare_code", "describe", "seconds_or_any", "verdict_json"]

HISTORY_BYTES: Final = 24 * 1024 * 1024
DEFAULT_MAX_AGE_S: Final = 80.0

MaxAge = Annotated[
    str | None,
    typer.Option("--max-age", metavar="SECONDS|any", help="How old an answer may be; 80 seconds by default."),
]
MinHeight = Annotated[
    int | None,
    typer.Option("--min-height", min=0, metavar="H", help="An answer from below this height proves nothing new."),
]


def add_commands(app: typer.Typer) -> None:
    """Adds `verify` and `resolve`."""
    app.command()(verify)
    app.command()(resolve)


def verify(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="An answer or a history, CBOR or JSON; or the folder of an audit.")
    ],
    trust: TrustFile = None,
    code: Annotated[
        str | None, typer.Option(help="The code that was asked for; an answer about another one is INVALID.")
    ] = None,
    max_age: MaxAge = None,
    min_height: MinHeight = None,
    since: Annotated[
        Path | None, typer.Option("--since", metavar="FOLDER", help="Of an audit: the folder of the visit before.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a saved answer, history or audit without any network: FILE against what a trust file believes."""
    believed = load_trust(trust)
    age = seconds_or_any(max_age)
    if file.is_dir():
        from cityid.cli.auditing import verify_folder

        if code is not None or max_age is not None or min_height is not None:
            raise InputError("--code, --max-age and --min-height are for answers and histories, not for an audit.")
        verify_folder(file, believed, since, as_json=as_json)
        return
    if since is not None:
        raise InputError(f"--since is for the folder of an audit, and {file} is a file.")
    data = read_bounded(file, HISTORY_BYTES)
    # An answer is an array of nine in CBOR, a history one of four; in JSON both say what they are.
    if data[:1] == b"\x84" or (data.lstrip()[:1] == b"{" and b'"history"' in data[:200]):
        _verify_history(data, believed, code, age, min_height, as_json=as_json)
    try:
        answer: Answer | bytes = Answer.from_json(data.decode()) if data.lstrip()[:1] == b"{" else data
        verdict = verify_answer(
            answer,
            believed,
            code=code,
            # Without an age limit the clock is not asked, and nothing is claimed to be current.
            now=None if age == math.inf else time.time(),
            max_age=None if age == math.inf else age,
            min_height=min_height,
        )
    except (MalformedInput, UnicodeDecodeError) as error:
        _undecodable(str(error), as_json=as_json)
        raise typer.Exit(VERDICT_EXIT["INVALID"]) from None
    show(verdict_json(verdict), describe(verdict, believed), as_json=as_json)
    raise typer.Exit(VERDICT_EXIT[verdict.verdict])


def _verify_history(
    data: bytes, believed: Trust, code: str | None, age: float, min_height: int | None, *, as_json: bool
) -> NoReturn:
    from cityid._native import History
    from cityid.cli.tracing import lines

    try:
        found = History.from_json(data.decode()) if data.lstrip()[:1] == b"{" else History.from_bytes(data)
    except (MalformedInput, UnicodeDecodeError) as error:
        _undecodable(str(error), as_json=as_json)
        raise typer.Exit(VERDICT_EXIT["INVALID"]) from None
    told = found.verify(
        believed,
        code=code,
        now=None if age == math.inf else time.time(),
        max_age=None if age == math.inf else age,
        min_height=min_height,
    )
    text = "\n".join([describe(told.verdict, believed), *lines(told)])
    show(json.loads(told.to_json()), text, as_json=as_json)
    raise typer.Exit(VERDICT_EXIT[told.verdict.verdict])


def resolve(
    code: Annotated[
        str,
        typer.Argument(metavar="CODE", help="A code, a 21-digit alias, alias:NAMESPACE:ALIAS, or the URL of a label."),
    ],
    at: At = None,
    trust: TrustFile = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Keep the verified answer, in CBOR.")
    ] = None,
    when: Annotated[
        str | None,
        typer.Option("--when", metavar="HEIGHT|DATE", help="What held then: a height, or a date or time (ISO 8601)."),
    ] = None,
    max_age: MaxAge = None,
    min_height: MinHeight = None,
    as_json: Json = False,
) -> None:
    """Ask a gateway about CODE and verify what it says before believing it."""
    if when is not None:
        from cityid.cli.tracing import resolve_then

        if max_age is not None or min_height is not None:
            raise InputError("--when asks for the past, which does not age: leave --max-age and --min-height out.")
        resolve_then(code, when, at, trust, out, as_json=as_json)
    believed = load_trust(trust)
    age = seconds_or_any(max_age)
    with client(at, believed) as asking:
        found = asking.resolve(bare_code(code), max_age=age, min_height=min_height)
    if out is not None:
        out.write_bytes(found.answer.to_bytes())
    value = verdict_json(found.verdict) | {"code": found.code, "gateway": found.gateway}
    show(value, f"{found.code}\n{describe(found.verdict, believed)}", as_json=as_json)
    raise typer.Exit(VERDICT_EXIT[found.verdict.verdict])


def seconds_or_any(text: str | None) -> float:
    """`--max-age`: seconds, or infinity for `any`."""
    if text is None:
        return DEFAULT_MAX_AGE_S
    if text == "any":
        return math.inf
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < math.inf:
        raise InputError(f"--max-age takes seconds or the word any, not {text!r}.")
    return seconds


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """The stable shape of `--json`."""
    found: dict[str, Any] = json.loads(verdict.to_json())
    return found


def describe(verdict: Verdict, trust: Trust) -> str:
    """The verdict in a few lines: what, as of when, by how many cities, and what else must be known."""
    lines = [_headline(verdict)]
    if verdict.verdict == "INVALID":
        step, _, detail = verdict.steps[-1] if verdict.steps else ("answer", False, "")
        lines.append(choose(f"失败步骤：{step}：{detail}", f"failed step: {step}: {detail}"))
    elif verdict.as_of is not None:
        count, of = verdict.signatures
        when = local(verdict.as_of)
        lines.append(
            choose(
                f"截至 {when}（高度 {verdict.height}），{of} 城中 {count} 城签名",
                f"as of {when} (height {verdict.height}), {count} of {of} cities",
            )
        )
    if trust.test:
        lines.append(
            choose(
                "测试网络（TEST）：编码未向发码机构登记", "TEST network: its codes are not registered with the agency"
            )
        )
    # The core says it in English only, and a person at a terminal reads it once.
    lines.extend(note for note in verdict.notes if not (trust.test and note.startswith("TEST network")))
    return "\n".join(lines)


def _headline(verdict: Verdict) -> str:
    text = choose(*VERDICT[verdict.verdict])
    if verdict.verdict == "REGISTERED" and verdict.status is not None:
        return f"{text} ({choose(*STATUS.get(verdict.status, (verdict.status, verdict.status)))})"
    if verdict.was is not None:
        was = choose(*VERDICT[verdict.was]).partition("：")[0].partition(":")[0]
        return choose(
            f"{text}；高度 {verdict.height} 时曾为：{was}", f"{text}; at height {verdict.height} it was {was}"
        )
    return text


def _undecodable(why: str, *, as_json: bool) -> None:
    """A file that looks like JSON and is no answer: INVALID, in the shape of every other verdict."""
    value: dict[str, Any] = {"cityid": "verdict", "verdict": "INVALID"}
    value |= dict.fromkeys(("was", "status", "subject", "code", "as_of_ms", "height", "record"))
    value |= {"current": False, "signatures": {"count": 0, "of": 0}, "notes": []}
    value["steps"] = [{"name": "format", "passed": False, "detail": why}]
    show(value, f"{choose(*VERDICT['INVALID'])}\n{choose('失败步骤', 'failed step')}: format: {why}", as_json=as_json)


def bare_code(code: str) -> str:
    """The code in a label's URL; anything else as it is (the parser judges it)."""
    for scheme in ("https://", "http://"):
        if code.lower().startswith(scheme):
            rest = code[len(scheme) :]
            _, mark, query = rest.partition("?code=")
            return unquote(query.partition("&")[0] if mark else rest.partition("/")[2].partition("?")[0])
    return code
