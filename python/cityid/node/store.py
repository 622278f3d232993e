"""The store: decided heights, batches, and the proposals of the undecided height, in RocksDB.

Rules, each with a reason that was measured:

- One height is one atomic write. Writing (`sync=False`) and syncing (`flush_wal(True)`, which lets other threads run)
  are two calls; a write is reported durable after the second.
- The log of RocksDB is opened with `tolerate_corrupted_tail_records`: its default drops acknowledged keys silently.
- A damaged MANIFEST may open as an empty database and delete the tables: so a tip marker of its own, with two slots
  written in turn, is synced after each height and compared on a read-only open before the database is opened to write.
- Iteration ends early on a damaged table without an error unless `status()` is asked.
- Every error becomes a `StorageError`; after one the store takes no write any more, reads go on.

A store may begin at a snapshot (`base`) instead of height 1, and drop the bodies and changes of old heights (`prune`):
`first` is the oldest height that it has whole. Headers and certificates stay, and those of set changes below its base
are there (`certified`).

Keys: `b` height → header, certificate, digests; `s` height → changes, receipts; `e` height → evidence; `B` digest →
batch; `p` digest → nothing, while the batch is in no block; `P` height value → a proposal; `c` height → header,
certificate of a set change below the base; `n` → base and first; `t` → the tip; `g` → genesis hash; `f` → format of the
store.
"""

import fcntl
import os
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from rocksdict import AccessType, DBCompressionType, DBRecoveryMode, Options, Rdict, WriteBatch, WriteOptions

from cityid._native import Ledger, header_hash
from cityid.errors import DamagedStore, Pruned, StorageError, VerificationError
from cityid.node.messages import DIGEST_BYTES
from cityid.node.ports import PendingProposal, Recovered, SnapshotBase, WriteStore
from cityid.node.wal import VoteLog

REPLAY_BYTES = 32 * 1024 * 1024  # of one call to Ledger.replay
RECENT_HEIGHTS = 64  # whose batches are remembered as gone
RESERVE_BYTES = 16 * 1024 * 1024
PRUNE_HEIGHTS = 256  # of one write
FORMAT = b"1"
VOTE_LOG = "votes"
ANEW = "put the file back as it was, or start this city anew from its peers with a new consensus key"
"""The cure for a store that lost something: an older copy is none, it would forget votes."""

_DAMAGE = (
    "orrupt",
    "No such file",
    "does not exist",
    "truncated",
    "mismatch",
    "Bad table",
    "file is too short",
    "unpack",
)
"""What texts of RocksDB, and of taking values apart, say of bytes that nobody wrote."""

_HEIGHT = struct.Struct(">Q")
_LENGTH = struct.Struct(">I")
_TIP = struct.Struct(">Q32sI")
_BASE = struct.Struct(">QQ")
_SLOT_BYTES = 4_096
_Value = TypeVar("_Value")


