"""The vote log: what this city's votes of the running height follow from.

One file, preallocated, so that making it durable touches no metadata. It holds one height: the first record of a height
is written over the file's beginning, which is safe because a height starts only after the one below is durable in the
store. A record is everything that one call of `append` brought, under one checksum:

    length(4) crc32(4) height(8) sequence(4) payload          crc32 is over height, sequence and payload
    payload: length(4) and bytes for each entry

`append` returns when the record is durable, and the next record is written only then. So a power cut leaves at most the
last record torn, and that one no vote followed from: it is dropped. A bad record with a good one of the same height
behind it was durable once; then the disk lost something, and the log refuses to go on. After a failed write or sync the
log is closed for good: what the disk then holds is unknown (fsync may report an error only once).
"""

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from cityid.errors import StorageError

PREALLOCATED_BYTES = 4 * 1024 * 1024
MAX_RECORD_BYTES = 64 * 1024 * 1024

_HEAD = struct.Struct(">IIQI")
_CHECKED = struct.Struct(">QI")
_LENGTH = struct.Struct(">I")


class VoteLog:
    """The open vote log. Every method blocks; call them from a thread, one at a time."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._position = 0
        self._height = 0
        self._sequence = 0
        self._broken = False

    @classmethod
    def create(cls, path: Path) -> None:
        """Make an empty log; its folder must be synced by the caller."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                _write_all(descriptor, bytes(PREALLOCATED_BYTES), 0)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _storage_error(path, "cannot be made", error) from error

    @classmethod
    def open(cls, path: Path) -> "VoteLog":
        """Open an existing log; `recover` comes next."""
        try:
            return cls(path, os.open(path, os.O_RDWR))
        except OSError as error:
            raise _storage_error(path, "cannot be opened", error) from error

    def recover(self, next_height: int) -> tuple[int, tuple[bytes, ...]]:
        """(height, entries) of the running height, where the store ends at `next_height` - 1.

        A log of an older height is as good as empty. A newer one is returned as it is: the caller sees that its store
        lost something.
        """
        try:
            size = os.fstat(self._descriptor).st_size
            data = os.pread(self._descriptor, size, 0)
        except OSError as error:
            raise _storage_error(self._path, "cannot be read", error) from error
        height = sequence = position = 0
        entries: list[bytes] = []
        while (record := _record_at(data, position)) is not None:
            found_height, found_sequence, payload = record
            if found_sequence != sequence or (sequence and found_height != height):
                break
            height = found_height
            entries += _entries(payload)
            sequence += 1
            position += _HEAD.size + len(payload)
        if height < next_height:
            height = sequence = position = 0
            entries.clear()
        self._check_tail(data, position, max(height, next_height), sequence)
        self._height, self._sequence, self._position = height, sequence, position
        return height, tuple(entries)

    def append(self, height: int, entries: Sequence[bytes]) -> None:
        """Make these entries durable; the first ones of a height replace the log of the height before."""
        if self._broken:
            raise StorageError(f"The vote log {self._path} failed before and is closed. Check the disk, then restart.")
        if height < self._height:
            raise StorageError(f"The vote log is at height {self._height}; an entry of height {height} is a bug.")
        if height > self._height:
            self._height, self._sequence, self._position = height, 0, 0
        payload = b"".join(part for entry in entries for part in (_LENGTH.pack(len(entry)), entry))
        checksum = zlib.crc32(payload, zlib.crc32(_CHECKED.pack(height, self._sequence)))
        record = _HEAD.pack(len(payload), checksum, height, self._sequence) + payload
        try:
            _write_all(self._descriptor, record, self._position)
            os.fdatasync(self._descriptor)
        except OSError as error:
            self._broken = True
            raise _storage_error(self._path, "cannot be written", error) from error
        self._position += len(record)
        self._sequence += 1

    def close(self) -> None:
        """Close the file; nothing is pending."""
        self._broken = True
        os.close(self._descriptor)

    def _check_tail(self, data: bytes, position: int, height: int, sequence: int) -> None:
        """Refuse a log that has a good record of this height behind its end."""
        pattern = height.to_bytes(8, "big")
        found = data.find(pattern, position)
        while found >= 0:
            record = _record_at(data, found - _LENGTH.size * 2)
            if record is not None and record[0] == height and record[1] > sequence:
                raise StorageError(
                    f"The vote log {self._path} is damaged: record {sequence} of height {height} does not read, "
                    f"but record {record[1]} does, so it was durable once. This city must not vote on such a log. "
                    "Check the disk; then start this city anew from its peers with a new consensus key."
                )
            found = data.find(pattern, found + 1)


def _record_at(data: bytes, position: int) -> tuple[int, int, bytes] | None:
    """(height, sequence, payload) of a good record, or None."""
    start = position + _HEAD.size
    if position < 0 or start > len(data):
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
