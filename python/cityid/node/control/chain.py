"""Blocks, status, checkpoints, the way from an old trust to a new one, and the stream of new heights."""

from typing import Annotated, Final

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import JSONResponse

from cityid.node.config import Limits, Timeouts
from cityid.node.control.events import EventStream, Streams
from cityid.node.control.face import NodeFace
from cityid.node.control.problems import Problem, over_limit

__all__ = ["routes"]

MAX_HEIGHT: Final = 2**63 - 1  # P3
Height = Annotated[int, Path(ge=0, le=MAX_HEIGHT)]
FromHeight = Annotated[int, Query(alias="from", ge=0, le=MAX_HEIGHT)]


def routes(face: NodeFace, streams: Streams, limits: Limits, timeouts: Timeouts) -> APIRouter:
    """`/v1/blocks`, `/v1/status`, `/v1/cities`, `/v1/trust`, `/v1/events` and `/checkpoint`."""
    router = APIRouter(tags=["chain"])

    @router.get("/v1/blocks/{height}", summary="A decided block")
    async def block(height: Height) -> Response:
        found = face.block(height)
        if found is None:
            raise Problem("unknown-block", f"height {height} is not decided here; /v1/status tells the height")
        return JSONResponse(found)

    @router.get("/v1/status", summary="What this node is and where it stands")
    async def status() -> Response:
        return JSONResponse(face.status(), headers={"Cache-Control": "no-store"})

    @router.get(
        "/v1/cities", summary="The member cities: keys, TLS certificates, addresses; what a new city starts from"
    )
    async def cities() -> Response:
        return JSONResponse(face.cities(), headers={"Cache-Control": "no-cache"})

    @router.get("/v1/trust", summary="What advances a trust file from a height")
    async def trust(from_height: FromHeight = 0) -> Response:
        return JSONResponse(face.trust_path(from_height), headers={"Cache-Control": "no-cache"})

    @router.get("/checkpoint", summary="The newest cosigned checkpoint, a C2SP note")
    async def checkpoint() -> Response:
        note = face.checkpoint()
        if note is None:
            raise Problem("no-checkpoint", "too few cities have cosigned a checkpoint since the start; ask again")
        return Response(note, media_type="text/plain; charset=utf-8", headers={"Cache-Control": "no-cache"})

    @router.get(
        "/v1/events",
        summary="Blocks as they are committed, as server-sent events",
        description="Event `block`, its id the height. A slow reader misses heights: the ids tell which.",
    )
    async def events() -> Response:
        if streams.open >= limits.http_events:
            raise over_limit(
                "overloaded", "as many readers of events as the node takes", "http_events", limits.http_events
            )
        return EventStream(face, streams, idle_s=timeouts.http_event_ms / 1000)

    return router
