"""A hostile city fills every queue that it can reach: each stays within its bound, and the honest city is served.

Sizes are counted, never timed. The bounds are in the table of docs/security.md; what is tested beside the part itself
(connections, transfers, HTTP, announcements) is named there.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
import trio
import trio.testing
from tests.unit.test_batches import NOW, Desk

from cityid import Ledger
from cityid.errors import MalformedInput
from cityid.node import host as host_module
from cityid.node import messages
from cityid.node.checkpoints import EARLY_HEIGHTS, Checkpoints
from cityid.node.committee import Committee
from cityid.node.driver import Driver
from cityid.node.early import Early
from cityid.node.frames import CAPS, HELLO, FrameReader, Hello, Outbox, encode_frame
from cityid.node.heights import next_height
from cityid.node.host import Host
from cityid.node.messages import Block, Cosignature, Frame, Proposal, Status
from cityid.node.outbox import Outbox as Effects
from cityid.node.ports import Effect, Event, Now, ServeBatches, ServeBlocks, Settings, Verify
from cityid.node.proposals import MAX_ROUNDS_AHEAD, Proposals
from cityid.node.store import Store
from cityid.node.sync import CatchUp
from cityid.node.telemetry import BURST, Log
from cityid.node.wal import VoteLog

LIAR, HONEST = "110000", "330100"
MIB = 1024 * 1024


# ---------------------------------------------------------------- one connection


def test_a_reader_of_frames_holds_one_frame_and_one_read() -> None:
    reader = FrameReader()
    reader.feed(encode_frame(HELLO, Hello(bytes(32), LIAR, 1).encode()))
    most = CAPS[messages.BLOCK]
    head = (most + 1).to_bytes(4, "big") + bytes([messages.BLOCK])
    reader.feed(head)
    for _ in range(most // MIB - 1):
        assert reader.feed(bytes(MIB)) == []
    assert len(reader._buffer) <= most + MIB
    assert reader.feed(bytes(MIB)) == [(messages.BLOCK, bytes(most))]
    assert len(reader._buffer) == 0
    with pytest.raises(MalformedInput, match="over its cap"):
        reader.feed((most + 2).to_bytes(4, "big") + bytes([messages.BLOCK]))


def test_what_waits_for_a_slow_reader_is_bounded_and_urgent_frames_end_the_link() -> None:
    queue = Outbox(urgent_frames=10, urgent_bytes=1_000, bulk_frames=10, bulk_bytes=1_000)
    taken = [queue.put(bytes(100), urgent=False) for _ in range(1_000)]
    assert taken.count(True) == 10
    assert queue.put(bytes(100), urgent=True), "votes have room of their own"
    while queue.put(bytes(100), urgent=True):
        pass
    assert queue.waiting_bytes <= 2_000


# ---------------------------------------------------------------- what the driver keeps of others


def test_early_messages_have_a_share_for_each_sender_and_height() -> None:
    early = Early()
    early.max_messages = 8
    for number in range(10_000):
        early.keep_message(5, LIAR, number.to_bytes(4, "big"))
        early.keep_message(6, LIAR, number.to_bytes(4, "big"))
        early.keep_proposal(LIAR, Proposal(5, number, -1, b"h", b""))
    early.keep_message(5, HONEST, b"vote")
    early.keep_proposal(HONEST, Proposal(5, 0, -1, b"h", b""))
    assert early.take_messages(5)[-1] == b"vote"
    assert len(early.take_messages(6)) == 8
    assert [sender for sender, _ in early.take_proposals(5)] == [LIAR, HONEST]


def test_a_city_that_floods_batches_fills_its_own_share_of_what_is_verified() -> None:
    desk = Desk()
    desk.batches._settings = Settings(max_author_bytes=2 * MIB, max_verifying_bytes=64 * MIB)
    desk.batches.pool._max_author_bytes = 2 * MIB
    for number in range(200):
        desk.batches.on_batch(LIAR, number.to_bytes(4, "big") * (MIB // 8), NOW)
    assert desk.batches._verifying_of[LIAR] <= 2 * MIB
    desk.batches.on_batch(HONEST, b"\x81" + desk.transaction(), NOW)
    desk.batches.flush()
    [asked] = desk.effects(Verify)
    assert len(asked.bodies) == 5, "four of the liar, and the honest one"
    results = desk.ledger.ingest(asked.bodies)
    assert [peer for peer, _, _ in desk.batches.on_verified(results, NOW)] == [LIAR] * 4
    assert desk.batches._verifying_of[LIAR] == desk.batches._verifying_bytes == 0, "and it gets its share back"
    assert len(desk.batches.pool) == 1


def test_a_city_that_sends_huge_blocks_fills_what_an_honest_one_would() -> None:
    ledger = Desk().ledger
    sync = CatchUp(Committee.of(ledger.validators), window=64, patience_us=0, max_bytes=4 * MIB)
    for city in (LIAR, HONEST):
        sync.on_status(city, Status(64, bytes(32)))
    asked = sync.next_request(0, now_us=0)
    assert asked is not None
    peer, want = asked
    other = HONEST if peer == LIAR else LIAR
    kept = [
        sync.on_block(peer, Block(height, b"h", b"c", b"", (bytes(MIB),)), now_us=0)
        for height in range(want.first, want.first + want.count)
        for _ in range(3)
    ]
    assert sum(sync.block_at(height) is not None for height in range(1, 65)) == 3
    assert any(kept)
    assert not sync.on_block(other, Block(1, b"h", b"c", b"", ()), now_us=0), "nobody else fills the window"
    # A single block of any size that the frame allows is still taken: it may be what comes next.
    again = CatchUp(Committee.of(ledger.validators), window=64, patience_us=0, max_bytes=4 * MIB)
    again.on_status(HONEST, Status(64, bytes(32)))
    assert again.next_request(0, now_us=0) is not None
    assert again.on_block(HONEST, Block(1, b"h", b"c", b"", (bytes(9 * MIB),)), now_us=0)


def test_a_city_proposes_once_a_round_and_not_far_ahead() -> None:
    desk = Desk()
    height = next_height(desk.ledger)
    proposals = Proposals(
        desk.ledger,
        Effects(),
        desk.batches,
        city=desk.city,
        parameters=desk.simulation.genesis.parameters(),
        settings=Settings(),
    )
    header = desk.ledger.header
    for round_ in range(200):
        for sender in desk.simulation.cities:
            for number in range(3):
                proposals.receive(height, sender, Proposal(1, round_, -1, header, bytes(32) * number))
    assert not height.offers, "none of them fits its header"
    candidate = desk.ledger.execute(1, desk.ledger.time_ms + 1, desk.city, b"")
    for round_ in range(200):
        for sender in desk.simulation.cities:
            proposals.receive(height, sender, Proposal(1, round_, -1, candidate.header, b""))
    assert len(height.offers) <= len(desk.simulation.cities) * (MAX_ROUNDS_AHEAD + 1)
    assert len(height.bodies) == 1


def test_early_cosignatures_are_kept_for_a_few_heights() -> None:
    desk = Desk()
    checkpoints = Checkpoints(desk.simulation.genesis, desk.city)
    for height in range(1, 10_000):
        checkpoints.add(LIAR, Cosignature(height, bytes(64)))
    assert len(checkpoints._early) == EARLY_HEIGHTS


# ---------------------------------------------------------------- the host


@dataclass
class Recorder:
    """Frames that a host sends."""

    sent: list[tuple[str, int]] = field(default_factory=list)

    def send(self, peer: str, kind: int, payload: bytes, *, urgent: bool) -> bool:
        self.sent.append((peer, kind))
        return True

    def broadcast(self, kind: int, payload: bytes, *, urgent: bool) -> int:
        return 0


class Shelf:
    """A store that has every batch and no block."""

    def __init__(self) -> None:
        self.reads = 0

    def batch(self, digest: bytes) -> bytes | None:
        self.reads += 1
        return b"body"

    def block(self, height: int) -> None:
        return None


class Idle:
    """A driver that decides nothing."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []

    def step(self, event: Event, now: Now) -> Sequence[Effect]:
        return ()


