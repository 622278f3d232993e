"""Opening a data folder: from a snapshot, pruned, hurt, cut while it was mended."""

import io
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from tests.unit.past import Chain

from cityid._native import header_hash
from cityid.errors import Pruned, StorageError
from cityid.node.exchange.payloads import Offer
from cityid.node.ports import HeightRecord, WriteStore
from cityid.node.recovery import DAMAGED, REBUILDING, SNAPSHOTS, Opened, base_of, open_data
from cityid.node.snapshot_folder import SnapshotFolder, content_of
from cityid.node.store import VOTE_LOG, Store, create_data
from cityid.node.telemetry import Log
from cityid.node.wal import VoteLog

HEIGHTS = 12


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    chain = Chain(tmp_path / "network")
    chain.admit()
    chain.register(*range(20))
    while chain.ledger.height < HEIGHTS:
        chain.decide()
    return chain


@pytest.fixture
def data(tmp_path: Path, chain: Chain) -> Path:
    """A folder with all heights, and votes for the next."""
    directory = tmp_path / "data"
    create_data(directory, chain.genesis.hash)
    store = Store.open(directory, chain.genesis.hash)
    for height in range(1, HEIGHTS + 1):
        keep(store, chain, height)
    store.close()
    log = VoteLog.open(directory / VOTE_LOG)
    log.recover(HEIGHTS + 1)
    log.append(HEIGHTS + 1, [b"a vote"])
    log.close()
    return directory


def keep(store: Store, chain: Chain, height: int) -> None:
    header, certificate, digests = chain.kept.blocks[height]
    commit = chain.kept.commits[height]
    bodies = [(digests[at : at + 32], chain.kept.bodies[digests[at : at + 32]]) for at in range(0, len(digests), 32)]
    record = HeightRecord(height, header, header_hash(header), certificate, digests, commit.changes, commit.receipts)
    store.write([WriteStore(1, batches=tuple(bodies)), WriteStore(2, height=record)])


def snapshot(directory: Path, chain: Chain) -> Offer:
    """One of the chain's tip, in the folder."""
    folder = SnapshotFolder(directory / SNAPSHOTS, chain.genesis)
    writer = chain.ledger.write_snapshot([])
    chunks = []
    while (found := writer.next_chunk(chain.ledger)) is not None:
        folder.put(*found)
        chunks.append((found[0], len(found[1])))
    manifest = writer.manifest()
    offer = Offer(writer.height, sha256(manifest).digest(), content_of(chunks), sum(size for _, size in chunks))
    folder.put(offer.manifest, manifest)
    folder.keep(offer)
    return offer


@contextmanager
def opened(directory: Path, chain: Chain) -> Iterator[tuple[Opened, list[dict[str, Any]]]]:
    text = io.StringIO()
    with open_data(directory, chain.genesis, Log(text)) as found:
        yield found, [json.loads(line) for line in text.getvalue().splitlines()]


def names(events: list[dict[str, Any]]) -> list[str]:
    return [event["event"] for event in events]


def roots(found: Opened) -> tuple[int, bytes, bytes]:
    return found.ledger.height, found.ledger.state_root, found.ledger.log_root


def expected(chain: Chain) -> tuple[int, bytes, bytes]:
    return chain.ledger.height, chain.ledger.state_root, chain.ledger.log_root


def test_all_is_there(data: Path, chain: Chain) -> None:
    with opened(data, chain) as (found, events):
        assert roots(found) == expected(chain)
        assert (found.recovered.vote_height, found.recovered.vote_entries) == (HEIGHTS + 1, (b"a vote",))
        assert found.recovered.silent_until == 0
        assert names(events) == ["store_opened"]


def test_a_start_begins_with_the_snapshot_and_needs_no_older_block(data: Path, chain: Chain) -> None:
    snapshot(data, chain)
    chain.decide()
    with opened(data, chain) as (found, _):
        keep(found.store, chain, HEIGHTS + 1)
        found.store.prune(HEIGHTS + 1)
        assert found.store.block(HEIGHTS) is None
        assert found.store.certified(1) == chain.kept.certified(1)
        assert found.store.changes(1) is None
        body = chain.kept.blocks[1][2][:32]
        assert found.store.batch(body) is None
        with pytest.raises(Pruned, match="archive"):
            found.store.check_kept(HEIGHTS)
        found.store.check_kept(HEIGHTS + 1)
    with opened(data, chain) as (found, _):
        assert roots(found) == expected(chain)
        assert (found.store.first, found.store.base) == (HEIGHTS + 1, 0)
        assert found.store.block(HEIGHTS + 1) == chain.kept.blocks[HEIGHTS + 1]
        found.store.prune(1_000)
        assert found.store.first == HEIGHTS + 2, "at most up to the tip"


