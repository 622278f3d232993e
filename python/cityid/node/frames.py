"""Frames between nodes, without any I/O: their form, their caps, and one peer's outgoing queues.

A frame is `length(4, big-endian) kind(1) payload`; length counts kind and payload. A frame's cap is known from its
first five bytes, so nothing is allocated for a frame that is too large. Kinds 0, 1 and 255 belong to the connection
itself (keep-alive, hello, goodbye); what the others mean is for node/messages.py. The first frame of a connection is
a hello or a goodbye.

An `Outbox` has two queues. Urgent frames (votes, proposals, acknowledgements) leave before bulk ones (batches, blocks,
parts of files), and all that wait leave in one buffer. When a queue is full: an urgent frame means that the peer cannot
follow, so the connection is given up and the peer catches up by sync; a bulk frame is dropped and counted, for bulk
can be asked again.
"""

import struct
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import trio

from cityid.errors import InputError, MalformedInput
from cityid.node.messages import (
    BATCH,
    BLOCK,
    CONSENSUS,
    COSIGNATURE,
    HAVE,
    NO_PART,
    NO_RECEIPT,
    PART,
    PROPOSAL,
    RECEIPT,
    SNAPSHOT,
    STATUS,
    WANT_BATCHES,
    WANT_BLOCKS,
    WANT_PART,
    WANT_RECEIPT,
    WANT_SNAPSHOT,
)

__all__ = [
    "CAPS",
    "GOODBYE",
    "HELLO",
    "KEEP_ALIVE",
    "FrameReader",
    "Hello",
    "Outbox",
    "Overflow",
    "encode_frame",
    "frame_caps",
    "widest_caps",
]

KEEP_ALIVE: Final = 0
HELLO: Final = 1
GOODBYE: Final = 255
"""Why this end closes, as UTF-8 text for the other side's log."""

PROTOCOL_VERSION: Final = 1
HEADER_BYTES: Final = 5
MAX_JOIN_BYTES: Final = 262_144
"""Bulk frames are joined up to this size, so that an urgent frame never waits behind more than one such buffer."""

CAPS: Final[Mapping[int, int]] = {
    KEEP_ALIVE: 0,
    HELLO: 1_024,
    CONSENSUS: 65_536,
    PROPOSAL: 65_536,
    BATCH: 1_048_576 + 4_096,
    HAVE: 65_536,
    WANT_BATCHES: 65_536,
    STATUS: 4_096,
    WANT_BLOCKS: 4_096,
    BLOCK: 16_777_216,
    COSIGNATURE: 4_096,
    WANT_PART: 64,
    PART: 1_048_576 + 48,
    NO_PART: 64,
    WANT_RECEIPT: 64,
    RECEIPT: 128,
    NO_RECEIPT: 2_048,
    WANT_SNAPSHOT: 64,
    SNAPSHOT: 128,
    GOODBYE: 1_024,
}
"""Payload caps in bytes under the default parameters (P6); a kind that is not here is refused."""

WIDEST_BATCH_BYTES: Final = 8 * 1024 * 1024
WIDEST_BLOCK_BYTES: Final = 64 * 1024 * 1024
"""What governance may at most set (P6, P66)."""


def frame_caps(parameters: Mapping[str, int]) -> dict[int, int]:
    """The caps of a network with other sizes of batches and blocks (P6)."""
    batch = parameters["max_batch_bytes"] + 4_096
    return dict(CAPS) | {BATCH: batch, BLOCK: max(CAPS[BLOCK], 2 * parameters["max_block_bytes"])}


def widest_caps() -> dict[int, int]:
    """The caps of a node that is behind: it does not know yet to what the sizes were raised meanwhile."""
    return frame_caps({"max_batch_bytes": WIDEST_BATCH_BYTES, "max_block_bytes": WIDEST_BLOCK_BYTES})


def encode_frame(kind: int, payload: bytes, caps: Mapping[int, int] = CAPS) -> bytes:
    """The bytes of a frame. Raises `InputError` when peers would refuse it."""
    cap = caps.get(kind)
    if cap is None:
        raise InputError(f"there is no frame kind {kind}; node/frames.py lists them")
    if len(payload) > cap:
        raise InputError(f"a frame of kind {kind} with {len(payload)} bytes is over its cap of {cap}; split it")
    return b"".join(((len(payload) + 1).to_bytes(4, "big"), kind.to_bytes(1, "big"), payload))


