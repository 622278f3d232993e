"""The tables that this node answers from: taking them in, fetching those that are missing, mending those that are hurt.

Rules. What a sealed range names is kept for ever; so are the versions of a table before the present one, for items'
histories stand in them. A table that no range names is spare: it counts in the budget of the blobs and gives way when
room is needed. A table is missing when a range names it and it is not here, or not whole: then it is fetched from the
other cities, one at a time, with a wait that doubles after each failure. Until it is here, answers about its items are
UNAVAILABLE. With `keep = "own"` only tables that this city signed a storage receipt for are fetched.

At the start every file is read once and compared with its digest, in the background; a damaged one is removed and
missing from then on. Reading and hashing happen in threads.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Final

import trio

from cityid.errors import CityIDError, MalformedInput, StorageError, Unavailable
from cityid.node.blobs import CHUNK_BYTES, Blobs
from cityid.node.config import Keep
from cityid.node.exchange.fetching import Fetcher
from cityid.node.exchange.ports import Against, LedgerReads, Link, Network, TableFile, TableFolder, TableHead
from cityid.node.telemetry import Level, Log

__all__ = ["FileNotHere", "Judge", "Keeper", "rendezvous"]

Judge = Callable[[TableHead], Against]
"""What a table is checked against, once its head is known; raises when that cannot be said or is not worth it."""

FIRST_RETRY_S: Final = 1.0
LAST_RETRY_S: Final = 60.0
LOOK_S: Final = 5.0
"""How often damage that reading found is looked for."""
SUFFIX: Final = ".table"
_NAME: Final = re.compile(r"([0-9a-f]{64})\.table")


class FileNotHere(Unavailable):
    """Neither this node nor a connected city has the file."""


def rendezvous(digest: bytes, cities: Sequence[str]) -> list[str]:
    """The cities in the order in which they are to keep a file: by the hash of digest and city, highest first."""
    prefix = b"cityid/1/rendezvous\x00\x01" + digest  # P2
    return sorted(cities, key=lambda city: sha256(prefix + city.encode()).digest(), reverse=True)


class Keeper:
    """See the head of the file."""

    def __init__(
        self,
        *,
        folder: TableFolder,
        directory: Path,
        ledger: LedgerReads,
        blobs: Blobs,
        fetcher: Fetcher,
        link: Link,
        network: Network,
        keep: Keep,
        log: Log,
    ) -> None:
        self.folder = folder
        self._directory = directory
        self._ledger = ledger
        self._blobs = blobs
        self._fetcher = fetcher
        self._link = link
        self._network = network
        self._keep = keep
        self._log = log
        self._named: set[bytes] = set()  # by a sealed range, now or before
        self._missing: dict[bytes, tuple[float, float]] = {}  # when to try again, and the wait after that
        self._locks: dict[bytes, tuple[trio.Lock, int]] = {}
        self._news = trio.Event()
        self._threads = trio.CapacityLimiter(2)
        self.mended = 0

    @property
    def missing(self) -> int:
        """How many tables are named and not here."""
        return len(self._missing)

    def find(self, digest: bytes) -> Path | None:
        """Where a file lies: a table or a blob."""
        if self.folder.get(digest) is not None:
            return self._table_path(digest)
        return self._blobs.path(digest)

    @contextmanager
    def using(self, digest: bytes) -> Iterator[Path | None]:
        """The same; the file does not give way meanwhile."""
        with self._blobs.budget.using(digest.hex() + SUFFIX), self._blobs.budget.using(digest.hex()):
            yield self.find(digest)

    # ------------------------------------------------------------ taking in

    async def obtain(self, digest: bytes, cities: Sequence[str], judge: Judge | None = None) -> TableFile:
        """The table of that digest: from the folder, from the blobs, or from one of these cities.

        With a judge it is checked (P44), in the same reading if it is new here; what is refused is not taken in. Raises
        `FileNotHere`, `MalformedInput` when the file is no table, `RuleViolation` when it is refused, and what fetching
        and the judge raise.
        """
        with self._lock(digest) as lock:
            await lock.acquire()
            try:
                return await self._obtain(digest, cities, judge)
            finally:
                lock.release()

    async def _obtain(self, digest: bytes, cities: Sequence[str], judge: Judge | None) -> TableFile:
        if (table := self.folder.get(digest)) is not None:
            if judge is not None:
                await trio.to_thread.run_sync(self.folder.check, table, judge(table), limiter=self._threads)
            return table
        if self._blobs.path(digest) is None:
            if not cities:
                raise FileNotHere(
                    f"the file {digest.hex()} is not here, and no city is in reach to fetch it from; upload it first"
                )
            limit = self._network.parameters()["max_table_bytes"]
            await self._fetcher.fetch(digest, cities, limit_bytes=limit)
        return await self._take_in(digest, judge)

    async def _take_in(self, digest: bytes, judge: Judge | None) -> TableFile:
        with self._blobs.using(digest) as path:
            if path is None:
                raise FileNotHere(f"the file {digest.hex()} gave way to newer ones; upload it again")
            against = None
            if judge is not None:
                against = judge(await trio.to_thread.run_sync(self.folder.head, path))
            table = await trio.to_thread.run_sync(self._move_in, digest, against, limiter=self._threads)
        if table.digest != digest:
            await trio.to_thread.run_sync(self.folder.remove, table.digest)
            raise StorageError(f"the file {digest.hex()} changed on the disk; check the disk, then upload it again")
        self._missing.pop(digest, None)
        if digest not in self._named:
            self._count_spare(digest, table.size_bytes)
        elif table.previous is not None:
            self._name(table.previous)
        return table

    def _move_in(self, digest: bytes, against: Against | None) -> TableFile:
        # Other cities go on reading the blob while it is opened and checked here; then they read the table.
        path = self._blobs.second_name(digest)
        try:
            table = self.folder.add(path, against)
        finally:
            path.unlink(missing_ok=True)
        self._blobs.remove(digest)
        return table

    def _count_spare(self, digest: bytes, size: int) -> None:
        def drop() -> None:
            self.folder.remove(digest)
            self._blobs.unmark_signed(digest)

        self._blobs.budget.add(digest.hex() + SUFFIX, size, drop)

    async def mark_signed(self, digest: bytes) -> None:
        """Remembers that this city signed for a table; durable when it returns."""
        await trio.to_thread.run_sync(self._blobs.mark_signed, digest)

    # ------------------------------------------------------------ what the state names

    def on_sealed(self, digests: Sequence[bytes]) -> None:
        """A height sealed these tables."""
        for digest in digests:
            self._name(digest)

    def _name(self, digest: bytes) -> None:
        """From now on this table is kept, and the versions before it; those that are not here are wanted."""
        following: bytes | None = digest
        while following is not None and following not in self._named:
            self._named.add(following)
            self._blobs.budget.remove(following.hex() + SUFFIX)
            if (table := self.folder.get(following)) is None:
                self._want(following)
                return
            following = table.previous

    def _want(self, digest: bytes) -> None:
        if self._keep == "all" or self._blobs.is_signed(digest):
            self._missing.setdefault(digest, (0.0, FIRST_RETRY_S))
            self._news.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Brings what is missing until cancelled. Starts once it is known what that is."""
        for _, _, _, _, digest in await trio.to_thread.run_sync(self._ledger.sealed_tables):
            self._name(digest)
        for digest in self.folder.digests():
            if digest not in self._named and (table := self.folder.get(digest)) is not None:
                self._count_spare(digest, table.size_bytes)
        self._log.info("tables_opened", tables=len(self.folder.digests()), missing=len(self._missing))
        task_status.started()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read_all)
            while True:
                self._look_for_damage()
                now = trio.current_time()
                due = next((digest for digest, (at, _) in self._missing.items() if at <= now), None)
                if due is not None:
                    await self._bring(due)
                    continue
                self._news = trio.Event()
                with trio.move_on_at(min([now + LOOK_S, *(at for at, _ in self._missing.values())])):
                    await self._news.wait()

    def _look_for_damage(self) -> None:
        for said in self.folder.damaged():
            match = _NAME.search(said)
            if match is None or (digest := bytes.fromhex(match[1])) in self._missing:
                continue
            self._log.limited("error", "table_damaged", digest=match[1], why=said)
            if digest in self._named:
                self._want(digest)
            else:
                self.folder.remove(digest)
                self._blobs.budget.remove(digest.hex() + SUFFIX)

    async def _read_all(self) -> None:
        """Compares every file with its digest."""
        for digest in self.folder.digests():
            path = self._table_path(digest)
            try:
                found = await trio.to_thread.run_sync(_hash, path)
            except FileNotFoundError:
                found = b""
            except OSError as error:
                self._log.error("table_unreadable", digest=digest.hex(), why=str(error))
                found = b""
            if found != digest and self.folder.get(digest) is not None:
                self._log.error("table_damaged", digest=digest.hex())
                await trio.to_thread.run_sync(self.folder.remove, digest)
                if digest in self._named:
                    self._want(digest)
                else:
                    self._blobs.budget.remove(digest.hex() + SUFFIX)

    async def _bring(self, digest: bytes) -> None:
        _, wait = self._missing[digest]
        cities = rendezvous(digest, sorted(self._link.connected))
        try:
            table = await self.obtain(digest, cities)
            self._check_fits(table)
        except CityIDError as error:
            level: Level = "warning" if isinstance(error, Unavailable) else "error"
            self._log.limited(level, "table_missing", digest=digest.hex(), why=str(error))
            if isinstance(error, MalformedInput):
                wait = LAST_RETRY_S  # cities signed for a file that is no table: only a mended one of theirs helps
            if digest in self._missing:
                self._missing[digest] = (trio.current_time() + wait, min(2 * wait, LAST_RETRY_S))
            return
        self.mended += 1
        self._log.info("table_kept", digest=digest.hex(), size_bytes=table.size_bytes)

    def _check_fits(self, table: TableFile) -> None:
        """The range's record names this file with this very root."""
        text = self._ledger.snapshot().range(table.city, table.cls, table.base, table.size)
        named = json.loads(text).get("table") if text is not None else None
        if named is not None and named["digest"] == table.digest.hex() and named["root"] != table.root.hex():
            self._log.error("table_does_not_fit", digest=table.digest.hex(), root=table.root.hex(), named=named["root"])

    @contextmanager
    def _lock(self, digest: bytes) -> Iterator[trio.Lock]:
        lock, users = self._locks.get(digest, (None, 0))
        lock = lock or trio.Lock()
        self._locks[digest] = (lock, users + 1)
        try:
            yield lock
        finally:
            lock, users = self._locks.pop(digest)
            if users > 1:
                self._locks[digest] = (lock, users - 1)

    def _table_path(self, digest: bytes) -> Path:
        return self._directory / (digest.hex() + SUFFIX)


def _hash(path: Path) -> bytes:
    hashed = sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            hashed.update(chunk)
    return hashed.digest()