def test_a_store_goes_on_from_a_snapshot_that_another_city_brought(tmp_path: Path, chain: Chain) -> None:
    directory = tmp_path / "joiner"
    create_data(directory, chain.genesis.hash)
    offer = snapshot(directory, chain)
    with opened(directory, chain) as (found, _):  # it stopped before the store took the snapshot over
        assert roots(found) == expected(chain)
        assert (found.store.height, found.store.base, found.store.first) == (HEIGHTS, HEIGHTS, HEIGHTS + 1)
    chain.decide()
    with opened(directory, chain) as (found, _):
        keep(found.store, chain, HEIGHTS + 1)
    with opened(directory, chain) as (found, _):
        assert roots(found) == expected(chain)
        assert found.store.block(HEIGHTS) is None, "a block without its batches is served to nobody"
        loader = found.snapshots.load(offer)
        assert base_of(loader).header == chain.kept.blocks[HEIGHTS][0]


def test_without_the_snapshot_that_it_begins_with_the_store_is_made_anew(tmp_path: Path, chain: Chain) -> None:
    directory = tmp_path / "joiner"
    create_data(directory, chain.genesis.hash)
    snapshot(directory, chain)
    with opened(directory, chain):
        pass
    shutil.rmtree(directory / SNAPSHOTS)
    with opened(directory, chain) as (found, events):
        assert found.ledger.height == found.store.height == 0
        assert "store_damaged" in names(events)


@pytest.mark.parametrize("name", ["tip", "db/CURRENT", "db"])
def test_a_damaged_store_is_made_anew_and_the_votes_stay(data: Path, chain: Chain, name: str) -> None:
    path = data / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    for _ in range(2):  # and the next start finds it so
        with opened(data, chain) as (found, events):
            assert found.ledger.height == found.store.height == 0
            assert (found.recovered.vote_height, found.recovered.vote_entries) == (HEIGHTS + 1, (b"a vote",))
            assert not (data / REBUILDING).exists()
    assert names(events) == ["store_opened"]


def test_a_damaged_store_with_a_snapshot_goes_on_from_there(data: Path, chain: Chain) -> None:
    snapshot(data, chain)
    (data / "tip").unlink()
    with opened(data, chain) as (found, events):
        assert roots(found) == expected(chain)
        assert "store_damaged" in names(events)
        assert found.recovered.vote_entries == (b"a vote",)


def test_an_archive_made_anew_wants_blocks_and_no_snapshot(data: Path, chain: Chain) -> None:
    snapshot(data, chain)
    text = io.StringIO()
    with open_data(data, chain.genesis, Log(text), archive=True) as found:
        assert roots(found) == expected(chain), "with all blocks the snapshot only makes the start short"
    (data / "tip").unlink()
    with open_data(data, chain.genesis, Log(text), archive=True) as found:
        assert found.ledger.height == 0


def test_a_start_that_was_cut_while_it_made_the_store_anew_does_it_again(data: Path, chain: Chain) -> None:
    for cut in ("nothing moved", "database moved", "both moved"):
        (data / REBUILDING).touch()
        (data / DAMAGED).mkdir(exist_ok=True)
        if cut != "nothing moved":
            shutil.rmtree(data / "db")
        if cut == "both moved":
            (data / "tip").unlink()
        with opened(data, chain) as (found, _):
            assert found.ledger.height == 0
            assert found.recovered.vote_entries == (b"a vote",)


def test_votes_that_are_lost_cost_one_height_for_ever(data: Path, chain: Chain) -> None:
    (data / VOTE_LOG).write_bytes(bytes(100))
    for _ in range(2):
        with opened(data, chain) as (found, events):
            assert roots(found) == expected(chain)
            assert found.recovered.silent_until == HEIGHTS + 1
            assert found.recovered.vote_entries == ()
    assert names(events) == ["store_opened"], "it was said once"
    assert (data / f"{VOTE_LOG}.damaged").stat().st_size == 100


def test_without_store_and_votes_it_refuses(data: Path, chain: Chain) -> None:
    (data / VOTE_LOG).write_bytes(b"")
    (data / "tip").unlink()
    before = sorted(path.name for path in data.iterdir())
    with pytest.raises(StorageError, match="new consensus key"), opened(data, chain):
        pass
    assert sorted({path.name for path in data.iterdir()} - {"lock"}) == sorted({*before} - {"lock"})


def test_an_empty_folder_is_a_disk_that_is_not_there(tmp_path: Path, chain: Chain) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(StorageError, match="mounted"), opened(tmp_path / "data", chain):
        pass


def test_the_reserve_comes_back(data: Path, chain: Chain) -> None:
    (data / "reserve").unlink()
    with opened(data, chain) as (_, events):
        assert names(events) == ["store_opened"]
    assert (data / "reserve").stat().st_size == 16 * 1024 * 1024
