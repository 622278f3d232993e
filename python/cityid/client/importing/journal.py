"""What an import has done, on disk before it is done: so that a second run finds out instead of guessing.

Two files stand beside the register, both JSON lines, both readable by their owner only:

    FILE.disclosures.jsonl   code, attributes with salt and value: what the owner shows later, secret till then
    FILE.import.jsonl        the journal: ranges asked for, batches signed, what became of them

Order. The disclosures of a batch are durable before the batch stands in the journal; the batch, with the signed bytes
of its transaction, is durable in the journal before it is sent. After a crash anywhere a second run therefore re-sends
identical bytes, and what the network has done already it does not do again (P19). A torn last line is dropped; what a
crash left in the disclosures without a batch is cut off.
"""

import base64
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, Self

from cityid._native import sha256_many
from cityid.client.importing.rows import Row
from cityid.client.private_lines import QUOTE, append_encoded, encode_lines, open_private, read_lines
from cityid.errors import InputError, StorageError

__all__ = ["Batch", "Disclosure", "Journal", "Planned", "digest_of", "digests_of"]

VERSION: Final = 1
DIGEST_DIGITS: Final = 32


class Disclosure(NamedTuple):
    """One row with its serial and salts: everything that its commitments are made of.

    A named tuple, as `Row` is: there is one for every row, and a frozen dataclass takes three times as long to make.
    """

    id: str
    line: int
    digest: str
    serial: int
    code: str
    attributes: Mapping[str, tuple[str, bytes, str]]  # name: schema, salt, value

    def to_line(self) -> str:
        """One line of the disclosures file, JSON; written by hand because there is one for every row."""
        attributes = ",".join(
            [
                f'{QUOTE(name)}:{{"schema":{QUOTE(schema)},"salt":"{salt.hex()}","value":{QUOTE(value)}}}'
                for name, (schema, salt, value) in self.attributes.items()
            ]
        )
        return (
            f'{{"id":{QUOTE(self.id)},"line":{self.line},"digest":"{self.digest}","serial":{self.serial},'
            f'"code":"{self.code}","attributes":{{{attributes}}}}}\n'
        )

    @staticmethod
    def from_json(found: Mapping[str, Any]) -> "Disclosure":
        """Reads one line back; KeyError, TypeError or ValueError when it is none."""
        attributes = found["attributes"]
        if attributes != {}:
            attributes = {
                name: (str(parts["schema"]), bytes.fromhex(parts["salt"]), str(parts["value"]))
                for name, parts in attributes.items()
            }
        return Disclosure(
            str(found["id"]),
            int(found["line"]),
            str(found["digest"]),
            int(found["serial"]),
            str(found["code"]),
            attributes,
        )


@dataclass(frozen=True, slots=True)
class Planned:
    """A signed transaction that is on disk: its id, its bytes, the last height that may include it.

    `reserves` are the ranges (base, size) that it reserves, if that is what it does.
    """

    id: bytes
    transaction: bytes
    valid_until: int
    reserves: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Batch:
    """A transaction that registers these rows."""

    planned: Planned
    rows: tuple[str, ...]


