"""Importing a register: what is read, what is rejected and why, and that a second run changes nothing.

The network is a `FakeRegister`: it allocates, registers and refuses as the ledger does, remembers every transaction by
its id, and can lose replies, so that a run may be broken off anywhere.
"""

import csv
import hashlib
import io
import json
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio.testing

from cityid._native import commitment
from cityid.client import faces
from cityid.client.importing import (
    Adoption,
    Columns,
    Journal,
    Reject,
    Row,
    Summary,
    Target,
    check_against,
    import_rows,
    numbers,
    read_table,
    with_aliases,
    with_serials,
    write_rejects,
)
from cityid.client.importing import rows as reading
from cityid.client.importing import run as running
from cityid.client.importing.journal import Disclosure, digest_of
from cityid.client.operations import Item, ItemColumns, Operation, Range, register_aliases, register_items
from cityid.client.replies import Receipt
from cityid.client.schemas import parse_schema
from cityid.errors import InputError, RuleViolation, StorageError, Unavailable
from cityid.testing.keys import seeded_signer

TARGET = Target("130100", "A7K2", "60", "010203", "1")
IDENTITY = {"genesis": "00", "city": "130100"}


def read(text: str | bytes, *, name: str = "lamps.csv", **options: Any) -> tuple[Columns, list[Row | Reject]]:
    data = text if isinstance(text, bytes) else text.encode()
    table = read_table(Path(name), io.BufferedReader(io.BytesIO(data)), chosen=options.pop("chosen", {}), **options)
    return table.columns, list(table.rows)


def reasons(rows: Sequence[Row | Reject]) -> list[tuple[int, str]]:
    return [(row.line, row.reason) for row in rows if isinstance(row, Reject)]


# ---------------------------------------------------------------- reading


def test_csv_with_mark_crlf_and_quotes() -> None:
    columns, rows = read('\ufeff编号,名称,经度,纬度\r\nL1,"路灯, 甲",114.5,38.04\r\nL2,"两\r\n行",114.6,38.05\r\n\r\n')
    assert columns.attributes == {"编号": "id", "名称": "名称", "经度": "longitude", "纬度": "latitude"}
    assert rows == [
        Row(2, "L1", None, {"id": "L1", "名称": "路灯, 甲", "longitude": "114.5", "latitude": "38.04"}),
        Row(3, "L2", None, {"id": "L2", "名称": "两\r\n行", "longitude": "114.6", "latitude": "38.05"}),
    ]


def test_every_bad_row_is_named_and_the_good_ones_go_on() -> None:
    lines = [
        "id,name,longitude,latitude",
        "L1,good,114.5,38.0",
        ",nameless,114.5,38.0",
        "L1,twice,114.5,38.0",
        "L4,swapped,38.0,114.5",
        "L5,words,east,38.0",
        "L6,arabic,١١٤,38.0",
        "L7,short",
        "L8," + "x" * 1_025 + ",1,1",
        'L9,broken"quote,1,1',
        "L10,bell\x07,1,1",
        "L11,no place,,",
        "L12,good,-180,90",
    ]
    _, rows = read("\n".join(lines))
    assert reasons(rows) == [
        (3, "missing_id"),
        (4, "duplicate_id"),
        (5, "coordinate_out_of_range"),
        (6, "not_a_number"),
        (7, "not_a_number"),
        (8, "column_count"),
        (9, "too_long"),
        (10, "unclosed_or_too_long"),
        (11, "control_character"),
    ]
    assert [row.id for row in rows if isinstance(row, Row)] == ["L1", "L11", "L12"]


def test_an_unclosed_quote_costs_its_own_line_only() -> None:
    _, rows = read('id,name\nL1,"open\nL2,good\nL3,"closed"\nL4,good\n')
    # The quote of L1 meets the first quote of L3; what lies between is one value, and the rest of L3 is no CSV.
    assert [row.id for row in rows if isinstance(row, Row)][-1] == "L4"
    _, rows = read('id,name\nL1,"open\n' + "".join(f"L{n},good\n" for n in range(2, 300)))
    assert reasons(rows) == [(2, "unclosed_or_too_long")]
    assert len(rows) == 299


