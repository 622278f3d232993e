"""What people write to name the items of a table, read into runs; and which records a later table takes up."""

from pathlib import Path

import pytest

from cityid._native import Table
from cityid.client.operations import Range
from cityid.client.sealing import Listed, Rows, build, parse_list, parse_prefix
from cityid.errors import InputError, RuleViolation

CATEGORY = "MA.156.130100.A7K2/60.010203.1"
SEALED = Range("130100", "010203", 0, 1_000)


@pytest.mark.parametrize(
    ("text", "runs"),
    [("7", [(7, 7)]), ("5-9,1,2", [(1, 1), (2, 2), (5, 9)]), (" 3 , 4-4 ", [(3, 3), (4, 4)])],
)
def test_lists(text: str, runs: list[tuple[int, int]]) -> None:
    assert parse_list(text) == runs


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "1,2,5-9"),
        ("a", "1,2,5-9"),
        ("1-", "1,2,5-9"),
        ("-1", "1,2,5-9"),
        ("١", "1,2,5-9"),
        ("1,,2", "1,2,5-9"),
        ("5-9,7", "twice"),
        ("9-5", "backwards"),
        ("1234567890", "1,2,5-9"),
    ],
)
def test_lists_that_are_none(text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        parse_list(text)


@pytest.mark.parametrize(
    ("prefix", "numbers", "width", "first", "last"),
    [
        (CATEGORY, "0-499", None, 0, 499),
        (f"{CATEGORY}/", "0-499", None, 0, 499),
        (f"{CATEGORY}/0001", "0-99999", None, 100_000, 199_999),
        (f"{CATEGORY}/0001", "5-9", None, 100_005, 100_009),
        (f"{CATEGORY}/12", "5-9", 3, 12_005, 12_009),
        (f"{CATEGORY}/12", "5-9", None, 120_000_005, 120_000_009),
        ("MA.156.130100/60.010203.1/7", "0-0", 1, 70, 70),
    ],
)
def test_numbers_behind_a_prefix(prefix: str, numbers: str, width: int | None, first: int, last: int) -> None:
    found = parse_prefix(prefix, numbers, width)
    assert (found.first_serial, found.last_serial) == (first, last)
    assert found.category.text == prefix.rstrip("/") or prefix.startswith(found.category.text + "/")


@pytest.mark.parametrize(
    ("prefix", "numbers", "width", "says"),
    [
        ("MA.156.130100.A7K2", "0-9", None, "no category"),
        (f"{CATEGORY}/x", "0-9", None, "no category"),
        (CATEGORY, "9", None, "FIRST-LAST"),
        (CATEGORY, "9-1", None, "FIRST-LAST"),
        (f"{CATEGORY}/0001", "0-100000", None, "does not fit 5 digits"),
        (f"{CATEGORY}/0001", "0-9", 6, "does not fit"),
        (f"{CATEGORY}/12", "0-1000", 3, "does not fit 3 digits"),
    ],
)
def test_prefixes_that_name_nothing(prefix: str, numbers: str, width: int | None, says: str) -> None:
    with pytest.raises(InputError, match=says):
        parse_prefix(prefix, numbers, width)


def make(path: Path, source: Listed | Rows, *, previous: Path | None = None) -> Table:
    return build(
        path, source, SEALED, genesis_hash=bytes(32), org="A7K2", height=5, previous=previous, records=[],
        progress=lambda done, total: None,
    ).table  # fmt: skip


def test_a_table_from_a_list_and_the_one_after_it(tmp_path: Path) -> None:
    first = make(tmp_path / "1.table", Listed("60", "1", [(1, 2), (5, 9)]))
    assert (first.count, first.version, first.record(3)) == (7, 1, None)
    with pytest.raises(InputError, match="never overwritten"):
        make(tmp_path / "1.table", Listed("60", "1", [(1, 1)]))
    second = make(tmp_path / "2.table", Listed("60", "1", [(3, 3)]), previous=tmp_path / "1.table")
    assert (second.count, second.version, second.previous) == (8, 2, first.digest)
    assert second.record(5) == first.record(5)
    with pytest.raises(RuleViolation) as caught:
        make(tmp_path / "3.table", Listed("60", "1", [(5, 5)]), previous=tmp_path / "2.table")
    assert caught.value.reason == "exists"
    assert not (tmp_path / "3.table").exists()


def test_a_table_from_rows_keeps_what_opens_its_commitments(tmp_path: Path) -> None:
    rows = tmp_path / "lamps.csv"
    rows.write_text("\ufeffserial,power\n1,60\n2,\n3,80\n")
    shown = tmp_path / "shown.csv"
    table = make(tmp_path / "1.table", Rows(rows, ("60", "1"), shown))
    lines = shown.read_text().splitlines()
    assert (table.count, lines[0], len(lines)) == (3, "code,attribute,schema,salt,value", 3)
    assert shown.stat().st_mode & 0o777 == 0o600
    rows.write_text("serial\n1\n2\n")
    make(tmp_path / "2.table", Rows(rows, ("60", "1"), tmp_path / "nothing.csv"))
    assert not (tmp_path / "nothing.csv").exists(), "without attributes there is nothing to keep"


@pytest.mark.parametrize(
    ("text", "category", "says"),
    [
        ("serial\n1\n", None, "header"),
        ("serial,use,model\n1,60,1\n1,60,1\n", None, "line 3"),
        ("serial\n1000\n", ("60", "1"), "line 2"),
        ("serial\nseven\n", ("60", "1"), "seven"),
        ("serial,use\n1,60\n", ("60", "1"), "header"),
    ],
)
def test_rows_that_make_no_table_say_where(
    tmp_path: Path, text: str, category: tuple[str, str] | None, says: str
) -> None:
    rows = tmp_path / "lamps.csv"
    rows.write_text(text)
    with pytest.raises(InputError, match=says):
        make(tmp_path / "1.table", Rows(rows, category, tmp_path / "shown.csv"))
    assert not (tmp_path / "1.table").exists()
