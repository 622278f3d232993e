"""Registers as people keep them, read into rows: CSV (RFC 4180) and GeoJSON points (RFC 7946), UTF-8.

A row is accepted or rejected, one by one; a bad row never stops the file and never disappears. What stops the file is
said by an InputError: no header, another encoding, a mapping that names a column that is not there. Nothing here knows
of codes, keys or networks.

Bounds: ROW_BYTES a row, COLUMNS columns, ROWS rows, VALUE_BYTES a value, ATTRIBUTE_BYTES a name, GEOJSON_BYTES a
GeoJSON file.
"""

import csv
import json
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, NamedTuple, Protocol

from cityid.errors import InputError, MalformedInput

__all__ = ["Columns", "Datum", "Reject", "Row", "Table", "check_against", "read_table"]

ROW_BYTES: Final = 64 * 1024
ROW_LINES: Final = 100  # a quoted value may hold line breaks; an unclosed quote must not swallow the file
COLUMNS: Final = 256
ROWS: Final = 1_000_000
VALUE_BYTES: Final = 1_024
ATTRIBUTE_BYTES: Final = 64
ATTRIBUTES: Final = 32  # commitments that a record may hold (P6)
GEOJSON_BYTES: Final = 256 * 1024 * 1024

Datum = Literal["WGS84", "CGCS2000", "GCJ02"]
SPECIAL: Final[Mapping[str, frozenset[str]]] = {
    "id": frozenset({"id", "asset_id", "asset_no", "编号", "资产编号", "部件编号", "标识码"}),
    "serial": frozenset({"serial", "流水号"}),
    "longitude": frozenset({"longitude", "lon", "lng", "经度"}),
    "latitude": frozenset({"latitude", "lat", "纬度"}),
}
LIMITS: Final[Mapping[str, int]] = {"longitude": 180, "latitude": 90}
CONTROL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
LONG_LETTERS: Final = VALUE_BYTES // 4  # a letter takes at most four bytes: what is shorter need not be encoded


class Row(NamedTuple):
    """One accepted row: where it stands, its own identifier, its serial if the file gives one, its attributes.

    A named tuple: there are as many as a register has rows, and a frozen dataclass takes three times as long to make.
    """

    line: int
    id: str
    serial: int | None
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Reject:
    """One refused row: the line (CSV) or the feature (GeoJSON), from 1; `reason` is a stable word."""

    line: int
    column: str
    value: str
    reason: str


class RowSchema(Protocol):
    """What says whether the attributes of a row are as they should be; `Schema` of client/schemas.py."""

    def fault(self, attributes: Mapping[str, str]) -> tuple[str, str] | None:
        """(attribute, what is wrong), or None."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column feeds which attribute, in the order of the file. `id` and `serial` are attributes too."""

    attributes: Mapping[str, str]
    datum: Datum = "WGS84"

    def column(self, attribute: str) -> str | None:
        """The column that feeds `attribute`."""
        return next((column for column, name in self.attributes.items() if name == attribute), None)

    def schema(self, attribute: str) -> str:
        """What the value of an attribute is; part of its commitment, so coordinates say their datum."""
        return f"degrees/{self.datum}" if attribute in ("longitude", "latitude") else "text"

    @staticmethod
    def choose(header: Sequence[str], chosen: Mapping[str, str], *, datum: Datum = "WGS84") -> "Columns":
        """The stated mapping (`column=attribute`, empty to leave a column out), and the default for all other columns.

        Raises:
            InputError: a column is not there or stands twice, an attribute has two columns, or none feeds `id`.
        """
        for column in chosen:
            if column not in header:
                raise InputError(
                    f"The mapping names the column {column!r}, which the file does not have: {', '.join(header)}"
                )
        attributes: dict[str, str] = {}
        for column in header:
            attribute = chosen.get(column, _default_attribute(column, taken=set(chosen.values())))
            if not attribute:
                continue
            if column in attributes:
                raise InputError(f"The column {column!r} stands twice in the header. Next: rename one of them.")
            if attribute in attributes.values():
                raise InputError(f"Two columns feed {attribute!r}. Next: say --map COLUMN= to leave one out.")
            if len(attribute.encode()) > ATTRIBUTE_BYTES:
                raise InputError(f"The name of the column {column[:40]!r}… is longer than {ATTRIBUTE_BYTES} bytes.")
            attributes[column] = attribute
        if "id" not in attributes.values():
            raise InputError(
                "No column says which row is which, so a second run could not know them again. "
                f"Next: say --map COLUMN=id with one of: {', '.join(header)}"
            )
        if len(attributes) > ATTRIBUTES:
            raise InputError(
                f"{len(attributes)} columns, and a record holds {ATTRIBUTES}. Next: leave some out with --map COLUMN="
            )
        return Columns(attributes, datum)