class Store:
    """An open store. Every method blocks; writes come from one thread at a time."""

    def __init__(self, directory: Path, database: Rdict, marker: int, lock: int) -> None:
        self._directory = directory
        self._database = database
        self._marker = marker
        self._lock = lock
        self._options = WriteOptions()
        self._options.sync = False
        self._proposals: dict[bytes, int] = {}  # keys on disk, with their heights
        self._failed: str | None = None
        self.height = 0
        self.base = 0
        """The height of the snapshot that it begins with; 0 for the genesis."""
        self.first = 1
        """The oldest height whose block, changes and batches are here."""

    # ------------------------------------------------------------ life

    @classmethod
    def create(cls, directory: Path, genesis_hash: bytes) -> None:
        """Make an empty store for this network; refuses a folder that has one."""
        with _storage_errors(directory, "cannot be made"):
            directory.mkdir(parents=True, exist_ok=True)
            if (directory / "tip").exists() or (directory / "db").exists():
                raise StorageError(
                    f"{directory} has a store already. Name another folder, or move this one away first."
                )
            database = Rdict(str(directory / "db"), _options(create=True))
            batch = WriteBatch(raw_mode=True)
            batch.put(b"g", genesis_hash)
            batch.put(b"f", FORMAT)
            options = WriteOptions()
            options.sync = True
            database.write(batch, options)
            database.close()
            _reserve(directory / "reserve")
            descriptor = os.open(directory / "tip", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            os.pwrite(descriptor, bytes(2 * _SLOT_BYTES), 0)
            os.fsync(descriptor)
            os.close(descriptor)
            sync_folder(directory)

    @classmethod
    def open(cls, directory: Path, genesis_hash: bytes) -> "Store":
        """Open a store for this network, after comparing it with its tip marker."""
        if not (directory / "tip").exists():
            if (directory / "db").exists():
                raise _lost(
                    directory, "its tip marker, the file `tip`, is not there, so nobody knows where it must end"
                )
            if (directory / VOTE_LOG).exists():
                raise _lost(directory, "neither `tip` nor `db` is there, and a vote log is")
            raise StorageError(
                f"{directory} holds no store. Look whether its disk is mounted and `data` in node.toml is right. Only "
                "a city that has never voted makes a new one, with `cityid init --network`."
            )
        with ExitStack() as stack:
            lock = _lock(directory)
            stack.callback(os.close, lock)
            with _storage_errors(directory, "cannot be opened"):
                marker = os.open(directory / "tip", os.O_RDWR)
                stack.callback(os.close, marker)
                _compare(directory, marker, genesis_hash)
                database = Rdict(str(directory / "db"), _options(create=False))
            stack.pop_all()  # they are the store's from here on
        store = cls(directory, database, marker, lock)
        try:
            store.height = store._tip()
            if (found := store._get(b"n")) is not None:
                store.base, store.first = _BASE.unpack(found)
        except BaseException:
            store.close()
            raise
        return store

    def make_reserve(self) -> bool:
        """Set space aside again that an operator gave back; whether it is there."""
        path = self._directory / "reserve"
        try:
            if not path.exists() or path.stat().st_size < RESERVE_BYTES:
                _reserve(path)
        except OSError:
            # The disk is still full. Half a reserve is none, and its bytes are needed.
            path.unlink(missing_ok=True)
            return False
        return True

    def close(self) -> None:
        """Close files and release the lock; raises on a disk that does not take what RocksDB has left to write."""
        self._failed = "it is closed"
        try:
            with _storage_errors(self._directory, "cannot be closed"):
                self._database.close()
        finally:
            os.close(self._marker)
            os.close(self._lock)

    # ------------------------------------------------------------ recovery

    def replay(self, ledger: Ledger) -> None:
        """Bring the ledger from where it is to the tip by the stored heights, in chunks of bounded size; roots are
        compared. Raises `DamagedStore`.
        """
        if not self.first - 1 <= ledger.height <= self.height:
            raise self._lost(
                f"its heights {self.first} to {self.height} do not follow the snapshot of height {ledger.height}"
            )
        try:
            self._replay(ledger)
        except (ValueError, VerificationError, struct.error) as error:  # every InputError is a ValueError
            raise self._lost(f"its blocks do not follow from each other: {error}") from error
        if ledger.height != self.height:
            raise self._lost(f"its tip says height {self.height}, but blocks end at {ledger.height}")

    def _replay(self, ledger: Ledger) -> None:
        headers: list[bytes] = []
        changes: list[bytes] = []
        receipts: list[bytes] = []
        certificate = b""
        size_bytes = 0
        expected = ledger.height + 1
        blocks, states = self._range(b"b", expected), self._range(b"s", expected)
        for (height, block), (_, state) in zip(blocks, states, strict=True):
            if height != expected:
                raise self._lost(f"height {expected} is not there, but height {height} is")
            header, certificate, _ = _split(block, 3)
            changed, receipt = _split(state, 2)
            headers.append(header)
            changes.append(changed)
            receipts.append(receipt)
            size_bytes += len(state)
            expected += 1
            if size_bytes >= REPLAY_BYTES:
                ledger.replay(headers, changes, receipts, certificate)
                headers, changes, receipts, size_bytes = [], [], [], 0
        if headers:
            ledger.replay(headers, changes, receipts, certificate)

    def pending(self) -> Recovered:
        """Batches without a block, proposals of the height above the tip, and the batches of the last blocks."""
        bodies = []
        for digest, _ in self._scan(b"p", DIGEST_BYTES):
            if (body := self.batch(digest)) is None:
                raise self._lost(f"batch {digest.hex()} is not there, but was acknowledged")
            bodies.append(body)
        proposals = []
        for key, stored in self._scan(b"P", _HEIGHT.size + 32):
            (height,) = _HEIGHT.unpack_from(key)
            header, digests = _split(stored, 2)
            self._proposals[b"P" + key] = height
            if height > self.height:
                proposals.append(PendingProposal(height, key[_HEIGHT.size :], header, digests))
        recent = []
        for height in range(max(self.first, self.height - RECENT_HEIGHTS + 1), self.height + 1):
            if (found := self.block(height)) is not None:
                recent += [found[2][at : at + DIGEST_BYTES] for at in range(0, len(found[2]), DIGEST_BYTES)]
        return Recovered(proposals=tuple(proposals), batches=tuple(bodies), recent=tuple(recent), first=self.first)

    # ------------------------------------------------------------ writing

    def write(self, writes: Sequence[WriteStore]) -> None:
        """Make these durable, all at once. After a StorageError every later call raises one too."""
        if self._failed is not None:
            raise StorageError(
                f"The store {self._directory} takes no more writes: {self._failed}. Check the disk, then restart."
            )
        batch = WriteBatch(raw_mode=True)
        tip: tuple[int, bytes] | None = None
        for write in writes:
            for digest, body in write.batches:
                batch.put(b"B" + digest, body)
                batch.put(b"p" + digest, b"")
            for proposal in write.proposals:
                key = b"P" + _HEIGHT.pack(proposal.height) + proposal.value
                batch.put(key, _join(proposal.header, proposal.digests))
                self._proposals[key] = proposal.height
            for digest in write.forget:
                batch.delete(b"B" + digest)
                batch.delete(b"p" + digest)
            if (base := write.base) is not None:
                tip = self._put_base(batch, base)
            if (record := write.height) is not None:
                key = _HEIGHT.pack(record.height)
                batch.put(b"b" + key, _join(record.header, record.certificate, record.digests))
                batch.put(b"s" + key, _join(record.changes, record.receipts))
                if record.evidence:
                    batch.put(b"e" + key, _join(*record.evidence))
                batch.put(b"t", key + record.header_hash)
                for at in range(0, len(record.digests), DIGEST_BYTES):
                    batch.delete(b"p" + record.digests[at : at + DIGEST_BYTES])
                for old in [old for old, height in self._proposals.items() if height <= record.height]:
                    batch.delete(old)
                    del self._proposals[old]
                tip = record.height, record.header_hash
        try:
            with _storage_errors(self._directory, "cannot be written"):
                self._database.write(batch, self._options)
                self._database.flush_wal(True)
                if tip is not None:
                    self._mark(*tip)
        except StorageError as error:
            self._failed = str(error)
            raise
        if tip is not None:
            self.height = tip[0]
        for write in writes:
            if write.base is not None:
                self.base, self.first = write.base.height, write.base.height + 1

    def _put_base(self, batch: WriteBatch, base: SnapshotBase) -> tuple[int, bytes]:
        """Go on from a snapshot. What older heights left is never whole again: it goes with the next `prune`."""
        key = _HEIGHT.pack(base.height)
        batch.put(b"b" + key, _join(base.header, base.certificate, b""))
        batch.put(b"n", _BASE.pack(base.height, base.height + 1))
        batch.put(b"t", key + base.header_hash)
        for header, certificate in base.walk:
            batch.put(b"c" + certificate[: _HEIGHT.size], _join(header, certificate))
        for old in [old for old, height in self._proposals.items() if height <= base.height]:
            batch.delete(old)
            del self._proposals[old]
        return base.height, base.header_hash

    def prune(self, below: int) -> None:
        """Drop bodies, changes and receipts of the heights below; at most up to the tip. The caller has a snapshot of
        `below` - 1 or later. One thread at a time; may run beside `write`.
        """
        below = min(below, self.height + 1)
        if self._failed is not None or below <= self.first:
            return
        # First it is said that they are gone, then they go: whoever reads meanwhile is not told less than there is.
        self.first = below
        with _storage_errors(self._directory, "cannot be pruned"):
            self._database.put(b"n", _BASE.pack(self.base, below), self._options)
            self._database.flush_wal(True)
            heights: list[int] = []
            for height, _ in self._range(b"s"):
                if height >= below:
                    break
                heights.append(height)
                if len(heights) == PRUNE_HEIGHTS:
                    self._drop(heights)
                    heights = []
            self._drop(heights)

    def _drop(self, heights: Sequence[int]) -> None:
        batch = WriteBatch(raw_mode=True)
        for height in heights:
            found = self._block(height)
            digests = b"" if found is None else found[2]
            for at in range(0, len(digests), DIGEST_BYTES):
                batch.delete(b"B" + digests[at : at + DIGEST_BYTES])
            batch.delete(b"s" + _HEIGHT.pack(height))
        self._database.write(batch, self._options)

    def _mark(self, height: int, hash_: bytes) -> None:
        slot = _TIP.pack(height, hash_, _tip_checksum(height, hash_))
        os.pwrite(self._marker, slot, (height % 2) * _SLOT_BYTES)
        os.fdatasync(self._marker)

    # ------------------------------------------------------------ reading

    def batch(self, digest: bytes) -> bytes | None:
        """The body of a batch."""
        return self._get(b"B" + digest)

    def block(self, height: int) -> tuple[bytes, bytes, bytes] | None:
        """Header, certificate and digests of a decided height that is here whole."""
        return None if height < self.first else self._block(height)

    def _block(self, height: int) -> tuple[bytes, bytes, bytes] | None:
        if (found := self._get(b"b" + _HEIGHT.pack(height))) is None:
            return None
        header, certificate, digests = _split(found, 3)
        return header, certificate, digests

    def certified(self, height: int) -> tuple[bytes, bytes] | None:
        """Header and certificate of a decided height; of a set change below the base, too."""
        if (found := self._block(height)) is not None:
            return found[0], found[1]
        if (stored := self._get(b"c" + _HEIGHT.pack(height))) is None:
            return None
        header, certificate = _split(stored, 2)
        return header, certificate

    def check_kept(self, height: int) -> None:
        """Raises `Pruned` for a height whose batches and changes this node does not keep (any more)."""
        if 0 < height < self.first:
            raise Pruned(
                f"This node keeps blocks from height {self.first} on; what height {height} held is not here. An "
                "archive node has it: ask another city, or the operator of one."
            )

    def changes(self, height: int) -> bytes | None:
        """Every record version that a decided height wrote, as `Commit.changes` gave it."""
        return self._state(height, 0)

    def receipts(self, height: int) -> bytes | None:
        """The receipts of a decided height, as `Commit.receipts` gave them."""
        return self._state(height, 1)

    def _state(self, height: int, part: int) -> bytes | None:
        found = self._get(b"s" + _HEIGHT.pack(height))
        return None if found is None else _split(found, 2)[part]

    def _tip(self) -> int:
        found = self._get(b"t")
        return 0 if found is None else int(_HEIGHT.unpack_from(found)[0])

    def _get(self, key: bytes) -> bytes | None:
        return _guarded(self._directory, lambda: self._database.get(key))

    def _range(self, prefix: bytes, first: int = 0) -> Iterator[tuple[int, bytes]]:
        for key, value in self._scan(prefix, _HEIGHT.size, _HEIGHT.pack(first)):
            yield int(_HEIGHT.unpack(key)[0]), value

    def _scan(self, prefix: bytes, width: int, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Keys of this prefix without it, from `start` on, with their values, ascending."""
        iterator = _guarded(self._directory, self._database.iter)
        iterator.seek(prefix + start)
        while iterator.valid():
            key = iterator.key()
            if not key.startswith(prefix) or len(key) != len(prefix) + width:
                break
            yield key[len(prefix) :], iterator.value()
            iterator.next()
        _guarded(self._directory, iterator.status)

    def _lost(self, what: str) -> DamagedStore:
        return _lost(self._directory, what)


def create_data(directory: Path, genesis_hash: bytes) -> None:
    """Make the data folder of a new city, with an empty store and an empty vote log: whole, or not at all."""
    with _storage_errors(directory, "cannot be made"):
        building = directory.with_name(directory.name + ".new")
        shutil.rmtree(building, ignore_errors=True)
        Store.create(building, genesis_hash)
        VoteLog.create(building / VOTE_LOG)
        sync_folder(building)
        building.rename(directory)
        sync_folder(directory.parent)


def sync_folder(directory: Path) -> None:
    """Make new names in a folder durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, data: bytes) -> None:
    """Put these bytes under a name in one step, durably: a cut leaves the old ones or the new ones."""
    beside = path.with_name(path.name + ".new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    beside.rename(path)
    sync_folder(path.parent)


def _options(*, create: bool) -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(create)
    options.set_wal_recovery_mode(DBRecoveryMode.tolerate_corrupted_tail_records())
    options.set_compression_type(DBCompressionType.none())
    options.set_max_background_jobs(2)
    options.set_write_buffer_size(64 * 1024 * 1024)
    options.set_max_total_wal_size(256 * 1024 * 1024)
    return options


def _lock(directory: Path) -> int:
    with _storage_errors(directory, "cannot be locked"):
        lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise StorageError(
            f"Another node runs on {directory}: its lock is held. Two nodes of one city would vote twice. Stop the "
            "other one first."
        ) from error
    return lock


def _compare(directory: Path, marker: int, genesis_hash: bytes) -> None:
    """Read-only: the database must know the network, and the height that the marker names."""
    database = Rdict(str(directory / "db"), _options(create=False), access_type=AccessType.read_only())
    try:
        found = database.get(b"g")
        if found is not None and found != genesis_hash:
            raise StorageError(
                f"The store {directory} belongs to another network: its genesis hash is {found.hex()}, this node's is "
                f"{genesis_hash.hex()}. Name the right data folder or the right genesis file."
            )
        height, hash_ = _read_marker(marker)
        block = database.get(b"b" + _HEIGHT.pack(height)) if height else None
        if found is None or (height and (block is None or header_hash(_split(block, 3)[0]) != hash_)):
            raise _lost(directory, f"its marker names height {height}, and the database does not hold that block")
    finally:
        database.close()


def _read_marker(marker: int) -> tuple[int, bytes]:
    """The higher of the two slots that read."""
    best = 0, b""
    for offset in (0, _SLOT_BYTES):
        height, hash_, checksum = _TIP.unpack(os.pread(marker, _TIP.size, offset))
        if height > best[0] and _tip_checksum(height, hash_) == checksum:
            best = height, hash_
    return best


def _tip_checksum(height: int, hash_: bytes) -> int:
    return zlib.crc32(_HEIGHT.pack(height) + hash_)


def _reserve(path: Path) -> None:
    """Space to give back on a full disk, on which RocksDB would not even open."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
    finally:
        os.close(descriptor)


def _lost(directory: Path, what: str) -> DamagedStore:
    return DamagedStore(
        f"The store {directory} lost what it had acknowledged: {what}. Do not vote on it. Check the disk. Then {ANEW}."
    )


def _join(*parts: bytes) -> bytes:
    return b"".join(piece for part in parts for piece in (_LENGTH.pack(len(part)), part))


def _split(data: bytes, count: int) -> list[bytes]:
    parts = []
    position = 0
    for _ in range(count):
        start = position + _LENGTH.size
        position = start + int(_LENGTH.unpack_from(data, position)[0])
        parts.append(data[start:position])
    return parts


def _guarded(directory: Path, read: Callable[[], _Value]) -> _Value:
    with _storage_errors(directory, "cannot be read"):
        return read()


@contextmanager
def _storage_errors(directory: Path, what: str) -> Iterator[Any]:
    """RocksDB raises plain `Exception` with a text: turn it and OSError into StorageError."""
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        text = str(error)
        if "No space" in text:
            reserve = f"deleting {directory / 'reserve'} gives back {RESERVE_BYTES // 2**20} MB"
            advice = f"Free some space ({reserve}), then restart"
        elif any(sign in text for sign in _DAMAGE):
            raise DamagedStore(
                f"The store {directory} {what}: {text.rstrip('.')}. The disk gave back something else than was "
                f"written: check it. Then {ANEW}."
            ) from error
        else:
            advice = "Check the disk and the permissions of the folder, then restart"
        raise StorageError(f"The store {directory} {what}: {text.rstrip('.')}. {advice}.") from error
