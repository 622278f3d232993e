"""An import from beginning to end: rows in, items in the register, rejects named; running it again changes nothing.

The steps: read every row, settle what an earlier run left open, give serials to the rows that have none (asking for
ranges as needed), then sign, note and send batches, IN_FLIGHT at a time. A batch that the network refuses because of
some row is halved until that row stands alone; the row is rejected with the network's reason and the others go on. A
refusal that has nothing to do with single rows (no authority, no category, suspended) ends the import.

What this module does not know is HTTP: it talks to a `Submitter`, which tests replace.
"""

import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import trio

from cityid._native import commitment, make_item_code
from cityid.client.importing.journal import Batch, Disclosure, Journal, Planned, digest_of
from cityid.client.importing.rows import Columns, Reject, Row
from cityid.client.operations import Item, Operation, allocate_range, register_items
from cityid.client.replies import Receipt
from cityid.errors import CityIDError, InputError, RuleViolation, Unavailable

__all__ = ["Submitter", "Summary", "Target", "import_rows"]

BATCH_ITEMS: Final = 250
BATCH_BYTES: Final = 56 * 1024  # estimated; a transaction holds 64 KiB (P6)
IN_FLIGHT: Final = 4
SALT_BYTES: Final = 16
THOUSAND: Final = 1_000
MILLION: Final = 1_000_000
LOOK_UP_CODES: Final = 1_000
ALLOCATIONS: Final = 200  # operations in one transaction of allocations
RESUMES: Final = 5  # times that an undecided or expired batch is sent again before the import gives up
ROW_REASONS: Final = frozenset({"exists", "not_in_range", "sealed"})  # P25: refusals that one row may cause


class Submitter(Protocol):
    """What an import needs of a client."""

    async def sign(self, operations: Sequence[Operation]) -> tuple[bytes, bytes, int]:
        """(id, transaction, valid_until), signed by the organisation."""
        ...

    async def submit(self, transactions: Mapping[bytes, bytes]) -> list[Receipt]:
        """Receipts, in order; sending the same bytes again is safe."""
        ...

    async def look_up(self, codes: Sequence[str]) -> list[dict[str, Any]]:
        """What a gateway says about codes, unproven."""
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """Whose items these are and what they are."""

    city: str
    org: str
    use: str
    class_code: str
    model: str

    def category(self) -> str:
        """The code of the category."""
        return f"MA.156.{self.city}.{self.org}/{self.use}.{self.class_code}.{self.model}"

    def code(self, serial: int) -> str:
        """The full code of one item."""
        return make_item_code(self.city, self.org, self.use, self.class_code, self.model, serial)


@dataclass(slots=True)
class Summary:
    """What an import did. `imported` counts this run, `already` what an earlier one had done."""

    read: int = 0
    imported: int = 0
    already: int = 0
    rejects: list[Reject] = field(default_factory=list)
    ranges: list[tuple[int, int]] = field(default_factory=list)
    highest: int = 0


Progress = Callable[[int, int], None]


async def import_rows(
    rows: Sequence[Row | Reject],
    *,
    columns: Columns,
    target: Target,
    journal: Journal,
    submitter: Submitter,
    held: Sequence[tuple[int, int]] = (),
    progress: Progress = lambda done, total: None,
) -> Summary:
    """Registers every acceptable row that the journal does not know yet.

    `held` are ranges (base, size) that the organisation has already; their free serials are given out first.

    Raises:
        RuleViolation: the network refuses the import as such; `.reason` is the stable code.
        Unavailable: no gateway answers, or batches stay undecided. Running the import again goes on from here.
        StorageError: the journal cannot be written or read.
    """
    run = _Import(columns, target, journal, submitter, held, progress)
    await run.settle()
    fresh = run.sort_out(rows)
    await run.register(await run.assign(fresh))
    run.summary.ranges = list(journal.ranges)
    run.summary.rejects.sort(key=lambda reject: reject.line)
    return run.summary


