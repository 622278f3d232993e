"""The table of item classes that ships with the package: our own, designed along the widths of CJ/T 553-2024.

It is not the standard's table. A class is six digits; a network may use any, and a code does not say which table its
class comes from. The table gives those who begin a common choice.
"""

from dataclasses import dataclass
from importlib import resources

__all__ = ["ItemClass", "classes_table"]


@dataclass(frozen=True, slots=True)
class ItemClass:
    """One row: six digits, what they stand for, and a note."""

    code: str
    chinese: str
    english: str
    note: str


def classes_table() -> list[ItemClass]:
    """The rows, ascending by code."""
    text = (resources.files("cityid") / "data" / "classes.tsv").read_text(encoding="utf-8")
    return [ItemClass(*line.split("\t")) for line in text.splitlines()[1:]]
