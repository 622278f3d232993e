"""Snapshots on disk: the newest two, whole; and one that is being fetched.

Manifests and chunks are files under their digests (`Blobs`), so a chunk that is here is never fetched again, and two
snapshots share what they have in common. A snapshot counts when `latest` names its manifest: that file is replaced in
one step after all others are durable. Everything that neither the newest two nor `fetching` name is removed.

The folder is bounded by what it holds: two snapshots of this node's own state, and one that a peer offered, whose size
is checked against the free space of the disk before a chunk of it is asked for. Every method blocks.
"""

import shutil
import struct
import zlib
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

from cityid._native import Genesis, SnapshotLoader
from cityid.errors import DamagedStore, InputError, StorageError, VerificationError
from cityid.node.blobs import Blobs, storage_errors
from cityid.node.exchange.payloads import Offer
from cityid.node.store import replace_file

__all__ = ["MAX_CHUNK_BYTES", "MAX_MANIFEST_BYTES", "SnapshotFolder", "content_of"]

MAX_MANIFEST_BYTES: Final = 32 * 1024 * 1024
MAX_CHUNK_BYTES: Final = 5 * 1024 * 1024
KEPT: Final = 2
FREE_SHARE: Final = 0.8  # of the free space that a snapshot of a peer may take
_UNBOUNDED: Final = 1 << 62  # nothing here gives way to anything newer by itself

_ROW: Final = struct.Struct(">Q32s32sQ")
_CHECK: Final = struct.Struct(">I")


def content_of(chunks: list[tuple[bytes, int]]) -> bytes:
    """What snapshots of one height have in common, whoever wrote them: the SHA-256 over the digests of their chunks."""
    return sha256(b"".join(digest for digest, _ in chunks)).digest()


class SnapshotFolder:
    """See the head of the file."""

    def __init__(self, directory: Path, genesis: Genesis) -> None:
        self.directory = directory
        self._genesis = genesis
        self.blobs = Blobs(directory, bound_bytes=_UNBOUNDED)
        self._kept: tuple[Offer, ...] = ()  # newest first
        self.damaged: str | None = None
        try:
            self._kept = self._read()
        except DamagedStore as error:
            self.damaged = str(error)

    @property
    def kept(self) -> tuple[Offer, ...]:
        """What counts as whole, newest first."""
        return self._kept

    @property
    def newest(self) -> Offer | None:
        """The newest whole snapshot."""
        return self._kept[0] if self._kept else None

    @property
    def oldest(self) -> Offer | None:
        """The oldest one that is kept whole."""
        return self._kept[-1] if self._kept else None

    def find(self, digest: bytes) -> Path | None:
        """Where a manifest or chunk lies."""
        return self.blobs.path(digest)

    def has_room(self, size_bytes: int) -> bool:
        """Whether a snapshot of this size may be fetched."""
        with storage_errors(self.directory):
            return size_bytes <= FREE_SHARE * shutil.disk_usage(self.directory).free

    def put(self, digest: bytes, data: bytes) -> None:
        """Make a manifest or chunk durable."""
        if self.blobs.path(digest) is not None:
            return
        with self.blobs.receive(digest, limit_bytes=max(MAX_MANIFEST_BYTES, MAX_CHUNK_BYTES)) as incoming:
            incoming.write(data)
            incoming.finish()

    def get(self, digest: bytes) -> bytes:
        """A whole file. Raises `DamagedStore` when it is not here; its bytes are for the loader to check."""
        path = self.blobs.directory / digest.hex()
        try:
            return path.read_bytes()
        except OSError as error:
            raise DamagedStore(
                f"The file {path} of a snapshot cannot be read: {error.strerror}. It is fetched again."
            ) from error

    def load(self, offer: Offer) -> SnapshotLoader:
        """Read a snapshot that is here. Raises `DamagedStore`."""
        try:
            manifest = self.get(offer.manifest)
            if sha256(manifest).digest() != offer.manifest:
                raise DamagedStore(f"The manifest {offer.manifest.hex()} in {self.directory} holds other bytes.")
            loader = SnapshotLoader(self._genesis, manifest)
            for digest, _ in loader.chunks:
                loader.add(self.get(digest))
            loader.finish()
        except (InputError, VerificationError) as error:
            raise DamagedStore(
                f"The snapshot of height {offer.height} in {self.directory} is damaged: {error}. Check the disk; "
                "another one is taken from other cities."
            ) from error
        return loader

    def keep(self, offer: Offer) -> None:
        """From now on this is the newest: all its files are durable."""
        offers = (offer, *(old for old in self._kept if old.manifest != offer.manifest))[:KEPT]
        self._write(offers)
        self.damaged = None

    def drop(self, manifest: bytes) -> None:
        """A snapshot that is kept is damaged: it does not count any more, and its files are gone."""
        offers = tuple(one for one in self._kept if one.manifest != manifest)
        self._write(offers)
        self.tidy(self.fetching)

    def tidy(self, fetching: bytes) -> None:
        """Remove what neither a kept snapshot nor the one that is being fetched names."""
        named: set[bytes] = set()
        for manifest in [*(one.manifest for one in self._kept), fetching]:
            named.add(manifest)
            if self.blobs.path(manifest) is not None:
                with suppress(StorageError, InputError, VerificationError):
                    loader = SnapshotLoader(self._genesis, self.get(manifest))
                    named.update(digest for digest, _ in loader.chunks)
        with storage_errors(self.directory):
            for digest in self.blobs.digests():
                if digest not in named:
                    self.blobs.remove(digest)
            for part in self.directory.glob("*.part"):
                if bytes.fromhex(part.stem) not in named:
                    part.unlink(missing_ok=True)

    @property
    def fetching(self) -> bytes:
        """The manifest of a snapshot that was being fetched when the node stopped; empty for none."""
        path = self.directory / "fetching"
        try:
            found = bytes.fromhex(path.read_text("ascii"))
        except (OSError, ValueError):
            return b""
        return found if len(found) == 32 else b""

    @fetching.setter
    def fetching(self, manifest: bytes) -> None:
        with storage_errors(self.directory):
            if manifest:
                replace_file(self.directory / "fetching", manifest.hex().encode("ascii"))
            else:
                (self.directory / "fetching").unlink(missing_ok=True)

    def _write(self, offers: tuple[Offer, ...]) -> None:
        rows = b"".join(_ROW.pack(one.height, one.manifest, one.content, one.size) for one in offers)
        with storage_errors(self.directory):
            if offers:
                replace_file(self.directory / "latest", rows + _CHECK.pack(zlib.crc32(rows)))
            else:
                (self.directory / "latest").unlink(missing_ok=True)
        self._kept = offers

    def _read(self) -> tuple[Offer, ...]:
        path = self.directory / "latest"
        with storage_errors(self.directory):
            if not path.exists():
                return ()
            data = path.read_bytes()
        rows, check = data[: -_CHECK.size], data[-_CHECK.size :]
        if len(rows) % _ROW.size or not 1 <= len(rows) // _ROW.size <= KEPT or check != _CHECK.pack(zlib.crc32(rows)):
            raise DamagedStore(f"{path} does not say any more which snapshots are whole.")
        return tuple(Offer(*_ROW.unpack_from(rows, at)) for at in range(0, len(rows), _ROW.size))
