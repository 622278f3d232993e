"""Files by their digest, and storage receipts for the tables among them (P43 to P45).

A file is streamed to the disk as it arrives and never held in memory; it is taken only when its bytes hash to the
digest in the path. The limit is `max_table_bytes` of the network, for this route alone; every `CHUNK_BYTES` of it have
to arrive within `http_body_ms`. Uploads and requests for receipts are counted together.
"""

import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

import trio
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.requests import ClientDisconnect

from cityid.errors import Overloaded
from cityid.node.config import Limits, Timeouts
from cityid.node.control.face import IncomingFace, NodeFace
from cityid.node.control.problems import Problem, from_reason, over_limit
from cityid.node.control.requests import discard, media_type, read_body, refuse_announced
from cityid.node.exchange import Collected, FileNotHere

__all__ = ["routes"]

CHUNK_BYTES: Final = 1_048_576
DIGEST_DIGITS: Final = 64
MAX_VERSION: Final = 2**63 - 1  # P3
OCTETS: Final = "application/octet-stream"
# A city that says one of these might say something else in a moment; any other reason is the rule's (P44, P45).
PASSING: Final = frozenset(
    {"slow", "overloaded", "not_synced", "unreachable", "unavailable", "storage", "not_here", "bad_receipt"}
)

_BINARY: Final = {"schema": {"type": "string", "format": "binary"}}
_VERSION_BODY: Final = {
    "type": "object",
    "required": ["expected_version"],
    "properties": {"expected_version": {"type": "integer", "minimum": 1}},
    "additionalProperties": False,
}