@dataclass(slots=True)
class Journal:
    """Both files, open, and what they say. One process at a time."""

    path: Path
    target: Mapping[str, Any]
    disclosures: dict[str, Disclosure] = field(default_factory=dict)
    allocations: dict[bytes, Planned] = field(default_factory=dict)  # asked for, outcome not noted
    ranges: list[tuple[int, int]] = field(default_factory=list)
    reserved: list[tuple[int, int]] = field(default_factory=list)
    batches: dict[bytes, Batch] = field(default_factory=dict)  # signed, outcome not noted
    committed: dict[str, int] = field(default_factory=dict)  # row: height
    rejected: dict[str, str] = field(default_factory=dict)  # row: reason
    _journal: BinaryIO | None = None
    _disclosed: BinaryIO | None = None

    @classmethod
    def open(cls, source: Path, target: Mapping[str, Any]) -> Self:
        """Opens or makes the two files beside `source`.

        Raises:
            InputError: the journal belongs to an import with another target, or another import is running.
            StorageError: the files hold something that this program did not write.
        """
        journal = cls(source.with_name(source.name + ".import.jsonl"), dict(target))
        try:
            journal._journal = open_private(journal.path)
            journal._disclosed = open_private(source.with_name(source.name + ".disclosures.jsonl"))
            journal._load()
        except BaseException:
            journal.close()
            raise
        return journal

    def close(self) -> None:
        """Closes both files; the journal says nothing new after that."""
        for file in (self._journal, self._disclosed):
            if file is not None:
                file.close()
        self._journal = self._disclosed = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def used_serials(self) -> set[int]:
        """Serials that this import has given out, whatever became of them."""
        return {disclosure.serial for disclosure in self.disclosures.values()}

    def disclose(self, disclosures: Iterable[Disclosure]) -> None:
        """Writes salts and values down; durable on return."""
        new = list(disclosures)
        self._append_encoded(self._disclosed, "".join([one.to_line() for one in new]).encode(), durable=True)
        self.disclosures.update((disclosure.id, disclosure) for disclosure in new)

    def plan_allocation(self, planned: Planned) -> None:
        """Notes an allocation that is about to be asked for; durable on return."""
        self._note({"entry": "allocation", **_planned_json(planned)}, durable=True)
        self.allocations[planned.id] = planned

    def note_allocation(
        self, id: bytes, ranges: Sequence[tuple[int, int]], reserved: Sequence[tuple[int, int]] = ()
    ) -> None:
        """Notes what an allocation or a reservation gave; nothing when it was refused."""
        entry: dict[str, Any] = {"entry": "ranges", "id": id.hex(), "ranges": [list(part) for part in ranges]}
        if reserved:
            entry["reserved"] = [list(part) for part in reserved]
        self._note(entry, durable=True)
        self.allocations.pop(id, None)
        self.ranges.extend(ranges)
        self.reserved.extend(reserved)

    def note_reserved(self, base: int, size: int) -> None:
        """Notes a range that turned out to be reserved for this holder before."""
        self.note_allocation(b"", (), [(base, size)])

    def plan_batches(self, batches: Sequence[Batch]) -> None:
        """Notes batches that are about to be sent; durable on return."""
        assert self._disclosed is not None
        end = self._disclosed.tell()
        entries = [
            {
                "entry": "batch",
                **_planned_json(batch.planned),
                "rows": list(batch.rows),
                "disclosures_bytes": end,
            }
            for batch in batches
        ]
        self._append(self._journal, entries, durable=True)
        self.batches.update((batch.planned.id, batch) for batch in batches)

    def note_committed(self, id: bytes, height: int, rows: Sequence[str] | None = None) -> None:
        """Notes that the rows of a batch (or those named) are registered. Not durable: a second run can ask again."""
        batch = self.batches.pop(id, None)
        done = rows if rows is not None else batch.rows if batch is not None else ()
        self._note({"entry": "committed", "id": id.hex(), "height": height, "rows": list(done)}, durable=False)
        self.committed.update(dict.fromkeys(done, height))

    def note_refused(self, id: bytes, reason: str, rows: Sequence[str] = ()) -> None:
        """Notes that a batch was refused; `rows` are given up for that reason, the others are free again."""
        self.batches.pop(id, None)
        self._note({"entry": "refused", "id": id.hex(), "reason": reason, "rows": list(rows)}, durable=False)
        self.rejected.update(dict.fromkeys(rows, reason))

    def _note(self, entry: Mapping[str, Any], *, durable: bool) -> None:
        self._append(self._journal, [entry], durable=durable)

    def _append(self, file: BinaryIO | None, lines: Sequence[Mapping[str, Any]], *, durable: bool) -> None:
        self._append_encoded(file, encode_lines(lines), durable=durable)

    def _append_encoded(self, file: BinaryIO | None, lines: bytes, *, durable: bool) -> None:
        assert file is not None, "the journal is open"
        try:
            append_encoded(file, lines, durable=durable)
        except OSError as error:
            raise StorageError(
                f"{self.path.parent} cannot be written ({error}). Nothing more is sent. "
                "Next: make room and run the import again."
            ) from None

    def _load(self) -> None:
        assert self._journal is not None
        assert self._disclosed is not None
        entries = read_lines(self._journal, self.path)
        header = {"entry": "import", "version": VERSION, **self.target}
        if not entries:
            # Whatever stands in the disclosures without a journal is not ours to cut: say so.
            if self._disclosed.seek(0, os.SEEK_END):
                raise InputError(
                    f"There are disclosures but no journal {self.path.name}. "
                    "Next: put the journal back, or move both away."
                )
            self._append(self._journal, [header], durable=True)
            return
        if entries[0] != header:
            different = sorted(key for key in header if entries[0].get(key) != header[key])
            raise InputError(
                f"{self.path.name} belongs to an import with another {', '.join(different)}. "
                "Next: import the file as before, or copy it to another name."
            )
        disclosed_bytes = 0
        for entry in entries[1:]:
            try:
                disclosed_bytes = max(disclosed_bytes, self._apply(entry))
            except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
                raise StorageError(
                    f"{self.path} holds an entry that cannot be read ({error!r}). Next: restore it from a copy."
                ) from None
        self._load_disclosures(disclosed_bytes)

    def _apply(self, entry: Mapping[str, Any]) -> int:
        id = bytes.fromhex(entry["id"])
        match entry["entry"]:
            case "allocation":
                self.allocations[id] = _planned(entry)
            case "ranges":
                self.allocations.pop(id, None)
                self.ranges.extend((int(base), int(size)) for base, size in entry["ranges"])
                self.reserved.extend((int(base), int(size)) for base, size in entry.get("reserved", ()))
            case "batch":
                self.batches[id] = Batch(_planned(entry), tuple(entry["rows"]))
                return int(entry["disclosures_bytes"])
            case "committed":
                self.batches.pop(id, None)
                self.committed.update(dict.fromkeys(entry["rows"], int(entry["height"])))
            case "refused":
                self.batches.pop(id, None)
                self.rejected.update(dict.fromkeys(entry["rows"], str(entry["reason"])))
            case other:
                raise ValueError(f"unknown entry {other!r}")
        return 0

    def _load_disclosures(self, size_bytes: int) -> None:
        assert self._disclosed is not None
        name = f"{self.path.name.removesuffix('.import.jsonl')}.disclosures.jsonl"
        if self._disclosed.seek(0, os.SEEK_END) < size_bytes:
            raise StorageError(
                f"{name} is shorter than the journal says. Next: restore it from a copy; salts cannot be made again."
            )
        # Salts without a batch were never sent, and nothing refers to them.
        self._disclosed.truncate(size_bytes)
        for entry in read_lines(self._disclosed, Path(name)):
            try:
                disclosure = Disclosure.from_json(entry)
            except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
                raise StorageError(
                    f"{name} holds a line that cannot be read ({error!r}). Next: restore it from a copy."
                ) from None
            self.disclosures[disclosure.id] = disclosure


