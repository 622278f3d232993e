"""The node as its HTTP interface sees it (`control.NodeFace`): submit, wait, look.

Everything but `submit` and `wait_committed` answers at once, from memory or with one read of the store. A request that
waits is woken by what the driver tells (`tell`); whoever cancels a wait leaves nothing behind.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import trio

from cityid._native import Genesis, Ledger, Trust, header_json
from cityid.errors import InputError, MalformedInput, NotSynced, Overloaded, StorageError, Unavailable
from cityid.node.driver import Driver
from cityid.node.host import Outcome
from cityid.node.messages import decode_digests
from cityid.node.ports import Acknowledged, AdmitRow, Admitted, Committed, Event, Halt, Refused, Submitted
from cityid.node.store import Store

SUBSCRIBER_HEIGHTS = 64
MAX_TICKETS = 4_096

_REFUSALS: dict[str, type[InputError | Unavailable | StorageError]] = {
    "malformed": MalformedInput,
    "overloaded": Overloaded,
    "not_synced": NotSynced,
    "storage": StorageError,
}


@dataclass(slots=True)
class _Ticket:
    """A request that waits."""

    done: trio.Event = field(default_factory=trio.Event)
    rows: Sequence[AdmitRow] = ()
    refused: Refused | None = None


class Clients:
    """Implements `control.NodeFace`."""

    def __init__(
        self,
        *,
        genesis: Genesis,
        trust: Trust,
        driver: Driver,
        ledger: Ledger,
        store: Store,
        connected: Callable[[], frozenset[str]],
        post: Callable[[Event], None],
    ) -> None:
        self.genesis = genesis
        self.ledger = ledger
        self._trust_json: dict[str, Any] = json.loads(trust.to_json())
        self._driver = driver
        self._store = store
        self._connected = connected
        self._post = post
        self._tickets: dict[int, _Ticket] = {}
        self._last_ticket = 0
        self._height_committed = trio.Event()
        self._subscribers: list[trio.MemorySendChannel[int]] = []

    def tell(self, outcome: Outcome) -> None:
        """What the driver has for clients; never blocks."""
        match outcome:
            case Admitted(ticket, rows):
                if (waiting := self._tickets.get(ticket)) is not None:
                    waiting.rows = rows
                    if all(reason is not None for _, reason, _ in rows):
                        waiting.done.set()
            case Acknowledged(ticket):
                if (waiting := self._tickets.get(ticket)) is not None:
                    waiting.done.set()
            case Refused(ticket):
                if (waiting := self._tickets.get(ticket)) is not None:
                    waiting.refused = outcome
                    waiting.done.set()
            case Committed(height):
                self._height_committed.set()
                self._height_committed = trio.Event()
                self._publish(height)
            case Halt(reason):
                for ticket, waiting in self._tickets.items():
                    waiting.refused = Refused(ticket, "storage", f"This node halted: {reason}. Send to another city.")
                    waiting.done.set()

    # ------------------------------------------------------------ transactions

    async def submit(self, data: bytes) -> Sequence[AdmitRow]:
        """Take a CBOR sequence of transactions; returns when f + 1 validators hold the accepted ones durably."""
        if len(self._tickets) >= MAX_TICKETS:
            raise Overloaded(
                f"{MAX_TICKETS} requests wait to be acknowledged, the most this node takes. Send it again."
            )
        self._last_ticket += 1
        ticket = self._last_ticket
        waiting = self._tickets[ticket] = _Ticket()
        try:
            self._post(Submitted(ticket, data))
            await waiting.done.wait()
        finally:
            del self._tickets[ticket]
        if waiting.refused is not None:
            raise _REFUSALS[waiting.refused.kind](waiting.refused.message)
        return waiting.rows

    async def wait_committed(self, ids: Sequence[bytes]) -> Sequence[str]:
        """Wait until all are decided; their receipts as JSON, in order."""
        found: dict[bytes, str] = {}
        while True:
            next_height = self._height_committed
            for id_ in ids:
                if id_ not in found and (receipt := self.receipt(id_)) is not None:
                    found[id_] = receipt
            if len(found) == len(set(ids)):
                return [found[id_] for id_ in ids]
            await next_height.wait()

    def receipt(self, id: bytes) -> str | None:
        """The receipt of a decided transaction as JSON, within the replay window."""
        found = self.ledger.receipt(id)
        return None if found is None else found[1]

    # ------------------------------------------------------------ the chain

    def block(self, height: int) -> Mapping[str, Any] | None:
        """A decided block: its header's fields, and its batches and certificate in hexadecimal."""
        if (found := self._store.block(height)) is None:
            return None
        header, certificate, digests = found
        fields: dict[str, Any] = json.loads(header_json(header))
        return fields | {
            "header": header.hex(),
            "certificate": certificate.hex(),
            "batches": [digest.hex() for digest in decode_digests(digests)],
        }

    def status(self) -> Mapping[str, Any]:
        """What this node is and where it stands."""
        driver, ledger = self._driver, self.ledger
        batches, size_bytes = ledger.pool_size()
        return {
            "city": driver.city,
            "network": self.genesis.name,
            "genesis": self.genesis.hash.hex(),
            "test": self.genesis.test,
            "height": str(ledger.height),
            "time_ms": str(ledger.time_ms),
            "state_root": ledger.state_root.hex(),
            "log_root": ledger.log_root.hex(),
            "records": str(ledger.records),
            "round": driver.engine.round,
            "step": driver.engine.step,
            "peers": sorted(self._connected()),
            "synced": driver.is_synced,
            "healthy": self.healthy(),
            "halted": driver.halted,
            "checkpoint_height": str(driver.checkpoints.height),
            "pool": {"batches": batches, "size_bytes": size_bytes, "waiting": ledger.waiting()[0]},
            "counters": ledger.counters(),
        }

    def checkpoint(self) -> str | None:
        """The newest cosigned checkpoint."""
        return self._driver.checkpoints.note

    def trust_path(self, from_height: int) -> Mapping[str, Any]:
        """The trust file of the genesis, and the newest header with log path and certificate.

        `headers` are those that change the validator set; this protocol version has none.
        """
        height = self.ledger.height
        if from_height > height:
            raise InputError(f"height {from_height} is not decided here, the newest is {height}; ask again later")
        path: dict[str, Any] = {"trust": self._trust_json, "headers": [], "newest": None}
        found = self._store.block(self._store.height)
        if found is not None and self._store.height > from_height:
            header, certificate, _ = found
            log_path = self.ledger.inclusion(self._store.height, self._store.height + 1)
            path["newest"] = {"header": header.hex(), "log_path": log_path.hex(), "certificate": certificate.hex()}
        return path

    def healthy(self) -> bool:
        """False when the driver halted."""
        return self._driver.halted is None

    def ready(self) -> bool:
        """Whether this node knows that it is at the tip."""
        return self._driver.is_current(time.time_ns() // 1_000_000)

    def subscribe(self) -> trio.MemoryReceiveChannel[int]:
        """Heights as they are committed; whoever is slow misses some."""
        sender, receiver = trio.open_memory_channel[int](SUBSCRIBER_HEIGHTS)
        self._subscribers.append(sender)
        return receiver

    def _publish(self, height: int) -> None:
        for subscriber in list(self._subscribers):
            try:
                subscriber.send_nowait(height)
            except trio.WouldBlock:
                pass
            except trio.BrokenResourceError:
                self._subscribers.remove(subscriber)
