"""An import from beginning to end: rows in, items in the register, rejects named; running it again changes nothing.

The steps: read every row, settle what an earlier run left open, find serials for the rows that have none (asking for
ranges as needed), then sign, note and send batches, WAVE at a time and WAVES of them at once. PART_ROWS rows at a time
are made ready for that, so that the network works on the first ones meanwhile. A batch that the network
refuses because of some row is halved until that row stands alone; the row is rejected with the network's reason and the
others go on. A refusal that has nothing to do with single rows (no authority, no category, suspended) ends the import.

An adoption is an import of numbers that were given before: the ranges that its serials lie in are reserved first, by
the city, and each batch registers the old numbers as aliases of its items in the same transaction, so that an item is
never there without its number.

What this module does not know is HTTP: it talks to a `Submitter`, which tests replace.
"""

import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

import trio

from cityid._native import commitment, make_item_code, make_item_codes
from cityid.client.importing.journal import Batch, Disclosure, Journal, Planned, digest_of, digests_of
from cityid.client.importing.rows import Columns, Reject, Row
from cityid.client.operations import ItemColumns, Operation, Range, allocate_range, reserve_range
from cityid.client.replies import Receipt
from cityid.errors import CityIDError, InputError, RuleViolation, Unavailable

__all__ = ["Adoption", "Submitter", "Summary", "Target", "import_rows"]

BATCH_ITEMS: Final = 1_000  # of a transaction (P6)
BATCH_BYTES: Final = 56 * 1024  # estimated; a transaction holds 64 KiB (P6)
WAVE: Final = 8  # batches that are made durable together and travel in one request
WAVES: Final = 8  # requests on their way: fewer items than an organisation may have in a block (P72)
PART_ROWS: Final = 16_000  # rows that get their salts, and are made durable, together
SALT_BYTES: Final = 16
THOUSAND: Final = 1_000
MILLION: Final = 1_000_000
LOOK_UP_CODES: Final = 1_000
ALLOCATIONS: Final = 200  # operations in one transaction of allocations
RESUMES: Final = 5  # times that an undecided or expired batch is sent again before the import gives up
ROW_REASONS: Final = frozenset({"exists", "not_in_range", "sealed"})  # P25, P49: refusals that one row may cause
AGAIN: Final = frozenset({"expired", "rate_exceeded"})  # refusals that say nothing about the rows (P18, P72)

Who = Literal["holder", "city", "both"]


class Submitter(Protocol):
    """What an import needs of a client."""

    async def sign(
        self, operations: Sequence[Operation] | ItemColumns, *, by: Who = "holder"
    ) -> tuple[bytes, bytes, int]:
        """(id, transaction, valid_until), signed by the holder of the ranges, by its city, or by both."""
        ...

    async def submit(self, transactions: Mapping[bytes, bytes]) -> list[Receipt]:
        """Receipts, in order; sending the same bytes again is safe."""
        ...

    async def look_up(self, codes: Sequence[str]) -> list[dict[str, Any]]:
        """What a gateway says about codes, unproven."""
        ...

    async def holder_of(self, held: Range) -> str | None:
        """Who holds a range, as a gateway says."""
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """Whose items these are and what they are; `org` is None where the city itself holds them."""

    city: str
    org: str | None
    use: str
    class_code: str
    model: str

    def holder(self) -> str:
        """The code of the holder."""
        return f"MA.156.{self.city}" if self.org is None else f"MA.156.{self.city}.{self.org}"

    def category(self) -> str:
        """The code of the category."""
        return f"{self.holder()}/{self.use}.{self.class_code}.{self.model}"

    def code(self, serial: int) -> str:
        """The full code of one item."""
        return make_item_code(self.city, self.org, self.use, self.class_code, self.model, serial)

    def codes(self, serials: Sequence[int]) -> list[str]:
        """The full codes of many items."""
        return make_item_codes(self.category(), serials)


@dataclass(frozen=True, slots=True)
class Adoption:
    """Old numbers become aliases in a namespace (P49); `by_city` when the city must sign for it, too.

    `without` are first digits of numbers that need no alias: those that a 21-digit look-up finds by itself (P73).
    """

    namespace: str
    by_city: bool
    without: str | None = None

    def needs_alias(self, number: str) -> bool:
        """Whether an old number is found only by an alias."""
        return self.without is None or not number.startswith(self.without)


