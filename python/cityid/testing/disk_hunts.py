"""Hunts in the files of one node, the real ones, in a folder for the purpose: power cuts and damage where they hurt.

`Platter` stands under the vote log: what was written and not synced is gone when the power fails. RocksDB does its
own input and output, so under the store the power fails between two of its calls.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from cityid._native import header_hash
from cityid.errors import StorageError
from cityid.node.ports import HeightRecord, WriteStore
from cityid.node.store import Store
from cityid.node.wal import BLOCK_BYTES, HEAD_BLOCKS, VoteLog
from cityid.testing.checks import Violation

NETWORK = b"n" * 32


class Platter:
    """What of a file survives a power cut: its bytes at the last sync."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.durable = path.read_bytes()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Inside the block every sync in this process counts."""
        real = os.fdatasync

        def syncing(descriptor: int) -> None:
            real(descriptor)
            self.durable = self._path.read_bytes()

        with patch.object(os, "fdatasync", syncing):
            yield


def cut_under_the_vote_log(seed: int) -> None:
    """The power fails after some record: every entry that was reported durable is read again."""
    random = Random(f"vote log {seed}")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "votes"
        VoteLog.create(path)
        log = VoteLog.open(path)
        log.recover(1)
        platter = Platter(path)
        reported: list[bytes] = []
        with platter.watching():
            for _ in range(random.randint(1, 6)):
                entries = [random.randbytes(random.randint(1, 200)) for _ in range(random.randint(1, 3))]
                log.append(1, entries)
                reported += entries
        log.close()
        path.write_bytes(platter.durable)
        again = VoteLog.open(path)
        _, found = again.recover(1)
        again.close()
    if list(found) != reported:
        why = f"{len(reported)} entries of the vote log were reported durable, {len(found)} are read after a power cut"
        raise Violation(why, kind="vote log")


def damaged_vote_log(seed: int) -> None:
    """Both copies of a record that others follow are damaged: the node must not vote on what is left."""
    random = Random(f"damaged log {seed}")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "votes"
        VoteLog.create(path)
        log = VoteLog.open(path)
        log.recover(1)
        size = 100
        for _ in range(4):
            log.append(1, [random.randbytes(size)])  # two copies of a block each
        log.close()
        data = bytearray(path.read_bytes())
        record = HEAD_BLOCKS + 2 * random.randrange(3)
        for copy in (record, record + 1):
            data[copy * BLOCK_BYTES + random.randrange(size)] ^= 1 << random.randrange(8)
        path.write_bytes(data)
        again = VoteLog.open(path)
        try:
            _, found = again.recover(1)
        except StorageError:
            return
        finally:
            again.close()
    raise Violation(f"a vote log with a flipped byte is read, with {len(found)} of 4 entries", kind="vote log")


def database_put_back(seed: int) -> None:
    """The database is one of earlier (lost writes, a damaged manifest): the store must not open shorter than it was."""
    random = Random(f"put back {seed}")
    heights = random.randint(2, 6)
    kept = random.randrange(heights)
    with TemporaryDirectory() as folder:
        directory = Path(folder) / "data"
        Store.create(directory, NETWORK)
        for height in range(heights + 1):
            if height:
                _write(directory, _decided(height))
            if height == kept:
                shutil.copytree(directory / "db", Path(folder) / "old")
        shutil.rmtree(directory / "db")
        shutil.move(Path(folder) / "old", directory / "db")
        try:
            store = Store.open(directory, NETWORK)
        except StorageError:
            return
        found = store.height
        store.close()
    raise Violation(f"a store that had acknowledged height {heights} opens at height {found}", kind="store")


def cut_under_the_store(seed: int) -> None:
    """The power fails before the database has a height: nothing was acknowledged, so the store opens below it."""
    random = Random(f"store {seed}")
    heights = random.randint(0, 5)
    with TemporaryDirectory() as folder:
        directory = Path(folder) / "data"
        Store.create(directory, NETWORK)
        store = Store.open(directory, NETWORK)
        for height in range(1, heights + 1):
            store.write([_decided(height)])
        with patch.object(store, "_database", _Cut(store._database)):
            try:
                store.write([_decided(heights + 1)])
            except StorageError:
                pass
            else:
                raise AssertionError("the power did not fail: this hunt shows nothing")
        store.close()
        try:
            again = Store.open(directory, NETWORK)
        except StorageError as error:
            raise Violation(f"a store that lost nothing does not open: {error}", kind="store") from error
        found = again.height
        again.close()
    if found != heights:
        raise Violation(f"a store that had acknowledged height {heights} opens at height {found}", kind="store")


class _Cut:
    """A database that the power fails before."""

    def __init__(self, database: Any) -> None:
        self._database = database

    def __getattr__(self, name: str) -> Any:
        if name in ("write", "flush_wal"):
            raise OSError("the power failed")
        return getattr(self._database, name)


def _write(directory: Path, wanted: WriteStore) -> None:
    store = Store.open(directory, NETWORK)
    store.write([wanted])
    store.close()


def _decided(height: int) -> WriteStore:
    body, header = b"batch %d" % height, b"header %d" % height
    digest = sha256(body).digest()
    record = HeightRecord(height, header, header_hash(header), b"certificate", digest, b"changes", b"receipts")
    return WriteStore(height, batches=((digest, body),), height=record)
