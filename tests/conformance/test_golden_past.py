"""The golden histories, pages and blocks (P74, P77, P78): both programs read them, and both refuse them when edited."""

import json
from typing import Any

import pytest
from tests.conformance.test_golden import GOLDEN, TRUST, VALIDATORS, golden
from tests.property import oracle, oracle_past

from cityid._native import Auditor, AuditPage, History, Trust
from cityid.errors import CityIDError

GENESIS = bytes.fromhex(TRUST["genesis"])
HISTORIES = ("whole", "short", "sealed", "absent")
BLOCKS = (1, 2, 3)


def trust() -> Trust:
    return Trust.load(str(GOLDEN / "trust.json"))


def told_by_oracle(*names: str) -> list[tuple[int, int, int | None]]:
    first, *parts = (golden(f"history-{name}.hex") for name in names)
    return oracle_past.read_history(first, parts, GENESIS, VALIDATORS)


@pytest.mark.parametrize("name", HISTORIES)
def test_both_programs_tell_the_golden_history(name: str) -> None:
    expected = json.loads((GOLDEN / f"told-{name}.json").read_text())
    told = History.from_bytes(golden(f"history-{name}.hex")).verify(trust())
    assert json.loads(told.to_json()) == expected
    again = History.from_json((GOLDEN / f"history-{name}.json").read_text())
    assert again.to_bytes() == golden(f"history-{name}.hex")
    rows = [
        (int(row["version"]), int(row["height"]), None if row["time_ms"] is None else int(row["time_ms"]))
        for row in expected["versions"]
    ]
    assert told_by_oracle(name) == rows
    assert bool(rows) == (name != "absent")


def test_a_part_continues_the_short_history_and_no_other() -> None:
    whole = told_by_oracle("whole")
    assert told_by_oracle("short", "part") == whole
    told = History.from_bytes(golden("history-short.hex")).verify(trust())
    told.extend(History.from_bytes(golden("history-part.hex")))
    assert [row[:3] for row in told.versions] == whole
    # The control: it continues neither a history that is whole nor one of another item.
    for other in ("whole", "sealed"):
        told = History.from_bytes(golden(f"history-{other}.hex")).verify(trust())
        with pytest.raises(CityIDError):
            told.extend(History.from_bytes(golden("history-part.hex")))
        with pytest.raises(ValueError, match="not the version before"):
            told_by_oracle(other, "part")


def test_both_programs_read_the_golden_pages() -> None:
    page = golden("page-records.hex")
    shown = oracle_past.read_page(page, GENESIS, VALIDATORS)
    _, _, entries = AuditPage.from_bytes(page).verify(trust())
    assert [(key, [oracle.decode(record)[1] for record in records]) for key, _, records in entries] == shown
    assert [versions for _, versions in shown] == [[1], [1], [4, 3, 2, 1], [1]]
    empty = golden("page-empty.hex")
    assert oracle_past.read_page(empty, GENESIS, VALIDATORS) == []
    assert AuditPage.from_bytes(empty).verify(trust())[2] == []


def audited(blocks: list[bytes], first: int = 1) -> list[Any]:
    genesis, peaks, set_ = (golden(f"audit-{name}.hex") for name in ("genesis", "peaks", "validators"))
    auditor = Auditor(genesis, first, peaks, [set_], "MA.156.130100")
    told = [json.loads(told) for told in auditor.blocks(b"".join(blocks))]
    if len(blocks) == len(BLOCKS):
        assert auditor.log == (len(blocks) + 1, golden("audit-log-root.hex"))
    return told


def read(blocks: list[bytes]) -> list[list[tuple[bytes, int]]]:
    validators = [member[2] for member in oracle.decode(golden("audit-validators.hex"))]
    leaves = [golden("audit-peaks.hex")]  # the log of one header is that leaf
    told = oracle_past.read_blocks(blocks, golden("audit-genesis.hex"), validators, leaves)
    if len(blocks) == len(BLOCKS):
        assert oracle.log_root(leaves) == golden("audit-log-root.hex")
    return told


def test_both_programs_follow_the_golden_blocks() -> None:
    blocks = [golden(f"block-{height}.hex") for height in BLOCKS]
    told = audited(blocks)
    assert told == [json.loads((GOLDEN / f"block-{height}-told.json").read_text()) for height in BLOCKS]
    names = ("committed", "rejected")
    outcomes = [[(id.hex(), names[outcome]) for id, outcome in one] for one in read(blocks)]
    assert [[(one["id"], one["receipt"]["status"]) for one in block["touching"]] for block in told] == outcomes
    assert [len(one) for one in outcomes] == [0, 1, 2]


def test_neither_program_follows_blocks_with_a_gap_or_in_another_order() -> None:
    one, two, three = (golden(f"block-{height}.hex") for height in BLOCKS)
    audited([one, two])
    read([one, two])
    for wrong in ([one, three], [two, one], [one, one], [two]):
        with pytest.raises(CityIDError):
            audited(wrong)
        with pytest.raises(ValueError, match="block"):
            read(wrong)


MALFORMED = (ValueError, IndexError, KeyError, TypeError, AttributeError)


def accepts(name: str, data: bytes) -> bool:
    """Whether the product accepts a history, a page, or a third block behind the golden two."""
    try:
        match name.split("-")[0]:
            case "history":
                return History.from_bytes(data).verify(trust()).verdict.verdict not in ("INVALID", "UNKNOWN")
            case "page":
                AuditPage.from_bytes(data).verify(trust())
            case _:
                audited([golden("block-1.hex"), golden("block-2.hex"), data])
    except CityIDError:
        return False
    return True


def second_accepts(name: str, data: bytes) -> bool:
    """The same of the second program."""
    try:
        match name.split("-")[0]:
            case "history":
                oracle_past.read_history(data, [], GENESIS, VALIDATORS)
            case "page":
                oracle_past.read_page(data, GENESIS, VALIDATORS)
            case _:
                read([golden("block-1.hex"), golden("block-2.hex"), data])
    except MALFORMED:
        return False
    return True


@pytest.mark.parametrize("name", [*(f"history-{name}" for name in HISTORIES), "page-records", "page-empty", "block-3"])
def test_neither_program_accepts_an_edit(name: str) -> None:
    """The second program looks neither at the validators hash of a header nor at the signatures of transactions."""
    data = golden(f"{name}.hex")
    assert accepts(name, data)
    assert second_accepts(name, data)
    blind = golden("validators-hash.hex")
    if name == "block-3":
        blind = oracle.tagged(b"validators", golden("audit-validators.hex"))
    unread = range(data.index(blind), data.index(blind) + 64)
    for position in range(0, len(data), 11):
        edited = bytearray(data)
        edited[position] ^= 1 << position % 8
        assert not accepts(name, bytes(edited)), position
        assert not second_accepts(name, bytes(edited)) or position in unread, position


def test_every_golden_file_of_the_past_is_read_here() -> None:
    found = {path.stem for kind in ("history", "told", "page", "block") for path in GOLDEN.glob(f"{kind}-*")}
    known = {f"history-{name}" for name in (*HISTORIES, "part")} | {f"told-{name}" for name in HISTORIES}
    known |= {"page-records", "page-empty"} | {f"block-{height}{what}" for height in BLOCKS for what in ("", "-told")}
    assert found == known