@dataclass(slots=True)
class Summary:
    """What an import did. `imported` counts this run, `already` what an earlier one had done."""

    read: int = 0
    imported: int = 0
    already: int = 0
    rejects: list[Reject] = field(default_factory=list)
    ranges: list[tuple[int, int]] = field(default_factory=list)
    reserved: list[tuple[int, int]] = field(default_factory=list)
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
    adoption: Adoption | None = None,
    progress: Progress = lambda done, total: None,
) -> Summary:
    """Registers every acceptable row that the journal does not know yet.

    `held` are ranges (base, size) that the holder has already; their free serials are given out first.

    Raises:
        RuleViolation: the network refuses the import as such; `.reason` is the stable code.
        Unavailable: no gateway answers, or batches stay undecided. Running the import again goes on from here.
        StorageError: the journal cannot be written or read.
    """
    run = _Import(columns, target, journal, submitter, held, adoption, progress)
    await run.settle()
    fresh = run.sort_out(rows)
    if adoption is not None:
        fresh = await run.reserve(fresh)
    await run.find_serials(fresh)
    await run.register(fresh)
    run.summary.ranges = list(journal.ranges)
    run.summary.reserved = list(journal.reserved)
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
        adoption: Adoption | None,
        progress: Progress,
    ) -> None:
        self.columns = columns
        self.target = target
        self.journal = journal
        self.submitter = submitter
        self.held = held
        self.adoption = adoption
        self.progress = progress
        self.summary = Summary()
        self._total = 0
        self._free: deque[int] = deque()  # serials for rows that have none
        self._working = 0
        self._too_fast = False  # a batch passed the rate of somebody who signs it (P72)
        # What a value is, by attribute: part of its commitment, looked up for every value.
        self._schemas = {name: columns.schema(name) for name in columns.attributes.values()}

    async def settle(self) -> None:
        """Re-sends, byte for byte, what an earlier run signed and saw no outcome of."""
        for planned in list(self.journal.allocations.values()):
            if planned.reserves:
                await self._reserve(planned)
            else:
                await self._allocate(planned)
        # A refusal leaves its rows without a batch; `sort_out` finds them again.
        await self._send(list(self.journal.batches.values()))

    def sort_out(self, rows: Sequence[Row | Reject]) -> list[Row]:
        """The rows that are still to be registered; the others are counted or rejected here."""
        fresh: list[Row] = []
        disclosures = self.journal.disclosures
        id_column = self.columns.column("id") or "id"
        self.summary.read += len(rows)
        known_before = [row for row in rows if isinstance(row, Row) and row.id in disclosures]
        digests = dict(zip([row.id for row in known_before], digests_of(known_before), strict=True))
        for row in rows:
            if isinstance(row, Reject):
                self.summary.rejects.append(row)
                continue
            known = disclosures.get(row.id)
            if known is None:
                fresh.append(row)
                continue
            same = known.digest == digests[row.id]
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

    # ------------------------------------------------------------ serials

    async def reserve(self, rows: Sequence[Row]) -> list[Row]:
        """Reserves the thousands that the rows' serials lie in; the rows whose range nobody else holds."""
        held = {base for base, _ in self.journal.reserved}
        wanted = {row.serial - row.serial % THOUSAND for row in rows if row.serial is not None}
        missing = sorted(wanted - held)
        parts = deque(missing[start : start + ALLOCATIONS] for start in range(0, len(missing), ALLOCATIONS))
        foreign: set[int] = set()
        while parts:
            part = parts.popleft()
            ranges = [Range(self.target.city, self.target.class_code, base, THOUSAND) for base in part]
            operations = [reserve_range(one, org=self.target.org) for one in ranges]
            signed = await self.submitter.sign(operations, by="city")
            planned = Planned(*signed, reserves=tuple((base, THOUSAND) for base in part))
            self.journal.plan_allocation(planned)
            receipt = await self._reserve(planned)
            if receipt.state == "committed":
                continue
            reason = receipt.reason or receipt.state
            if reason in AGAIN:
                parts.appendleft(part)
            elif reason != "exists":
                raise RuleViolation(reason, receipt.message or "the network reserves no range for these rows")
            elif len(part) > 1:
                parts.extendleft((part[len(part) // 2 :], part[: len(part) // 2]))
            elif await self.submitter.holder_of(ranges[0]) == self.target.holder():
                self.journal.note_reserved(part[0], THOUSAND)
            else:
                foreign.add(part[0])
        column = self.columns.column("serial") or self.columns.column("id") or "serial"
        kept: list[Row] = []
        for row in rows:
            if row.serial is not None and row.serial - row.serial % THOUSAND in foreign:
                self.summary.rejects.append(Reject(row.line, column, f"{row.serial:09d}", "not_in_range"))
            else:
                kept.append(row)
        return kept

    async def _reserve(self, planned: Planned) -> Receipt:
        receipt = await self._decide(planned)
        self.journal.note_allocation(planned.id, (), planned.reserves if receipt.state == "committed" else ())
        return receipt

    async def find_serials(self, rows: Sequence[Row]) -> None:
        """Finds a free serial for every row without one; what an earlier run gave stays as it was given."""
        needed = sum(row.serial is None and self._given_before(row) is None for row in rows)
        if not needed:
            return
        used = self.journal.used_serials() | {row.serial for row in rows if row.serial is not None}
        free = deque(await self._free_of_held(needed, used))
        free.extend(
            serial for base, size in self.journal.ranges for serial in range(base, base + size) if serial not in used
        )
        while len(free) < needed:
            for base, size in await self._more_ranges(needed - len(free)):
                free.extend(range(base, base + size))
        self._free = free

    def _given_before(self, row: Row) -> Disclosure | None:
        """What an earlier run disclosed for a row that still says the same."""
        known = self.journal.disclosures.get(row.id)
        return known if known is not None and known.digest == digest_of(row) else None

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
        ranges = [output for output in receipt.outputs if isinstance(output, tuple)]
        self.journal.note_allocation(planned.id, ranges)
        if receipt.state != "committed":
            reason = receipt.reason or receipt.state
            if reason in AGAIN:
                return []
            raise RuleViolation(reason, receipt.message or "the network gives no range of serials for these rows")
        if not ranges:
            raise InputError("The receipt of an allocation names no range. Next: is this a cityid gateway?")
        return ranges

    # ------------------------------------------------------------ batches

    async def register(self, rows: Sequence[Row]) -> None:
        """Sends everything in batches, several at a time, all on disk before they leave."""
        parts = deque(rows[start : start + PART_ROWS] for start in range(0, len(rows), PART_ROWS))
        queue: deque[list[Disclosure]] = deque()
        failures: list[CityIDError] = []

        async def work() -> None:
            # Workers share one queue in one thread: whatever a refused batch gives back is at its head.
            try:
                self._working += 1
                while queue or parts:
                    if self._too_fast and self._working > 1:
                        # One fewer at once, until what is sent is within the rate.
                        self._too_fast = False
                        break
                    if len(queue) < WAVE and parts:
                        queue.extend(self._in_batches(self._disclose(parts.popleft())))
                    wave = [queue.popleft() for _ in range(min(WAVE, len(queue)))]
                    queue.extendleft(reversed(await self._send(await self._plan(wave))))
                self._working -= 1
            except CityIDError as error:
                # The first failure ends all of them; what was on its way is in the journal.
                failures.append(error)
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for _ in range(WAVES):
                nursery.start_soon(work)
        if failures:
            raise failures[0]

    def _disclose(self, rows: Sequence[Row]) -> list[Disclosure]:
        """A serial and fresh salts for every row, durable on return; what an earlier run gave stays as it was given."""
        known = [self._given_before(row) for row in rows]
        fresh = [row for row, given in zip(rows, known, strict=True) if given is None]
        serials = [self._free.popleft() if row.serial is None else row.serial for row in fresh]
        codes, digests = self.target.codes(serials), digests_of(fresh)
        new = [self._disclosure(*parts) for parts in zip(fresh, serials, codes, digests, strict=True)]
        self.journal.disclose(new)
        return [given for given in known if given is not None] + new

    async def _plan(self, wave: Sequence[Sequence[Disclosure]]) -> list[Batch]:
        by: Who = "both" if self.adoption is not None and self.adoption.by_city else "holder"
        batches: list[Batch] = []
        for part in wave:
            signed = await self.submitter.sign(self._columns(part), by=by)
            batches.append(Batch(Planned(*signed), tuple([one.id for one in part])))
        self.journal.plan_batches(batches)
        return batches

    def _columns(self, part: Sequence[Disclosure]) -> ItemColumns:
        adoption = self.adoption
        numbers: Sequence[str | None] = ()
        if adoption is not None:
            numbers = [one.id if adoption.needs_alias(one.id) else None for one in part]
        return ItemColumns(
            self.target.category(),
            [one.serial for one in part],
            [_commitments(one) for one in part] if any(one.attributes for one in part) else (),
            adoption.namespace if adoption is not None else "",
            numbers,
        )

    async def _send(self, batches: Sequence[Batch]) -> list[list[Disclosure]]:
        """Sends batches until each is decided; parts to send again, smaller where some row in them is refused."""
        again: list[list[Disclosure]] = []
        for batch, receipt in zip(batches, await self._decide_all([one.planned for one in batches]), strict=True):
            if receipt.state == "committed":
                self._committed(receipt, batch.rows)
            else:
                again.extend(await self._refused(batch, receipt))
        return again

    async def _refused(self, batch: Batch, receipt: Receipt) -> list[list[Disclosure]]:
        reason = receipt.reason or receipt.state
        rows = [self.journal.disclosures[id] for id in batch.rows]
        if reason in AGAIN:
            self._too_fast |= reason == "rate_exceeded"
            self.journal.note_refused(batch.planned.id, reason)
            return [rows]
        if reason not in ROW_REASONS and (reason != "too_large" or len(rows) == 1):
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
        column = self.columns.column("serial") or self.columns.column("id") or "serial"
        self.summary.rejects.append(Reject(row.line, column, str(row.serial), reason))
        return []

    async def _decide(self, planned: Planned) -> Receipt:
        [receipt] = await self._decide_all([planned])
        return receipt

    async def _decide_all(self, planned: Sequence[Planned]) -> list[Receipt]:
        receipts: dict[bytes, Receipt] = {}
        for _ in range(RESUMES):
            waiting = {one.id: one.transaction for one in planned if one.id not in receipts}
            if waiting:
                found = await self.submitter.submit(waiting)
                receipts.update((receipt.id, receipt) for receipt in found if receipt.final)
        undecided = [one.id.hex() for one in planned if one.id not in receipts]
        if undecided:
            raise Unavailable(
                f"{len(undecided)} transactions stay undecided, {undecided[0]} among them; they are in the journal. "
                "Next: run the same import again later."
            )
        return [receipts[one.id] for one in planned]

    def _committed(self, receipt: Receipt, rows: Sequence[str]) -> None:
        self.journal.note_committed(receipt.id, receipt.height or 0, rows)
        self.summary.imported += len(rows)
        self.summary.highest = max(self.summary.highest, receipt.height or 0)
        self.progress(self.summary.already + self.summary.imported, self._total)

    async def _is_ours(self, disclosure: Disclosure) -> bool:
        """Whether the item that exists already is this very row: registered by a batch whose outcome was never seen."""
        asked = [disclosure.code]
        if self.adoption is not None and self.adoption.needs_alias(disclosure.id):
            asked.append(f"alias:{self.adoption.namespace}:{disclosure.id}")
        found = await self.submitter.look_up(asked)
        record = found[0].get("record")
        registered = record.get("commitments", {}) if isinstance(record, dict) else None
        ours = {name: value.hex() for name, value in _commitments(disclosure).items()}
        is_there = all(row.get("verdict") == "REGISTERED" and row.get("code") == disclosure.code for row in found)
        return is_there and registered == ours

    def _disclosure(self, row: Row, serial: int, code: str, digest: str) -> Disclosure:
        schemas, adopted = self._schemas, self.adoption is not None
        attributes = {
            # A fresh salt for each: an attribute is shown, or erased, without touching the others. An old number that
            # becomes an alias is public, and nothing is gained by committing to it.
            name: (schemas[name], os.urandom(SALT_BYTES), value)
            for name, value in row.attributes.items()
            if not (adopted and name == "id")
        }
        return Disclosure(row.id, row.line, digest, serial, code, attributes)

    def _in_batches(self, disclosures: Sequence[Disclosure]) -> list[list[Disclosure]]:
        adopted = self.adoption is not None
        most = BATCH_ITEMS // 2 if adopted else BATCH_ITEMS  # an alias counts like an item
        batches: list[list[Disclosure]] = []
        size = BATCH_BYTES
        for disclosure in disclosures:
            item = 12
            for name in disclosure.attributes:
                item += len(name.encode()) + 36
            if adopted:
                item += len(disclosure.id) + len(disclosure.code) + 5
            if size + item > BATCH_BYTES or len(batches[-1]) == most:
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
