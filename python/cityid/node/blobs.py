"""Files by their digest: a folder in which a file's name is the SHA-256 of its bytes.

Rules. A name appears only when all bytes are on disk and hash to it: they are written beside, hashed on the way,
synced, renamed, and the folder is synced. What was cut off is gone after a restart, but for a file that is being
fetched from another city: its part stays and is gone on with.

Nobody has promised to keep a file of this folder, so all of them together are bounded (`Budget`): the oldest give way,
never one that is in use; when nothing can give way, the newcomer is refused. Tables that no sealed range names count in
the same budget although they lie elsewhere (`Budget.add`). A file counts `FILE_BYTES` more than it has, so that their
number is bounded, too.

Names: HEX (a whole file), HEX.part (being fetched), HEX.N.upload (being received or moved), HEX.signed (empty: this
city signed a storage receipt for the table of that digest). Every method blocks; any thread may call.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from pathlib import Path
from threading import RLock
from typing import Final

from cityid.errors import Overloaded, RuleViolation, StorageError, VerificationError
from cityid.node.store import sync_folder

__all__ = ["Blobs", "Budget", "Incoming"]

CHUNK_BYTES: Final = 1_048_576
FILE_BYTES: Final = 4_096
_NAME: Final = re.compile(r"([0-9a-f]{64})(\.part|\.signed|\.[0-9]+\.upload)?")


@dataclass(slots=True)
class _Held:
    """Bytes on disk, how to free them, and how many users they have now."""

    size: int
    drop: Callable[[], None]
    users: int = 0


class Budget:
    """Bytes on disk that nobody promised to keep, oldest first; the oldest make room for the newest."""

    def __init__(self, bound_bytes: int) -> None:
        self.bound_bytes = bound_bytes
        self.used_bytes = 0
        self.dropped = 0
        self._lock = RLock()
        self._held: dict[str, _Held] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._held

    def add(self, name: str, size: int, drop: Callable[[], None]) -> None:
        """Counts what lies on disk already; as the newest, unless it is counted."""
        with self._lock:
            if name not in self._held:
                self._held[name] = _Held(size + FILE_BYTES, drop)
                self.used_bytes += size + FILE_BYTES

    def grow(self, name: str, more_bytes: int) -> None:
        """Makes room for more bytes of a name that is counted. Raises `Overloaded` when nothing can give way."""
        with self._lock:
            held = self._held[name]
            over = self.used_bytes + more_bytes - self.bound_bytes
            if over > 0:
                old = [(other, one) for other, one in self._held.items() if not one.users and other != name]
                if sum(one.size for _, one in old) < over:
                    raise Overloaded(
                        f"no room for a file of more than {held.size} bytes: the limit blob_bytes is "
                        f"{self.bound_bytes}, and what lies there is in use; send it again in a moment, or to another "
                        "city"
                    )
                for other, one in old:
                    if over <= 0:
                        break
                    one.drop()
                    self.remove(other)
                    self.dropped += 1
                    over -= one.size
            held.size += more_bytes
            self.used_bytes += more_bytes

    def remove(self, name: str) -> None:
        """Stops counting a name: it is gone, or somebody has promised to keep it."""
        with self._lock:
            if (held := self._held.pop(name, None)) is not None:
                self.used_bytes -= held.size

    @contextmanager
    def using(self, name: str) -> Iterator[None]:
        """Whatever the name counts does not give way meanwhile."""
        with self._lock:
            held = self._held.get(name)
            if held is not None:
                held.users += 1
        try:
            yield
        finally:
            if held is not None:
                with self._lock:
                    held.users -= 1


class Blobs:
    """See the head of the file."""

    def __init__(self, directory: Path, *, bound_bytes: int) -> None:
        """Opens the folder, makes it when it is not there, and removes what was cut off."""
        self.directory = directory
        self.budget = Budget(bound_bytes)
        self._numbers = count()
        with storage_errors(directory):
            directory.mkdir(parents=True, exist_ok=True)
            found = []
            for entry in directory.iterdir():
                match = _NAME.fullmatch(entry.name)
                if match is None:
                    continue
                if (match[2] or "").endswith(".upload"):
                    entry.unlink()
                elif match[2] != ".signed":
                    status = entry.stat()
                    found.append((status.st_mtime_ns, entry, status.st_size))
        for _, path, size in sorted(found):
            self._count(path, size)

    # ------------------------------------------------------------ whole files

    def path(self, digest: bytes) -> Path | None:
        """Where the whole file lies, if it is here."""
        path = self.directory / digest.hex()
        return path if path.name in self.budget else None

    @contextmanager
    def using(self, digest: bytes) -> Iterator[Path | None]:
        """The same; the file does not give way meanwhile."""
        with self.budget.using(digest.hex()):
            yield self.path(digest)

    def second_name(self, digest: bytes) -> Path:
        """Another name of a whole file, for whoever moves it away while others still read it under the first."""
        path = self.directory / f"{digest.hex()}.{next(self._numbers)}.upload"
        with storage_errors(self.directory):
            path.hardlink_to(self.directory / digest.hex())
        return path

    def remove(self, digest: bytes) -> None:
        """Removes a whole file."""
        with storage_errors(self.directory):
            (self.directory / digest.hex()).unlink(missing_ok=True)
        self.budget.remove(digest.hex())

    def digests(self) -> list[bytes]:
        """What whole files there are, ascending."""
        whole = (_NAME.fullmatch(path.name) for path in self.directory.iterdir())
        return sorted(bytes.fromhex(match[1]) for match in whole if match is not None and match[2] is None)

    # ------------------------------------------------------------ files that come in

    def receive(self, digest: bytes, *, limit_bytes: int) -> "Incoming":
        """A file from a client, from its first byte on."""
        name = f"{digest.hex()}.{next(self._numbers)}.upload"
        return Incoming(self, self.directory / name, digest, limit_bytes=limit_bytes, keeps_part=False)

    def fetch(self, digest: bytes, *, limit_bytes: int) -> "Incoming":
        """A file from other cities; goes on where it was cut off. One at a time for a digest."""
        path = self.directory / f"{digest.hex()}.part"
        return Incoming(self, path, digest, limit_bytes=limit_bytes, keeps_part=True)

    # ------------------------------------------------------------ what this city signed for

    def mark_signed(self, digest: bytes) -> None:
        """Remembers, durably, that this city signed for a table."""
        with storage_errors(self.directory):
            (self.directory / f"{digest.hex()}.signed").touch()
            sync_folder(self.directory)

    def unmark_signed(self, digest: bytes) -> None:
        """Forgets it."""
        with storage_errors(self.directory):
            (self.directory / f"{digest.hex()}.signed").unlink(missing_ok=True)

    def is_signed(self, digest: bytes) -> bool:
        """Whether this city signed for a table."""
        return (self.directory / f"{digest.hex()}.signed").exists()

    def _count(self, path: Path, size: int) -> None:
        def drop() -> None:
            with storage_errors(self.directory):
                path.unlink(missing_ok=True)

        self.budget.add(path.name, size, drop)


class Incoming:
    """A file that is being written. `finish` makes it whole; leaving the block before that removes it, or keeps its
    part when it comes from other cities.
    """

    def __init__(self, blobs: Blobs, path: Path, digest: bytes, *, limit_bytes: int, keeps_part: bool) -> None:
        self.digest = digest
        self.size = 0
        self._blobs = blobs
        self._path = path
        self._limit_bytes = limit_bytes
        self._keeps_part = keeps_part
        self._hash = sha256()
        self._finished = False
        with storage_errors(blobs.directory):
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
            while chunk := os.read(self._descriptor, CHUNK_BYTES):
                self._hash.update(chunk)
                self.size += len(chunk)
        blobs._count(path, self.size)
        self._using = blobs.budget.using(path.name)
        self._using.__enter__()

    def __enter__(self) -> "Incoming":
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._descriptor)
        self._using.__exit__(None, None, None)
        if not self._finished and not self._keeps_part:
            with storage_errors(self._blobs.directory):
                self._path.unlink(missing_ok=True)
            self._blobs.budget.remove(self._path.name)

    @property
    def is_whole(self) -> bool:
        """Whether the bytes hash to the digest."""
        return self._hash.digest() == self.digest

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Appends. Raises `RuleViolation` (`too_large`) beyond the limit, `Overloaded` when nothing gives way."""
        if self.size + len(data) > self._limit_bytes:
            raise RuleViolation(
                "too_large",
                f"the file has more than {self._limit_bytes} bytes, the limit max_table_bytes of the network; "
                "split the range's items over several ranges",
            )
        self._blobs.budget.grow(self._path.name, len(data))
        self._hash.update(data)
        with storage_errors(self._blobs.directory):
            left = memoryview(data)
            while left:
                left = left[os.write(self._descriptor, left) :]
        self.size += len(data)

    def restart(self) -> None:
        """Forgets what was written: it is not what the digest names."""
        with storage_errors(self._blobs.directory):
            os.ftruncate(self._descriptor, 0)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
        self._blobs.budget.grow(self._path.name, -self.size)
        self.size = 0
        self._hash = sha256()

    def finish(self) -> bool:
        """Makes the file durable under its name; False when it was there. Raises `VerificationError`."""
        if not self.is_whole:
            raise VerificationError(
                f"the {self.size} bytes have the SHA-256 {self._hash.hexdigest()}, not {self.digest.hex()}; "
                "send the whole file under its own digest"
            )
        blobs, path = self._blobs, self._path.with_name(self.digest.hex())
        is_new = blobs.path(self.digest) is None
        with storage_errors(blobs.directory):
            os.fsync(self._descriptor)
            self._path.rename(path)
            sync_folder(blobs.directory)
        blobs.budget.remove(self._path.name)
        blobs._count(path, self.size)
        self._finished = True
        return is_new


@contextmanager
def storage_errors(directory: Path) -> Iterator[None]:
    """Turns an error of the disk into a `StorageError` that says what to do."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"files cannot be kept in {directory}: {error.strerror or error}; free some space or check the disk"
        ) from error
