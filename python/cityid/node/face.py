"""What the rest of the world asks of a running node: submit, wait, read (the `NodeFace` of the HTTP interface).

Requests of clients become events of the driver, by ticket; what the driver says about a ticket comes back through
`tell`. Reads go to the ledger's committed snapshot and to the store, and never through the driver. Nothing here blocks.

Bounds: waiting requests are as many as the HTTP interface lets in; a subscriber holds `MAX_MISSED` heights and misses
what comes on top.
"""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, assert_never

import trio

from cityid._native import NEWEST_PROTOCOL, Genesis, Ledger, Trust, header_json
from cityid.errors import CityIDError, InputError, MalformedInput, NotSynced, Overloaded, StorageError, Unavailable
from cityid.node.config import Address
from cityid.node.control.face import FilesFace
from cityid.node.driver import Driver
from cityid.node.histories import Histories, RecordSource
from cityid.node.messages import DIGEST_BYTES
from cityid.node.ports import Acknowledged, AdmitRow, Admitted, Committed, Halt, Refused, Submitted
from cityid.node.roles import upcoming_protocols
from cityid.node.roster import certificate_of, peer_address

__all__ = ["Face"]

MAX_MISSED = 256
MAX_CHANGES = 64
"""Changes of the validator set in one reply: a hundred validators each make about 20 kB."""
STALE_HEARTBEATS = 8
"""A tip older than so many heartbeats means that the network is out of reach: what this node knows is of then."""

Outcome = Admitted | Acknowledged | Refused | Committed | Halt


@dataclass(slots=True)
class _Request:
    """A client that waits for its transactions to be held by f + 1 validators."""

    done: trio.Event = field(default_factory=trio.Event)
    rows: Sequence[AdmitRow] = ()
    error: CityIDError | None = None


