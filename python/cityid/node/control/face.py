"""What the HTTP interface needs of a node. Everything but `submit` and `wait_committed` answers at once, from memory.

Errors are those of `cityid.errors`; each becomes the HTTP status of its kind (problems.py).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import trio

__all__ = ["AnswerFace", "LedgerFace", "NodeFace", "SnapshotFace"]


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


class NodeFace(Protocol):
    """A node, as node.py offers it."""

    @property
    def ledger(self) -> LedgerFace:
        """Where reads go."""

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