def digest_of(row: Row) -> str:
    """Tells whether a row still says the same; 128 bits, never published."""
    return digests_of([row])[0]


def digests_of(rows: Sequence[Row]) -> list[str]:
    """The digests of many rows."""
    texts: list[bytes] = []
    for row in rows:
        attributes = row.attributes
        names = attributes if len(attributes) == 1 else sorted(attributes)
        pairs = ",".join([f"[{QUOTE(name)},{QUOTE(attributes[name])}]" for name in names])
        texts.append(f"[{'null' if row.serial is None else row.serial},[{pairs}]]".encode())
    digits = sha256_many(texts).hex()
    return [digits[start : start + DIGEST_DIGITS] for start in range(0, len(digits), 64)]


def _planned_json(planned: Planned) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": planned.id.hex(),
        "transaction": base64.b64encode(planned.transaction).decode(),
        "valid_until": planned.valid_until,
    }
    return found | {"reserves": [list(part) for part in planned.reserves]} if planned.reserves else found


def _planned(entry: Mapping[str, Any]) -> Planned:
    return Planned(
        bytes.fromhex(entry["id"]),
        base64.b64decode(entry["transaction"], validate=True),
        int(entry["valid_until"]),
        tuple((int(base), int(size)) for base, size in entry.get("reserves", ())),
    )
