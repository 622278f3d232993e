"""The past over HTTP: the history of a code, what held at a height or date, lists by prefix, and what audits read.

Reads go to the store, so they run in threads: two at a time, whoever comes later waits. A node that is behind says the
truth about the heights that it has, and refuses a height above its tip. A client that verifies believes nothing here.
"""

import json
import re
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Final, TypeVar

import trio
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from cityid._native import Snapshot, record_json
from cityid.moments import parse_moment, to_milliseconds
from cityid.node.control.face import NodeFace
from cityid.node.control.problems import Problem
from cityid.node.control.requests import choose
from cityid.node.histories import Continuation, Histories, Past

__all__ = ["routes", "tell_past"]

Result = TypeVar("Result")

JSON: Final = "application/json"
CBOR: Final = "application/cbor"
SEQUENCE: Final = "application/cbor-seq"
MAX_HEIGHT: Final = 2**63 - 1  # P3
NEXT: Final = "Cityid-Next"
"""Where the next page begins; absent on the last."""
CONTINUATION: Final = re.compile(r"([0-9]{1,18})-([0-9a-f]{64})-([0-9]{1,18})")
STATUS: Final = {"REGISTERED": 200, "UNAVAILABLE": 503}
MAX_KEYS: Final = 64
READERS: Final = trio.CapacityLimiter(2)

Limit = Annotated[int, Query(ge=1, le=4_096)]
Height = Annotated[int, Query(ge=0, le=MAX_HEIGHT)]
FromHeight = Annotated[int, Query(alias="from", ge=0, le=MAX_HEIGHT)]
_DESCRIPTION: Final = (
    "`application/cbor`: the history (P74), for a client that verifies. `application/json`: versions as records, "
    "newest "
    "first, unproven; with `proof=1` the history instead. `below`: only versions below this one (JSON). `from`: "
    "what an "
    "earlier part was short of, as HEIGHT-HASH-SIZE (CBOR, JSON with proof). `at`: what held at a height or date."
)


def routes(face: NodeFace) -> APIRouter:
    """`/v1/codes`, `/v1/codes/{code}/history` and `/v1/audit/…`."""
    router = APIRouter(tags=["history"])

    @router.get(
        "/v1/codes",
        summary="Codes by prefix",
        description="Ascending by kind and key. `next`, if not null, is the next page's `after`. Items that only a "
        "sealed table holds are not listed; `sealed_ranges` counts the ranges for which that is so on this page.",
    )
    async def listing(
        prefix: str, after: str | None = None, limit: Annotated[int, Query(ge=1, le=1_000)] = 100
    ) -> Response:
        return JSONResponse(await _in_thread(lambda: _listing(face, prefix, after, limit)), headers=_fresh())

    @router.get("/v1/codes/{code:path}/history", summary="Every version of a code", description=_DESCRIPTION)
    async def history(
        request: Request,
        code: str,
        at: str | None = None,
        limit: Limit = 256,
        below: Annotated[int | None, Query(ge=1, le=MAX_HEIGHT)] = None,
        start: Annotated[str | None, Query(alias="from", max_length=120)] = None,
        proof: bool = False,
    ) -> Response:
        if at is not None:
            return await tell_past(face, code, at, request.headers.get("accept", ""), proof=proof)
        chosen = _choose(request)
        if chosen == JSON and not proof:
            rows = await _in_thread(lambda: _versions(face.histories, face.histories.snapshot(), code, limit, below))
            return JSONResponse(rows, headers=_fresh())
        continuation = None if start is None else _continuation(start)

        def read() -> Response:
            histories, snapshot = face.histories, face.histories.snapshot()
            if continuation is None:
                part = histories.history(snapshot, code, limit=limit)
            else:
                part = histories.more(code, snapshot, continuation, limit=limit)
            data = part.to_bytes() if chosen == CBOR else part.to_json()
            return Response(data, media_type=chosen, headers=_fresh())

        return await _in_thread(read)

    @router.get(
        "/v1/audit/records",
        summary="Records for an audit",
        description="A page of proven records (P77): under a prefix, or of up to 64 keys in hexadecimal, each with its "
        f"versions down to the first that is not above the height `from`. The header `{NEXT}` is the next page's "
        "`after`.",
    )
    async def records(
        prefix: str | None = None,
        after: str | None = None,
        key: Annotated[list[str] | None, Query(max_length=MAX_KEYS)] = None,
        limit: Annotated[int, Query(ge=1, le=64)] = 64,
        down_to: FromHeight = 0,
    ) -> Response:
        if (prefix is None) == (key is None):
            raise Problem("malformed", "name a prefix, or keys, and not both")
        try:
            keys = [bytes.fromhex(one) for one in key or ()]
        except ValueError:
            raise Problem("malformed", "a key is hexadecimal, as a page of records has it") from None

        def read() -> Response:
            histories, snapshot = face.histories, face.histories.snapshot()
            following = None
            if prefix is None:
                page = histories.records(snapshot, keys, down_to=down_to)
            else:
                page, following = histories.page(snapshot, prefix, after=after, limit=limit, down_to=down_to)
            headers = _fresh() | ({} if following is None else {NEXT: following})
            return Response(page.to_bytes(), media_type=CBOR, headers=headers)

        return await _in_thread(read)

    @router.get(
        "/v1/audit/blocks",
        summary="Whole blocks for an audit",
        description="A CBOR sequence of blocks (P78) from one height on, as many as fit; the last may be below `to`.",
    )
    async def blocks(first: FromHeight, to: Height) -> Response:
        data = await _in_thread(lambda: face.histories.blocks(first, to))
        return Response(data, media_type=SEQUENCE, headers=_fresh())

    @router.get(
        "/v1/audit/log",
        summary="What ties blocks to the log",
        description="`peaks`: complete subtrees of the first `size1` headers; `consistency` with the first `size2`.",
    )
    async def log(size1: Height, size2: Height) -> Response:
        peaks, consistency = face.histories.log_proof(size1, size2)
        return JSONResponse({"peaks": peaks.hex(), "consistency": consistency.hex()}, headers=_fresh())

    @router.get("/v1/audit/trust", summary="Every set that decided, and what moves a trust file from one to the next")
    async def trust() -> Response:
        return JSONResponse(await _in_thread(face.histories.trust_path), headers=_fresh())

    @router.get("/v1/audit/height", summary="The last height that was decided at a height or date, or before")
    async def height(at: str) -> Response:
        return JSONResponse(await _in_thread(lambda: _place(face, at)), headers=_fresh())

    return router


