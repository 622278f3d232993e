"""Building the table of a sealed range (P43) from what people have: a file, a list, or numbers behind a prefix.

A `Source` adds items to a writer; `build` makes a version of a range's table from one: what the version before holds
stays, and the items that have records of their own are taken up, for a table that would leave them out is refused
(P44).
"""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Protocol

from cityid._native import Code, Table, TableWriter, record_json
from cityid.client.operations import Range
from cityid.client.plans import Resolved
from cityid.errors import InputError, StorageError

__all__ = ["Built", "Listed", "Numbered", "Rows", "Source", "build", "parse_list", "parse_prefix", "take_up"]

CHUNK_BYTES: Final = 8 * 1024 * 1024
SERIAL_DIGITS: Final = 9

Progress = Callable[[int, int], None]


class Source(Protocol):
    """Where items come from."""

    @property
    def first(self) -> int | None:
        """A serial of it, or None when only reading it tells."""
        ...

    def add(self, writer: TableWriter, progress: Progress) -> int:
        """Adds every item; how many are known to be added (0 when the writer alone knows)."""
        ...


@dataclass(frozen=True, slots=True)
class Listed:
    """Serials in runs (first, last), ascending, of one category."""

    use: str
    model: str
    runs: Sequence[tuple[int, int]]
    status: str = "active"

    @property
    def first(self) -> int | None:
        """The lowest serial."""
        return self.runs[0][0]

    def add(self, writer: TableWriter, progress: Progress) -> int:
        """Adds every run."""
        count = 0
        for done, (first, last) in enumerate(self.runs, start=1):
            count += writer.add_run(self.use, self.model, first, last, status=self.status)
            progress(done, len(self.runs))
        return count


@dataclass(frozen=True, slots=True)
class Numbered:
    """Numbers behind a prefix: `MA.156.130100.A7K2/60.010203.1/0001` and 0 to 99999 are 000100000 to 000199999."""

    category: Code
    first_serial: int
    last_serial: int
    status: str = "active"

    @property
    def first(self) -> int | None:
        """The lowest serial."""
        return self.first_serial

    def add(self, writer: TableWriter, progress: Progress) -> int:
        """Adds the run."""
        use, model = self.category.use or "", self.category.model or ""
        count = writer.add_run(use, model, self.first_serial, self.last_serial, status=self.status)
        progress(1, 1)
        return count


@dataclass(frozen=True, slots=True)
class Rows:
    """A CSV file: `serial`, or `code`, or `serial`, `use` and `model`; other columns are attributes.

    What opens the commitments is appended to `disclosures`, which only its owner reads, before the table is finished.
    """

    path: Path
    category: tuple[str, str] | None
    disclosures: Path

    @property
    def first(self) -> int | None:
        """Only reading the file tells."""
        return None

    def add(self, writer: TableWriter, progress: Progress) -> int:
        """Adds every row, in pieces."""
        done = 0
        with self.path.open("rb") as file:
            total = os.fstat(file.fileno()).st_size
            descriptor = os.open(self.disclosures, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as shown:
                try:
                    while chunk := file.read(CHUNK_BYTES):
                        shown.write(writer.add_csv(_without_mark(chunk, done), category=self.category))
                        done += len(chunk)
                        progress(done, total)
                    shown.write(writer.add_csv(b"", category=self.category))
                    shown.flush()
                    os.fsync(shown.fileno())
                    kept = shown.tell() > 0
                except OSError as error:
                    raise StorageError(f"{self.disclosures} cannot be written ({error}). Next: make room.") from None
        if not kept:
            self.disclosures.unlink()
        return 0


@dataclass(frozen=True, slots=True)
class Built:
    """A table, and how many records of the ledger it took up."""

    table: Table
    taken_up: int


def build(
    path: Path,
    source: Source | None,
    sealed: Range,
    *,
    genesis_hash: bytes,
    org: str | None,
    height: int,
    previous: Path | None,
    records: Sequence[bytes],
    progress: Progress,
) -> Built:
    """Writes the table of a range to `path`, which is new.

    Raises:
        InputError: something is wrong with the items; the message says where.
        StorageError: the disk does not take it.
    """
    if path.exists():
        raise InputError(f"{path} exists, and a table is never overwritten. Next: choose another name.")
    writer = TableWriter(
        path,
        genesis_hash=genesis_hash,
        city=sealed.city,
        cls=sealed.class_code,
        base=sealed.base,
        size=sealed.size,
        org=org,
        seed=os.urandom(32),
        height=height,
        previous=previous,
    )
    taken = writer.add_records(records) if records else 0
    if source is not None:
        source.add(writer, progress)
    return Built(writer.finish(), taken)


def take_up(found: Sequence[Resolved], previous: Table | None) -> list[bytes]:
    """The item records of verified answers that a new table must hold, and the one before does not (P44)."""
    records: list[bytes] = []
    for resolved in found:
        own = next((data for kind, data in resolved.answer.records if kind == "item" and data is not None), None)
        if own is None:
            continue
        held = None if previous is None else previous.record(Code.parse(resolved.code).serial or 0)
        if held is None or _version(held) < _version(own):
            records.append(own)
    return records


def parse_list(text: str) -> list[tuple[int, int]]:
    """`1,2,5-9` as runs, ascending. Raises InputError for anything else, and for a serial that stands twice."""
    runs: list[tuple[int, int]] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not _is_number(first) or (dash and not _is_number(last)):
            raise InputError(f"--list takes serials and runs such as 1,2,5-9, not {part.strip()!r}.")
        runs.append((int(first), int(last) if dash else int(first)))
    runs.sort()
    for (_, end), (begin, _) in pairwise(runs):
        if begin <= end:
            raise InputError(f"--list names the serial {begin} twice.")
    if backwards := [run for run in runs if run[0] > run[1]]:
        raise InputError(f"--list has a run that goes backwards: {backwards[0][0]}-{backwards[0][1]}.")
    return runs


def parse_prefix(prefix: str, numbers: str, width: int | None) -> Numbered:
    """The serials that a category code, with leading digits of the serial if wanted, and A-B make.

    A number is written with `width` digits, zeros before it; without one with as many as the prefix leaves of nine.
    """
    head, slash, digits = prefix.rpartition("/")
    if not slash or "/" not in head:
        head, digits = prefix.rstrip("/"), ""
    category = Code.parse(head)
    if category.kind != "category" or not (digits == "" or _is_number(digits)):
        raise InputError(
            f"{prefix!r} is no category code with leading digits of a serial. "
            "Next: write it as MA.156.130100.A7K2/60.010203.1/0001"
        )
    room = SERIAL_DIGITS - len(digits)
    width = room if width is None else width
    first, dash, last = numbers.partition("-")
    if not (dash and _is_number(first) and _is_number(last) and int(first) <= int(last)):
        raise InputError(f"--range takes FIRST-LAST, for example 0-99999, not {numbers!r}.")
    if not 1 <= width <= room:
        raise InputError(f"--width {width} does not fit: {len(digits)} digits of nine stand in the prefix.")
    if int(last) >= 10**width:
        raise InputError(f"{last} does not fit {width} digits. Next: a larger --width, or a shorter prefix.")
    start = int(digits or "0") * 10**width
    return Numbered(category, start + int(first), start + int(last))


def _version(record: bytes) -> int:
    found: dict[str, Any] = json.loads(record_json(record))
    return int(found["version"])


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= SERIAL_DIGITS


def _without_mark(chunk: bytes, done: int) -> bytes:
    """The text without the mark that spreadsheets put before UTF-8."""
    return chunk.removeprefix(b"\xef\xbb\xbf") if done == 0 else chunk
