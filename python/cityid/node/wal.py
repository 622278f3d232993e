"""The vote log: what this city's votes of the running height follow from.

One file, preallocated, so that making it durable touches no metadata. It holds one height: the first record of a height
is written over the file's beginning, which is safe because a height starts only after the one below is durable in the
store. A record is everything that one call of `append` brought, under one checksum:

    length(4) crc32(4) height(8) sequence(4) payload          crc32 is over height, sequence and payload
    payload: length(4) and bytes for each entry

Rules:

- Every record stands twice, one copy behind the other, each at the start of a block of 4 KiB. `append` returns when
  both are durable, and the next record is written only then. So after a cut at most the last record reads in no copy,
  and that one no vote followed from; and a record that was durable still reads after any one byte of the file
  changed.
- The file begins with its head, twice: its size, and up to which height this city may have voted without a log of it
  (`silent_until`). A head that does not read, a file that is shorter than it says, or a record that is missing before
  one that reads: the log is damaged (`DamagedStore`), and nobody knows what stood in it. `replace` puts an empty one
  in its place, under which this city never votes at the heights at which it may have voted.
- After a failed write or sync the log is closed for good: what the disk then holds is unknown (fsync may report an
  error only once)."""

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from cityid.errors import DamagedStore, StorageError

__all__ = ["VoteLog"]

BLOCK_BYTES: Final = 4_096
PREALLOCATED_BYTES: Final = 4 * 1024 * 1024
"""The size of a new log, and by how much it grows."""
MAX_RECORD_BYTES: Final = 64 * 1024 * 1024
HEAD_BLOCKS: Final = 2

_MAGIC: Final = b"cityid votes 2\0\0"
_FILE: Final = struct.Struct(">16sQQI")
_HEAD = struct.Struct(">IIQI")
_CHECKED = struct.Struct(">QI")
_LENGTH = struct.Struct(">I")


