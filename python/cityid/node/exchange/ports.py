"""What the exchange stands on, as it sees it: the connections, the ledger, the folder of tables.

The real ones are `Peers` and the native `Ledger` and `Tables`; tests bring their own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cityid.keys import Signer

__all__ = ["LedgerReads", "Link", "Network", "SnapshotReads", "TableFile", "TableFolder"]


class Link(Protocol):
    """The other cities, as a place to put frames."""

    @property
    def connected(self) -> frozenset[str]:
        """The cities that a frame can be sent to now."""

    def send(self, peer: str, kind: int, payload: bytes, *, urgent: bool) -> bool:
        """Queues a frame and never waits; False when it was not queued."""


class SnapshotReads(Protocol):
    """One committed height."""

    def range(self, city: str, cls: str, base: int, size: int) -> str | None:
        """The record of a range as JSON."""


class LedgerReads(Protocol):
    """The committed state."""

    @property
    def height(self) -> int:
        """Its height."""

    def snapshot(self) -> SnapshotReads:
        """The last committed height, which no later commit changes."""

    def sealed_tables(self) -> list[tuple[str, str, int, int, bytes]]:
        """(city, class, base, size, digest) of every sealed range."""


class TableFile(Protocol):
    """An open table; the native `Table`."""

    digest: bytes
    root: bytes
    city: str
    cls: str
    base: int
    size: int
    previous: bytes | None
    size_bytes: int

    def statement(self, expected_version: int) -> bytes:
        """What a storage receipt of it signs for a range whose record has this version (P45)."""


class TableFolder(Protocol):
    """The tables that this node answers from; the native `Tables`, with the check of a table against a state."""

    def add(self, path: Path) -> TableFile:
        """Checks a file (P43) and moves it in. Raises `MalformedInput`, `StorageError`."""

    def get(self, digest: bytes) -> TableFile | None:
        """A table that is here and whole."""

    def remove(self, digest: bytes) -> None:
        """Removes a table and its file."""

    def digests(self) -> list[bytes]:
        """What is here and whole."""

    def damaged(self) -> list[str]:
        """What is known of the files that are left out: each text holds the file's name."""

    def check(self, table: TableFile, snapshot: SnapshotReads, previous: TableFile | None) -> None:
        """P44. Raises `RuleViolation` (`bad_table`) or `MalformedInput`."""


@dataclass(frozen=True, slots=True)
class Network:
    """Who takes part, as the committed state has it; asked anew each time, for governance changes it."""

    city: str
    signer: Callable[[bytes], Signer | None]
    """What signs with this city's checkpoint key of this public half, if the key is at hand."""
    members: Callable[[], Mapping[str, bytes]]
    """Active member cities and their checkpoint keys."""
    parameters: Callable[[], Mapping[str, int]]
    synced: Callable[[], bool]
    """Whether this node knows what the network decided."""
