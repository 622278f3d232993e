"""Opening a data folder: what was hurt is found here, and what may come from other cities again is cleared away.

Rules, and why each is safe:

- The ledger begins with the newest snapshot that is whole and the store goes on from, then takes the blocks after it.
  A damaged snapshot is dropped: the one before it, or all blocks, do as well.
- A damaged store is moved aside (`damaged`), and an empty one takes its place; blocks or a snapshot come from the
  other cities. The vote log stays: this city signs nothing below the height of the log, and there it says again what
  it said. So nothing is signed twice, and what the store had forgotten is decided and certified by others.
- A damaged or missing vote log is replaced by an empty one, with a store that is whole. A height starts only when the
  one below is in the store, so this city has voted at most at the height after the store's tip: there it stays
  silent, also after another restart.
- Both damaged: nobody knows how far this city voted. It refuses; a new consensus key is the way out.
- A folder without both store and vote log is no hurt node, but a disk that is not mounted: it refuses."""

import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from cityid._native import Genesis, Ledger, SnapshotLoader
from cityid.errors import DamagedStore, StorageError
from cityid.node.ports import Recovered, SnapshotBase, WriteStore
from cityid.node.snapshot_folder import SnapshotFolder
from cityid.node.store import ANEW, VOTE_LOG, Store, sync_folder
from cityid.node.telemetry import Log
from cityid.node.wal import VoteLog

__all__ = ["SNAPSHOTS", "Opened", "base_of", "open_data"]

SNAPSHOTS = "snapshots"
DAMAGED = "damaged"
REBUILDING = "rebuilding"


@dataclass(frozen=True, slots=True)
class Opened:
    """What a node runs on."""

    ledger: Ledger
    store: Store
    votes: VoteLog
    snapshots: SnapshotFolder
    recovered: Recovered


@contextmanager
def open_data(directory: Path, genesis: Genesis, log: Log, *, archive: bool = False) -> Iterator[Opened]:
    """Open store, snapshots and vote log, with the ledger rebuilt from them. Raises `StorageError`.

    An archive passes over a snapshot that its blocks do not reach: it wants the blocks.
    """
    with ExitStack() as stack:
        began = time.monotonic()
        if (directory / REBUILDING).exists():
            _clear(directory, genesis)  # a start was cut while it did so
        try:
            ledger, store, snapshots = _open_store(directory, genesis, log, archive)
        except DamagedStore as damage:
            _check_votes(directory, damage)
            log.error("store_damaged", why=str(damage), next=f"it is made anew; {directory / DAMAGED} has the old one")
            _clear(directory, genesis)
            ledger, store, snapshots = _open_store(directory, genesis, log, archive)
        stack.callback(store.close)
        votes, vote_height, vote_entries = _open_votes(directory, store, ledger, log)
        stack.callback(votes.close)
        if not store.make_reserve():
            log.warning("reserve_missing", next="free some space: without the reserve a full disk is harder to mend")
        recovered = replace(
            store.pending(), vote_height=vote_height, vote_entries=vote_entries, silent_until=votes.silent_until
        )
        log.info(
            "store_opened",
            height=ledger.height,
            records=ledger.records,
            votes=len(vote_entries),
            batches=len(recovered.batches),
            first=store.first,
            seconds=round(time.monotonic() - began, 3),
        )
        yield Opened(ledger, store, votes, snapshots, recovered)


def base_of(snapshot: SnapshotLoader) -> SnapshotBase:
    """What the store keeps of a snapshot."""
    return SnapshotBase(
        snapshot.height, snapshot.header, snapshot.header_hash, snapshot.certificate, tuple(snapshot.walk)
    )


def _open_store(directory: Path, genesis: Genesis, log: Log, archive: bool) -> tuple[Ledger, Store, SnapshotFolder]:
    store = Store.open(directory, genesis.hash)
    try:
        ledger = Ledger(genesis)
        snapshots = SnapshotFolder(directory / SNAPSHOTS, genesis)
        if snapshots.damaged is not None:
            log.error("snapshot_damaged", why=snapshots.damaged)
        _load_snapshot(ledger, store, snapshots, log, archive)
        store.replay(ledger)
    except BaseException:
        store.close()
        raise
    return ledger, store, snapshots


def _load_snapshot(ledger: Ledger, store: Store, snapshots: SnapshotFolder, log: Log, archive: bool) -> None:
    """Begin with the newest snapshot that fits the store."""
    for offer in snapshots.kept:
        if offer.height < store.first - 1:
            return  # the store's base is newer; `replay` says so
        if archive and offer.height > store.height:
            continue
        try:
            loader = snapshots.load(offer)
        except DamagedStore as error:
            log.error("snapshot_damaged", height=offer.height, why=str(error))
            snapshots.drop(offer.manifest)
            continue
        ledger.install(loader)
        if loader.height > store.height:
            # It was fetched, and the node stopped before the store took it over.
            store.write([WriteStore(0, base=base_of(loader))])
        return


def _open_votes(directory: Path, store: Store, ledger: Ledger, log: Log) -> tuple[VoteLog, int, tuple[bytes, ...]]:
    path = directory / VOTE_LOG
    try:
        return _read_votes(path, ledger.height + 1)
    except DamagedStore as damage:
        silent_until = store.height + 1
        log.error("votes_damaged", why=str(damage), silent_until=silent_until)
        if path.exists():
            path.replace(directory / f"{VOTE_LOG}.damaged")
        VoteLog.replace(path, silent_until=silent_until)
        sync_folder(directory)
        return _read_votes(path, ledger.height + 1)


def _read_votes(path: Path, next_height: int) -> tuple[VoteLog, int, tuple[bytes, ...]]:
    votes = VoteLog.open(path)
    try:
        height, entries = votes.recover(next_height)
    except BaseException:
        votes.close()
        raise
    return votes, height, entries


def _check_votes(directory: Path, damage: DamagedStore) -> None:
    """Raises `StorageError` when the vote log does not read either."""
    try:
        votes, _, _ = _read_votes(directory / VOTE_LOG, 1)
    except DamagedStore as error:
        raise StorageError(
            f"Store and vote log are both damaged, so nobody knows at which heights this city voted. {damage} {error} "
            f"Then {ANEW}."
        ) from error
    votes.close()


def _clear(directory: Path, genesis: Genesis) -> None:
    """Move a damaged store aside and make an empty one. Cut at any point, the next start does it again."""
    try:
        (directory / REBUILDING).touch()
        sync_folder(directory)
        aside = directory / DAMAGED
        aside.mkdir(exist_ok=True)
        for name in ("db", "tip"):
            if (directory / name).exists():
                old = aside / name
                if old.is_dir():
                    shutil.rmtree(old)
                (directory / name).rename(old)
        Store.create(directory, genesis.hash)
        (directory / REBUILDING).unlink()
        sync_folder(directory)
    except OSError as error:
        raise StorageError(
            f"The damaged store in {directory} cannot be moved aside: {error.strerror or error}. Check the disk and "
            "the permissions of the folder, then restart."
        ) from error
