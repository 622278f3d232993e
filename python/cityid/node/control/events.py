"""Server-sent events (WHATWG HTML section 9.2): a block a message, a comment when idle.

A reader that takes nothing holds one connection and one bounded channel, no more: heights are skipped for it. A stream
ends when the reader leaves, when the node stops, and when the node closes the channel.
"""

import json
from dataclasses import dataclass, field
from typing import Any, Final

import trio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cityid.node.control.face import NodeFace

__all__ = ["EventStream", "Streams"]

RECONNECT_MS: Final = 2_000


@dataclass(slots=True)
class Streams:
    """How many streams are open, and the event that ends them all."""

    stop: trio.Event = field(default_factory=trio.Event)
    open: int = 0


class EventStream(Response):
    """The body of `/v1/events`: committed heights until somebody leaves."""

    media_type = "text/event-stream"

    def __init__(self, face: NodeFace, streams: Streams, *, idle_s: float) -> None:
        self.status_code = 200
        self.background = None
        self.body = b""
        self.init_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._face = face
        self._streams = streams
        self._idle_s = idle_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the stream; an ASGI application."""
        self._streams.open += 1
        try:
            with self._face.subscribe() as heights:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_until_disconnected, receive, nursery.cancel_scope)
                    nursery.start_soon(_until_stopped, self._streams.stop, nursery.cancel_scope)
                    await self._send_heights(heights, send)
                    nursery.cancel_scope.cancel()
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._streams.open -= 1

    async def _send_heights(self, heights: trio.MemoryReceiveChannel[int], send: Send) -> None:
        message = f"retry: {RECONNECT_MS}\n\n"
        while True:
            await send({"type": "http.response.body", "body": message.encode(), "more_body": True})
            message = ": idle\n\n"  # keeps proxies from closing, and finds readers that are gone
            with trio.move_on_after(self._idle_s):
                try:
                    height = await heights.receive()
                except trio.EndOfChannel:
                    return
                block: Any = self._face.block(height) or {"height": str(height)}
                data = json.dumps(block, ensure_ascii=False, separators=(",", ":"))
                message = f"event: block\nid: {height}\ndata: {data}\n\n"


async def _until_disconnected(receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def _until_stopped(stop: trio.Event, scope: trio.CancelScope) -> None:
    await stop.wait()
    scope.cancel()