class VoteLog:
    """The open vote log. Every method blocks; call them from a thread, one at a time."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._position = HEAD_BLOCKS * BLOCK_BYTES
        self._size = 0
        self._height = 0
        self._sequence = 0
        self._broken = False
        self.silent_until = 0
        """Up to this height the city may have voted, and this log does not know what."""

    @classmethod
    def create(cls, path: Path, *, silent_until: int = 0) -> None:
        """Make an empty log; its folder must be synced by the caller."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise _storage_error(path, "cannot be made", error) from error
        try:
            cls.make(path, descriptor, silent_until=silent_until)
        finally:
            os.close(descriptor)

    @staticmethod
    def make(path: Path, descriptor: int, *, silent_until: int = 0) -> None:
        """Make an empty file an empty log; durable when it returns."""
        try:
            _write_all(descriptor, bytes(PREALLOCATED_BYTES), 0)
            for block in range(HEAD_BLOCKS):
                _write_all(descriptor, _head(PREALLOCATED_BYTES, silent_until), block * BLOCK_BYTES)
            os.fsync(descriptor)
        except OSError as error:
            raise _storage_error(path, "cannot be made", error) from error

    @classmethod
    def replace(cls, path: Path, *, silent_until: int) -> None:
        """Put an empty log in the place of a damaged one, in one step. Its folder must be synced by the caller."""
        beside = path.with_name(path.name + ".new")
        beside.unlink(missing_ok=True)
        cls.create(beside, silent_until=silent_until)
        beside.rename(path)

    @classmethod
    def open(cls, path: Path) -> "VoteLog":
        """Open an existing log; `recover` comes next. Raises `DamagedStore` when there is none."""
        try:
            return cls(path, os.open(path, os.O_RDWR))
        except FileNotFoundError as error:
            raise _damaged(path, "it is not there") from error
        except OSError as error:
            raise _storage_error(path, "cannot be opened", error) from error

    def recover(self, next_height: int) -> tuple[int, tuple[bytes, ...]]:
        """(height, entries) of the running height, where the store ends at `next_height` - 1.

        A log of an older height is as good as empty. A newer one is returned as it is: the caller sees that its store
        lost something. Raises `DamagedStore`.
        """
        try:
            data = os.pread(self._descriptor, os.fstat(self._descriptor).st_size, 0)
            self._read_head(data)
            found = _records(data)
            height = max((height for height, _ in found), default=0)
            if height < next_height:
                found, height = {}, 0
            records = [found.get((height, sequence)) for sequence in range(_count(found, height))]
            entries: list[bytes] = []
            for sequence, record in enumerate(records):
                if record is None:
                    raise _damaged(self._path, f"record {sequence} of height {height} does not read, but later ones do")
                position, payload, copies = record
                entries += _entries(payload)
                if copies < 2:  # one copy is hurt, or was cut off: from now on there are two again
                    self._write(position, height, sequence, payload)
                self._position = position + 2 * _padded(payload)
        except OSError as error:
            raise _storage_error(self._path, "cannot be read", error) from error
        self._height, self._sequence = height, len(records)
        return height, tuple(entries)

    def append(self, height: int, entries: Sequence[bytes]) -> None:
        """Make these entries durable; the first ones of a height replace the log of the height before."""
        if self._broken:
            raise StorageError(f"The vote log {self._path} failed before and is closed. Check the disk, then restart.")
        if height < self._height:
            raise StorageError(f"The vote log is at height {self._height}; an entry of height {height} is a bug.")
        if height > self._height:
            self._height, self._sequence, self._position = height, 0, HEAD_BLOCKS * BLOCK_BYTES
        payload = b"".join(part for entry in entries for part in (_LENGTH.pack(len(entry)), entry))
        try:
            self._make_room(self._position + 2 * _padded(payload))
            self._write(self._position, height, self._sequence, payload)
        except OSError as error:
            self._broken = True
            raise _storage_error(self._path, "cannot be written", error) from error
        self._position += 2 * _padded(payload)
        self._sequence += 1

    def close(self) -> None:
        """Close the file; nothing is pending."""
        self._broken = True
        os.close(self._descriptor)

    def _read_head(self, data: bytes) -> None:
        heads = [_read_head(data[block * BLOCK_BYTES :]) for block in range(HEAD_BLOCKS)]
        good = [head for head in heads if head is not None]
        if not good:
            raise _damaged(self._path, "its head does not read")
        # A cut while the log grew leaves the two unequal; the file is then larger than the smaller one says.
        self._size, self.silent_until = min(good)
        if len(data) < self._size:
            raise _damaged(self._path, f"it has {len(data)} bytes of {self._size}")
        if len(set(heads)) > 1:
            self._write_heads()

    def _write_heads(self) -> None:
        """One after the other: one of them reads at any time."""
        for block in range(HEAD_BLOCKS):
            _write_all(self._descriptor, _head(self._size, self.silent_until), block * BLOCK_BYTES)
            os.fsync(self._descriptor)

    def _make_room(self, end: int) -> None:
        if end <= self._size:
            return
        more = -(-(end - self._size) // PREALLOCATED_BYTES) * PREALLOCATED_BYTES
        _write_all(self._descriptor, bytes(more), self._size)
        os.fsync(self._descriptor)
        self._size += more
        self._write_heads()

    def _write(self, position: int, height: int, sequence: int, payload: bytes) -> None:
        checksum = zlib.crc32(payload, zlib.crc32(_CHECKED.pack(height, sequence)))
        record = _HEAD.pack(len(payload), checksum, height, sequence) + payload
        _write_all(self._descriptor, record.ljust(_padded(payload), b"\0") + record, position)
        os.fdatasync(self._descriptor)


def _head(size: int, silent_until: int) -> bytes:
    fields = _FILE.pack(_MAGIC, size, silent_until, 0)[:-4]
    return fields + zlib.crc32(fields).to_bytes(4, "big")


def _read_head(data: bytes) -> tuple[int, int] | None:
    if len(data) < _FILE.size:
        return None
    magic, size, silent_until, checksum = _FILE.unpack_from(data)
    if magic != _MAGIC or zlib.crc32(data[: _FILE.size - 4]) != checksum:
        return None
    return size, silent_until


def _padded(payload: bytes) -> int:
    """Bytes of one copy: whole blocks."""
    return -(-(_HEAD.size + len(payload)) // BLOCK_BYTES) * BLOCK_BYTES


def _records(data: bytes) -> dict[tuple[int, int], tuple[int, bytes, int]]:
    """Every record of which a copy reads, of whatever height, where it begins, and how many copies are good."""
    found: dict[tuple[int, int], tuple[int, bytes, int]] = {}
    position = HEAD_BLOCKS * BLOCK_BYTES
    while position < len(data):
        record = _record_at(data, position)
        if record is None:
            position += BLOCK_BYTES
            continue
        height, sequence, payload = record
        size = _padded(payload)
        if _record_at(data, position + size) == record:
            found[height, sequence] = position, payload, 2
            position += 2 * size
        else:
            # Either copy may be the one that is left. The first block of a log is no second copy.
            is_first = position == HEAD_BLOCKS * BLOCK_BYTES or _starts_record(data, position, height, sequence, found)
            found.setdefault((height, sequence), (position if is_first else position - size, payload, 1))
            position += size
    return found


def _starts_record(
    data: bytes, position: int, height: int, sequence: int, found: dict[tuple[int, int], tuple[int, bytes, int]]
) -> bool:
    """Whether the record before ends here, so that what stands here is a first copy."""
    before = found.get((height, sequence - 1))
    return before is not None and before[0] + 2 * _padded(before[1]) == position


def _count(found: dict[tuple[int, int], tuple[int, bytes, int]], height: int) -> int:
    """One more than the last sequence of a height."""
    return max((sequence + 1 for at, sequence in found if at == height), default=0)


def _record_at(data: bytes, position: int) -> tuple[int, int, bytes] | None:
    """(height, sequence, payload) of a good record, or None."""
    start = position + _HEAD.size
    if start > len(data):
        return None
    length, checksum, height, sequence = _HEAD.unpack_from(data, position)
    if not 0 < length <= MAX_RECORD_BYTES or start + length > len(data):
        return None
    payload = data[start : start + length]
    if zlib.crc32(payload, zlib.crc32(_CHECKED.pack(height, sequence))) != checksum:
        return None
    return height, sequence, payload


def _entries(payload: bytes) -> Iterator[bytes]:
    position = 0
    while position < len(payload):
        start = position + _LENGTH.size
        position = start + int(_LENGTH.unpack_from(payload, position)[0])
        yield payload[start:position]


def _write_all(descriptor: int, data: bytes, position: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, position)
        data, position = data[written:], position + written


def _storage_error(path: Path, what: str, error: OSError) -> StorageError:
    return StorageError(
        f"The vote log {path} {what}: {error.strerror}. This city does not vote without it. Check that the disk is "
        "there, writable and not full, then restart."
    )


def _damaged(path: Path, what: str) -> DamagedStore:
    return DamagedStore(
        f"The vote log {path} is damaged: {what}. This city does not vote at the heights at which it may have voted. "
        "Check the disk."
    )
