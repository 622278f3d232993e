"""The golden bytes read by a second program: `tests/property/oracle.py`, which shares no code with the product."""

import json
from hashlib import sha256
from pathlib import Path

import pytest
from tests.property import oracle

import cityid
from cityid._native import Table

GOLDEN = Path(__file__).parent / "golden"
TRUST = json.loads((GOLDEN / "trust.json").read_text())
VALIDATORS = [bytes.fromhex(validator["key"]) for validator in TRUST["validators"]]
ITEMS = (
    "registered",
    "not-registered",
    "not-registered-no-range",
    "mismatch",
    "registered-alias",
    "registered-sealed",
    "registered-sealed-million",
    "registered-override",
    "registered-leaf-over-override",
    "not-registered-sealed",
    "unavailable",
    "registered-named-alias",
    "registered-named-alias-sealed",
    "not-registered-named-alias",
    "not-registered-named-item",
    "mismatch-named-alias",
    "registered-district",
    "registered-district-override",
    "not-registered-district",
    "not-ours-no-district",
)


def golden(name: str) -> bytes:
    return bytes.fromhex((GOLDEN / name).read_text())


def test_digests_list_every_file() -> None:
    lines = (GOLDEN / "DIGESTS").read_text().splitlines()
    listed = {name: digest for digest, name in (line.split("  ") for line in lines)}
    names = sorted(path.name for path in GOLDEN.iterdir() if path.name != "DIGESTS")
    assert names == sorted(listed)
    for name in names:
        content = golden(name) if name.endswith(".hex") else (GOLDEN / name).read_bytes()
        assert sha256(content).hexdigest() == listed[name], name


@pytest.mark.parametrize("name", sorted(path.name for path in GOLDEN.glob("record-*.hex")))
def test_records_are_deterministic_cbor(name: str) -> None:
    record = oracle.decode(golden(name))
    assert record[0] == int(name[7:9])
    assert list(record) == sorted(record)


def test_ids_and_hashes_follow_from_the_bytes() -> None:
    header = golden("header.hex")
    assert golden("digest-header.hex") == oracle.tagged(b"header", header)
    assert golden("genesis-hash.hex") == oracle.tagged(b"genesis", golden("genesis.hex"))
    assert golden("validators-hash.hex") == oracle.tagged(b"validators", golden("validators.hex"))
    assert golden("digest-batch.hex") == oracle.tagged(b"batch", golden("batch.hex"))


def test_a_snapshot_is_what_its_header_says() -> None:
    version, genesis, records, block, walk, listed = oracle.decode(golden("snapshot-manifest.hex"))
    header_bytes, log_path, _ = oracle.decode(block)
    header = oracle.decode(header_bytes)
    assert (version, genesis, walk, header[1], header[2]) == (1, golden("genesis-hash.hex"), [], genesis, 2)
    chunks = [golden(f"snapshot-{name}.hex") for name in ("leaves", "configurations", "heights", "records")]
    assert listed == [[kind, len(chunk), sha256(chunk).digest()] for kind, chunk in enumerate(chunks)]
    (_, leaves), (_, configurations), (_, heights), (_, entries) = map(oracle.decode, chunks)
    hashes = [leaves[0][at : at + 32] for at in range(0, len(leaves[0]), 32)]
    path = [log_path[at : at + 32] for at in range(0, len(log_path), 32)]
    leaf = oracle.digest(b"\0", header_bytes)
    assert hashes[2] == leaf
    assert oracle.log_root(hashes) == oracle.root_of_last(leaf, path)
    for place, (logged, receipts) in enumerate(heights, 1):
        assert oracle.digest(b"\0", logged) == hashes[place]
        receipts_root = oracle.log_root([oracle.digest(b"\0", receipt) for receipt in receipts])
        ids_root = oracle.log_root([oracle.digest(b"\0", oracle.decode(receipt)[0]) for receipt in receipts])
        assert (oracle.decode(logged)[7], oracle.decode(logged)[6]) == (receipts_root, ids_root)
    paths = [oracle.path_of(name) if name[0] < 16 else name for name, _ in entries]
    assert paths == sorted(paths)
    assert len(paths) == records
    state = dict(zip(paths, (sha256(record).digest() for _, record in entries), strict=True))
    assert oracle.map_root(state) == header[8]
    assert configurations == [record for name, record in entries if oracle.decode(record)[0] == 11]


def test_a_table_file_has_the_root_and_the_statement_of_the_second_program(tmp_path: Path) -> None:
    data = golden("table-file.hex")
    records, seed, depth = oracle.read_table(data)
    assert sorted(records) == [*range(3, 44, 4), 100, 900, 999]
    assert oracle.table_root(records, seed, depth) == golden("table-root.hex")
    fields = oracle.decode(golden("table-statement.hex").removeprefix(b"cityid/1/storage-receipt\0\1" + b"\3" * 32))
    assert fields == [
        "130100",
        "010203",
        7_000,
        1_000,
        2,
        golden("table-root.hex"),
        sha256(data).digest(),
        len(records),
    ]
    (tmp_path / "t").write_bytes(data)
    table = Table.open(tmp_path / "t")
    assert {serial - 7_000: table.record(serial) for serial in range(7_000, 8_000) if table.record(serial)} == records
    assert table.statement(2) == golden("table-statement.hex")


@pytest.mark.parametrize("name", ITEMS)
def test_both_programs_give_the_golden_verdict(name: str) -> None:
    answer = golden(f"answer-{name}.hex")
    expected = json.loads((GOLDEN / f"verdict-{name}.json").read_text())["verdict"]
    assert oracle.verify_item(answer, bytes.fromhex(TRUST["genesis"]), VALIDATORS) == expected
    trust = cityid.Trust.load(str(GOLDEN / "trust.json"))
    assert cityid.verify(answer, trust, code=oracle.decode(answer)[1]).verdict == expected


@pytest.mark.parametrize("name", ITEMS)
def test_neither_program_accepts_an_edited_answer(name: str) -> None:
    """The control is the test above. The oracle does not look at the validators hash: only there may it differ."""
    answer = golden(f"answer-{name}.hex")
    trust = cityid.Trust.load(str(GOLDEN / "trust.json"))
    blind = answer.index(golden("validators-hash.hex"))
    for position in range(0, len(answer), 7):
        edited = bytearray(answer)
        edited[position] ^= 1 << position % 8
        assert cityid.verify(edited, trust).verdict in ("INVALID", "UNKNOWN")
        assert not accepted(bytes(edited)) or blind <= position < blind + 64


def accepted(answer: bytes) -> bool:
    try:
        oracle.verify_item(answer, bytes.fromhex(TRUST["genesis"]), VALIDATORS)
    except (ValueError, IndexError, KeyError, TypeError, AttributeError):
        return False
    return True
