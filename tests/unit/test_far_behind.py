"""A driver that is too far behind for blocks: when it wants a snapshot, and how it goes on above one."""

from pathlib import Path
from typing import TypeVar

import pytest
from tests.unit.past import Chain

from cityid._native import Ledger, SnapshotLoader
from cityid.keys import Signer
from cityid.node import messages
from cityid.node.committee import Committee
from cityid.node.driver import Driver
from cityid.node.messages import Block, Frame, Status, encode_block, encode_status
from cityid.node.ports import (
    AppendVotes,
    Committed,
    Durable,
    Effect,
    Event,
    FetchSnapshot,
    FramesReceived,
    Kept,
    Now,
    Recovered,
    Send,
    Settings,
    SnapshotFetched,
    SnapshotMissing,
    Start,
    TimerFired,
    WriteStore,
)
from cityid.node.sync import CatchUp

LAG = 100
_Kind = TypeVar("_Kind")


class Keys:
    """The keys of one city of a chain."""

    def __init__(self, chain: Chain, city: str) -> None:
        self._signers = [chain.key(city, purpose) for purpose in ("consensus", "checkpoint")]

    def find(self, purpose: str, public_key: bytes) -> Signer | None:
        del purpose
        return next((signer for signer in self._signers if signer.public_key == public_key), None)


class Node:
    """A driver, and what it said."""

    def __init__(self, chain: Chain, *, lag: int = LAG) -> None:
        self.chain = chain
        self.now_us = 0
        self.city, *self.others = chain.genesis.cities
        self.ledger = Ledger(chain.genesis)
        settings = Settings(snapshot_lag=lag)
        keys = Keys(chain, self.city)
        self.driver = Driver(
            genesis=chain.genesis, ledger=self.ledger, city=self.city, keyring=keys, seed=bytes(32), settings=settings
        )
        self.effects: list[Effect] = []
        self.step(Start(Recovered()))

    def step(self, event: Event) -> None:
        self.now_us += 1_000
        self.effects += self.driver.step(event, Now(self.now_us, 0))

    def hear(self, height: int, *, first: int = 1) -> None:
        payload = encode_status(Status(height, bytes(32), first))
        self.step(FramesReceived([Frame(city, messages.STATUS, payload) for city in self.others]))

    def take(self, kind: type[_Kind]) -> list[_Kind]:
        found: list[_Kind] = [effect for effect in self.effects if isinstance(effect, kind)]
        self.effects = [effect for effect in self.effects if not isinstance(effect, kind)]
        return found

    def statuses(self) -> list[Status]:
        return [messages.decode_status(sent.payload) for sent in self.take(Send) if sent.kind == messages.STATUS]

    def wanted_blocks(self) -> bool:
        return any(sent.kind == messages.WANT_BLOCKS for sent in self.take(Send))


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    chain = Chain(tmp_path / "network")
    chain.admit()
    chain.register(*range(5))
    return chain


def snapshot(chain: Chain) -> SnapshotLoader:
    writer = chain.ledger.write_snapshot([])
    chunks = []
    while (found := writer.next_chunk(chain.ledger)) is not None:
        chunks.append(found[1])
    loader = SnapshotLoader(chain.genesis, writer.manifest())
    for chunk in chunks:
        loader.add(chunk)
    loader.finish()
    return loader


def test_a_small_lag_is_made_up_by_blocks_and_a_large_one_by_a_snapshot(chain: Chain) -> None:
    node = Node(chain)
    node.hear(LAG)
    assert node.wanted_blocks()
    assert node.take(FetchSnapshot) == []
    node.hear(LAG + 1)
    assert node.take(FetchSnapshot) == [FetchSnapshot(0)]
    node.hear(LAG + 2)
    assert node.take(FetchSnapshot) == [], "one at a time"


def test_blocks_that_nobody_has_any_more_are_not_asked_for(chain: Chain) -> None:
    node = Node(chain, lag=0)
    node.hear(1_000_000)
    assert node.take(FetchSnapshot) == [], "an archive takes blocks as long as somebody has them"
    assert node.wanted_blocks()
    node.hear(1_000_000, first=2)
    assert node.take(FetchSnapshot) == [FetchSnapshot(0)]
    assert not node.wanted_blocks()


