"""Snapshots between cities: made while heights pass, fetched from several, resumed, and refused when they lie."""

from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import cast

import pytest
from tests.unit.past import Chain

from cityid._native import Ledger
from cityid.errors import DamagedStore
from cityid.node.exchange.payloads import Offer
from cityid.node.messages import PART, SNAPSHOT, Frame
from cityid.node.ports import Event, Kept, SnapshotFetched, SnapshotMissing
from cityid.node.snapshot_folder import SnapshotFolder, content_of
from cityid.node.snapshots import Snapshots
from cityid.node.store import Store
from cityid.node.telemetry import Log

from .conftest import CITIES, City, LinkOf, World, until

A, B, C, D = CITIES
EVERY = 4


@dataclass
class FakeStore:
    """Certificates of a chain, and what it was told to drop."""

    chain: Chain
    first: int = 1
    pruned: list[int] = field(default_factory=list)

    def certified(self, height: int) -> tuple[bytes, bytes] | None:
        return self.chain.kept.certified(height)

    def prune(self, below: int) -> None:
        self.pruned.append(below)
        self.first = max(self.first, below)


@dataclass
class Part:
    """The snapshots of one city, its store and what the driver was told."""

    city: City
    ledger: Ledger
    store: FakeStore
    told: list[Event] = field(default_factory=list)

    def open(self, chain: Chain) -> None:
        """As after a start."""
        self.folder = SnapshotFolder(self.city.directory / "snapshots", chain.genesis)
        self.snapshots = self.city.snapshots = Snapshots(
            folder=self.folder,
            ledger=self.ledger,
            store=cast(Store, self.store),
            genesis=chain.genesis,
            fetcher=self.city.exchange.fetcher,
            link=LinkOf(self.city),
            post=self.told.append,
            log=Log(self.city.text, clock=lambda: 0.0),
            every=EVERY,
            keep_heights=2,
        )
        self.city.find = self.folder.find


def part(world: World, name: str, chain: Chain, ledger: Ledger | None = None) -> Part:
    made = Part(world.add(name), ledger or chain.ledger, FakeStore(chain))
    made.open(chain)
    return made


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    chain = Chain(tmp_path / "network")
    chain.admit()
    chain.register(*range(50))
    return chain


async def pass_to(chain: Chain, height: int, *parts: Part) -> None:
    while chain.ledger.height < height:
        chain.decide()
    for one in parts:
        one.snapshots.on_committed(height)
    await until(lambda: all(one.folder.newest is not None and one.folder.newest.height == height for one in parts))


async def test_cities_make_the_same_snapshot_and_one_that_is_behind_takes_it(world: World, chain: Chain) -> None:
    ledger = Ledger(chain.genesis)
    joiner, first, second = part(world, A, chain, ledger), part(world, B, chain), part(world, C, chain)
    async with world.running():
        await pass_to(chain, 8, first, second)
        joiner.snapshots.fetch(0)
        await until(lambda: bool(joiner.told))
    assert first.folder.newest == second.folder.newest
    [event] = joiner.told
    assert isinstance(event, SnapshotFetched)
    ledger.install(event.snapshot)
    assert (ledger.height, ledger.state_root, ledger.log_root) == (8, chain.ledger.state_root, chain.ledger.log_root)
    assert joiner.folder.newest == first.folder.newest
    assert joiner.folder.fetching == b""
    # Another start has it without asking anybody.
    joiner.open(chain)
    newest = joiner.folder.newest
    assert newest is not None
    again = Ledger(chain.genesis)
    again.install(joiner.folder.load(newest))
    assert again.state_root == ledger.state_root


async def test_two_snapshots_are_kept_and_blocks_below_both_are_dropped(world: World, chain: Chain) -> None:
    one = part(world, B, chain)
    async with world.running():
        for height in (4, 8, 12):
            await pass_to(chain, height, one)
            assert isinstance(one.told[-1], Kept)
        await until(lambda: one.store.pruned == [2, 5, 9])
    kept = [offer for offer in (one.folder.newest, one.folder.oldest) if offer is not None]
    assert [offer.height for offer in kept] == [12, 8]
    assert {offer.manifest for offer in kept} < set(one.folder.blobs.digests())
    for offer in kept:
        one.folder.load(offer)


def lie(part: Part, honest: Offer) -> Offer:
    """A snapshot whose records are others, under a manifest that lists them so."""
    manifest = part.folder.get(honest.manifest)
    loader_chunks = [digest for digest in part.folder.blobs.digests() if digest != honest.manifest]
    [records] = [digest for digest in loader_chunks if b"\xe8\xb7\xaf\xe7\x81\xaf" in part.folder.get(digest)]
    wrong = part.folder.get(records).replace("路灯".encode(), "灯路".encode())
    digest = sha256(wrong).digest()
    lying = manifest.replace(records, digest)
    part.folder.put(digest, wrong)
    part.folder.put(sha256(lying).digest(), lying)
    order = sorted(loader_chunks, key=manifest.index)
    content = content_of([(digest if one == records else one, 0) for one in order])
    offer = replace(honest, manifest=sha256(lying).digest(), content=content)
    part.folder.keep(offer)
    return offer


