"""The ASGI application: routes, refusals, and the bounds that hold for every request."""

from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import trio
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cityid.errors import CityIDError
from cityid.node.config import Limits, Timeouts
from cityid.node.control import chain, codes, files, governance, histories, operations, transactions
from cityid.node.control.events import Streams
from cityid.node.control.face import NodeFace
from cityid.node.control.problems import (
    MEDIA_TYPE,
    Problem,
    on_cityid_error,
    on_http_exception,
    on_invalid_request,
    on_problem,
    over_limit,
)
from cityid.node.telemetry import Log, Metrics

__all__ = ["create_app"]

_PROBLEM: Final[dict[int | str, dict[str, Any]]] = {
    "default": {"description": "A refusal (RFC 9457)", "content": {MEDIA_TYPE: {"schema": {"type": "object"}}}}
}


def create_app(
    face: NodeFace, *, limits: Limits, timeouts: Timeouts, metrics: Metrics, log: Log, streams: Streams | None = None
) -> ASGIApp:
    """The HTTP interface of a node as an ASGI application. `streams.stop` ends event streams."""
    app = FastAPI(
        title="cityid",
        version=_version(),
        summary="A node of the identification system that cities run together",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=_PROBLEM,
    )
    app.include_router(histories.routes(face))  # before codes: a code may be any path below /v1/codes
    app.include_router(codes.routes(face, limits, timeouts))
    app.include_router(transactions.routes(face, limits, timeouts))
    app.include_router(files.routes(face, limits, timeouts))
    app.include_router(chain.routes(face, streams or Streams(), limits, timeouts))
    app.include_router(governance.routes(face))
    app.include_router(operations.routes(face, metrics))

    async def on_bug(request: Request, error: Exception) -> Response:
        log.error("http_failed", path=request.url.path[:200], error=type(error).__name__, detail=str(error))
        return Problem("internal", "the node failed on this request; its log says how").response()

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(CityIDError, on_cityid_error)
    app.add_exception_handler(RequestValidationError, on_invalid_request)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_exception_handler(Exception, on_bug)
    return _Gate(app, metrics, limits.http_requests)


class _Gate:
    """Counts and times requests, and refuses those beyond `http_requests` in progress. Event streams do not count."""

    def __init__(self, app: ASGIApp, metrics: Metrics, most: int) -> None:
        self._app = app
        self._metrics = metrics
        self._most = most
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = trio.current_time()
        status = 0
        streaming = False

        async def counted(message: Message) -> None:
            nonlocal status, streaming
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = list(message.get("headers", ()))
                streaming = (b"content-type", b"text/event-stream; charset=utf-8") in headers
                if streaming:
                    self._running -= 1  # has a bound of its own
                message["headers"] = [*headers, (b"x-content-type-options", b"nosniff")]
                route = getattr(scope.get("route"), "path", "other")
                self._metrics.http_requests.labels(route, str(status)).inc()
                self._metrics.http_seconds.labels(route).observe(trio.current_time() - began)
            await send(message)

        if self._running >= self._most:
            refusal = over_limit("overloaded", "too many requests at once", "http_requests", self._most)
            await refusal.response()(scope, receive, counted)
            return
        self._running += 1
        try:
            await self._app(scope, receive, counted)
        finally:
            if not streaming:
                self._running -= 1


def _version() -> str:
    try:
        return version("cityid")
    except PackageNotFoundError:
        return "0"
