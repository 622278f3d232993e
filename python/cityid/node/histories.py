"""Reading the past: the versions of a record, what held at a height, pages and blocks for audits.

A record names the version before it by hash and height (P11), and the store keeps everything that a height wrote, so a
chain is read from the present down, one height at a time. Of a sealed item the chain may go on in a table file; what is
not at hand ends the history there, and the history says so (P74).

Rules. Everything here blocks and runs in a worker thread. One call reads at most `READ_BYTES` of stored changes and
gives at most `PART_BYTES` of records; what is left is asked for again. Nothing here decides what is true: whoever gets
a history verifies it.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from cityid._native import (
    Answer,
    AuditPage,
    Genesis,
    History,
    Ledger,
    Snapshot,
    Trust,
    deciding_record,
    encode_audit_block,
    find_version,
    header_json,
    record_json,
)
from cityid.errors import InputError, NotSynced, Pruned, StorageError
from cityid.node.messages import DIGEST_BYTES

__all__ = ["Continuation", "Histories", "Past", "RecordSource"]

MAX_VERSIONS: Final = 4_096  # of one part (P74)
READ_BYTES: Final = 256 * 1024 * 1024
PART_BYTES: Final = 8 * 1024 * 1024
PAGE_RECORDS: Final = 64  # one multi-proof
BLOCKS_BYTES: Final = 8 * 1024 * 1024  # of one reply, which always has at least one block
BLOCKS_COUNT: Final = 2_000
SET_CHANGES: Final = 10_000
ITEM_KIND: Final = 8


class RecordSource(Protocol):
    """What the store keeps of decided heights."""

    def batch(self, digest: bytes) -> bytes | None:
        """The body of a batch."""

    def block(self, height: int) -> tuple[bytes, bytes, bytes] | None:
        """Header, certificate and digests of a height that is kept whole."""

    def certified(self, height: int) -> tuple[bytes, bytes] | None:
        """Header and certificate, of an older height, too."""

    def check_kept(self, height: int) -> None:
        """Raises `Pruned` for a height whose changes, receipts and batches are not kept."""

    def changes(self, height: int) -> bytes | None:
        """Every record version that it wrote."""

    def receipts(self, height: int) -> bytes | None:
        """Its receipts."""


@dataclass(frozen=True, slots=True)
class Continuation:
    """Where the next part of a history begins: the version with this hash, made at this height; size of its log."""

    height: int
    hash: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Past:
    """What held after a height. `history` proves it; a `verdict` of UNAVAILABLE: its versions are not at hand."""

    verdict: str
    record: bytes | None
    code: str | None
    height: int
    time_ms: int
    history: History


@dataclass(slots=True)
class _Link:
    """What a record says about the one before it."""

    version: int
    height: int
    previous: bytes | None
    previous_height: int


class Histories:
    """See the head of the file."""

    def __init__(self, ledger: Ledger, genesis: Genesis, source: RecordSource) -> None:
        self._ledger = ledger
        self._source = source
        self._genesis_header = Ledger(genesis).header  # height 0 is in no store
        self._first_set = Trust.from_json(genesis.to_json()).validator_set

    # ------------------------------------------------------------ what is decided

    @property
    def height(self) -> int:
        """Of the tip."""
        return self._ledger.height

    @property
    def time_ms(self) -> int:
        """Of the tip."""
        return self._ledger.time_ms

    def snapshot(self) -> Snapshot:
        """The last committed height. Raises `NotSynced` before the first: there are no answers at height 0 (P7)."""
        snapshot = self._ledger.snapshot()
        if snapshot.height == 0:
            raise NotSynced("No block has been certified yet. Next: ask again after the first one.")
        return snapshot

    def listing(
        self, snapshot: Snapshot, prefix: str, *, after: str | None, limit: int
    ) -> tuple[list[tuple[bytes, str | None, bytes]], str | None, int]:
        """Codes under a prefix, as `Ledger.listing`."""
        return self._ledger.listing(snapshot, prefix, after=after, limit=limit)

    def log_proof(self, size1: int, size2: int) -> tuple[bytes, bytes]:
        """The complete subtrees of the log of `size1` headers, and its consistency proof with the one of `size2`."""
        return self._ledger.log_peaks(size1), self._ledger.consistency(size1, size2)

    # ------------------------------------------------------------ one record

    def history(self, snapshot: Snapshot, code: str, *, limit: int, down_to: int = 0) -> History:
        """The history of a code from its present version down: at most `limit` older versions, and not beyond the
        first that is not above the height `down_to`.

        Raises `CodeError`, or `RuleViolation` (`not_ready`) at height 0.
        """
        answer = snapshot.answer(code)
        return self._history(answer, limit=limit, down_to=down_to)[0]

    def _history(self, answer: Answer, *, limit: int, down_to: int) -> tuple[History, list[bytes], bool]:
        """The history, all versions that it proves with the present one first, and whether the first one is there."""
        if (found := deciding_record(answer)) is None:
            return History(answer, [], []), [], True
        key, record = found
        older = self._older(key, _link(record), limit=limit, down_to=down_to)
        versions = [record, *older]
        heights = {_link(version).height for version in versions} - {answer.height}
        return (
            History(answer, older, self._headers(heights, answer.height + 1)),
            versions,
            _link(versions[-1]).version == 1,
        )

    def versions(
        self, snapshot: Snapshot, code: str, *, limit: int, below: int | None
    ) -> tuple[list[tuple[bytes, int]], bool]:
        """(record, time of its height) of the present version and those before it, below a version if one is named;
        and whether that goes down to version 1.
        """
        if (found := deciding_record(snapshot.answer(code))) is None:
            return [], True
        key, record = found
        skipped = 0 if below is None else max(0, _link(record).version - below + 1)
        rows = [record, *self._older(key, _link(record), limit=limit + skipped - 1, down_to=0)][skipped:]
        times = {height: self.time_of(height) for height in {_link(row).height for row in rows}}
        complete = not rows or _link(rows[-1]).version == 1
        return [(row, times[_link(row).height]) for row in rows], complete

    def more(self, code: str, snapshot: Snapshot, start: Continuation, *, limit: int) -> History:
        """The part of a history that begins at a version which an earlier part named."""
        if not 1 <= start.size <= self._ledger.height + 1 or start.height >= start.size:
            raise InputError(
                "The history that this continues is not of this node's chain. Next: ask from its beginning."
            )
        if (found := deciding_record(snapshot.answer(code))) is None:
            raise InputError(f"No record decides about {code}, so its history has no parts.")
        first = _Link(version=0, height=start.height + 1, previous=start.hash, previous_height=start.height)
        versions = self._older(found[0], first, limit=limit, down_to=0)
        heights = {_link(version).height for version in versions} - {start.size - 1}
        return History(None, versions, self._headers(heights, start.size))

    def at(self, snapshot: Snapshot, code: str, height: int) -> Past:
        """What held of a code after a height."""
        if height > snapshot.height:
            raise InputError(f"Height {height} is not decided here; the tip is {snapshot.height}. Next: ask later.")
        answer = snapshot.answer(code)
        history, versions, complete = self._history(answer, limit=MAX_VERSIONS, down_to=height)
        resolved = json.loads(snapshot.resolve(code))
        held = next((version for version in versions if _link(version).height <= height), None)
        if held is not None:
            verdict = resolved["verdict"]
        elif versions:
            verdict = "NOT_REGISTERED" if complete else "UNAVAILABLE"
        else:
            verdict = resolved["verdict"]  # nothing is ever deleted: what is not there now never was
        time_ms = self.time_of(height)
        return Past(verdict, held, resolved["code"] if held else None, height, time_ms, history)

    def _older(self, key: bytes, link: _Link, *, limit: int, down_to: int) -> list[bytes]:
        """Versions before the one of `link`, newest first, as far as they are at hand and fit into a part."""
        versions: list[bytes] = []
        read = size = 0
        stored: tuple[int, bytes | None] = (-1, None)
        while link.previous is not None and link.height > down_to and len(versions) < min(limit, MAX_VERSIONS):
            if stored[0] != link.previous_height:
                stored = link.previous_height, self._source.changes(link.previous_height)
                read += len(stored[1] or b"")
            record = None if stored[1] is None else find_version(stored[1], key, link.previous)
            if record is None and key[0] == ITEM_KIND:
                record = self._ledger.snapshot().sealed_version(key, link.previous)
            if record is None and link.previous_height == 0:
                record = self._genesis_record(key, link.previous)
            if record is None:
                self._source.check_kept(link.previous_height)
                break  # not at hand; a history that ends before version 1 says so
            versions.append(record)
            size += len(record)
            link = _link(record)
            if read > READ_BYTES or size > PART_BYTES:
                break
        return versions

    def _genesis_record(self, key: bytes, hash_: bytes) -> bytes | None:
        """A record of block 0, which no store holds."""
        return find_version(self._ledger.genesis_changes(), key, hash_)

    def _headers(self, heights: set[int], size: int) -> list[tuple[bytes, bytes]]:
        return [(self._header(height), self._ledger.inclusion(height, size)) for height in sorted(heights)]

    # ------------------------------------------------------------ heights and times

    def height_at(self, time_ms: int) -> int:
        """The last height that was decided at a time or before."""
        tip = self._ledger.height
        if time_ms < self.time_of(0):
            raise InputError("That was before the network began. Next: ask for a later time.")
        low, high = 0, tip  # the answer is in low..high
        while low < high:
            middle = (low + high + 1) // 2
            if self._is_unknown(middle) or self.time_of(middle) <= time_ms:
                low = middle
            else:
                high = middle - 1
        return low

    def _header(self, height: int) -> bytes:
        if height == 0:
            return self._genesis_header
        if (found := self._source.certified(height)) is not None:
            return found[0]
        if height == self._ledger.height:
            return self._ledger.header  # published, and not written yet
        self._source.check_kept(height)
        raise StorageError(f"Height {height} is not in the store, which is below the tip. Check the disk.")

    def _is_unknown(self, height: int) -> bool:
        """Whether a height is so old that not even its header is here: then all that are known are later."""
        try:
            self._header(height)
        except Pruned:
            return True
        return False

    def time_of(self, height: int) -> int:
        """The time of a height, milliseconds since 1970 (UTC)."""
        return int(json.loads(header_json(self._header(height)))["time_ms"])

    # ------------------------------------------------------------ audits

    def page(
        self, snapshot: Snapshot, prefix: str, *, after: str | None, limit: int, down_to: int
    ) -> tuple[AuditPage, str | None]:
        """Records under a prefix, proven, each with its versions down to the first that is not above `down_to`; and
        where the next page begins.
        """
        rows, following, _ = self._ledger.listing(
            snapshot, prefix, after=after, limit=min(limit, PAGE_RECORDS), ranges=True
        )
        entries = [(key, self._whole_chain(key, record, down_to)) for key, _, record in rows]
        return snapshot.audit_page(entries), following

    def records(self, snapshot: Snapshot, keys: Sequence[bytes], *, down_to: int) -> AuditPage:
        """The same of named keys; those without a record are left out."""
        entries = []
        for key in sorted(set(keys)):
            if (record := snapshot.record(key)) is not None:
                entries.append((key, self._whole_chain(key, record, down_to)))
        return snapshot.audit_page(entries)

    def _whole_chain(self, key: bytes, record: bytes, down_to: int) -> list[bytes]:
        """All versions down to the first that is not above a height; an audit takes no less."""
        versions = self._older(key, _link(record), limit=MAX_VERSIONS, down_to=down_to)
        oldest = _link(versions[-1] if versions else record)
        if oldest.height > down_to and oldest.version > 1:
            raise InputError(
                f"A record has more than {MAX_VERSIONS} versions above height {down_to}, or version "
                f"{oldest.version - 1} of it is not at hand. Next: audit a shorter span, or ask another city."
            )
        return versions

    def trust_path(self) -> dict[str, Any]:
        """Every set that ever decided, and each header that named another next set with what certifies it (P75)."""
        changes = self._ledger.set_changes(0)
        if len(changes) > SET_CHANGES:
            raise InputError(f"More than {SET_CHANGES} changes of the committee. Next: begin from a newer trust file.")
        steps = []
        for height, next_set in changes:
            if (found := self._source.certified(height)) is None:
                raise NotSynced(f"Height {height} is being written. Next: ask again.")
            header, certificate = found
            path = self._ledger.inclusion(height, height + 1)
            parts = {"header": header, "log_path": path, "certificate": certificate, "next_set": next_set}
            steps.append({"height": str(height)} | {name: part.hex() for name, part in parts.items()})
        sets = {self._first_set.hex(), *(next_set.hex() for _, next_set in changes)}
        return {"changes": steps, "sets": sorted(sets)}

    def blocks(self, first: int, last: int) -> bytes:
        """A CBOR sequence of whole blocks (P78) from a height on, as many as fit into one reply."""
        last = min(last, self._ledger.height, first + BLOCKS_COUNT - 1)
        self._source.check_kept(first)
        if first < 1 or first > last:
            raise InputError(f"No block of heights {first} to {last} is decided here. Next: ask for what is.")
        parts: list[bytes] = []
        size = 0
        for part in self._blocks(first, last):
            parts.append(part)
            size += len(part)
            if size > BLOCKS_BYTES:
                break
        if not parts:
            raise NotSynced(f"Height {first} is being written. Next: ask again.")
        return b"".join(parts)

    def _blocks(self, first: int, last: int) -> Iterator[bytes]:
        for height in range(first, last + 1):
            found, receipts = self._source.block(height), self._source.receipts(height)
            if found is None or receipts is None:
                if height == self._ledger.height:
                    return  # published, and not written yet: the next request has it
                raise StorageError(f"Height {height} is not in the store, which is below the tip. Check the disk.")
            header, certificate, digests = found
            batches = []
            for start in range(0, len(digests), DIGEST_BYTES):
                digest = digests[start : start + DIGEST_BYTES]
                if (body := self._source.batch(digest)) is None:
                    raise StorageError(f"A batch of height {height} is not in the store. Check the disk.")
                batches.append(body)
            yield encode_audit_block(header, certificate, receipts, batches)


def _link(record: bytes) -> _Link:
    found: dict[str, Any] = json.loads(record_json(record))
    previous = found.get("previous")
    return _Link(
        version=int(found["version"]),
        height=int(found["height"]),
        previous=None if previous is None else bytes.fromhex(previous),
        previous_height=int(found.get("previous_height", 0)),
    )
