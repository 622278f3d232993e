"""Sealed tables against the ten lines of oracle.py: whatever is put in, in whatever order and in how many versions."""

import random
from array import array
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cityid._native import Table, Tables, TableWriter, make_item_code, storage_receipt_message
from cityid.errors import MalformedInput, RuleViolation, StorageError
from tests.property import oracle

SEED = bytes(range(32))
GENESIS = bytes(32)
BASE = 5_000_000


def writer(path: Path, size: int = 1_000_000, previous: Path | None = None) -> TableWriter:
    return TableWriter(
        path,
        genesis_hash=GENESIS,
        city="130100",
        cls="010203",
        base=BASE,
        size=size,
        org="A7K2",
        seed=SEED,
        height=7,
        previous=previous,
    )


def plain(index: int, model: str) -> bytes:
    """A record of an item of version 1 as P11 and docs/cityid.cddl have it."""
    code = make_item_code("130100", "A7K2", "60", "010203", model, BASE + index)
    return b"\xa5\x00\x08\x01\x01\x02\x07\x04\x01\x11\x78" + bytes([len(code)]) + code.encode()


places = st.integers(0, 999_999) | st.sampled_from([0, 1, 1_023, 1_024, 999_998, 999_999])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sets(places, max_size=60),
    st.tuples(places, st.integers(0, 80), st.integers(1, 2_000)),
    st.randoms(use_true_random=False),
)
def test_a_table_has_the_root_of_the_ten_lines(
    tmp_path: Path, listed: set[int], run: tuple[int, int, int], order: random.Random
) -> None:
    first, count, step = run
    in_run = list(range(first, 1_000_000, step))[:count]
    listed -= set(in_run)
    expected = {index: plain(index, "POLE") for index in listed} | {index: plain(index, "LAMP") for index in in_run}
    made = writer(tmp_path / "t")
    groups = [sorted(index for index in listed if index % 3 == part) for part in range(3)]
    order.shuffle(groups)
    for group in groups:
        assert made.add_list("60", "POLE", array("I", [BASE + index for index in group])) == len(group)
    if in_run:
        assert made.add_run("60", "LAMP", BASE + in_run[0], BASE + in_run[-1], step=step) == len(in_run)
    table = made.finish()
    assert (table.root, table.count) == (oracle.table_root(expected, SEED, 20), len(expected))
    assert table.digest == oracle.digest((tmp_path / "t").read_bytes())
    assert oracle.read_table((tmp_path / "t").read_bytes()) == (expected, SEED, 20)
    opened = Table.open(tmp_path / "t")
    for index in [*list(expected)[:5], 0, 1_024, 999_999, *([in_run[0] + 1] if in_run and in_run[0] < 999_999 else [])]:
        assert opened.record(BASE + index) == expected.get(index)
        salt, record, bitmap, siblings = oracle.decode(opened.prove(BASE + index))
        assert record == expected.get(index)
        assert oracle.proven_table_root(20, index, [salt, record, bitmap, siblings]) == table.root
        place = index.to_bytes(4, "big")
        assert salt == (None if record is None else oracle.tagged(b"table-salt", SEED, place, record)[:16])


def test_a_next_version_has_the_root_of_both(tmp_path: Path) -> None:
    one = writer(tmp_path / "one", size=1_000)
    one.add_run("60", "LAMP", BASE, BASE + 500, step=5)
    first = one.finish()
    assert (first.version, first.previous, first.depth, first.size) == (1, None, 10, 1_000)
    two = writer(tmp_path / "two", size=1_000, previous=tmp_path / "one")
    with pytest.raises(RuleViolation) as refused:
        two.add_run("60", "LAMP", BASE + 3, BASE + 5)
    assert refused.value.reason == "exists"
    two.add_run("60", "LAMP", BASE + 1, BASE + 4)
    second = two.finish()
    expected = {index: plain(index, "LAMP") for index in [*range(0, 501, 5), 1, 2, 3, 4]}
    assert (second.version, second.previous, second.count) == (2, first.digest, len(expected))
    assert second.root == oracle.table_root(expected, SEED, 10)


def test_the_statement_of_a_receipt_is_what_p45_says(tmp_path: Path) -> None:
    made = writer(tmp_path / "t", size=1_000)
    made.add_run("60", "LAMP", BASE, BASE + 9)
    table = made.finish()
    domain = b"cityid/1/storage-receipt\0\1" + GENESIS
    assert table.statement(3).startswith(domain)
    fields = oracle.decode(table.statement(3).removeprefix(domain))
    assert fields == ["130100", "010203", BASE, 1_000, 3, table.root, table.digest, 10]
    parts: tuple[Any, ...] = ("130100", "010203", BASE, 1_000, 3, table.root, table.digest, 10)
    assert storage_receipt_message(GENESIS, *parts) == table.statement(3)


def test_what_is_refused_says_why(tmp_path: Path) -> None:
    with pytest.raises(MalformedInput, match="does not start at"):
        TableWriter(
            tmp_path / "t",
            genesis_hash=GENESIS,
            city="130100",
            cls="010203",
            base=5,
            size=1_000,
            org=None,
            seed=SEED,
            height=1,
        )
    made = writer(tmp_path / "t")
    for call in (
        lambda: made.add_run("60", "LAMP", 1, 2),
        lambda: made.add_run("60", "LAMP", BASE, BASE + 1, status="retired"),
        lambda: made.add_list("60", "LAMP", b"123"),
        lambda: made.add_records([b"junk"]),
        lambda: made.add_csv(b"serial\n", salts=b"short"),
        lambda: Table.open(Path(__file__)),
    ):
        with pytest.raises(MalformedInput):
            call()
    table = made.finish()
    with pytest.raises(MalformedInput, match="finished before"):
        made.finish()
    with pytest.raises(MalformedInput, match="outside the range"):
        table.prove(BASE - 1)
    with pytest.raises(StorageError):
        Table.open(tmp_path / "none")
    with pytest.raises(StorageError):
        Tables(tmp_path / "none")


def test_a_damaged_table_raises_and_a_folder_leaves_it_out(tmp_path: Path) -> None:
    made = writer(tmp_path / "t")
    made.add_csv(b"serial,use,model,pole\n" + b"".join(b"%d,60,LAMP,%d\n" % (BASE + at, at) for at in range(3_000)))
    made.add_csv(b"")
    made.finish()
    folder = tmp_path / "tables"
    folder.mkdir()
    tables = Tables(folder)
    table = tables.add(tmp_path / "t")
    assert tables.digests() == [table.digest]
    assert tables.damaged() == []
    data = bytearray(table.path.read_bytes())
    data[-100] ^= 1
    table.path.write_bytes(data)
    assert table.record(BASE) is not None
    with pytest.raises(StorageError, match="whole when it was opened"):
        table.prove(BASE + 2_999)
    table.path.with_suffix(".index").unlink()
    again = Tables(folder)
    assert again.digests() == []
    assert again.get(table.digest) is None
    assert len(again.damaged()) == 1