class Face:
    """See the head of the file. `post` gives the driver an event; `connected` names the cities that are in reach."""

    def __init__(
        self,
        *,
        city: str,
        genesis: Genesis,
        ledger: Ledger,
        driver: Driver,
        blocks: RecordSource,
        post: Callable[[Submitted], None],
        connected: Callable[[], frozenset[str]],
        files: FilesFace,
        certificates: Path,
        addresses: Mapping[str, Address],
    ) -> None:
        self.ledger = ledger
        self.histories = Histories(ledger, genesis, blocks)
        self.files = files
        self._city = city
        self._genesis = genesis
        self._driver = driver
        self._blocks = blocks
        self._post = post
        self._connected = connected
        self._certificates = certificates
        self._addresses = addresses
        self._trust = json.loads(Trust.from_json(genesis.to_json()).to_json())
        self._tickets = 0
        self._requests: dict[int, _Request] = {}
        self._committed = trio.Event()
        self._subscribers: set[trio.MemorySendChannel[int]] = set()
        self._totals: defaultdict[str, int] = defaultdict(int)

    # ------------------------------------------------------------ from the driver

    def tell(self, outcome: Outcome) -> None:
        """Take what the driver says to clients."""
        match outcome:
            case Admitted(ticket, rows):
                if (request := self._requests.get(ticket)) is not None:
                    request.rows = rows
            case Acknowledged(ticket):
                self._finish(ticket, None)
            case Refused(ticket, kind, message):
                self._finish(ticket, _refusal(kind, message))
            case Committed():
                self._on_committed(outcome)
            case Halt(reason):
                for ticket in list(self._requests):
                    self._finish(ticket, StorageError(f"This node halted: {reason}. Send to another city."))
            case _:
                assert_never(outcome)

    def _finish(self, ticket: int, error: CityIDError | None) -> None:
        if (request := self._requests.get(ticket)) is not None:
            request.error = error
            request.done.set()

    def _on_committed(self, committed: Committed) -> None:
        self._totals["blocks_total"] += 1
        self._totals["block_transactions_total"] += committed.transactions
        done, self._committed = self._committed, trio.Event()
        done.set()
        for subscriber in list(self._subscribers):
            try:
                subscriber.send_nowait(committed.height)
            except trio.WouldBlock:
                continue  # a slow reader misses heights; the ids of the next ones tell
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._subscribers.discard(subscriber)

    # ------------------------------------------------------------ transactions

    async def submit(self, data: bytes) -> Sequence[AdmitRow]:
        """Take a CBOR sequence of transactions; returns when f + 1 validators hold the accepted ones durably."""
        self._tickets += 1
        ticket = self._tickets
        request = self._requests[ticket] = _Request()
        try:
            self._post(Submitted(ticket, data))
            await request.done.wait()
        finally:
            del self._requests[ticket]
        if request.error is not None:
            raise request.error
        return request.rows

    async def wait_committed(self, ids: Sequence[bytes]) -> Sequence[str]:
        """Wait until all are decided; their receipts as JSON, in order."""
        found: dict[bytes, str] = {}
        while True:
            committed = self._committed
            for id in ids:
                if id not in found and (receipt := self.receipt(id)) is not None:
                    found[id] = receipt
            if len(found) == len(set(ids)):
                return [found[id] for id in ids]
            await committed.wait()

    def receipt(self, id: bytes) -> str | None:
        """The receipt of a decided transaction, within the replay window."""
        found = self.ledger.receipt(id)
        return None if found is None else found[1]

    # ------------------------------------------------------------ reading

    def block(self, height: int) -> Mapping[str, Any] | None:
        """A decided block: header, certificate, batch digests. Raises `Pruned`."""
        self._blocks.check_kept(height)
        if (found := self._blocks.block(height)) is None:
            return None
        header, certificate, digests = found
        starts = range(0, len(digests), DIGEST_BYTES)
        return {
            "header": json.loads(header_json(header)),
            "header_bytes": header.hex(),
            "certificate": certificate.hex(),
            "batches": [digests[start : start + DIGEST_BYTES].hex() for start in starts],
        }

    def status(self) -> Mapping[str, Any]:
        """What the node is and where it stands; 64-bit integers as strings."""
        ledger = self.ledger
        roles = self._driver.roles
        scheduled = [{"version": version, "height": str(height)} for version, height in upcoming_protocols(ledger)]
        return {
            "city": self._city,
            "network": self._genesis.name,
            "test": self._genesis.test,
            "genesis": self._genesis.hash.hex(),
            "words": Trust.from_json(self._genesis.to_json()).words,
            "height": str(ledger.height),
            "time_ms": str(ledger.time_ms),
            "state_root": ledger.state_root.hex(),
            "log_root": ledger.log_root.hex(),
            "records": str(ledger.records),
            "synced": self._driver.is_informed and self._driver.is_synced,
            "ready": self.ready(),
            "halted": self._driver.halted,
            "peers": sorted(self._connected()),
            "role": "validator" if roles.votes else "follower",
            "role_reason": roles.why,
            "validators": [city for city, _ in ledger.validators],
            "members": sorted(self._driver.members),
            "parameters": ledger.parameters(),
            "protocol": {"version": ledger.protocol, "newest_known": NEWEST_PROTOCOL, "scheduled": scheduled},
        }

    def cities(self) -> Mapping[str, Any]:
        """Every member city with its TLS certificate and address, as this node knows them: what a new one starts from.

        Nothing of it is proven: connections rest on it, and blocks do not.
        """
        rows = []
        for entry in self.ledger.cities():
            address = peer_address(entry) or self._addresses.get(entry["city"])
            try:
                certificate: str | None = certificate_of(entry, self._certificates).der.hex()
            except InputError:
                certificate = None
            rows.append(
                {
                    "city": entry["city"],
                    "name": entry["name"],
                    "status": entry["status"],
                    "committee": entry["committee"],
                    **{purpose: entry[purpose].hex() for purpose in ("consensus", "checkpoint", "tls")},
                    "certificate": certificate,
                    "peers": None if address is None else str(address),
                    "administered_by": entry["administered_by"],
                    "successor": entry["successor"],
                }
            )
        return {"genesis": self._genesis.hash.hex(), "height": str(self.ledger.height), "cities": rows}

    def checkpoint(self) -> str | None:
        """The newest cosigned checkpoint."""
        return self._driver.checkpoints.note

    def trust_path(self, from_height: int) -> Mapping[str, Any]:
        """The genesis' trust; the headers above a height that name another next set, oldest first, each with that set;
        and the newest header. Each with its log path and commit certificate (P75).

        At most MAX_CHANGES at once: with `more`, the newest is that of the last change, and one asks again from there.
        """
        height = self.ledger.height
        if from_height > height:
            raise InputError(f"height {from_height} is not decided here, the tip is {height}; ask another city")
        changes = self.ledger.set_changes(from_height)
        more = len(changes) > MAX_CHANGES
        steps = []
        for at, next_set in changes[:MAX_CHANGES]:
            if (step := self._certified(at)) is None:
                raise Unavailable(f"the block of height {at} is not here; ask another city")
            steps.append(step | {"next_set": next_set.hex()})
        newest = None if more or (changes and changes[-1][0] == height) else self._certified(height)
        return {"trust": self._trust, "changes": steps, "newest": newest, "more": more}

    def _certified(self, height: int) -> dict[str, str] | None:
        """A header with its log path in the log that ends with it, and its commit certificate."""
        if (found := self._blocks.certified(height)) is None:
            return None
        header, certificate = found
        return {
            "height": str(height),
            "header": header.hex(),
            "log_path": self.ledger.inclusion(height, height + 1).hex(),
            "certificate": certificate.hex(),
        }

    def healthy(self) -> bool:
        """False when the driver has halted."""
        return self._driver.halted is None

    def ready(self) -> bool:
        """At the tip, as far as enough other cities have said, and the tip is fresh."""
        age_ms = time.time_ns() // 1_000_000 - self.ledger.time_ms
        fresh = age_ms <= STALE_HEARTBEATS * self.ledger.parameters()["heartbeat_ms"]
        driver = self._driver
        return self.healthy() and self.ledger.height > 0 and driver.is_informed and driver.is_synced and fresh

    def subscribe(self) -> trio.MemoryReceiveChannel[int]:
        """Heights as they are committed."""
        send, receive = trio.open_memory_channel[int](MAX_MISSED)
        self._subscribers.add(send)
        return receive

    def figures(self) -> Mapping[str, Any]:
        """For metrics."""
        transactions, size_bytes = self.ledger.waiting()
        batches, batch_bytes = self.ledger.pool_size()
        gauges = {
            "height": self.ledger.height,
            "records": self.ledger.records,
            "tip_time_seconds": self.ledger.time_ms / 1000,
            "waiting_transactions": transactions,
            "waiting_bytes": size_bytes,
            "pool_batches": batches,
            "pool_bytes": batch_bytes,
            "ready": int(self.ready()),
        }
        counters = {f"{name}_total": value for name, value in self.ledger.counters().items()}
        return gauges | counters | self._totals


def _refusal(kind: str, message: str) -> CityIDError:
    match kind:
        case "malformed":
            return MalformedInput(message)
        case "not_synced":
            return NotSynced(message)
        case "storage":
            return StorageError(message)
        case _:
            return Overloaded(message)
