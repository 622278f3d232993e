"""Catching up: who is ahead, whom to ask, and what they sent; and how a store's blocks are served.

A node asks one city at a time for a window of blocks and executes them in order. What a city says about its height is
only a reason to ask it: a block counts by its commit certificate. What is credible about heights is said by the
committee; a node that is so far behind that it does not know the present one believes as many others instead, which
makes it ask and never vote. A city that sends a block whose certificate does not
count, or does not send what it claims to have, is asked last for a while. Buffered blocks are bounded by the window and
by the bytes that an honest city sends at once, and a city only fills the window that it was asked for.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from cityid.node.committee import Committee
from cityid.node.messages import (
    BATCH,
    BLOCK,
    DIGEST_BYTES,
    MAX_BLOCKS_WANTED,
    Block,
    Status,
    WantBlocks,
    encode_block,
)
from cityid.node.ports import BlockSource

SILENCE_US = 1_000_000  # so long without a block: the rest of the request was lost
SILENT_ASIDE_US = 5_000_000
LIAR_ASIDE_US = 60_000_000


@dataclass(slots=True)
class Request:
    """The one open request."""

    peer: str
    first: int
    count: int
    since_us: int
    answered: bool = False


class CatchUp:
    """What this node knows about being behind."""

    def __init__(self, committee: Committee, *, window: int, patience_us: int, max_bytes: int) -> None:
        self.committee = committee
        self._max_bytes = max_bytes
        self._window = min(window, MAX_BLOCKS_WANTED)
        self._patience_us = patience_us
        self._statuses: dict[str, Status] = {}
        self._aside: dict[str, int] = {}  # city → until when
        self._request: Request | None = None
        self._blocks: dict[int, tuple[str, Block]] = {}
        self._behind_since_us: int | None = None

    def forget(self, city: str) -> None:
        """A city is no member any more: what it said does not matter, and it is not asked."""
        self._statuses.pop(city, None)

    def on_status(self, peer: str, status: Status) -> None:
        """A city says how far it is."""
        self._statuses[peer] = status

    def on_height(self, peer: str, height: int) -> None:
        """A city shows by something else that it holds a height."""
        status = self._statuses.get(peer, Status(0, b""))
        self._statuses[peer] = replace(status, height=height)

    @property
    def heard_from(self) -> int:
        """How many other cities of the committee said how far they are."""
        return sum(city in self.committee.cities for city in self._statuses)

    @property
    def is_informed(self) -> bool:
        """Whether so many of the committee said how far they are that one of them is honest."""
        return self.heard_from >= self.committee.enough

    def credible_height(self) -> int:
        """A height that at least one honest city has reached: f + 1 cities claim it."""
        anybody = not self.is_informed
        claims = (status.height for city, status in self._statuses.items() if anybody or city in self.committee.cities)
        heights = sorted(claims, reverse=True)
        return heights[self.committee.tolerated] if len(heights) >= self.committee.enough else 0

    def needs_snapshot(self, tip: int, *, lag: int) -> bool:
        """Whether blocks will not do: this node is more than `lag` heights behind (0: however many), or those ahead
        have pruned the block that comes next.
        """
        credible = self.credible_height()
        if lag and credible - tip > lag:
            return True
        return credible > tip and not any(
            status.first <= tip + 1 <= status.height for status in self._statuses.values()
        )

    def next_request(self, tip: int, *, now_us: int) -> tuple[str, WantBlocks] | None:
        """Whom to ask for what, if anything now; the caller sends it."""
        self._blocks = {height: found for height, found in self._blocks.items() if height > tip}
        ahead = {
            peer: status.height
            for peer, status in self._statuses.items()
            if status.height > tip and status.first <= tip + 1
        }
        if not ahead:
            self._behind_since_us = self._request = None
            return None
        if self._behind_since_us is None:
            self._behind_since_us = now_us
        if max(ahead.values()) == tip + 1 and now_us - self._behind_since_us < self._patience_us:
            return None  # the votes of that height are probably on their way
        if (request := self._request) is not None:
            is_useful = request.first <= tip + 1 < request.first + request.count
            if is_useful and now_us - request.since_us < SILENCE_US:
                return None
            if is_useful and not request.answered:
                self._aside[request.peer] = now_us + SILENT_ASIDE_US
        # Whoever was left aside comes last, and is still better than nobody.
        start = tip % len(ahead)
        turn = sorted(ahead)
        turn = turn[start:] + turn[:start]
        peer = min(turn, key=lambda candidate: max(self._aside.get(candidate, 0), now_us))
        if self._aside.get(peer, 0) - now_us > LIAR_ASIDE_US - SILENCE_US:
            return None  # all lie: not at the speed of the network
        self._request = Request(peer, tip + 1, min(self._window, ahead[peer] - tip), now_us)
        return peer, WantBlocks(self._request.first, self._request.count)

    def on_block(self, peer: str, block: Block, *, now_us: int) -> bool:
        """Keep a block if it was asked for; whether it was."""
        request = self._request
        if request is None or peer != request.peer:
            return False
        if not request.first <= block.height < request.first + request.count:
            return False
        others = [found for at, (_, found) in self._blocks.items() if at != block.height]
        if others and sum(map(_size_bytes, [*others, block])) > self._max_bytes:
            return False  # `serve_blocks` stops before that
        request.since_us = now_us
        request.answered = True
        self._blocks[block.height] = (peer, block)
        return True

    def block_at(self, height: int) -> tuple[str, Block] | None:
        """The block of this height, with who sent it, if it came."""
        return self._blocks.get(height)

    def leave_aside(self, peer: str, *, now_us: int) -> None:
        """It lied: ask others for a while, and drop what it sent."""
        self._aside[peer] = now_us + LIAR_ASIDE_US
        self._blocks = {height: found for height, found in self._blocks.items() if found[0] != peer}
        if self._request is not None and self._request.peer == peer:
            self._request = None

    def on_progress(self) -> None:
        """A height was committed: patience starts anew."""
        self._behind_since_us = None


def _size_bytes(block: Block) -> int:
    return len(block.header) + len(block.certificate) + len(block.digests) + sum(map(len, block.bodies))


def serve_blocks(store: BlockSource, *, first: int, count: int, max_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Frames (kind, payload) with the blocks that were asked for, as far as they exist and fit."""
    for height in range(first, first + min(count, MAX_BLOCKS_WANTED)):
        if (found := store.block(height)) is None:
            return
        header, certificate, digests = found
        starts = range(0, len(digests), DIGEST_BYTES)
        bodies = [store.batch(digests[start : start + DIGEST_BYTES]) for start in starts]
        if any(body is None for body in bodies):
            return
        payload = encode_block(
            Block(height, header, certificate, digests, tuple(body for body in bodies if body is not None))
        )
        max_bytes -= len(payload)
        if max_bytes < 0 and height > first:
            return
        yield BLOCK, payload


def serve_batches(store: BlockSource, digests: tuple[bytes, ...], *, max_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Frames (kind, payload) with the batches that were asked for, as far as they exist and fit."""
    for digest in digests:
        if (body := store.batch(digest)) is None:
            continue
        max_bytes -= len(body)
        if max_bytes < 0:
            return
        yield BATCH, body
