"""The tables of an audit and its page, from what is proven: the same text on every machine.

Times are those of headers, in the zone that the manifest names; a height outside the span has no time here.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

from cityid.audit.proof import Audit, Subject, Version, range_of, seen_by, superseded

__all__ = [
    "CODES",
    "changes_of",
    "code_rows",
    "history_rows",
    "local",
    "made_files",
    "range_rows",
    "transaction_rows",
    "vote_rows",
]

CODES: Final = ("code", "kind", "status", "version", "height", "holder")
RANGES: Final = (
    "city",
    "class",
    "first",
    "last",
    "holder",
    "status",
    "version",
    "height",
    "table_version",
    "table_count",
    "table_digest",
)
HISTORY: Final = ("time", "height", "code", "version", "status", "changed", "reason", "basis")
TRANSACTIONS: Final = ("time", "height", "id", "outcome", "operations", "concerns", "signers")
VOTES: Final = ("time", "height", "proposer", "votes", "of", "batches", "transactions")
CHAIN: Final = frozenset({"kind", "version", "height", "previous", "previous_height", "reason", "basis"})


def made_files(audit: Audit) -> dict[str, str]:
    """Every file that follows from the proofs, by name."""
    from cityid.audit.page import page

    return {
        "codes.csv": _csv(CODES, code_rows(audit)),
        "ranges.csv": _csv(RANGES, range_rows(audit)),
        "history.csv": _csv(HISTORY, history_rows(audit)),
        "transactions.csv": _csv(TRANSACTIONS, transaction_rows(audit)),
        "votes.csv": _csv(VOTES, vote_rows(audit)),
        "seen.json": seen_by(audit).to_json(),
        "index.html": page(audit),
    }


def local(audit: Audit, time_ms: int | None) -> str:
    """A time as people read it, to the second, in the zone of the manifest; empty when it is not known."""
    if time_ms is None:
        return ""
    zone = timezone(timedelta(minutes=audit.manifest.utc_offset_minutes))
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_ms)
    return moment.astimezone(zone).isoformat(sep=" ", timespec="seconds")


def code_rows(audit: Audit) -> Iterator[tuple[str, ...]]:
    """Every code under the prefix as of the end of the span, in the order of map keys."""
    last = audit.manifest.last
    for subject in audit.subjects:
        held = subject.at(last)
        if subject.code is not None and held is not None and not superseded(audit, subject, last):
            record = held.record
            yield (
                subject.code,
                record["kind"],
                record["status"],
                str(held.number),
                str(held.height),
                record.get("holder", ""),
            )


def range_rows(audit: Audit) -> Iterator[tuple[str, ...]]:
    """Every range of the prefix as of the end of the span."""
    for subject in audit.ranges.values():
        held = subject.at(audit.manifest.last)
        if held is None:
            continue
        city, class_code, base, size = range_of(subject.key)
        table = held.record.get("table") or {}
        yield (
            city,
            class_code,
            f"{base:09d}",
            f"{base + size - 1:09d}",
            held.record.get("holder", ""),
            held.record["status"],
            str(held.number),
            str(held.height),
            str(table.get("version", "")),
            str(table.get("count", "")),
            str(table.get("digest", "")),
        )


def history_rows(audit: Audit) -> Iterator[tuple[str, ...]]:
    """Every version that was made in the span, by height, then by map key and version."""
    first, last = audit.manifest.first, audit.manifest.last
    rows: list[tuple[int, int, Subject, Version, Version | None]] = []
    for place, subject in enumerate(audit.subjects):
        older = (*subject.versions[1:], None)
        rows.extend(
            (version.height, place, subject, version, before)
            for version, before in zip(subject.versions, older, strict=True)
            if first <= version.height <= last
        )
    for height, _, subject, version, before in sorted(rows, key=lambda row: (row[0], row[1], row[3].number)):
        record = version.record
        yield (
            local(audit, audit.time_of(height)),
            str(height),
            subject.name,
            str(version.number),
            record["status"],
            changes_of(before, version),
            str(record.get("reason", "")),
            record.get("basis", ""),
        )


def changes_of(before: Version | None, after: Version) -> str:
    """What differs between two versions: `field: before → after`, separated by `; `."""
    if after.number == 1:
        return "registered"
    old: Mapping[str, Any] = {} if before is None else before.record
    names = [*old, *(name for name in after.record if name not in old)]
    parts = (
        f"{name}: {_short(old.get(name))} → {_short(after.record.get(name))}"
        for name in names
        if name not in CHAIN and old.get(name) != after.record.get(name)
    )
    return "; ".join(parts)


def transaction_rows(audit: Audit) -> Iterator[tuple[str, ...]]:
    """The transactions of the span that concern the prefix, refused ones too, in the order of the chain."""
    for one in audit.transactions:
        receipt = one["receipt"]
        outcome = receipt["status"]
        if outcome == "rejected":
            outcome += f": {receipt['reason']}"
        yield (
            local(audit, one["time_ms"]),
            str(one["height"]),
            one["id"],
            outcome,
            " ".join(operation["op"] for operation in one["operations"]),
            " | ".join(one["names"]),
            " ".join(one["signers"]),
        )


def vote_rows(audit: Audit) -> Iterator[tuple[str, ...]]:
    """Every block of the span with its votes."""
    for block in audit.blocks:
        numbers = (block[name] for name in ("signatures", "of", "batches", "transactions"))
        yield (
            local(audit, block["time_ms"]),
            str(block["height"]),
            block["proposer"],
            *(str(number) for number in numbers),
        )


def _csv(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(tuple(_inert(cell) for cell in row) for row in rows)
    return text.getvalue()


def _inert(cell: str) -> str:
    # A spreadsheet runs a cell that begins like a formula; names come from whoever registered them.
    return "'" + cell if cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell


def _short(value: Any) -> str:
    if value is None:
        return "–"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text if len(text) <= 120 else text[:120] + "…"