class FrameReader:
    """Cuts a stream of bytes into frames. Holds at most one incomplete frame and one read's worth of bytes."""

    __slots__ = ("_buffer", "_caps", "_greeted")

    def __init__(self, caps: Mapping[int, int] = CAPS) -> None:
        self._caps = caps
        self._buffer = bytearray()
        self._greeted = False

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The frames (kind, payload) that `data` completes. Raises `MalformedInput`; the stream is then of no use."""
        buffer = self._buffer
        buffer += data
        frames: list[tuple[int, bytes]] = []
        position = 0
        with memoryview(buffer) as view:
            while len(buffer) - position >= HEADER_BYTES:
                size = int.from_bytes(view[position : position + 4], "big") - 1
                kind = buffer[position + 4]
                self._check(kind, size)
                start = position + HEADER_BYTES
                if len(buffer) - start < size:
                    break
                frames.append((kind, bytes(view[start : start + size])))
                position = start + size
        del buffer[:position]
        return frames

    def _check(self, kind: int, size: int) -> None:
        cap = self._caps.get(kind)
        if cap is None:
            raise MalformedInput(f"frame kind {kind} is unknown; the peer speaks another protocol or garbage")
        if not 0 <= size <= cap:
            raise MalformedInput(f"a frame of kind {kind} with {size} bytes is over its cap of {cap} bytes")
        if not self._greeted:
            if kind not in (HELLO, GOODBYE):
                raise MalformedInput(f"the first frame is of kind {kind}; a connection starts with a hello")
            self._greeted = True


# ---------------------------------------------------------------- hello

_HELLO: Final = struct.Struct(">H32s6sQ")


@dataclass(frozen=True, slots=True)
class Hello:
    """What each end says first: the network, who it is, and the height of its tip."""

    genesis_hash: bytes
    city: str
    tip: int
    version: int = PROTOCOL_VERSION

    def encode(self) -> bytes:
        """The payload of a hello frame: version(2) genesis-hash(32) city(6) tip(8), big-endian."""
        return _HELLO.pack(self.version, self.genesis_hash, self.city.encode("ascii"), self.tip)

    @staticmethod
    def parse(payload: bytes) -> "Hello":
        """Raises `MalformedInput`. Of another version only the version is read: the rest may have another form."""
        if len(payload) < 2:
            raise MalformedInput("the hello is empty")
        version = int.from_bytes(payload[:2], "big")
        if version != PROTOCOL_VERSION:
            return Hello(bytes(32), "", 0, version)
        if len(payload) != _HELLO.size:
            raise MalformedInput(f"the hello has {len(payload)} bytes; version {version} has {_HELLO.size}")
        _, genesis_hash, city, tip = _HELLO.unpack(payload)
        if not city.isdigit():
            raise MalformedInput("the hello names no city of six digits")
        return Hello(genesis_hash, city.decode("ascii"), tip, version)


# ---------------------------------------------------------------- outgoing queues


class Overflow(Exception):
    """The urgent queue is full: the peer cannot follow."""


class Outbox:
    """What waits to be sent to one peer; one task takes, any may put."""

    __slots__ = (
        "_bulk", "_bulk_bytes", "_max_bulk", "_max_bulk_bytes", "_max_urgent", "_max_urgent_bytes", "_overflow",
        "_urgent", "_urgent_bytes", "_wake",
    )  # fmt: skip

    def __init__(self, *, urgent_frames: int, urgent_bytes: int, bulk_frames: int, bulk_bytes: int) -> None:
        self._max_urgent = urgent_frames
        self._max_urgent_bytes = urgent_bytes
        self._max_bulk = bulk_frames
        self._max_bulk_bytes = bulk_bytes
        self._urgent: deque[bytes] = deque()
        self._bulk: deque[bytes] = deque()
        self._urgent_bytes = 0
        self._bulk_bytes = 0
        self._overflow = False
        self._wake = trio.Event()

    @property
    def waiting_bytes(self) -> int:
        """The bytes in both queues."""
        return self._urgent_bytes + self._bulk_bytes

    def put(self, frame: bytes, *, urgent: bool) -> bool:
        """Queues a whole frame; False when its queue is full and the frame was dropped."""
        if self._overflow:
            return False
        if urgent:
            if len(self._urgent) >= self._max_urgent or self._urgent_bytes + len(frame) > self._max_urgent_bytes:
                self._overflow = True  # `take` raises: the connection ends
                self._wake.set()
                return False
            self._urgent.append(frame)
            self._urgent_bytes += len(frame)
        else:
            if len(self._bulk) >= self._max_bulk or self._bulk_bytes + len(frame) > self._max_bulk_bytes:
                return False
            self._bulk.append(frame)
            self._bulk_bytes += len(frame)
        self._wake.set()
        return True

    async def take(self) -> tuple[bytes, int]:
        """Waits, then returns one buffer to send and how many frames it joins; urgent frames first.

        Raises `Overflow` once an urgent frame found no room. Cancelling it loses no frame.
        """
        while not (self._urgent or self._bulk or self._overflow):
            self._wake = trio.Event()
            await self._wake.wait()
        if self._overflow:
            raise Overflow
        if self._urgent:
            joined, count = b"".join(self._urgent), len(self._urgent)
            self._urgent.clear()
            self._urgent_bytes = 0
            return joined, count
        frames = [self._bulk.popleft()]
        size = len(frames[0])
        while self._bulk and size + len(self._bulk[0]) <= MAX_JOIN_BYTES:
            frames.append(self._bulk.popleft())
            size += len(frames[-1])
        self._bulk_bytes -= size
        return b"".join(frames) if len(frames) > 1 else frames[0], len(frames)