async def test_a_city_that_lies_is_found_out_and_the_next_one_serves(world: World, chain: Chain) -> None:
    ledger = Ledger(chain.genesis)
    liar, joiner, honest = part(world, A, chain), part(world, B, chain, ledger), part(world, C, chain)
    async with world.running():
        await pass_to(chain, 8, liar, honest)
        assert liar.folder.newest is not None
        wrong = lie(liar, liar.folder.newest)
        joiner.snapshots.fetch(0)
        await until(lambda: bool(joiner.told))
        [event] = joiner.told
        assert isinstance(event, SnapshotFetched)
        ledger.install(event.snapshot)
        assert ledger.state_root == chain.ledger.state_root
        refused = joiner.city.events("snapshot_refused")
        assert [(one["peer"], "state root" in str(one["why"])) for one in refused] == [(A, True)]
        # Its manifest is not asked for again, nor is anything of it kept.
        sent = world.bytes_from(A)
        joiner.told.clear()
        joiner.snapshots.fetch(0)
        await until(lambda: bool(joiner.told))
        assert world.bytes_from(A) - sent < 200
    joiner.folder.tidy(b"")
    assert wrong.manifest not in joiner.folder.blobs.digests()


async def test_an_offer_that_its_manifest_does_not_keep_is_refused(world: World, chain: Chain) -> None:
    joiner, other = part(world, A, chain, Ledger(chain.genesis)), part(world, B, chain)
    async with world.running():
        await pass_to(chain, 8, other)
        newest = other.folder.newest
        assert newest is not None
        other.folder.keep(replace(newest, height=9))
        joiner.snapshots.fetch(0)
        await until(lambda: bool(joiner.told))
    assert isinstance(joiner.told[0], SnapshotMissing)
    assert "not what was offered" in joiner.told[0].reason


async def test_what_came_before_a_stop_is_not_fetched_again(world: World, chain: Chain) -> None:
    joiner, other = part(world, A, chain, Ledger(chain.genesis)), part(world, B, chain)
    parts = 0

    def cut(frame: Frame, to: str) -> list[Frame]:
        nonlocal parts
        parts += frame.kind == PART
        if parts > 3:
            world.gone.add(B)
        return [frame]

    async with world.running():
        await pass_to(chain, 8, other)
        world.tamper = cut
        joiner.snapshots.fetch(0)
        await until(lambda: bool(joiner.told))
        assert isinstance(joiner.told.pop(), SnapshotMissing)
    assert other.folder.newest is not None
    joiner.open(chain)  # it was killed and starts again
    assert joiner.folder.fetching == other.folder.newest.manifest
    kept = len(joiner.folder.blobs.digests())
    assert kept > 1
    world.gone.clear()
    world.tamper = lambda frame, to: [frame]
    parts_before = sum(kind == PART for _, _, kind, _ in world.sent)
    async with world.running():
        joiner.snapshots.fetch(0)
        await until(lambda: bool(joiner.told))
    assert isinstance(joiner.told[0], SnapshotFetched)
    assert sum(kind == PART for _, _, kind, _ in world.sent) - parts_before == 5 - kept
    [event] = joiner.city.events("snapshot_fetched")
    assert event["resumed"] == kept - 1


async def test_nobody_has_one(world: World, chain: Chain) -> None:
    joiner, other = part(world, A, chain, Ledger(chain.genesis)), part(world, B, chain)
    async with world.running():
        joiner.snapshots.fetch(0)
        await until(lambda: bool(joiner.told))
    assert isinstance(joiner.told[0], SnapshotMissing)
    assert other.folder.newest is None


async def test_garbage_and_answers_that_nobody_asked_for_do_nothing(world: World, chain: Chain) -> None:
    one = part(world, A, chain)
    for payload in (b"", b"x", bytes(200)):
        one.snapshots.deliver(Frame(B, SNAPSHOT, payload))
    one.snapshots.deliver(Frame(B, SNAPSHOT, bytes(80)))
    assert len(one.city.events("frame_dropped")) == 3
    assert one.told == []


async def test_damage_in_the_folder_is_found(world: World, chain: Chain) -> None:
    """A flip anywhere in any file of it: the newest snapshot does not load, and nothing wrong ever does."""
    one = part(world, B, chain)
    async with world.running():
        await pass_to(chain, 8, one)
    newest = one.folder.newest
    assert newest is not None
    for path in sorted(one.folder.directory.iterdir()):
        whole = path.read_bytes()
        for position in range(0, len(whole), max(1, len(whole) // 40)):
            damaged = bytearray(whole)
            damaged[position] ^= 0x10
            path.write_bytes(damaged)
            again = SnapshotFolder(one.folder.directory, chain.genesis)
            if again.damaged is None:
                assert again.newest == newest
                with pytest.raises(DamagedStore):
                    again.load(newest)
        for cut in (b"", whole[:-1]):
            path.write_bytes(cut)
            again = SnapshotFolder(one.folder.directory, chain.genesis)
            if again.damaged is None:
                with pytest.raises(DamagedStore):
                    again.load(newest)
        path.write_bytes(whole)
    one.folder.load(newest)