@dataclass(frozen=True, slots=True)
class Table:
    """A file being read: its mapping, and its rows as they come."""

    columns: Columns
    rows: Iterator[Row | Reject]


def read_table(
    path: Path,
    file: BinaryIO,
    *,
    chosen: Mapping[str, str],
    datum: Datum = "WGS84",
    delimiter: str = ",",
    blank_serials: bool = False,
) -> Table:
    """Opens a table by the ending of its name: `.geojson` and `.json` are GeoJSON, everything else is CSV.

    With `blank_serials` a row may leave its serial out although the file has a column for it.

    Raises:
        InputError: the file as a whole cannot be read; the message says what to do.
    """
    if path.suffix.lower() in (".geojson", ".json"):
        header, fields = _read_geojson(file)
    else:
        header, fields = _read_csv(file, delimiter)
    columns = Columns.choose(header, chosen, datum=datum)
    return Table(columns, _checked(columns, header, fields, blank_serials))


def check_against(schema: RowSchema, rows: Sequence[Row | Reject]) -> list[Row | Reject]:
    """The same rows; those that break the schema are rejected with what is wrong."""
    checked: list[Row | Reject] = []
    for row in rows:
        fault = schema.fault(row.attributes) if isinstance(row, Row) else None
        checked.append(row if fault is None else Reject(row.line, fault[0], fault[1], "schema"))
    return checked


Fields = Iterator[tuple[int, Sequence[str], bool] | Reject]
"""(line, one value for each column of the header, whether each is known to be short and without control characters), or
a row that is no row."""

Place = tuple[int, str, str, int]
"""Where the value of an attribute stands: position, column, attribute, and for a coordinate the greatest it may be."""


def _read_csv(file: BinaryIO, delimiter: str) -> tuple[list[str], Fields]:
    start = file.peek(4)[:4] if hasattr(file, "peek") else b""
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError("The file is UTF-16. Next: save it as “CSV UTF-8”, or: iconv -f UTF-16 -t UTF-8 OLD > NEW")
    records = _csv_records(file)
    first = next(records, None)
    if first is None:
        raise InputError("The file is empty. Next: its first line must name the columns.")
    _, raw = first
    if raw is None:
        raise InputError(f"The header is longer than {ROW_BYTES} bytes or has an unclosed quote.")
    try:
        header = next(csv.reader([raw.decode("utf-8-sig")], delimiter=delimiter, strict=True))
    except UnicodeDecodeError:
        raise InputError(
            "The header is not UTF-8; files from Excel are often GBK. "
            "Next: save it as “CSV UTF-8”, or: iconv -f GB18030 -t UTF-8 OLD > NEW"
        ) from None
    except (csv.Error, StopIteration) as error:
        raise InputError(f"The header is no CSV: {error}") from None
    header = [column.strip() for column in header]
    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
        raise InputError(
            f"The header {header[0][:60]!r} has one column only. Next: name the delimiter with --delimiter"
        )
    if len(header) > COLUMNS:
        raise InputError(f"The header has {len(header)} columns, and at most {COLUMNS} are read.")
    return header, _csv_fields(records, header, delimiter)