def test_a_huge_line_is_bounded_and_named() -> None:
    _, rows = read("id,name\nL1," + "x" * (3 * reading.ROW_BYTES) + "\nL2,good\n")
    assert reasons(rows) == [(2, "unclosed_or_too_long")]
    assert isinstance(rows[1], Row)
    assert rows[1].line == 3


def test_undecodable_rows_are_rejected_and_an_undecodable_header_stops() -> None:
    _, rows = read(b"id,name\nL1,\xc2\xb7\xb5\xc6\nL2,good\n")
    assert reasons(rows) == [(2, "not_utf8")]
    with pytest.raises(InputError, match="GB18030"):
        read("编号,名称\nL1,路灯\n".encode("gb18030"))
    with pytest.raises(InputError, match="UTF-16"):
        read("id,name\n".encode("utf-16"))


@pytest.mark.parametrize(
    ("text", "chosen", "says"),
    [
        ("", {}, "empty"),
        ("name,power\na,1\n", {}, "--map COLUMN=id"),
        ("id;name\n", {}, "--delimiter"),
        ("id,name\n", {"nmae": "name"}, "nmae"),
        ("id,name,name\n", {}, "twice"),
        ("id,name,title\n", {"title": "name"}, "Two columns"),
        ("id," + ",".join(f"a{n}" for n in range(40)), {}, "leave some out"),
        ("id," + ",".join(f"a{n}" for n in range(300)), {}, "at most 256"),
    ],
)
def test_what_stops_a_file_says_what_to_do(text: str, chosen: dict[str, str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        read(text, chosen=chosen)


def test_serials_from_a_column() -> None:
    columns, rows = read("id,serial\nL1,12\nL2,\nL3,12\nL4,1234567890\nL5,１２\n")
    assert columns.column("serial") == "serial"
    assert rows[0] == Row(2, "L1", 12, {"id": "L1"})
    assert reasons(rows) == [(3, "missing_serial"), (4, "duplicate_serial"), (5, "bad_serial"), (6, "bad_serial")]


def test_mapping_renames_leaves_out_and_states_the_datum() -> None:
    columns, rows = read("no,name,x\nL1,lamp,secret\n", chosen={"no": "id", "x": ""}, datum="CGCS2000")
    assert rows == [Row(2, "L1", None, {"id": "L1", "name": "lamp"})]
    assert columns.schema("longitude") == "degrees/CGCS2000"
    assert columns.schema("name") == "text"


def test_geojson_points_and_nothing_else() -> None:
    point = {"type": "Feature", "id": 7, "properties": {"name": "灯", "power": 60}, "geometry": {"type": "Point"}}
    good = point | {"geometry": {"type": "Point", "coordinates": [114.5, 38.1]}}
    line = point | {"id": 8, "geometry": {"type": "LineString", "coordinates": [[1, 2], [3, 4]]}}
    far = point | {"id": 9, "geometry": {"type": "Point", "coordinates": [200, 1e-5]}}
    _, rows = read(json.dumps({"type": "FeatureCollection", "features": [good, line, far, 5, point]}), name="l.geojson")
    assert rows[0] == Row(
        1, "7", None, {"id": "7", "name": "灯", "power": "60", "longitude": "114.5", "latitude": "38.1"}
    )
    assert reasons(rows) == [(2, "not_a_point"), (3, "coordinate_out_of_range"), (4, "not_a_point"), (5, "not_a_point")]
    for text in ("[]", "{", '{"type": "Feature"}', '{"type": "FeatureCollection", "features": [NaN]}'):
        with pytest.raises(InputError, match="GeoJSON"):
            read(text, name="l.geojson")


def test_rejects_are_a_table_that_no_spreadsheet_runs(tmp_path: Path) -> None:
    path = tmp_path / "rejects.csv"
    write_rejects(
        path,
        [Reject(3, "name", "=1+1", "too_long"), Reject(4, "经度", "-200", "coordinate_out_of_range")],
        language="zh",
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    table = list(csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"))))
    assert table[0] == ["line", "column", "value", "reason", "cure"]
    assert table[1][:4] == ["3", "name", "'=1+1", "too_long"]
    assert table[2][2] == "-200"
    assert all(row[4] for row in table)
    write_rejects(path, [], language="en")
    assert not path.exists()


def test_every_reason_has_a_cure_in_both_languages() -> None:
    from cityid.client.importing.rejects import CURES, NAMES

    source = "".join(Path(str(module.__file__)).read_text() for module in (reading, running, numbers))
    for reason, cures in CURES.items():
        assert f'"{reason}"' in source, f"nothing gives the reason {reason}"
        assert all(cures)
        assert NAMES[reason]


# ---------------------------------------------------------------- registering


def spelled_out(columns: ItemColumns) -> list[Operation]:
    """The operations that the columns stand for, one dict a row."""
    assert columns.category == TARGET.category()
    commitments = columns.commitments or [{} for _ in columns.serials]
    items = [Item(serial, row) for serial, row in zip(columns.serials, commitments, strict=True)]
    operations = [
        register_items(
            TARGET.city,
            TARGET.org,
            use=TARGET.use,
            class_code=TARGET.class_code,
            model=TARGET.model,
            items=items,
        )
    ]
    numbers = columns.aliases or [None for _ in columns.serials]
    aliases = {
        alias: TARGET.code(serial) for alias, serial in zip(numbers, columns.serials, strict=True) if alias is not None
    }
    return [*operations, register_aliases(columns.namespace, aliases)] if aliases else operations


@pytest.mark.parametrize("adopted", [False, True])
def test_columns_sign_the_very_bytes_of_the_operations_that_they_stand_for(
    adopted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "urandom", lambda count: bytes(count))
    serials = [7, 3, 999_999_999]
    commitments = [{"name": bytes(32), "height": b"\x01" * 32}, {}, {"name": b"\x02" * 32}]
    numbers = ["OLD-7", None, "B"] if adopted else []
    columns = ItemColumns(TARGET.category(), serials, commitments, "130100.A7K2", numbers)
    signers = [seeded_signer("import", number) for number in range(2)]
    made = [
        faces.sign(operations, signers, genesis_hash=bytes(32), valid_until=9)
        for operations in (columns, spelled_out(columns))
    ]
    assert made[0] == made[1]
    assert TARGET.codes(serials) == [TARGET.code(serial) for serial in serials]


class FakeRegister:
    """Ranges and items as the ledger keeps them, for one organisation."""

    def __init__(self) -> None:
        self.next_range = 0
        self.held: list[tuple[int, int]] = []
        self.items: dict[int, dict[str, str]] = {}
        self.decided: dict[bytes, Receipt] = {}
        self.sent: list[bytes] = []
        self.signed = 0
        self.signers: list[str] = []
        self.taken: dict[int, str] = {}  # first serial of a thousand: who holds it already
        self.aliases: dict[str, str] = {}
        self.lose_after: int | None = None  # acts on a submission, then loses its reply
        self.refuse: str | None = None
        self.refuse_once: str | None = None

    async def sign(
        self, operations: Sequence[Operation] | ItemColumns, *, by: str = "holder"
    ) -> tuple[bytes, bytes, int]:
        self.signed += 1
        self.signers.append(by)
        id = self.signed.to_bytes(32, "big")
        if isinstance(operations, ItemColumns):
            operations = spelled_out(operations)
        return id, id + json.dumps(list(operations)).encode(), 100

    async def submit(self, transactions: Mapping[bytes, bytes]) -> list[Receipt]:
        for id, data in transactions.items():
            self.sent.append(data)
            if id not in self.decided:
                self.decided[id] = self._execute(id, json.loads(data[32:]))
        if self.lose_after is not None:
            self.lose_after -= 1
            if self.lose_after < 0:
                raise Unavailable("the line is dead")
        return [self.decided[id] for id in transactions]

    async def look_up(self, codes: Sequence[str]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for code in codes:
            if code.startswith("alias:"):
                named = self.aliases.get(code.rpartition(":")[2])
                rows.append({"verdict": "REGISTERED", "code": named} if named else {"verdict": "NOT_REGISTERED"})
                continue
            item = self.items.get(int(code.rpartition("/")[2][:9]))
            found = (
                {"verdict": "REGISTERED", "code": code, "record": {"commitments": item}}
                if item is not None
                else {"verdict": "NOT_REGISTERED"}
            )
            rows.append(found)
        return rows

    async def holder_of(self, held: Range) -> str | None:
        return self.taken.get(held.base)

    def _execute(self, id: bytes, operations: Sequence[Operation]) -> Receipt:
        if self.refuse_once is not None:
            reason, self.refuse_once = self.refuse_once, None
            return Receipt(id, "rejected", 7, reason=reason, operation=0)
        if self.refuse is not None:
            return Receipt(id, "rejected", 7, reason=self.refuse, operation=0)
        outputs: list[tuple[int, int] | None] = []
        for operation in operations:
            if operation["op"] == "allocate_range":
                outputs.append((self.next_range, operation["size"]))
                self.held.append((self.next_range, operation["size"]))
                self.next_range += operation["size"]
                continue
            if operation["op"] == "reserve_range":
                if operation["base"] in self.taken:
                    return Receipt(id, "rejected", 7, reason="exists", operation=0)
                self.taken[operation["base"]] = TARGET.holder()
                self.held.append((operation["base"], operation["size"]))
                outputs.append(None)
                continue
            if operation["op"] == "register_aliases":
                named = {entry["alias"]: entry["code"] for entry in operation["aliases"]}
                if not named.keys().isdisjoint(self.aliases):
                    for item in operations[0]["items"]:  # all or nothing (P20)
                        del self.items[item["serial"]]
                    return Receipt(id, "rejected", 7, reason="exists", operation=1)
                self.aliases |= named
                outputs.append(None)
                continue
            serials = [item["serial"] for item in operation["items"]]
            if len(json.dumps(operation)) > 64 * 1024 * 2:
                return Receipt(id, "refused", reason="too_large")
            if any(not any(base <= serial < base + size for base, size in self.held) for serial in serials):
                return Receipt(id, "rejected", 7, reason="not_in_range", operation=0)
            if any(serial in self.items for serial in serials):
                return Receipt(id, "rejected", 7, reason="exists", operation=0)
            self.items.update((item["serial"], item["commitments"]) for item in operation["items"])
            outputs.append(None)
        return Receipt(id, "committed", 7, outputs=tuple(outputs))


def table(count: int, *, serials: bool = False) -> tuple[Columns, list[Row | Reject]]:
    header = "id,name,serial" if serials else "id,name"
    lines = [f"L{n},lamp {n}" + (f",{n}" if serials else "") for n in range(count)]
    return read("\n".join([header, *lines]))


async def run(path: Path, register: FakeRegister, found: tuple[Columns, list[Row | Reject]], **options: Any) -> Summary:
    columns, rows = found
    with Journal.open(path, IDENTITY) as journal:
        return await import_rows(rows, columns=columns, target=TARGET, journal=journal, submitter=register, **options)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


async def test_an_import_registers_every_row_with_its_own_salts(tmp_path: Path) -> None:
    register, seen = FakeRegister(), []
    summary = await run(
        tmp_path / "l.csv", register, table(1_200), progress=lambda done, total: seen.append((done, total))
    )
    assert (summary.read, summary.imported, summary.already, summary.rejects) == (1_200, 1_200, 0, [])
    assert summary.ranges == [(0, 1_000), (1_000, 1_000)]
    assert sorted(register.items) == list(range(1_200))
    assert seen[-1] == (1_200, 1_200)
    disclosures = tmp_path / "l.csv.disclosures.jsonl"
    assert stat.S_IMODE(disclosures.stat().st_mode) == 0o600
    salts = set()
    for line in disclosures.read_text().splitlines():
        one = json.loads(line)
        for name, parts in one["attributes"].items():
            salts.add(parts["salt"])
            made = commitment(one["code"], name, parts["schema"], bytes.fromhex(parts["salt"]), parts["value"])
            assert register.items[one["serial"]][name] == made.hex()
    assert len(salts) == 2 * 1_200


async def test_running_it_again_changes_nothing(tmp_path: Path) -> None:
    register = FakeRegister()
    await run(tmp_path / "l.csv", register, table(600))
    before = dict(register.items)
    files = contents(tmp_path)
    sent = len(register.sent)
    summary = await run(tmp_path / "l.csv", register, table(600))
    assert (summary.imported, summary.already) == (0, 600)
    assert len(register.sent) == sent
    assert register.items == before
    assert contents(tmp_path) == files


@pytest.mark.parametrize("lost", range(6))
async def test_broken_off_anywhere_a_second_run_ends_where_one_run_would(
    tmp_path: Path, lost: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "BATCH_ITEMS", 250)
    monkeypatch.setattr(running, "WAVE", 1)
    register = FakeRegister()
    register.lose_after = lost
    with pytest.raises(Unavailable, match="the line is dead"):
        await run(tmp_path / "l.csv", register, table(1_200))
    register.lose_after = None
    first = list(register.sent)
    summary = await run(tmp_path / "l.csv", register, table(1_200))
    assert summary.rejects == []
    assert sorted(register.items) == list(range(1_200))
    assert register.held == [(0, 1_000), (1_000, 1_000)]
    # What was on its way is sent again byte for byte, never made anew.
    again = [data for data in register.sent[len(first) :] if data[:32] in {sent[:32] for sent in first}]
    assert again
    assert set(again) <= set(first)


async def test_control_without_its_journal_a_second_run_does_register_twice(tmp_path: Path) -> None:
    register = FakeRegister()
    await run(tmp_path / "l.csv", register, table(100))
    for name in contents(tmp_path):
        (tmp_path / name).unlink()
    await run(tmp_path / "l.csv", register, table(100))
    assert len(register.items) == 200


async def test_a_torn_journal_and_salts_that_were_never_sent_are_cut_off(tmp_path: Path) -> None:
    register = FakeRegister()
    await run(tmp_path / "l.csv", register, table(100))
    journal, disclosures = tmp_path / "l.csv.import.jsonl", tmp_path / "l.csv.disclosures.jsonl"
    whole = disclosures.read_bytes()
    journal.write_bytes(journal.read_bytes() + b'{"entry":"batch","id":"00')
    disclosures.write_bytes(whole + b'{"id":"never sent"}\n{"id":"to')
    summary = await run(tmp_path / "l.csv", register, table(100))
    assert (summary.imported, summary.already) == (0, 100)
    assert disclosures.read_bytes() == whole


async def test_lost_or_foreign_files_beside_the_register_are_refused(tmp_path: Path) -> None:
    register, path = FakeRegister(), tmp_path / "l.csv"
    await run(path, register, table(10))
    journal, disclosures = tmp_path / "l.csv.import.jsonl", tmp_path / "l.csv.disclosures.jsonl"
    with pytest.raises(InputError, match="another city"):
        Journal.open(path, IDENTITY | {"city": "110000"})
    kept = disclosures.read_bytes()
    disclosures.write_bytes(kept[:-10])
    with pytest.raises(StorageError, match="shorter"):
        Journal.open(path, IDENTITY)
    disclosures.write_bytes(kept)
    text = journal.read_bytes()
    journal.write_bytes(text.replace(b'"entry":"committed"', b'"entry":"comm', 1))
    with pytest.raises(StorageError, match="damaged"):
        Journal.open(path, IDENTITY)
    journal.unlink()
    with pytest.raises(InputError, match="no journal"):
        Journal.open(path, IDENTITY)
    journal.write_bytes(text)
    with Journal.open(path, IDENTITY), pytest.raises(InputError, match="in use"):
        Journal.open(path, IDENTITY)


async def test_one_row_that_the_network_refuses_costs_one_row(tmp_path: Path) -> None:
    register = FakeRegister()
    register.held = [(0, 1_000)]
    register.items[123] = {"id": "ff"}
    summary = await run(tmp_path / "l.csv", register, table(600, serials=True))
    assert [(reject.line, reject.value, reject.reason) for reject in summary.rejects] == [(125, "123", "exists")]
    assert summary.imported == 599
    assert register.items[123] == {"id": "ff"}
    again = await run(tmp_path / "l.csv", register, table(600, serials=True))
    assert [reject.reason for reject in again.rejects] == ["exists"]
    assert again.imported == 0


async def test_an_item_that_exists_with_our_commitments_is_ours(tmp_path: Path) -> None:
    register = FakeRegister()
    register.held = [(0, 1_000)]
    await run(tmp_path / "l.csv", register, table(1, serials=True))
    journal = tmp_path / "l.csv.import.jsonl"
    # The outcome was never noted, and the network has forgotten the transaction: the batch expires.
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]))
    [id] = register.decided
    register.decided[id] = Receipt(id, "expired")
    summary = await run(tmp_path / "l.csv", register, table(1, serials=True))
    assert (summary.imported, summary.rejects) == (1, [])
    assert len(register.items) == 1


async def test_a_refusal_of_the_whole_ends_the_import_and_says_why(tmp_path: Path) -> None:
    register = FakeRegister()
    register.refuse = "over_quota"
    with pytest.raises(RuleViolation) as caught:
        await run(tmp_path / "l.csv", register, table(10))
    assert caught.value.reason == "over_quota"
    register.refuse = None
    assert (await run(tmp_path / "l.csv", register, table(10))).imported == 10


async def test_held_ranges_are_used_before_new_ones(tmp_path: Path) -> None:
    register = FakeRegister()
    register.held, register.next_range = [(0, 1_000)], 1_000
    register.items.update((serial, {}) for serial in range(990))
    summary = await run(tmp_path / "l.csv", register, table(15), held=[(0, 1_000)])
    assert summary.ranges == [(1_000, 1_000)]
    assert sorted(register.items)[990:] == [*range(990, 1_000), *range(1_000, 1_005)]


async def test_changed_rows_are_named_and_not_touched(tmp_path: Path) -> None:
    register = FakeRegister()
    columns, rows = table(5)
    await run(tmp_path / "l.csv", register, (columns, rows))
    assert isinstance(rows[2], Row)
    rows[2] = rows[2]._replace(attributes={"id": "L2", "name": "another"})
    before = dict(register.items)
    summary = await run(tmp_path / "l.csv", register, (columns, [*rows, Row(7, "L9", None, {"id": "L9"})]))
    assert [(reject.line, reject.reason) for reject in summary.rejects] == [(4, "changed")]
    assert (summary.already, summary.imported) == (4, 1)
    assert {serial: register.items[serial] for serial in before} == before


async def test_batches_that_are_too_large_are_halved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "BATCH_BYTES", 10**9)
    monkeypatch.setattr(running, "BATCH_ITEMS", 2_000)
    register = FakeRegister()
    summary = await run(tmp_path / "l.csv", register, table(1_000))
    assert (summary.imported, summary.rejects) == (1_000, [])
    assert len(register.items) == 1_000


def test_lines_and_digests_are_the_json_that_they_look_like() -> None:
    attributes = {
        "名称": ("text", bytes(range(16)), 'a "quoted"\n\\ line\u2028'),
        "b": ("degrees/WGS84", bytes(16), "1"),
    }
    one = Disclosure('L"1', 2, "ab" * 16, 7, TARGET.code(7), attributes)
    assert Disclosure.from_json(json.loads(one.to_line())) == one
    assert one.to_line().count("\n") == 1
    for row in (Row(2, "L1", None, {"b": "x\u00e9", "a": 'say "1"'}), Row(2, "L1", 7, {"id": "L1"})):
        text = json.dumps([row.serial, sorted(row.attributes.items())], ensure_ascii=False, separators=(",", ":"))
        assert digest_of(row) == hashlib.sha256(text.encode()).hexdigest()[:32]


# ---------------------------------------------------------------- adopting


ADOPTION = Adoption("130100.A7K2", by_city=False)


async def test_old_numbers_keep_their_serials_and_become_aliases(tmp_path: Path) -> None:
    register = FakeRegister()
    found = read("number,place,name\nOLD-7,7,a\nOLD-5007,5007,b\n", chosen={"number": "id", "place": "serial"})
    summary = await run(tmp_path / "l.csv", register, found, adoption=ADOPTION)
    assert (summary.imported, summary.rejects, summary.reserved) == (2, [], [(0, 1_000), (5_000, 1_000)])
    assert register.signers[0] == "city"
    assert register.aliases == {"OLD-7": TARGET.code(7), "OLD-5007": TARGET.code(5_007)}
    # The old number is public as an alias; it is not committed to.
    assert {serial: list(item) for serial, item in register.items.items()} == {7: ["name"], 5_007: ["name"]}
    sent = len(register.sent)
    again = await run(tmp_path / "l.csv", register, found, adoption=ADOPTION)
    assert (again.already, again.imported, len(register.sent)) == (2, 0, sent)


async def test_rows_without_a_serial_get_a_free_one_outside_of_what_was_reserved(tmp_path: Path) -> None:
    register = FakeRegister()
    register.next_range = 9_000
    found = read("id,serial\nA,3\nB,\n", blank_serials=True)
    summary = await run(tmp_path / "l.csv", register, found, adoption=ADOPTION)
    assert (summary.imported, summary.reserved, summary.ranges) == (2, [(0, 1_000)], [(9_000, 1_000)])
    assert sorted(register.items) == [3, 9_000]


async def test_a_range_of_somebody_else_costs_its_rows_only(tmp_path: Path) -> None:
    register = FakeRegister()
    register.taken = {1_000: "MA.156.130100.B3Q8", 2_000: TARGET.holder()}
    register.held = [(2_000, 1_000)]
    found = read("id,serial\nA,1\nB,1001\nC,2001\n")
    summary = await run(tmp_path / "l.csv", register, found, adoption=ADOPTION)
    assert [(reject.line, reject.reason) for reject in summary.rejects] == [(3, "not_in_range")]
    assert sorted(register.items) == [1, 2_001]
    assert sorted(summary.reserved) == [(0, 1_000), (2_000, 1_000)]


async def test_an_alias_that_is_taken_costs_its_row_only(tmp_path: Path) -> None:
    register = FakeRegister()
    register.aliases = {"B": "another code"}
    summary = await run(tmp_path / "l.csv", register, read("id,serial\nA,1\nB,2\nC,3\n"), adoption=ADOPTION)
    assert [(reject.line, reject.reason) for reject in summary.rejects] == [(3, "exists")]
    assert sorted(register.items) == [1, 3]


async def test_a_reservation_whose_reply_was_lost_is_sent_again_as_it_was(tmp_path: Path) -> None:
    register = FakeRegister()
    register.lose_after = 0
    found = read("id,serial\nA,1\n")
    with pytest.raises(Unavailable):
        await run(tmp_path / "l.csv", register, found, adoption=ADOPTION)
    register.lose_after = None
    summary = await run(tmp_path / "l.csv", register, found, adoption=ADOPTION)
    assert register.sent[0] == register.sent[1]
    assert (summary.imported, summary.reserved) == (1, [(0, 1_000)])


def test_a_number_of_21_digits_gives_its_serial() -> None:
    numbers = [
        "130104010203000000007",
        "130105010203000000007",
        "130104010204000000008",
        "130104",
        "130104010203000000009",
    ]
    _, rows = read("id\n" + "\n".join(numbers))
    found = with_serials(rows, "id", "010203")
    assert [row.serial for row in found if isinstance(row, Row)] == [7, 9]
    assert reasons(found) == [(3, "duplicate_serial"), (4, "other_class"), (5, "not_21_digits")]
    by_city = Adoption("130100", by_city=True, without="130100")
    assert [by_city.needs_alias(number) for number in ("130104010203000000007", "130100010203000000007")] == [
        True,
        False,
    ]


def test_what_cannot_be_an_alias_is_named() -> None:
    _, rows = read("id\nA-1\nB 2\n路灯\n" + "x" * 65 + "\n")
    assert reasons(with_aliases(rows, "id")) == [(3, "bad_alias"), (4, "bad_alias"), (5, "bad_alias")]


async def test_a_rate_that_is_passed_costs_time_and_no_row(tmp_path: Path) -> None:
    register = FakeRegister()
    register.refuse_once = "rate_exceeded"
    summary = await run(tmp_path / "l.csv", register, table(10))
    assert (summary.imported, summary.rejects) == (10, [])


async def test_a_rate_that_is_passed_leaves_fewer_requests_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "BATCH_ITEMS", 10)
    monkeypatch.setattr(running, "WAVE", 1)

    class Busy(FakeRegister):
        """Takes its time, and refuses what is sent beside `room` others."""

        room = 100
        now = most = late = 0

        async def submit(self, transactions: Mapping[bytes, bytes]) -> list[Receipt]:
            self.now += 1
            self.most, self.late = max(self.most, self.now), max(self.late, self.now if len(self.items) > 600 else 0)
            self.refuse = "rate_exceeded" if self.now > self.room else None
            receipts = await super().submit(transactions)
            await trio.testing.wait_all_tasks_blocked()
            self.now -= 1
            return receipts

    free = Busy()
    summary = await run(tmp_path / "free.csv", free, table(900))
    assert (summary.imported, free.most, free.late) == (900, running.WAVES, running.WAVES)
    narrow = Busy()
    narrow.room = 2
    summary = await run(tmp_path / "narrow.csv", narrow, table(900))
    assert (summary.imported, summary.rejects, narrow.most) == (900, [], running.WAVES)
    assert 1 <= narrow.late <= narrow.room


