"""The part of a node that exchanges files and storage receipts with other cities.

It stands beside the driver and never in its way: `deliver` takes the frames that the host splits off, without waiting,
and gives each to the one queue that it belongs to. Each of those is bounded, and what finds no room or was not asked
for is dropped or refused at once. Everything that waits or works runs in tasks of its own.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio

from cityid.errors import MalformedInput
from cityid.node import messages
from cityid.node.blobs import Blobs, Incoming
from cityid.node.config import Keep, Limits, Timeouts
from cityid.node.exchange import payloads
from cityid.node.exchange.fetching import Fetcher
from cityid.node.exchange.keeping import Keeper
from cityid.node.exchange.ports import LedgerReads, Link, Network, TableFolder
from cityid.node.exchange.receipts import Collected, Receipts
from cityid.node.exchange.serving import Server
from cityid.node.messages import Frame
from cityid.node.telemetry import Log

__all__ = ["Exchange"]


class Exchange:
    """See the head of the file. `tables_directory` is where `folder` has its files, named HEX.table; `also` finds
    files of other parts that cities may fetch.
    """

    def __init__(
        self,
        *,
        folder: TableFolder,
        tables_directory: Path,
        blobs: Blobs,
        ledger: LedgerReads,
        link: Link,
        network: Network,
        keep: Keep,
        limits: Limits,
        timeouts: Timeouts,
        log: Log,
        also: Callable[[bytes], Path | None] = lambda _: None,
    ) -> None:
        self.blobs = blobs
        self._log = log
        self._network = network
        self._dropped = 0
        self.fetcher = Fetcher(blobs, link, log, transfers=limits.table_transfers, part_s=timeouts.part_ms / 1000)
        self.keeper = Keeper(
            folder=folder,
            directory=tables_directory,
            ledger=ledger,
            blobs=blobs,
            fetcher=self.fetcher,
            link=link,
            network=network,
            keep=keep,
            log=log,
        )
        self._server = Server(lambda digest: self.keeper.find(digest) or also(digest), link, log)
        self._receipts = Receipts(
            keeper=self.keeper, ledger=ledger, link=link, network=network, log=log,
            receipt_s=timeouts.receipt_ms / 1000,
        )  # fmt: skip

    # ------------------------------------------------------------ from the node

    def deliver(self, frame: Frame) -> None:
        """Takes a frame of `messages.EXCHANGE_KINDS`; never waits."""
        peer, payload = frame.peer, frame.payload
        try:
            match frame.kind:
                case messages.WANT_PART:
                    self._server.on_want_part(peer, payloads.decode_want_part(payload))
                case messages.PART:
                    self.fetcher.on_part(peer, payloads.decode_part(payload))
                case messages.NO_PART:
                    self.fetcher.on_no_part(peer, payloads.decode_no_part(payload))
                case messages.WANT_RECEIPT:
                    self._receipts.on_want_receipt(peer, payloads.decode_want_receipt(payload))
                case messages.RECEIPT:
                    self._receipts.on_answer(peer, payloads.decode_receipt(payload))
                case messages.NO_RECEIPT:
                    self._receipts.on_answer(peer, payloads.decode_no_receipt(payload))
                case other:
                    raise MalformedInput(f"frame kind {other} has nothing to do with files")
        except MalformedInput as error:
            self._dropped += 1
            kind = messages.NAMES.get(frame.kind, str(frame.kind))
            self._log.limited("warning", "frame_dropped", peer=peer, kind=kind, why=str(error))

    def on_committed(self, tables: Sequence[bytes]) -> None:
        """A height is decided and durable; it sealed these tables."""
        self._receipts.on_committed()
        self.keeper.on_sealed(tables)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serves, signs and fetches until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._server.run)
            nursery.start_soon(self._receipts.run)
            await nursery.start(self.keeper.run)
            task_status.started()

    # ------------------------------------------------------------ for clients

    @property
    def limit_bytes(self) -> int:
        """The largest file that is taken: `max_table_bytes` of the network (P6)."""
        return self._network.parameters()["max_table_bytes"]

    def receive(self, digest: bytes) -> Incoming:
        """A file that a client sends; blocks."""
        return self.blobs.receive(digest, limit_bytes=self.limit_bytes)

    @contextmanager
    def using(self, digest: bytes) -> Iterator[Path | None]:
        """Where a file lies, which does not give way meanwhile."""
        with self.keeper.using(digest) as path:
            yield path

    async def receipts(self, digest: bytes, expected_version: int) -> Collected:
        """Storage receipts for a table. Raises as `Receipts.collect`."""
        return await self._receipts.collect(digest, expected_version)

    def figures(self) -> Mapping[str, Any]:
        """For metrics."""
        fetcher, server, receipts, budget = self.fetcher, self._server, self._receipts, self.blobs.budget
        return {
            "transfers": fetcher.running,
            "files_in_total": fetcher.files_in,
            "bytes_in_total": fetcher.bytes_in,
            "bytes_out_total": server.bytes_out,
            "unasked_frames_total": fetcher.unasked,
            "malformed_frames_total": self._dropped,
            "refused_parts_total": server.refused,
            "failures_total:reason": dict(fetcher.failures),
            "receipts_signed_total": receipts.signed,
            "receipts_refused_total:reason": dict(receipts.refused),
            "tables": len(self.keeper.folder.digests()),
            "tables_missing": self.keeper.missing,
            "tables_fetched_total": self.keeper.mended,
            "spare_bytes": budget.used_bytes,
            "spare_dropped_total": budget.dropped,
        }
