"""Fetching a file from other cities, part by part.

Rules. Parts are asked for in order, a window of them ahead, and only what was asked for is taken: with the offset, the
length and the size of the file that were asked for or told before. So a peer can make this node hold a window of parts
for each transfer and no more. A city that does not have the file, leaves, or sends nothing for `part_s` is passed over,
and the next one goes on where it stopped. Whose bytes do not hash to the digest is known only when one city has sent
all of them: after a mismatch the file starts over from one city alone, and it is that city's mistake the second time.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import trio

from cityid.errors import PeerUnreachable, RuleViolation
from cityid.node.blobs import Blobs, Incoming
from cityid.node.exchange.payloads import BUSY, ENDS_BEFORE, NOT_HERE, NoPart, Part, WantPart, encode_want_part
from cityid.node.exchange.ports import Link
from cityid.node.messages import WANT_PART
from cityid.node.telemetry import Log

__all__ = ["PART_BYTES", "WINDOW", "Fetcher"]

PART_BYTES: Final = 524_288
"""Large enough that a part's way through threads and TLS costs little beside its bytes, small enough that a vote which
waits behind one does not wait long."""
WINDOW: Final = 4
SLOW_PARTS: Final = 8
"""A city that sends fewer parts in `part_s` on average makes room for another one; what it sent stands."""
LOOK_S: Final = 1.0
"""How often a transfer looks whether its city is still connected."""


_REFUSALS: Final = {
    NOT_HERE: "it does not have the file",
    BUSY: "it is too busy",
    ENDS_BEFORE: "its file is shorter",
}


class _Failed(Exception):
    """This city does not bring the file; what came so far stands."""


class _Mismatch(Exception):
    """What came is not a beginning of the file, or not the file."""


@dataclass(slots=True)
class _Transfer:
    """What was asked of one city and has not come: offset → length; and what came, at most a window."""

    asked: dict[int, int] = field(default_factory=dict)
    came: dict[int, Part] = field(default_factory=dict)
    size: int | None = None
    refusal: str | None = None
    ends_before: bool = False
    news: trio.Event = field(default_factory=trio.Event)


class Fetcher:
    """Runs transfers; `on_part` and `on_no_part` take what peers say."""

    def __init__(self, blobs: Blobs, link: Link, log: Log, *, transfers: int, part_s: float) -> None:
        self._blobs = blobs
        self._link = link
        self._log = log
        self._part_s = part_s
        self._slots = trio.CapacityLimiter(transfers)
        self._transfers: dict[tuple[str, bytes], _Transfer] = {}
        self._running: dict[bytes, trio.Event] = {}
        self.bytes_in = 0
        self.files_in = 0
        self.unasked = 0
        self.failures: Counter[str] = Counter()

    @property
    def running(self) -> int:
        """How many files are on their way or wait for it."""
        return len(self._running)

    # ------------------------------------------------------------ from peers

    def on_part(self, peer: str, part: Part) -> None:
        """Takes a part that was asked for; anything else costs its peer nothing and this node nothing."""
        transfer = self._transfers.get((peer, part.digest))
        length = None if transfer is None else transfer.asked.get(part.offset)
        if transfer is None or length is None:
            self.unasked += 1
            return
        del transfer.asked[part.offset]
        if transfer.size is None:
            transfer.size = part.size
        if part.size != transfer.size:
            transfer.refusal = f"it says {part.size} bytes and said {transfer.size}"
        elif len(part.data) != min(length, part.size - part.offset):
            transfer.refusal = f"it sent {len(part.data)} bytes where {length} were asked for"
        else:
            transfer.came[part.offset] = part
        transfer.news.set()

    def on_no_part(self, peer: str, refusal: NoPart) -> None:
        """A city says that it does not have the file, or no time."""
        transfer = self._transfers.get((peer, refusal.digest))
        if transfer is None or transfer.asked.pop(refusal.offset, None) is None:
            self.unasked += 1
            return
        transfer.ends_before = refusal.reason == ENDS_BEFORE
        transfer.refusal = _REFUSALS[refusal.reason]
        transfer.news.set()

    # ------------------------------------------------------------ for this node

    async def fetch(self, digest: bytes, cities: Sequence[str], *, limit_bytes: int, into: Blobs | None = None) -> None:
        """Brings a file into the blobs, or a folder like them, from the first of these cities that has it whole.

        Raises `PeerUnreachable`, which names what each city said, and what `Incoming.write` raises about this disk.
        """
        while (other := self._running.get(digest)) is not None:
            await other.wait()  # with cities of its own; should it fail, ours are asked
        blobs = into or self._blobs
        if blobs.path(digest) is not None:
            return
        done = self._running[digest] = trio.Event()
        try:
            async with self._slots:
                await self._fetch(digest, cities, limit_bytes, blobs)
        finally:
            del self._running[digest]
            done.set()

    async def _fetch(self, digest: bytes, cities: Sequence[str], limit_bytes: int, blobs: Blobs) -> None:
        said: list[str] = []
        with await trio.to_thread.run_sync(lambda: blobs.fetch(digest, limit_bytes=limit_bytes)) as incoming:
            for city in cities:
                try:
                    await self._from_city(city, incoming)
                except (_Failed, RuleViolation) as failure:
                    said.append(f"{city}: {failure}")
                    continue
                await trio.to_thread.run_sync(incoming.finish)
                self.files_in += 1
                self._log.info("file_fetched", digest=digest.hex(), peer=city, size_bytes=incoming.size)
                return
        raise PeerUnreachable(
            f"no city brings the file {digest.hex()} ({'; '.join(said) or 'no other city is connected'}); "
            "ask again when more cities are in reach"
        )

    async def _from_city(self, city: str, incoming: Incoming) -> None:
        """Completes the file from one city. Raises `_Failed`; `RuleViolation` when it is over the limit."""
        alone = incoming.size == 0
        while True:
            try:
                await self._complete(city, incoming)
                return
            except _Failed:
                self.failures["failed"] += 1
                raise
            except _Mismatch as mismatch:
                await trio.to_thread.run_sync(incoming.restart)
                if alone:
                    self.failures["wrong_bytes"] += 1
                    self._log.limited(
                        "warning", "file_refused", peer=city, digest=incoming.digest.hex(), why=str(mismatch)
                    )
                    raise _Failed(str(mismatch)) from None
                alone = True

    async def _complete(self, city: str, incoming: Incoming) -> None:
        if incoming.size and incoming.is_whole:
            return  # the part that was kept over a restart is all of it
        with self._transfer(city, incoming.digest) as transfer:
            began = trio.current_time()
            next_asked = incoming.size
            while transfer.size is None or incoming.size < transfer.size:
                # The first part tells the size; no window before it.
                window = 1 if transfer.size is None else WINDOW
                while len(transfer.asked) + len(transfer.came) < window and (
                    transfer.size is None or next_asked < transfer.size
                ):
                    self._ask(city, transfer, incoming.digest, next_asked)
                    next_asked += PART_BYTES
                part = await self._next(city, transfer, incoming.size)
                if trio.current_time() - began > self._part_s * (2 + part.size / (SLOW_PARTS * PART_BYTES)):
                    raise _Failed("it is too slow for a file of this size (part_ms)")
                await trio.to_thread.run_sync(incoming.write, part.data)
                self.bytes_in += len(part.data)
        if not incoming.is_whole:
            raise _Mismatch("the bytes it sent have another SHA-256")

    def _ask(self, city: str, transfer: _Transfer, digest: bytes, offset: int) -> None:
        transfer.asked[offset] = PART_BYTES
        want = WantPart(digest, offset, PART_BYTES)
        if not self._link.send(city, WANT_PART, encode_want_part(want), urgent=False):
            raise _Failed("it is not connected")

    async def _next(self, city: str, transfer: _Transfer, offset: int) -> Part:
        """The part with which the file goes on."""
        deadline = trio.current_time() + self._part_s
        while (part := transfer.came.pop(offset, None)) is None:
            if transfer.refusal is not None:
                if transfer.ends_before:
                    raise _Mismatch(transfer.refusal)  # perhaps what another city sent before is too long
                raise _Failed(transfer.refusal)
            if trio.current_time() >= deadline:
                raise _Failed(f"it sent nothing for {self._part_s:g} s (part_ms)")
            if city not in self._link.connected:
                raise _Failed("the connection to it was lost")
            with trio.move_on_at(min(deadline, trio.current_time() + LOOK_S)):
                await transfer.news.wait()
            transfer.news = trio.Event()
        return part

    @contextmanager
    def _transfer(self, city: str, digest: bytes) -> Iterator[_Transfer]:
        transfer = self._transfers[city, digest] = _Transfer()
        try:
            yield transfer
        finally:
            del self._transfers[city, digest]
