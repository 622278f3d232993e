"""Submitting transactions and asking what became of them.

A row is `{"id", "status", …}`: a receipt of the ledger (`committed`, `rejected` or `duplicate`), `refused` with
`reason` and `message` when the node does not take it, or `pending` when it is durable with f + 1 validators but not
decided. Sending the same bytes again is always safe.

`application/cbor` holds one transaction: 202, or a problem when it is refused. `application/cbor-seq` (RFC 8742) holds
many: 202 with a row each, refused or not. With `wait=committed` the reply is 200 once all accepted ones are decided, or
202 after `http_wait_ms`.
"""

import json
from typing import Any, Final, Literal

import trio
from fastapi import APIRouter, Request, Response

from cityid.node.config import Limits, Timeouts
from cityid.node.control.face import NodeFace
from cityid.node.control.problems import Problem, from_reason
from cityid.node.control.requests import media_type, read_body

__all__ = ["routes"]

CBOR: Final = "application/cbor"
CBOR_SEQUENCE: Final = "application/cbor-seq"
ID_DIGITS: Final = 64

_BINARY: Final = {"schema": {"type": "string", "format": "binary"}}


def routes(face: NodeFace, limits: Limits, timeouts: Timeouts) -> APIRouter:
    """`/v1/transactions`."""
    router = APIRouter(tags=["transactions"])

    @router.post(
        "/v1/transactions",
        summary="Submit transactions",
        status_code=202,
        openapi_extra={"requestBody": {"required": True, "content": {CBOR: _BINARY, CBOR_SEQUENCE: _BINARY}}},
    )
    async def submit(request: Request, wait: Literal["committed"] | None = None) -> Response:
        kind = media_type(request)
        if kind not in (CBOR, CBOR_SEQUENCE):
            raise Problem("media-type", f"send {CBOR} for one transaction or {CBOR_SEQUENCE} for many")
        data = await read_body(request, limits, timeouts)
        if not data:
            raise Problem("malformed", "the body is empty; send a transaction")
        results = await face.submit(data)
        if kind == CBOR and len(results) == 1 and results[0][1] is not None:
            raise from_reason(results[0][1], results[0][2] or results[0][1])
        accepted = [id for id, reason, _ in results if reason is None]
        decided: dict[bytes, str] = {}
        if wait is not None:
            with trio.move_on_after(timeouts.http_wait_ms / 1000) as scope:
                decided = dict(zip(accepted, await face.wait_committed(accepted), strict=True))
            if scope.cancelled_caught:
                decided = {id: receipt for id in accepted if (receipt := face.receipt(id)) is not None}
        rows = [decided.get(id) or _row(id, reason, message) for id, reason, message in results]
        status = 200 if wait is not None and len(decided) == len(set(accepted)) else 202
        return _json(f'{{"transactions":[{",".join(rows)}]}}', status=status)

    @router.get("/v1/transactions/{id}", summary="The receipt of a transaction")
    async def receipt(id: str) -> Response:
        found = face.receipt(_parse_id(id))
        if found is None:
            raise Problem(
                "unknown-transaction",
                "it is not decided, or longer ago than the replay window; send the same bytes again if in doubt",
            )
        return _json(found)

    return router


def _row(id: bytes, reason: str | None, message: str | None) -> str:
    row: dict[str, Any] = {"id": id.hex(), "status": "pending"}
    if reason is not None:
        row |= {"status": "refused", "reason": reason, "message": message}
    return json.dumps(row, ensure_ascii=False)


def _parse_id(text: str) -> bytes:
    # bytes.fromhex would also take spaces.
    if len(text) != ID_DIGITS or not all(digit in "0123456789abcdefABCDEF" for digit in text):
        raise Problem("malformed", "a transaction id is 64 hexadecimal digits")
    return bytes.fromhex(text)


def _json(text: str, *, status: int = 200) -> Response:
    return Response(text, status_code=status, media_type="application/json", headers={"Cache-Control": "no-store"})