def make_host(shelf: Shelf, peers: Recorder) -> Host:
    return Host(
        cast(Driver, Idle()),
        cast(Ledger, None),
        store=cast(Store, shelf),
        votes=cast(VoteLog, None),
        peers=peers,
        log=Log(io.StringIO()),
        tell=lambda outcome: None,
    )


async def test_a_storm_of_requests_waits_behind_itself() -> None:
    shelf, peers = Shelf(), Recorder()
    host = make_host(shelf, peers)
    for _ in range(10_000):
        host._obey(ServeBatches(LIAR, (b"digest",)))
        host._obey(ServeBlocks(LIAR, 1, 512, 16 * MIB))
    host._obey(ServeBatches(HONEST, (b"digest",)))
    assert len(host._serve_lane) == host_module.MAX_SERVING + 1
    assert host.requests_dropped == 20_000 - host_module.MAX_SERVING
    await serve_all(host)
    assert len(peers.sent) == shelf.reads == host_module.MAX_SERVING // 2 + 1  # half of the liar's were for blocks
    assert (HONEST, messages.BATCH) in peers.sent
    assert host._serving[LIAR] == host._serving[HONEST] == 0, "and it may ask again"


def test_control_without_a_share_the_honest_city_would_wait_behind_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_module, "MAX_SERVING", 10**9)
    host = make_host(Shelf(), Recorder())
    for _ in range(10_000):
        host._obey(ServeBatches(LIAR, (b"digest",)))
    assert len(host._serve_lane) == 10_000


async def serve_all(host: Host) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host._serve)
        while any(host._serving.values()):
            await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked(1.0)
        nursery.cancel_scope.cancel()


async def test_what_was_received_and_not_looked_at_is_bounded_in_bytes() -> None:
    """The driver's task does not run here: it is as busy as can be."""
    host = make_host(Shelf(), Recorder())
    send, receive = trio.open_memory_channel[list[Frame]](4)
    large = CAPS[messages.BLOCK]
    put = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host._receive, receive)
        with trio.move_on_after(1):
            while put < 100:
                await send.send([Frame(LIAR, messages.BLOCK, bytes(large))])
                put += 1
        assert put < 20, "the inbox is full, so sockets are not read"
        assert sum(len(frame.payload) for frame in host._frames) <= host_module.MAX_FRAME_BYTES + large
        nursery.cancel_scope.cancel()


def test_what_a_city_can_make_a_node_log_is_bounded(tmp_path: Path) -> None:
    file = io.StringIO()
    log = Log(file, clock=lambda: 0.0)
    for number in range(100_000):
        log.limited("warning", "frame_dropped", peer=LIAR, why=f"junk {number}" * 1_000)
    assert file.getvalue().count("\n") == BURST
    assert len(file.getvalue()) < BURST * 1_500
