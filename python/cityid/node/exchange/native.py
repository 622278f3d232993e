"""The native folder of tables, as the exchange sees it."""

from pathlib import Path

from cityid._native import Snapshot, Table, TableHead, Tables
from cityid.node.blobs import storage_errors
from cityid.node.exchange.ports import Against, TableFile

__all__ = ["NativeFolder"]


class NativeFolder:
    """A `TableFolder` over `Tables`, which the ledger answers from (`Ledger.use_tables`)."""

    def __init__(self, directory: Path) -> None:
        """Opens the folder, and makes it when it is not there: a node from before there were tables has none."""
        with storage_errors(directory):
            directory.mkdir(parents=True, exist_ok=True)
        self.tables = Tables(directory)

    def head(self, path: Path) -> TableHead:
        """See `TableFolder.head`."""
        return TableHead.read(path)

    def add(self, path: Path, against: Against | None = None) -> TableFile:
        """See `TableFolder.add`."""
        if against is None:
            return self.tables.add(path)
        snapshot, previous = _native(against)
        return self.tables.add(path, snapshot=snapshot, previous=previous)

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

    def check(self, table: TableFile, against: Against) -> None:
        """See `TableFolder.check`."""
        assert isinstance(table, Table), "a node has one kind of tables"
        table.check(*_native(against))


def _native(against: Against) -> tuple[Snapshot, Table | None]:
    """A node has one kind of tables and of states."""
    snapshot, previous = against.snapshot, against.previous
    assert isinstance(snapshot, Snapshot)
    assert previous is None or isinstance(previous, Table)
    return snapshot, previous
