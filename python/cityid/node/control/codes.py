"""Looking codes up, and aliases that stand for them: one with or without proof, under its own path, or many at once.

A verdict is an answer, not an error: REGISTERED has status 200 whatever the record's status, the three denials 404
with the verdict, UNKNOWN and UNAVAILABLE 503 with the verdict and Retry-After. A node that is not ready does not know
what the network has decided since, so whatever it holds it says as UNKNOWN, with `was`; the proof, whose header tells
its age to every verifier, stays as it is.
"""

import json
from collections.abc import Sequence
from typing import Any, Final

import trio
from fastapi import APIRouter, Request, Response

from cityid.errors import CodeError
from cityid.node.config import Limits, Timeouts
from cityid.node.control.face import NodeFace, SnapshotFace
from cityid.node.control.histories import tell_past
from cityid.node.control.problems import Problem, over_limit
from cityid.node.control.requests import choose, media_type, read_body

__all__ = ["routes"]

JSON: Final = "application/json"
CBOR: Final = "application/cbor"
STATUS: Final = {"REGISTERED": 200, "NOT_REGISTERED": 404, "MISMATCH": 404, "NOT_OURS": 404}
VERDICTS: Final = frozenset({*STATUS, "UNAVAILABLE"})
RETRY_AFTER_S: Final = 5
INLINE_ROWS: Final = 50
"""Up to so many rows without proof are looked up at once; more go to a thread."""

_DESCRIPTION: Final = (
    "`application/json`: the verdict and the record; with `proof=1` the whole answer instead. "
    "`application/cbor`: the answer. 404 and 503 carry the verdict, and the answer, too. `at`, a height or an ISO 8601 "
    "date: what held then, and for a proof the history (P74)."
)
_RESOLVE_BODY: Final = {
    "type": "object",
    "required": ["codes"],
    "properties": {
        "codes": {"type": "array", "items": {"type": "string"}, "maxItems": 1_000},
        "proof": {"type": "boolean", "default": False},
    },
    "additionalProperties": False,
}


def routes(face: NodeFace, limits: Limits, timeouts: Timeouts) -> APIRouter:
    """`/MA.…`, `/alias:…`, `/v1/codes/{code}` and `/v1/resolve`."""
    router = APIRouter(tags=["codes"])
    threads = trio.CapacityLimiter(2)

    @router.get("/v1/codes/{code:path}", summary="One code", description=_DESCRIPTION)
    async def one(request: Request, code: str, proof: bool = False, at: str | None = None) -> Response:
        if at is not None:
            return await tell_past(face, code, at, request.headers.get("accept", ""), proof=proof)
        return _one(face, code, request.headers.get("accept", ""), proof=proof)

    @router.get("/MA.{rest:path}", summary="The code itself as the path", description=_DESCRIPTION)
    @router.get("/ma.{rest:path}", include_in_schema=False)
    async def as_path(request: Request, rest: str, proof: bool = False, at: str | None = None) -> Response:
        if at is not None:
            return await tell_past(face, "MA." + rest, at, request.headers.get("accept", ""), proof=proof)
        return _one(face, "MA." + rest, request.headers.get("accept", ""), proof=proof)

    @router.get("/alias:{rest:path}", summary="A named alias as the path", description=_DESCRIPTION)
    async def as_alias(request: Request, rest: str, proof: bool = False) -> Response:
        return _one(face, "alias:" + rest, request.headers.get("accept", ""), proof=proof)

    @router.post(
        "/v1/resolve",
        summary="Many codes",
        description="A row for each code, in order, all from one height; with `proof` each row has its `answer`.",
        openapi_extra={"requestBody": {"required": True, "content": {JSON: {"schema": _RESOLVE_BODY}}}},
    )
    async def many(request: Request) -> Response:
        if media_type(request) != JSON:
            raise Problem("media-type", f"send {JSON}")
        codes, proof = _parse_many(await read_body(request, limits, timeouts), limits)
        snapshot = face.ledger.snapshot()
        known = face.ready()
        if proof or len(codes) > INLINE_ROWS:
            # Cancelled with the request: the thread finishes its rows and nobody waits for it.
            text = await trio.to_thread.run_sync(
                _rows, snapshot, codes, proof, known, abandon_on_cancel=True, limiter=threads
            )
        else:
            text = _rows(snapshot, codes, proof, known)
        return Response(text, media_type=JSON, headers={"Cache-Control": "no-cache"})

    return router


def _one(face: NodeFace, code: str, accept: str, *, proof: bool) -> Response:
    chosen = choose(accept, (JSON, CBOR))
    if chosen is None:
        raise Problem("not-acceptable", f"this path offers {JSON} and {CBOR}", offered=[JSON, CBOR])
    snapshot = face.ledger.snapshot()  # one height for verdict and proof
    text = snapshot.resolve(code)
    known = face.ready()
    status = STATUS.get(_verdict(text), 503) if known else 503
    headers = {"Cache-Control": "no-cache", "Vary": "Accept"}
    if status == 503:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    if chosen == CBOR:
        return Response(snapshot.answer(code).to_bytes(), status_code=status, media_type=CBOR, headers=headers)
    if proof:
        return Response(snapshot.answer(code).to_json(), status_code=status, media_type=JSON, headers=headers)
    return Response(text if known else _unknown(text), status_code=status, media_type=JSON, headers=headers)


def _rows(snapshot: SnapshotFace, codes: Sequence[str], proof: bool, known: bool) -> str:
    """The reply to many codes, put together from JSON texts that are not parsed again."""
    rows = snapshot.resolve_many(codes)
    if not known:
        rows = [_unknown(row) for row in rows]
    if proof:
        rows = [_with_answer(snapshot, code, row) for code, row in zip(codes, rows, strict=True)]
    return f'{{"results":[{",".join(rows)}]}}'


def _with_answer(snapshot: SnapshotFace, code: str, row: str) -> str:
    try:
        answer = snapshot.answer(code)
    except CodeError:
        return row  # the row says so
    return f'{row.rstrip()[:-1]},"answer":{answer.to_json()}}}'


def _verdict(text: str) -> str:
    return str(json.loads(text)["verdict"])


def _unknown(text: str) -> str:
    """The same row from a node that is behind; what is no code stays no code."""
    row: dict[str, Any] = json.loads(text)
    if row["verdict"] not in VERDICTS:
        return text
    return json.dumps(row | {"verdict": "UNKNOWN", "was": row["verdict"]}, ensure_ascii=False)


def _parse_many(body: bytes, limits: Limits) -> tuple[list[str], bool]:
    form = 'send {"codes": ["MA.156.…", …], "proof": false}'
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise Problem("malformed", f"the body is not JSON; {form}") from None
    if not isinstance(document, dict) or not document.keys() <= {"codes", "proof"}:
        raise Problem("malformed", f"the body has other fields than expected; {form}")
    codes, proof = document.get("codes"), document.get("proof", False)
    if not isinstance(codes, list) or not all(isinstance(code, str) for code in codes) or not isinstance(proof, bool):
        raise Problem("malformed", f"codes is a list of texts, proof true or false; {form}")
    if len(codes) > limits.http_resolve_codes:
        raise over_limit("too-large", f"{len(codes)} codes", "http_resolve_codes", limits.http_resolve_codes)
    if any(not _is_text(code) for code in codes):
        raise Problem("malformed", "a code holds half of a surrogate pair, which is no text")
    return codes, proof


def _is_text(code: str) -> bool:
    # JSON can spell lone surrogates (RFC 8259 section 8.2); UTF-8, and so the core, cannot.
    try:
        code.encode()
    except UnicodeEncodeError:
        return False
    return True
