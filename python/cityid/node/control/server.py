"""Running the ASGI application on Hypercorn's Trio worker.

Hypercorn sends inside a shielded scope, so a client that stops reading could hold a connection, and a stop, for ever.
The listening sockets therefore carry TCP_USER_TIMEOUT (RFC 5482), which accepted ones inherit: the kernel ends a
connection whose other side takes nothing for `http_send_ms`.
"""

import logging
import socket
from typing import Any, Final

import hypercorn.trio
import trio
from hypercorn.config import Config as HypercornConfig
from hypercorn.logging import Logger as HypercornLogger

from cityid.errors import InputError
from cityid.node.config import Config
from cityid.node.control.app import create_app
from cityid.node.control.events import Streams
from cityid.node.control.face import NodeFace
from cityid.node.telemetry import Level, Log, Metrics

__all__ = ["serve"]

BACKLOG: Final = 256


async def serve(
    face: NodeFace,
    config: Config,
    *,
    metrics: Metrics,
    log: Log,
    stop: trio.Event | None = None,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves until `stop` is set, then finishes requests in progress within `stop_ms`; starts with its URLs.

    Cancelling it ends connections at once. Raises `InputError` when it cannot listen.
    """
    address = config.listen_http
    try:
        listeners = await trio.open_tcp_listeners(address.port, host=address.host, backlog=BACKLOG)
    except OSError as error:
        raise InputError(
            f"cannot listen for HTTP on {address}: {error.strerror or error}; "
            f"is another node running, or listen.http not an address of this machine?"
        ) from error
    streams = Streams() if stop is None else Streams(stop)
    server = HypercornConfig()
    server.bind = [f"fd://{_inheritable_socket(listener, config.timeouts.http_send_ms)}" for listener in listeners]
    server.backlog = BACKLOG
    server.graceful_timeout = config.timeouts.stop_ms / 1000
    server.keep_alive_timeout = config.timeouts.http_keep_alive_ms / 1000
    server.keep_alive_max_requests = 1_000_000  # the default of 1,000 would end busy connections for no reason
    server.include_server_header = False
    server.accesslog = None
    server.logger_class = _logger_class(log)
    app = create_app(face, limits=config.limits, timeouts=config.timeouts, metrics=metrics, log=log, streams=streams)
    await hypercorn.trio.serve(
        app,  # type: ignore[arg-type]  # two spellings of the same ASGI types
        server,
        shutdown_trigger=streams.stop.wait,
        task_status=task_status,
        mode="asgi",
    )


def _inheritable_socket(listener: trio.SocketListener, send_ms: int) -> int:
    """The descriptor of a listening socket, now Hypercorn's."""
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        listener.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, send_ms)
    return listener.socket.detach()


def _logger_class(log: Log) -> type[HypercornLogger]:
    """Hypercorn's own messages as events."""

    class Logger(HypercornLogger):
        def __init__(self, config: HypercornConfig) -> None:
            self.access_logger = None
            self.error_logger = None

        async def access(self, *arguments: Any, **keywords: Any) -> None:
            pass

        async def critical(self, message: str, *arguments: Any, **keywords: Any) -> None:
            _write("error", message, arguments)

        async def error(self, message: str, *arguments: Any, **keywords: Any) -> None:
            _write("error", message, arguments)

        async def warning(self, message: str, *arguments: Any, **keywords: Any) -> None:
            _write("warning", message, arguments)

        async def info(self, message: str, *arguments: Any, **keywords: Any) -> None:
            _write("info", message, arguments)

        async def debug(self, message: str, *arguments: Any, **keywords: Any) -> None:
            _write("debug", message, arguments)

        async def exception(self, message: str, *arguments: Any, **keywords: Any) -> None:
            _write("error", message, arguments)

        async def log(self, level: int, message: str, *arguments: Any, **keywords: Any) -> None:
            _write("error" if level >= logging.ERROR else "info", message, arguments)

    def _write(level: Level, message: str, arguments: tuple[Any, ...]) -> None:
        log.limited(level, "http_server", detail=message % arguments if arguments else message)

    return Logger
