"""Clients of a simulated network: what they sent, what they were told, and what must be true of it.

- A transaction that an honest city acknowledged is in a block in the end (`check_kept`).
- No serial is registered twice and no two ranges overlap, in one city and class: by the receipts, which say what the
  network did, and by what the transactions asked for.

A transaction is looked for at the first commit of each height, until a block has it; the checks of the network make
sure that all honest cities have that block.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cityid._native import Ledger, build_transaction, finish_transaction
from cityid.node.ports import Acknowledged, Admitted, Refused
from cityid.testing.checks import Violation
from cityid.testing.keys import SeededSigner

MAX_WAITING: Final = 200_000
"""Transactions that are looked for; the oldest is given up for one more, unless it was acknowledged."""
MAX_RESULTS: Final = 200_000

Place = tuple[str, str]  # city and class: within them a serial is unique


@dataclass(frozen=True, slots=True)
class Claims:
    """What a transaction takes if it is committed."""

    ranges: tuple[tuple[int, Place], ...] = ()  # position of the operation
    serials: tuple[tuple[Place, int], ...] = ()

    @classmethod
    def of(cls, operations: Sequence[dict[str, Any]]) -> "Claims":
        """Read from its operations."""
        ranges: list[tuple[int, Place]] = []
        serials: list[tuple[Place, int]] = []
        for position, operation in enumerate(operations):
            match operation:
                case {"op": "allocate_range", "city": str(city), "class": str(class_code)}:
                    ranges.append((position, (city, class_code)))
                case {"op": "register_items", "city": str(city), "class": str(class_code), "items": list(items)}:
                    serials += [((city, class_code), int(item["serial"])) for item in items]
        return cls(tuple(ranges), tuple(serials))


@dataclass(slots=True)
class Issued:
    """What one class of one city has given out."""

    serials: set[int] = field(default_factory=set)
    ranges: list[tuple[int, int]] = field(default_factory=list)  # base, size


class Clients:
    """All clients of one network."""

    def __init__(self, genesis_hash: bytes) -> None:
        self.results: dict[bytes, tuple[str | None, str | None]] = {}  # id → reason, message at admission
        self.acknowledged: set[bytes] = set()
        self.refused: dict[int, Refused] = {}
        self._genesis_hash = genesis_hash
        self._nonce = 0
        self._last_ticket = 0
        self._tickets: dict[int, tuple[str, list[bytes]]] = {}
        self._waiting: dict[bytes, Claims] = {}  # in no block that anybody has committed
        self._issued: dict[Place, Issued] = {}
        self._then: dict[bytes, Callable[[int, dict[str, Any]], None]] = {}

    def build(
        self, operations: Sequence[dict[str, Any]], signers: Sequence[SeededSigner], *, valid_until: int
    ) -> tuple[bytes, bytes]:
        """The id and the bytes of a signed transaction."""
        signing = sorted(signers, key=lambda signer: signer.public_key)
        self._nonce += 1
        body, id_, message = build_transaction(
            self._genesis_hash,
            valid_until,
            self._nonce.to_bytes(8, "big"),
            [signer.public_key for signer in signing],
            json.dumps(list(operations)),
        )
        self._waiting[id_] = Claims.of(operations)
        if len(self._waiting) > MAX_WAITING:
            self._give_up_one()
        return id_, finish_transaction(body, [signer.sign(message) for signer in signing])

    def _give_up_one(self) -> None:
        oldest = next((id_ for id_ in self._waiting if id_ not in self.acknowledged), None)
        if oldest is not None:
            del self._waiting[oldest]
            self._then.pop(oldest, None)

    def when_decided(self, id_: bytes, then: Callable[[int, dict[str, Any]], None]) -> None:
        """Call with height and receipt when a block has this transaction."""
        self._then[id_] = then

    def open_ticket(self, city: str, ids: Sequence[bytes]) -> int:
        """A request to a city is on its way."""
        self._last_ticket += 1
        self._tickets[self._last_ticket] = (city, list(ids))
        return self._last_ticket

    def tell(self, effect: Admitted | Acknowledged | Refused, *, honest: bool) -> None:
        """What a city answers; only an honest one's word is taken."""
        match effect:
            case Admitted(ticket, rows):
                self.results |= {id_: (reason, message) for id_, reason, message in rows}
                while len(self.results) > MAX_RESULTS:
                    del self.results[next(iter(self.results))]
                if ticket in self._tickets:
                    city, _ = self._tickets[ticket]
                    self._tickets[ticket] = (city, [id_ for id_, reason, _ in rows if reason is None])
            case Acknowledged(ticket):
                _, ids = self._tickets.pop(ticket, ("", []))
                if honest:
                    self.acknowledged.update(ids)
            case Refused(ticket):
                self._tickets.pop(ticket, None)
                self.refused[ticket] = effect
                if len(self.refused) > MAX_RESULTS:
                    del self.refused[next(iter(self.refused))]

    def on_crash(self, city: str) -> None:
        """Whoever waited for this city's answer never gets one."""
        self._tickets = {ticket: found for ticket, found in self._tickets.items() if found[0] != city}

    def on_first_commit(self, ledger: Ledger) -> None:
        """A height has its first committed block: look what it holds."""
        for id_ in list(self._waiting):
            if (found := ledger.receipt(id_)) is not None:
                claims = self._waiting.pop(id_)
                receipt: dict[str, Any] = json.loads(found[1])
                if receipt["status"] == "committed":
                    self._issue(claims, receipt["outputs"])
                if (then := self._then.pop(id_, None)) is not None:
                    then(found[0], receipt)

    def _issue(self, claims: Claims, outputs: Sequence[Any]) -> None:
        for position, place in claims.ranges:
            base, size = int(outputs[position]["base"]), int(outputs[position]["size"])
            ranges = self._issued.setdefault(place, Issued()).ranges
            for other, other_size in ranges:
                if base < other + other_size and other < base + size:
                    raise Violation(f"{place} gave the range from {base} twice", kind="issued twice")
            ranges.append((base, size))
        for place, serial in claims.serials:
            serials = self._issued.setdefault(place, Issued()).serials
            if serial in serials:
                raise Violation(f"{place} gave the serial {serial} twice", kind="issued twice")
            serials.add(serial)

    def unkept(self) -> list[bytes]:
        """What was acknowledged and is in no committed block yet."""
        return [id_ for id_ in self._waiting if id_ in self.acknowledged]

    def check_kept(self, ledgers: Iterable[Ledger]) -> None:
        """Nothing acknowledged is lost: when the faults are over and the network has gone on."""
        found = list(ledgers)
        for id_ in self.unkept():
            if not any(ledger.receipt(id_) is not None for ledger in found):
                raise Violation(f"transaction {id_.hex()} was acknowledged and is in no block", kind="lost")
