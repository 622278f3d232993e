"""A cable between two nodes that the demo can cut and join, and whose bytes it can count.

A relay listens on a port of its own and carries every connection on to one node, both ways, unread. `cut` closes all
connections and refuses new ones until `join`. TLS between the cities runs through it from end to end, so a relay can
withhold, and nothing else.
"""

from typing import Final

import trio

__all__ = ["Relay"]

CHUNK: Final = 64 * 1024


class Relay:
    """One cable towards 127.0.0.1:`target`; `port` is where it begins."""

    def __init__(self, target: int, port: int) -> None:
        self.port = port
        self.carried_bytes = 0
        self._target = target
        self._whole = True
        self._scopes: set[trio.CancelScope] = set()

    def cut(self) -> None:
        """No byte passes from now on."""
        self._whole = False
        for scope in self._scopes:
            scope.cancel()

    def join(self) -> None:
        """The cable is whole again; the nodes connect again by themselves."""
        self._whole = True

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Carries until cancelled."""
        listeners = await trio.open_tcp_listeners(self.port, host="127.0.0.1")
        task_status.started()
        await trio.serve_listeners(self._carry, listeners)

    async def _carry(self, near: trio.SocketStream) -> None:
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                async with near:
                    if not self._whole:
                        return
                    far = await trio.open_tcp_stream("127.0.0.1", self._target)
                    async with far, trio.open_nursery() as nursery:
                        nursery.start_soon(self._pump, near, far, scope)
                        nursery.start_soon(self._pump, far, near, scope)
            except OSError:
                pass  # the node behind is not there; the one in front tries again
            finally:
                self._scopes.discard(scope)

    async def _pump(self, source: trio.SocketStream, sink: trio.SocketStream, scope: trio.CancelScope) -> None:
        try:
            async for data in source:
                self.carried_bytes += len(data)
                await sink.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        scope.cancel()  # one side has closed: so does the cable