class _Import:
    """The state of one run."""

    def __init__(
        self,
        columns: Columns,
        target: Target,
        journal: Journal,
        submitter: Submitter,
        held: Sequence[tuple[int, int]],
        progress: Progress,
    ) -> None:
        self.columns = columns
        self.target = target
        self.journal = journal
        self.submitter = submitter
        self.held = held
        self.progress = progress
        self.summary = Summary()
        self._total = 0

    async def settle(self) -> None:
        """Re-sends, byte for byte, what an earlier run signed and saw no outcome of."""
        for planned in list(self.journal.allocations.values()):
            await self._allocate(planned)
        for batch in list(self.journal.batches.values()):
            # A refusal leaves its rows without a batch; `sort_out` finds them again.
            await self._send(batch)

    def sort_out(self, rows: Sequence[Row | Reject]) -> list[Row]:
        """The rows that are still to be registered; the others are counted or rejected here."""
        fresh: list[Row] = []
        for row in rows:
            self.summary.read += 1
            if isinstance(row, Reject):
                self.summary.rejects.append(row)
                continue
            known = self.journal.disclosures.get(row.id)
            same = known is not None and known.digest == digest_of(row)
            id_column = self.columns.column("id") or "id"
            if row.id in self.journal.committed:
                if same:
                    self.summary.already += 1
                else:
                    self.summary.rejects.append(Reject(row.line, id_column, row.id, "changed"))
            elif same and row.id in self.journal.rejected:
                self.summary.rejects.append(Reject(row.line, id_column, row.id, self.journal.rejected[row.id]))
            else:
                fresh.append(row)
        self._total = self.summary.already + len(fresh)
        self.progress(self.summary.already, self._total)
        return fresh

    async def assign(self, rows: Sequence[Row]) -> list[Disclosure]:
        """A serial and fresh salts for every row; what an earlier run gave stays as it was given."""
        disclosures: list[Disclosure] = []
        without: list[Row] = []
        for row in rows:
            known = self.journal.disclosures.get(row.id)
            if known is not None and known.digest == digest_of(row):
                disclosures.append(known)
            elif row.serial is not None:
                disclosures.append(self._disclosure(row, row.serial))
            else:
                without.append(row)
        used = self.journal.used_serials() if without else set()
        free = deque(await self._free_of_held(len(without), used))
        free.extend(
            serial for base, size in self.journal.ranges for serial in range(base, base + size) if serial not in used
        )
        while len(free) < len(without):
            for base, size in await self._more_ranges(len(without) - len(free)):
                free.extend(range(base, base + size))
        disclosures.extend(self._disclosure(row, free.popleft()) for row in without)
        return disclosures

    async def register(self, disclosures: Sequence[Disclosure]) -> None:
        """Sends everything in batches, several at a time, each on disk before it leaves."""
        queue = deque(self._in_batches(disclosures))

        failures: list[CityIDError] = []

        async def work() -> None:
            # Workers share one queue in one thread: whatever a refused batch gives back is at its head.
            try:
                while queue:
                    part = queue.popleft()
                    new = [d for d in part if self.journal.disclosures.get(d.id) != d]
                    if new:
                        self.journal.disclose(new)
                    batch = await self._plan(part)
                    queue.extendleft(reversed(await self._send(batch)))
            except CityIDError as error:
                # The first failure ends all of them; what was on its way is in the journal.
                failures.append(error)
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for _ in range(min(IN_FLIGHT, len(queue))):
                nursery.start_soon(work)
        if failures:
            raise failures[0]

    async def _plan(self, part: Sequence[Disclosure]) -> Batch:
        operation = register_items(
            self.target.city,
            self.target.org,
            use=self.target.use,
            class_code=self.target.class_code,
            model=self.target.model,
            items=[Item(disclosure.serial, _commitments(disclosure)) for disclosure in part],
        )
        batch = Batch(Planned(*await self.submitter.sign([operation])), tuple(d.id for d in part))
        self.journal.plan_batch(batch)
        return batch

    async def _send(self, batch: Batch) -> list[list[Disclosure]]:
        """Sends one batch until it is decided; parts to send again, smaller, when some row in it is refused."""
        receipt = await self._decide(batch.planned)
        rows = [self.journal.disclosures[id] for id in batch.rows]
        if receipt.state == "committed":
            self._committed(receipt, batch.rows)
            return []
        reason = receipt.reason or receipt.state
        if receipt.state == "expired":
            self.journal.note_refused(batch.planned.id, reason)
            return [rows]
        if reason == "too_large" and len(rows) > 1:
            self.journal.note_refused(batch.planned.id, reason)
            return [rows[: len(rows) // 2], rows[len(rows) // 2 :]]
        if reason not in ROW_REASONS:
            self.journal.note_refused(batch.planned.id, reason)
            raise RuleViolation(reason, receipt.message or "the network refuses the import as a whole")
        if len(rows) > 1:
            self.journal.note_refused(batch.planned.id, reason)
            return [rows[: len(rows) // 2], rows[len(rows) // 2 :]]
        [row] = rows
        if reason == "exists" and await self._is_ours(row):
            self._committed(receipt, batch.rows)
            return []
        self.journal.note_refused(batch.planned.id, reason, [row.id])
        self.summary.rejects.append(
            Reject(row.line, self.columns.column("serial") or "serial", str(row.serial), reason)
        )
        return []

    async def _decide(self, planned: Planned) -> Receipt:
        for _ in range(RESUMES):
            [receipt] = await self.submitter.submit({planned.id: planned.transaction})
            if receipt.final:
                return receipt
        raise Unavailable(
            f"Transaction {planned.id.hex()} stays undecided; it is in the journal. "
            "Next: run the same import again later."
        )

    def _committed(self, receipt: Receipt, rows: Sequence[str]) -> None:
        self.journal.note_committed(receipt.id, receipt.height or 0, rows)
        self.summary.imported += len(rows)
        self.summary.highest = max(self.summary.highest, receipt.height or 0)
        self.progress(self.summary.already + self.summary.imported, self._total)

    async def _is_ours(self, disclosure: Disclosure) -> bool:
        """Whether the item that exists already is this very row: registered by a batch whose outcome was never seen."""
        [found] = await self.submitter.look_up([disclosure.code])
        record = found.get("record")
        registered = record.get("commitments") if isinstance(record, dict) else None
        ours = {name: value.hex() for name, value in _commitments(disclosure).items()}
        return found.get("verdict") == "REGISTERED" and registered == ours

    async def _free_of_held(self, needed: int, used: set[int]) -> list[int]:
        """Serials of the ranges that were held before and carry no item yet, as a gateway says; a wrong word of its is
        refused by the ledger (`exists`)."""
        free: list[int] = []
        for base, size in self.held:
            for start in range(base, base + size, LOOK_UP_CODES):
                if len(free) >= needed:
                    return free
                serials = [
                    serial for serial in range(start, min(start + LOOK_UP_CODES, base + size)) if serial not in used
                ]
                found = await self.submitter.look_up([self.target.code(serial) for serial in serials])
                free.extend(
                    serial for serial, row in zip(serials, found, strict=True) if row.get("verdict") == "NOT_REGISTERED"
                )
        return free

    async def _more_ranges(self, needed: int) -> list[tuple[int, int]]:
        """Asks for the next free ranges: thousands, or millions when that many rows wait."""
        size = MILLION if needed > ALLOCATIONS * THOUSAND else THOUSAND
        count = min(ALLOCATIONS, -(-needed // size))
        operation = allocate_range(
            self.target.city,
            self.target.org,
            class_code=self.target.class_code,
            size=MILLION if size == MILLION else THOUSAND,
        )
        planned = Planned(*await self.submitter.sign([operation] * count))
        self.journal.plan_allocation(planned)
        return await self._allocate(planned)

    async def _allocate(self, planned: Planned) -> list[tuple[int, int]]:
        receipt = await self._decide(planned)
        ranges = [output for output in receipt.outputs if output is not None]
        self.journal.note_allocation(planned.id, ranges)
        if receipt.state != "committed":
            reason = receipt.reason or receipt.state
            if receipt.state == "expired":
                return []
            raise RuleViolation(reason, receipt.message or "the network gives no range of serials for these rows")
        if not ranges:
            raise InputError("The receipt of an allocation names no range. Next: is this a cityid gateway?")
        return ranges

    def _disclosure(self, row: Row, serial: int) -> Disclosure:
        attributes = {
            # A fresh salt for each: an attribute is shown, or erased, without touching the others.
            name: (self.columns.schema(name), os.urandom(SALT_BYTES), value)
            for name, value in row.attributes.items()
        }
        return Disclosure(row.id, row.line, digest_of(row), serial, self.target.code(serial), attributes)

    def _in_batches(self, disclosures: Sequence[Disclosure]) -> list[list[Disclosure]]:
        batches: list[list[Disclosure]] = []
        size = BATCH_BYTES
        for disclosure in disclosures:
            item = 24 + sum(len(name.encode()) + 36 for name in disclosure.attributes)
            if size + item > BATCH_BYTES or len(batches[-1]) == BATCH_ITEMS:
                batches.append([])
                size = 0
            batches[-1].append(disclosure)
            size += item
        return batches


def _commitments(disclosure: Disclosure) -> dict[str, bytes]:
    return {
        name: commitment(disclosure.code, name, schema, salt, value)
        for name, (schema, salt, value) in disclosure.attributes.items()
    }
