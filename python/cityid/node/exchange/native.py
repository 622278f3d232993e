"""The native folder of tables, as the exchange sees it."""

from pathlib import Path

from cityid._native import Snapshot, Table, Tables
from cityid.node.blobs import storage_errors
from cityid.node.exchange.ports import SnapshotReads, TableFile

__all__ = ["NativeFolder"]


class NativeFolder:
    """A `TableFolder` over `Tables`, which the ledger answers from (`Ledger.use_tables`)."""

    def __init__(self, directory: Path) -> None:
        """Opens the folder, and makes it when it is not there: a node from before there were tables has none."""
        with storage_errors(directory):
            directory.mkdir(parents=True, exist_ok=True)
        self.tables = Tables(directory)

    def add(self, path: Path) -> TableFile:
        """See `TableFolder.add`."""
        return self.tables.add(path)

    def get(self, digest: bytes) -> TableFile | None:
        """See `TableFolder.get`."""
        return self.tables.get(digest)

    def remove(self, digest: bytes) -> None:
        """See `TableFolder.remove`."""
        self.tables.remove(digest)

    def digests(self) -> list[bytes]:
        """See `TableFolder.digests`."""
        return self.tables.digests()

    def damaged(self) -> list[str]:
        """See `TableFolder.damaged`."""
        return self.tables.damaged()

    def check(self, table: TableFile, snapshot: SnapshotReads, previous: TableFile | None) -> None:
        """See `TableFolder.check`."""
        # A node has one kind of tables and of states.
        assert isinstance(table, Table)
        assert isinstance(snapshot, Snapshot)
        assert previous is None or isinstance(previous, Table)
        table.check(snapshot, previous)
