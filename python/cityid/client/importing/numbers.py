"""Old numbers: which of them can be an alias (P49), and the serial that a number of 21 digits gives (P73)."""

import re
from collections.abc import Sequence
from typing import Final

from cityid.client.importing.rows import Reject, Row

__all__ = ["with_aliases", "with_serials"]

ALIAS: Final = re.compile(r"[!-~]{1,64}")
NUMBER: Final = re.compile(r"[0-9]{21}")


def with_aliases(rows: Sequence[Row | Reject], column: str) -> list[Row | Reject]:
    """The same rows; those whose number cannot be an alias are rejected. `column` holds the numbers."""
    found: list[Row | Reject] = []
    for row in rows:
        if isinstance(row, Row) and not ALIAS.fullmatch(row.id):
            found.append(Reject(row.line, column, row.id, "bad_alias"))
        else:
            found.append(row)
    return found


def with_serials(rows: Sequence[Row | Reject], column: str, class_code: str) -> list[Row | Reject]:
    """Rows whose numbers are 21 digits (district, class, serial), with that serial; the others are rejected."""
    found: list[Row | Reject] = []
    serials: set[int] = set()
    for row in rows:
        if isinstance(row, Reject):
            found.append(row)
        elif not NUMBER.fullmatch(row.id):
            found.append(Reject(row.line, column, row.id, "not_21_digits"))
        elif row.id[6:12] != class_code:
            found.append(Reject(row.line, column, row.id, "other_class"))
        elif (serial := int(row.id[12:])) in serials:
            found.append(Reject(row.line, column, row.id, "duplicate_serial"))
        else:
            serials.add(serial)
            found.append(Row(row.line, row.id, serial, row.attributes))
    return found