def _csv_fields(records: Iterator[tuple[int, bytes | None]], header: Sequence[str], delimiter: str) -> Fields:
    for line, raw in records:
        if raw is None:
            yield Reject(line, "", "", "unclosed_or_too_long")
            continue
        if not raw.strip():
            continue  # blank lines at the end of a file are no rows
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            yield Reject(
                line, "", raw[max(0, error.start - 8) : error.end + 8].decode("utf-8", "backslashreplace"), "not_utf8"
            )
            continue
        if '"' in text or "\r" in text:
            try:
                fields = next(csv.reader([text], delimiter=delimiter, strict=True))
            except (csv.Error, StopIteration):
                yield Reject(line, "", text[:80], "bad_csv")
                continue
        else:
            fields = text.split(delimiter)  # what the reader does with such a line, several times faster
        if len(fields) != len(header):
            yield Reject(line, "", f"{len(fields)} ≠ {len(header)}", "column_count")
            continue
        # One look at most lines in place of one at each value.
        yield line, fields, len(text) <= LONG_LETTERS and CONTROL.search(text) is None


def _csv_records(file: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """(first line, bytes) of each record; None where one is too long, or a quote stays open for too long.

    A record ends at a line break outside quotes. When a quote does not close within the bounds, its first line alone is
    given up and reading goes on with the next one.
    """
    waiting: deque[bytes] = deque()  # lines given back by an open quote: at most ROW_LINES
    line = 0
    while True:
        first = waiting.popleft() if waiting else file.readline(ROW_BYTES + 1)
        if not first:
            return
        line += 1
        if len(first) > ROW_BYTES:
            while first and not first.endswith(b"\n"):
                first = file.readline(ROW_BYTES)
            yield line, None
            continue
        quotes = first.count(b'"')
        if not quotes:
            yield line, first.rstrip(b"\r\n")  # nearly all of them
            continue
        parts = [first]
        size = len(first)
        while quotes % 2 and len(parts) < ROW_LINES and size <= ROW_BYTES:
            more = waiting.popleft() if waiting else file.readline(ROW_BYTES + 1)
            if not more:
                break
            parts.append(more)
            size += len(more)
            quotes += more.count(b'"')
        if quotes % 2:
            waiting.extendleft(reversed(parts[1:]))
            yield line, None
        elif size > ROW_BYTES:
            yield line, None
            line += len(parts) - 1
        else:
            yield line, b"".join(parts).rstrip(b"\r\n")
            line += len(parts) - 1


def _read_geojson(file: BinaryIO) -> tuple[list[str], Fields]:
    raw = file.read(GEOJSON_BYTES + 1)
    if len(raw) > GEOJSON_BYTES:
        raise InputError(f"The GeoJSON file is longer than {GEOJSON_BYTES} bytes. Next: split it.")
    try:
        found = json.loads(raw.decode("utf-8-sig"), parse_float=str, parse_int=str, parse_constant=_no_constant)
        features = found["features"]
        if found["type"] != "FeatureCollection" or not isinstance(features, list):
            raise MalformedInput("it is no FeatureCollection")
    except (UnicodeDecodeError, ValueError, RecursionError, KeyError, TypeError) as error:
        raise InputError(f"The file is no GeoJSON FeatureCollection in UTF-8: {error}") from None
    # Every property that any feature has is a column; numbers stay the digits that the file shows.
    names = dict.fromkeys(chain.from_iterable(_properties(feature) for feature in features))
    header = ["id", *(name for name in names if name not in ("id", "longitude", "latitude")), "longitude", "latitude"]
    if len(header) > COLUMNS:
        raise InputError(f"The features have {len(header)} properties, and at most {COLUMNS} are read.")
    return header, _geojson_fields(features, header)


def _geojson_fields(features: Sequence[Any], header: Sequence[str]) -> Fields:
    for number, feature in enumerate(features, start=1):
        properties = _properties(feature)
        geometry = feature.get("geometry") if isinstance(feature, dict) else None
        position = geometry.get("coordinates") if isinstance(geometry, dict) else None
        if (
            not isinstance(geometry, dict)
            or geometry.get("type") != "Point"
            or not isinstance(position, list)
            or len(position) < 2
        ):
            kind = geometry.get("type") if isinstance(geometry, dict) else None
            yield Reject(number, "geometry", str(kind)[:80], "not_a_point")
            continue
        fields = {name: _plain(properties.get(name, "")) for name in header}
        fields["id"] = _plain(feature.get("id", properties.get("id", "")))
        fields["longitude"], fields["latitude"] = _plain(position[0]), _plain(position[1])
        yield number, list(fields.values()), False


def _checked(columns: Columns, header: Sequence[str], fields: Fields, blank_serials: bool) -> Iterator[Row | Reject]:
    """Turns fields into rows, and knows which identifiers and serials were there before."""
    # Where each attribute's value stands, found once: this runs for every row of a register.
    places: list[Place] = [
        (header.index(column), column, attribute, LIMITS.get(attribute, 0))
        for column, attribute in columns.attributes.items()
    ]
    without_serial = [place for place in places if place[2] != "serial"]
    id_column = columns.column("id") or "id"
    serial_column = columns.column("serial")
    ids: set[str] = set()
    serials: set[int] = set()
    for count, found in enumerate(fields, start=1):
        if count > ROWS:
            raise InputError(f"The file has more than {ROWS} rows. Next: split it.")
        if isinstance(found, Reject):
            yield found
            continue
        row = _row(places, serial_column, *found)
        if isinstance(row, Row):
            if row.id in ids:
                row = Reject(row.line, id_column, row.id, "duplicate_id")
            elif row.serial is not None and row.serial in serials:
                row = Reject(row.line, serial_column or "serial", str(row.serial), "duplicate_serial")
            else:
                ids.add(row.id)
                if row.serial is not None:
                    serials.add(row.serial)
        elif blank_serials and row.reason == "missing_serial":
            row = _row(without_serial, None, *found)
        yield row


def _row(
    places: Sequence[Place], serial_column: str | None, line: int, values: Sequence[str], is_plain: bool
) -> Row | Reject:
    attributes: dict[str, str] = {}
    for place, column, attribute, limit in places:
        value = values[place].strip()
        if not value:
            if attribute == "id":
                return Reject(line, column, value, "missing_id")
            continue
        if not is_plain:
            if len(value) > LONG_LETTERS and len(value.encode("utf-8", "surrogatepass")) > VALUE_BYTES:
                return Reject(line, column, value[:60] + "…", "too_long")
            if CONTROL.search(value):
                return Reject(line, column, value.encode("unicode_escape").decode("ascii")[:80], "control_character")
        if limit and (reason := _coordinate_fault(value, limit=limit)):
            return Reject(line, column, value, reason)
        attributes[attribute] = value
    if serial_column is None:
        return Row(line, attributes["id"], None, attributes)
    serial = attributes.pop("serial", "")
    if not serial:
        return Reject(line, serial_column, "", "missing_serial")
    if not (len(serial) <= 9 and serial.isascii() and serial.isdigit()):
        return Reject(line, serial_column, serial, "bad_serial")
    return Row(line, attributes["id"], int(serial), attributes)


def _coordinate_fault(value: str, *, limit: int) -> str | None:
    try:
        # Decimal also takes digits of other scripts, underscores and names such as NaN; a coordinate has none of them.
        number = Decimal(value if re.fullmatch(r"[-+0-9.eE]+", value) else "")
    except InvalidOperation:
        return "not_a_number"
    return "coordinate_out_of_range" if abs(number) > limit else None


def _default_attribute(column: str, *, taken: set[str]) -> str:
    for attribute, names in SPECIAL.items():
        if column.casefold() in names and attribute not in taken:
            return attribute
    return column


def _properties(feature: Any) -> Mapping[str, Any]:
    properties = feature.get("properties") if isinstance(feature, dict) else None
    return properties if isinstance(properties, dict) else {}


def _plain(value: Any) -> str:
    """Text as it is, nothing as the empty string, the rest as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _no_constant(name: str) -> None:
    raise MalformedInput(f"{name} is no JSON number")
