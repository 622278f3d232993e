"""What the exchange stands on, as it sees it: the connections, the ledger, the folder of tables.

The real ones are `Peers` and the native `Ledger` and `Tables`; tests bring their own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cityid.keys import Signer

__all__ = ["Against", "LedgerReads", "Link", "Network", "SnapshotReads", "TableFile", "TableFolder", "TableHead"]


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


class TableHead(Protocol):
    """What a table file says of itself; the native `TableHead`."""

    city: str
    cls: str
    base: int
    size: int
    previous: bytes | None


class TableFile(TableHead, Protocol):
    """An open table; the native `Table`."""

    digest: bytes
    root: bytes
    size_bytes: int

    def statement(self, expected_version: int) -> bytes:
        """What a storage receipt of it signs for a range whose record has this version (P45)."""


@dataclass(frozen=True, slots=True)
class Against:
    """What a table is checked against (P44): a state, and the table that its range has there."""

    snapshot: SnapshotReads
    previous: TableFile | None


class TableFolder(Protocol):
    """The tables that this node answers from; the native `Tables`, with the check of a table against a state."""

    def head(self, path: Path) -> TableHead:
        """What a file outside the folder says of itself. Raises `MalformedInput`, `StorageError`."""

    def add(self, path: Path, against: Against | None = None) -> TableFile:
        """Checks a file (P43, and P44 against a state) and moves it in.

        Raises `MalformedInput`, `RuleViolation` (`bad_table`), `StorageError`.
        """

    def get(self, digest: bytes) -> TableFile | None:
        """A table that is here and whole."""

    def remove(self, digest: bytes) -> None:
        """Removes a table and its file."""

    def digests(self) -> list[bytes]:
        """What is here and whole."""

    def damaged(self) -> list[str]:
        """What is known of the files that are left out: each text holds the file's name."""

    def check(self, table: TableFile, against: Against) -> None:
        """P44. Raises `RuleViolation` (`bad_table`), `StorageError`."""


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