class _Places:
    """How many uploads and collections run."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """A place, or a refusal."""
        if self._taken >= self._most:
            raise over_limit("overloaded", "as many uploads as the node takes", "blob_uploads", self._most)
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1


def routes(face: NodeFace, limits: Limits, timeouts: Timeouts) -> APIRouter:
    """`/v1/blobs/{digest}` and `/v1/tables/{digest}/receipts`."""
    router = APIRouter(tags=["files"])
    places = _Places(limits.blob_uploads)

    @router.put(
        "/v1/blobs/{digest}",
        summary="Send a file",
        description="201 when it is new here, 200 when it was here. The path names the SHA-256 of the body.",
        status_code=201,
        openapi_extra={"requestBody": {"required": True, "content": {OCTETS: _BINARY}}},
    )
    async def put(request: Request, digest: str) -> Response:
        name = _parse_digest(digest)
        files = face.files
        limit = files.limit_bytes
        too_large = over_limit("too-large", "the file is too large", "max_table_bytes", limit)
        with places.one():
            await refuse_announced(request, limit, timeouts, too_large)
            with await trio.to_thread.run_sync(files.receive, name) as incoming:
                await _receive(request, incoming, timeouts, limit, too_large)
                is_new = await trio.to_thread.run_sync(incoming.finish)
        return JSONResponse({"digest": name.hex(), "size_bytes": incoming.size}, status_code=201 if is_new else 200)

    @router.get("/v1/blobs/{digest}", summary="A file", response_class=StreamingResponse)
    async def get(digest: str) -> Response:
        name = _parse_digest(digest)
        with face.files.using(name) as path:
            if path is None:
                raise _unknown(name)
            try:
                file, size = await trio.to_thread.run_sync(_open, path)
            except FileNotFoundError:
                raise _unknown(name) from None
        headers = {
            "Content-Length": str(size),
            "Cache-Control": "public, max-age=31536000, immutable",
            "ETag": f'"{name.hex()}"',
        }
        return StreamingResponse(_chunks(file), media_type=OCTETS, headers=headers)

    @router.post(
        "/v1/tables/{digest}/receipts",
        summary="Storage receipts for a table",
        description=(
            "From as many cities as the parameter `receipts` says, which have fetched the file, checked it against a "
            "state in which its range has `expected_version`, and keep it."
        ),
        openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": _VERSION_BODY}}}},
    )
    async def receipts(request: Request, digest: str) -> Response:
        name = _parse_digest(digest)
        if media_type(request) != "application/json":
            raise Problem("media-type", "send application/json")
        version = _parse_version(await read_body(request, limits, timeouts))
        with places.one():
            try:
                collected = await face.files.receipts(name, version)
            except FileNotHere as error:
                raise Problem("unknown-file", str(error)) from None
        if len(collected.receipts) < collected.needed:
            raise _too_few(collected)
        rows = [{"city": city, "signature": signature.hex()} for city, signature in collected.receipts]
        return JSONResponse({"receipts": rows}, headers={"Cache-Control": "no-store"})

    return router


async def _receive(
    request: Request, incoming: IncomingFace, timeouts: Timeouts, limit: int, too_large: Problem
) -> None:
    try:
        async with aclosing(request.stream()) as stream:
            ended = False
            while not ended:
                buffer = bytearray()
                with trio.fail_after(timeouts.http_body_ms / 1000):
                    while len(buffer) < CHUNK_BYTES:
                        chunk = await anext(stream, None)
                        if chunk is None:
                            ended = True
                            break
                        buffer += chunk
                if incoming.size + len(buffer) > limit:
                    raise too_large
                if buffer:
                    await trio.to_thread.run_sync(incoming.write, buffer)
    except trio.TooSlowError:
        raise over_limit(
            "slow-request", f"{CHUNK_BYTES} bytes did not arrive in time", "http_body_ms", timeouts.http_body_ms
        ) from None
    except ClientDisconnect:
        raise Problem("malformed", "the connection ended within the body") from None
    except (Problem, Overloaded):
        await discard(request, timeouts)  # so that its sender hears why
        raise


def _open(path: Path) -> tuple[BinaryIO, int]:
    file = path.open("rb", buffering=0)
    return file, os.fstat(file.fileno()).st_size


async def _chunks(file: BinaryIO) -> AsyncIterator[bytes]:
    # An open file is read to its end even when it gives way to newer ones meanwhile.
    with file:
        while chunk := await trio.to_thread.run_sync(file.read, CHUNK_BYTES):
            yield chunk


def _parse_digest(text: str) -> bytes:
    if len(text) != DIGEST_DIGITS or not all(digit in "0123456789abcdef" for digit in text):
        raise Problem("malformed", "the digest of a file is 64 hexadecimal digits in lower case, its SHA-256")
    return bytes.fromhex(text)


def _parse_version(body: bytes) -> int:
    form = 'send {"expected_version": 1}, the version of the range that the seal will expect'
    try:
        document: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise Problem("malformed", f"the body is not JSON; {form}") from None
    if not isinstance(document, dict) or document.keys() != {"expected_version"}:
        raise Problem("malformed", f"the body has other fields than expected; {form}")
    version = document["expected_version"]
    if isinstance(version, str) and version.isascii() and version.isdigit() and len(version) < 20:
        version = int(version)
    if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= MAX_VERSION:
        raise Problem("malformed", f"expected_version is a whole number from 1 on; {form}")
    return version


def _unknown(digest: bytes) -> Problem:
    return Problem("unknown-file", f"the file {digest.hex()} is not here; send it with PUT, or ask another city")


def _too_few(collected: Collected) -> Problem:
    cities = {city: {"reason": reason, "message": words} for city, (reason, words) in collected.refusals.items()}
    told = "; ".join(f"{city}: {reason} ({words})" for city, (reason, words) in collected.refusals.items())
    detail = f"{len(collected.receipts)} of {collected.needed} cities keep the table"
    lasting = {reason for reason, _ in collected.refusals.values()} - PASSING
    if len(lasting) == 1 and all(reason in lasting for reason, _ in collected.refusals.values()):
        problem = from_reason(lasting.pop(), f"{detail}; {told}")
        problem.members["cities"] = cities
        return problem
    return Problem("peers", f"{detail}; {told or 'no other city is a member'}", cities=cities)