# ---------------------------------------------------------------- schemas


def test_rows_are_checked_against_the_schema_of_their_category() -> None:
    schema = parse_schema(b'{"type": "object", "required": ["id"], "properties": {"power": {"pattern": "^[0-9]+$"}}}')
    _, rows = read("id,power\nA,60\nB,strong\nC,\n")
    checked = check_against(schema, rows)
    [fault] = [row for row in checked if isinstance(row, Reject)]
    assert (fault.line, fault.column, fault.reason) == (3, "power", "schema")
    assert "strong" in fault.value


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "no JSON"),
        ("[]", '"type": "object"'),
        ('{"type": "object", "required": 7}', "breaks JSON Schema"),
        ('{"type": "object", "properties": {"a": {"type": "colour"}}}', "breaks JSON Schema"),
        ('{"type": "object", "$ref": "https://elsewhere.example/schema"}', "not in it"),
        ('{"type": "object", "title": "' + "x" * 300_000 + '"}', "shorter"),
    ],
)
def test_what_is_no_schema_is_refused_with_the_reason(text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        parse_schema(text.encode())


def test_the_synthetic_register_is_the_same_for_a_seed_and_says_what_it_is(tmp_path: Path) -> None:
    from cityid.cli.demo.lamps import BAD_ROWS, write_lamps

    count = write_lamps(tmp_path / "a.csv", seed=1, count=500)
    write_lamps(tmp_path / "b.csv", seed=1, count=500)
    write_lamps(tmp_path / "c.csv", seed=2, count=500)
    data = (tmp_path / "a.csv").read_bytes()
    assert data == (tmp_path / "b.csv").read_bytes() != (tmp_path / "c.csv").read_bytes()
    _, rows = read(data)
    assert len(rows) == count == 500 + BAD_ROWS
    assert sorted(reason for _, reason in reasons(rows)) == [
        "column_count",
        "coordinate_out_of_range",
        "duplicate_id",
        "missing_id",
        "too_long",
    ]
    assert all("synthetic" in row.attributes["数据来源"] for row in rows if isinstance(row, Row))
