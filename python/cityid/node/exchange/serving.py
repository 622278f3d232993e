"""Sending parts of files to other cities.

Requests wait in a queue for each city, and the cities are served in turn, one part at a time: a city that asks without
end waits behind itself. Beyond `MAX_WAITING` requests it hears that this node is busy. Parts are bulk: the outgoing
queue of a peer (node/frames.py) sends votes before them, and drops them when the peer does not take what it asked for.
"""

import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

import trio

from cityid.node.exchange.payloads import (
    BUSY,
    ENDS_BEFORE,
    NOT_HERE,
    NoPart,
    Part,
    WantPart,
    encode_no_part,
    encode_part,
)
from cityid.node.exchange.ports import Link
from cityid.node.messages import NO_PART, PART
from cityid.node.telemetry import Log

__all__ = ["MAX_WAITING", "Server"]

MAX_WAITING: Final = 16
"""Requests of one city: two transfers' windows, and as many again."""


class Server:
    """Serves parts of the files that `find` knows."""

    def __init__(self, find: Callable[[bytes], Path | None], link: Link, log: Log) -> None:
        self._find = find
        self._link = link
        self._log = log
        self._waiting: dict[str, deque[WantPart]] = {}  # the city that is served next stands first
        self._wake = trio.Event()
        self.bytes_out = 0
        self.refused = 0

    def on_want_part(self, peer: str, want: WantPart) -> None:
        """Queues a request, or says that this node is busy."""
        queue = self._waiting.setdefault(peer, deque())
        if len(queue) >= MAX_WAITING:
            self._refuse(peer, want, BUSY)
            return
        queue.append(want)
        self._wake.set()

    async def run(self) -> None:
        """Serves until cancelled."""
        while True:
            while not self._waiting:
                self._wake = trio.Event()
                await self._wake.wait()
            peer = next(iter(self._waiting))
            queue = self._waiting.pop(peer)
            want = queue.popleft()
            if queue:
                self._waiting[peer] = queue  # behind the others
            part = await trio.to_thread.run_sync(self._read, want)
            if isinstance(part, int):
                self._refuse(peer, want, part)
            elif self._link.send(peer, PART, encode_part(part), urgent=False):
                self.bytes_out += len(part.data)

    def _refuse(self, peer: str, want: WantPart, reason: int) -> None:
        self.refused += 1
        self._link.send(peer, NO_PART, encode_no_part(NoPart(want.digest, want.offset, reason)), urgent=False)

    def _read(self, want: WantPart) -> Part | int:
        """The part, or the reason why there is none."""
        for _ in range(2):  # between finding and opening it a blob may have become a table
            path = self._find(want.digest)
            if path is None:
                return NOT_HERE
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            except OSError as error:
                return self._unreadable(path, error)
            try:
                data = os.pread(descriptor, want.length, want.offset)
                size = os.fstat(descriptor).st_size
            except OSError as error:
                return self._unreadable(path, error)
            finally:
                os.close(descriptor)
            return Part(want.digest, want.offset, size, data) if data else ENDS_BEFORE
        return NOT_HERE

    def _unreadable(self, path: Path, error: OSError) -> int:
        self._log.limited("error", "file_unreadable", path=str(path), why=str(error))
        return NOT_HERE