async def tell_past(face: NodeFace, code: str, at: str, accept: str, *, proof: bool) -> Response:
    """What held of a code at a height or date: the record, or with proof the history that shows it."""
    chosen = choose(accept, (JSON, CBOR))
    if chosen is None:
        raise Problem("not-acceptable", f"this path offers {JSON} and {CBOR}", offered=[JSON, CBOR])

    def read() -> Response:
        snapshot = face.histories.snapshot()
        past = face.histories.at(snapshot, code, _height(face, at))
        status = STATUS.get(past.verdict, 404)
        headers = _fresh() | ({"Retry-After": "5"} if status == 503 else {})
        if chosen == CBOR:
            return Response(past.history.to_bytes(), status_code=status, media_type=CBOR, headers=headers)
        if proof:
            return Response(past.history.to_json(), status_code=status, media_type=JSON, headers=headers)
        return JSONResponse(
            _past(past, code, face.histories.time_of(snapshot.height), snapshot.height),
            status_code=status,
            headers=headers,
        )

    return await _in_thread(read)


async def _in_thread(job: Callable[[], Result]) -> Result:
    # Cancelled with the request: the thread finishes its page and nobody waits for it.
    return await trio.to_thread.run_sync(job, abandon_on_cancel=True, limiter=READERS)


def _fresh() -> dict[str, str]:
    return {"Cache-Control": "no-cache", "Vary": "Accept"}


def _choose(request: Request) -> str:
    chosen = choose(request.headers.get("accept", ""), (JSON, CBOR))
    if chosen is None:
        raise Problem("not-acceptable", f"this path offers {JSON} and {CBOR}", offered=[JSON, CBOR])
    return chosen


def _continuation(text: str) -> Continuation:
    if (found := CONTINUATION.fullmatch(text)) is None:
        raise Problem("malformed", "from is HEIGHT-HASH-SIZE of the version that an earlier part was short of")
    return Continuation(int(found[1]), bytes.fromhex(found[2]), int(found[3]))


def _height(face: NodeFace, at: str) -> int:
    match parse_moment(at):
        case int(height):
            if height > face.histories.height:
                raise Problem("unknown-block", f"height {height} is not decided here; /v1/status tells the height")
            return height
        case datetime() as moment:
            time_ms = to_milliseconds(moment)
            if time_ms > face.histories.time_ms:
                raise Problem("unknown-block", "that is after the newest block here; ask again later")
            return face.histories.height_at(time_ms)


def _place(face: NodeFace, at: str) -> dict[str, str]:
    height = _height(face, at)
    return {"height": str(height), "time_ms": str(face.histories.time_of(height))}


def _past(past: Past, code: str, time_ms: int, height: int) -> dict[str, Any]:
    record = None if past.record is None else json.loads(record_json(past.record))
    return {
        "subject": code,
        "verdict": past.verdict,
        "status": None if record is None else record["status"],
        "code": past.code,
        "record": record,
        "at": {"height": str(past.height), "time_ms": str(past.time_ms)},
        "height": str(height),
        "as_of": str(time_ms),
        "notes": ["status is the record's own at that height, not the worst along the chain"],
    }


def _versions(histories: Histories, snapshot: Snapshot, code: str, limit: int, below: int | None) -> dict[str, Any]:
    rows, complete = histories.versions(snapshot, code, limit=limit, below=below)
    return {
        "subject": code,
        "height": str(snapshot.height),
        "as_of": str(histories.time_of(snapshot.height)),
        "complete": complete,
        "versions": [{"time_ms": str(time_ms), "record": json.loads(record_json(record))} for record, time_ms in rows],
    }


def _listing(face: NodeFace, prefix: str, after: str | None, limit: int) -> dict[str, Any]:
    snapshot = face.histories.snapshot()
    rows, following, sealed = face.histories.listing(snapshot, prefix, after=after, limit=limit)
    codes = []
    for _, code, record in rows:
        found = json.loads(record_json(record))
        codes.append(
            {"code": code} | {name: found.get(name) for name in ("kind", "status", "version", "height", "holder")}
        )
    return {
        "prefix": prefix,
        "height": str(snapshot.height),
        "as_of": str(face.histories.time_of(snapshot.height)),
        "codes": codes,
        "next": following,
        "sealed_ranges": sealed,
    }
