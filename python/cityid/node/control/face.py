"""What the HTTP interface needs of a node. Everything but `submit`, `wait_committed` and what
`histories` offers answers at once, from memory.

Errors are those of `cityid.errors`; each becomes the HTTP status of its kind (problems.py).
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import trio

from cityid.node.exchange import Collected
from cityid.node.histories import Histories

__all__ = ["AnswerFace", "FilesFace", "IncomingFace", "LedgerFace", "NodeFace", "SnapshotFace"]


class AnswerFace(Protocol):
    """A self-contained, provable answer; the native `Answer`."""

    def to_bytes(self) -> bytes:
        """Canonical CBOR."""

    def to_json(self) -> str:
        """The same as JSON."""


class SnapshotFace(Protocol):
    """One committed height to read from; the native `Snapshot`."""

    def resolve(self, code: str) -> str:
        """JSON with verdict, status, record, as_of, height, code. Raises `CodeError`."""

    def resolve_many(self, codes: Sequence[str]) -> list[str]:
        """The same for many; a row that is no code says so in its place."""

    def answer(self, code: str) -> AnswerFace:
        """The same with proof. Raises `CodeError`."""

    def range(self, city: str, cls: str, base: int, size: int) -> str | None:
        """The record of a range as JSON. Raises `CodeError`, `MalformedInput`."""

    def proposal(self, number: int) -> str | None:
        """A proposal as JSON, its change spelled out."""

    def configuration(self) -> str:
        """Parameters, committee, number of members and proposals, protocol versions, as JSON."""


class LedgerFace(Protocol):
    """The part of the native `Ledger` that is read here."""

    def snapshot(self) -> SnapshotFace:
        """The last committed height, which no later commit changes."""

    def cities(self) -> list[dict[str, Any]]:
        """Every member city ascending, retired ones too; keys and certificates as bytes."""


class IncomingFace(Protocol):
    """A file that is being received; leaving the block without `finish` forgets it. Both methods block."""

    @property
    def size(self) -> int:
        """The bytes so far."""

    def __enter__(self) -> "IncomingFace": ...

    def __exit__(self, *exception: object) -> None: ...

    def write(self, data: bytes | bytearray) -> None:
        """Appends. Raises `Overloaded` when there is no room, `StorageError`."""

    def finish(self) -> bool:
        """Keeps the file; False when it was here. Raises `VerificationError` when it has another digest."""


class FilesFace(Protocol):
    """The files that a node holds."""

    @property
    def limit_bytes(self) -> int:
        """The largest file that is taken."""

    def receive(self, digest: bytes) -> IncomingFace:
        """Begins a file; blocks."""

    def using(self, digest: bytes) -> AbstractContextManager[Path | None]:
        """Where a file lies, which stays meanwhile; None when it is not here."""

    async def receipts(self, digest: bytes, expected_version: int) -> Collected:
        """Storage receipts for a table, from this city and others; takes seconds. May be cancelled.

        Raises `FileNotHere`, `MalformedInput` when the file is no table, `RuleViolation` when the state forbids it.
        """


class NodeFace(Protocol):
    """A node, as node.py offers it."""

    @property
    def ledger(self) -> LedgerFace:
        """Where reads go."""

    @property
    def histories(self) -> Histories:
        """Where reads of the past go; they block, so in threads."""

    @property
    def files(self) -> FilesFace:
        """Where files go and come from."""

    async def submit(self, data: bytes) -> Sequence[tuple[bytes, str | None, str | None]]:
        """Takes a CBOR sequence of transactions: (id, reason or None, message or None) for each.

        Returns when f + 1 validators hold the accepted ones durably. Raises `MalformedInput`, `Overloaded`,
        `NotSynced`.
        """

    async def wait_committed(self, ids: Sequence[bytes]) -> Sequence[str]:
        """Waits until all are decided; their receipts as JSON objects, in order. May be cancelled."""

    def receipt(self, id: bytes) -> str | None:
        """The receipt of a decided transaction as a JSON object, within the replay window."""

    def block(self, height: int) -> Mapping[str, Any] | None:
        """A decided block, fit for JSON."""

    def status(self) -> Mapping[str, Any]:
        """What the node is and where it stands, fit for JSON."""

    def cities(self) -> Mapping[str, Any]:
        """The member cities with their TLS certificates and addresses, fit for JSON."""

    def checkpoint(self) -> str | None:
        """The newest cosigned checkpoint (C2SP note); None before the first."""

    def trust_path(self, from_height: int) -> Mapping[str, Any]:
        """What advances trust from a height, fit for JSON. Raises `InputError` for a height it does not have."""

    def healthy(self) -> bool:
        """False when a restart may help."""

    def ready(self) -> bool:
        """Whether this node is at the tip and its disk works; answers of a node that is not are UNKNOWN."""

    def subscribe(self) -> trio.MemoryReceiveChannel[int]:
        """Heights as they are committed. Bounded: heights are skipped for whoever is slow; closed by whoever asked."""
