"""Reading requests within bounds: bodies, media types, and which representation the client wants."""

import contextlib
from collections.abc import Sequence
from contextlib import aclosing
from typing import Final

import trio
from fastapi import Request
from starlette.requests import ClientDisconnect

from cityid.node.config import Limits, Timeouts
from cityid.node.control.problems import Problem, over_limit

__all__ = ["choose", "discard", "media_type", "read_body", "refuse_announced"]

DISCARDED_LIMITS: Final = 4
"""A body of up to so many times the limit is read to its end, so that its sender hears why it is refused."""


async def read_body(request: Request, limits: Limits, timeouts: Timeouts) -> bytes:
    """The whole body, refused as soon as it is over `http_body_bytes` or slower than `http_body_ms`."""
    limit = limits.http_body_bytes
    too_large = over_limit("too-large", "the body is too large; send several requests", "http_body_bytes", limit)
    await refuse_announced(request, limit, timeouts, too_large)
    chunks: list[bytes] = []
    size = 0
    try:
        with trio.fail_after(timeouts.http_body_ms / 1000):
            async with aclosing(request.stream()) as stream:
                async for chunk in stream:
                    size += len(chunk)
                    if size > limit:
                        raise too_large
                    chunks.append(chunk)
    except trio.TooSlowError:
        milliseconds = timeouts.http_body_ms
        raise over_limit("slow-request", "the body did not arrive in time", "http_body_ms", milliseconds) from None
    except ClientDisconnect:
        raise Problem("malformed", "the connection ended within the body") from None
    return b"".join(chunks)


async def refuse_announced(request: Request, limit: int, timeouts: Timeouts, refusal: Problem) -> None:
    """Refuses a body whose Content-Length is over the limit before anything of it is kept.

    The count while reading holds when the header is missing or lies.
    """
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and (len(announced) > 18 or int(announced) > limit):
        if len(announced) <= 18 and int(announced) <= DISCARDED_LIMITS * limit:
            await discard(request, timeouts)
        raise refusal


async def discard(request: Request, timeouts: Timeouts) -> None:
    """Reads a body and keeps nothing of it: closing on unread bytes resets the connection, and the refusal is lost."""
    with trio.move_on_after(timeouts.http_body_ms / 1000), contextlib.suppress(ClientDisconnect):
        async with aclosing(request.stream()) as stream:
            async for _ in stream:
                pass


def media_type(request: Request) -> str:
    """The body's media type without parameters, in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def choose(accept: str, offered: Sequence[str]) -> str | None:
    """The offered media type that an Accept header prefers (RFC 9110 section 12.5.1); the first one when equal."""
    if not accept.strip():
        return offered[0]
    ranges: dict[str, float] = {}
    for part in accept.split(",")[:64]:
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                try:
                    weight = float(value)
                except ValueError:
                    weight = 0.0
        ranges[name] = weight if 0 <= weight <= 1 else 0.0
    best, best_weight = None, 0.0
    for candidate in offered:
        # The most specific range that matches decides.
        for name in (candidate, candidate.partition("/")[0] + "/*", "*/*"):
            if name in ranges:
                if ranges[name] > best_weight:
                    best, best_weight = candidate, ranges[name]
                break
    return best