def test_one_liar_makes_nobody_fetch(chain: Chain) -> None:
    node = Node(chain)
    payload = encode_status(Status(10**9, bytes(32), 10**9))
    node.step(FramesReceived([Frame(node.others[0], messages.STATUS, payload)]))
    assert node.take(FetchSnapshot) == []


def test_a_snapshot_that_does_not_come_is_asked_for_less_and_less_and_blocks_meanwhile(chain: Chain) -> None:
    node = Node(chain)
    node.hear(10 * LAG)
    waits = []
    for _ in range(6):
        assert node.take(FetchSnapshot)
        node.step(SnapshotMissing("nobody has one"))
        began = node.now_us
        node.take(Send)
        node.hear(10 * LAG)
        assert node.take(FetchSnapshot) == []
        while not any(isinstance(effect, FetchSnapshot) for effect in node.effects):
            node.now_us += 1_000_000
            node.hear(10 * LAG)
        assert node.wanted_blocks()
        waits.append((node.now_us - began) // 1_000_000)
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (5, 60)


def test_it_goes_on_above_the_snapshot(chain: Chain) -> None:
    node = Node(chain)
    node.hear(10 * LAG)
    node.take(WriteStore)
    loader = snapshot(chain)
    node.hear(chain.ledger.height)
    node.step(SnapshotFetched(loader))
    assert node.ledger.state_root == chain.ledger.state_root
    [write] = node.take(WriteStore)
    assert write.base is not None
    assert (write.base.height, write.base.header) == (chain.ledger.height, chain.ledger.header)
    assert node.take(Committed) == [], "not before it is durable"
    node.step(TimerFired(("tick", 0, 0)))
    assert all(status.height == 0 for status in node.statuses())
    node.step(Durable(write.token))
    [done] = node.take(Committed)
    assert (done.height, done.configuration) == (chain.ledger.height, True)
    node.step(TimerFired(("tick", 0, 0)))
    assert node.statuses() == [Status(chain.ledger.height, chain.ledger.log_root, chain.ledger.height + 1)]
    # The next block comes as any block, by its certificate.
    before = chain.ledger.height
    chain.decide()
    header, certificate, digests = chain.kept.blocks[before + 1]
    node.now_us += 2_000_000
    node.hear(before + 1)
    node.now_us += 2_000_000
    node.hear(before + 1)
    block = encode_block(Block(before + 1, header, certificate, digests, ()))
    for peer in node.others:
        node.step(FramesReceived([Frame(peer, messages.BLOCK, block)]))
    heights = [write.height.height for write in node.take(WriteStore) if write.height is not None]
    assert heights == [before + 1]
    assert all(append.height > before for append in node.take(AppendVotes))
    node.step(Kept(before))
    node.step(TimerFired(("tick", 0, 0)))
    assert {status.first for status in node.statuses()} == {before}


def test_a_snapshot_that_comes_too_late_is_passed_over(chain: Chain) -> None:
    node = Node(chain)
    node.hear(10 * LAG)
    first, second = snapshot(chain), snapshot(chain)
    node.step(SnapshotFetched(first))
    [write] = [write for write in node.take(WriteStore) if write.base is not None]
    node.step(Durable(write.token))
    height = node.ledger.height
    node.step(SnapshotFetched(second))
    assert node.take(WriteStore) == []
    assert node.ledger.height == height
    assert node.driver.halted is None


def test_whose_word_about_old_blocks_counts(chain: Chain) -> None:
    committee = Committee.of(chain.ledger.validators)
    sync = CatchUp(committee, window=64, patience_us=0)
    cities = list(committee.cities)
    sync.on_status(cities[0], Status(50, b"", 40))
    sync.on_status(cities[1], Status(50, b"", 10))
    assert not sync.needs_snapshot(9, lag=0)
    asked = sync.next_request(9, now_us=0)
    assert asked is not None
    assert asked[0] == cities[1]
    assert sync.needs_snapshot(8, lag=0)
    assert sync.next_request(8, now_us=0) is None
    sync.on_height(cities[0], 60)  # a cosignature says nothing about what is kept
    assert sync.needs_snapshot(8, lag=0)
