"""The folder of an audit: what it shows, that a check needs a trust file and nothing else, and forgeries of every part,
refused by the name of the file.
"""

import csv
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from tests.unit.cli.test_cli_verify import GUARD
from tests.unit.past import OFFICE, START_MS, STEP_MS, Chain

from cityid._native import make_item_code
from cityid.audit import Manifest, read_audit, verify_audit
from cityid.audit.folder import Since, files, sums
from cityid.audit.proof import seen_by
from cityid.audit.tables import made_files
from cityid.client import operations
from cityid.client.auditing import export
from cityid.errors import CodeError, InputError, ProofInvalid, VerificationError

LAMP, SECOND, THIRD = (make_item_code("130100", "A7K2", "60", "010203", "1", serial) for serial in (7, 8, 9))
BASIS = bytes(range(32))


def build(directory: Path) -> Chain:
    """Office A7K2 with lamps 7 and 8, another office beside it, and changes from height 9 on."""
    chain = Chain(directory)
    chain.admit()  # 1 to 3
    chain.register(7, 8)  # 4
    chain.admit("B8L3")  # 5 to 7
    chain.register(1_007, org="B8L3")  # 8
    chain.status(LAMP, 1, "suspended", basis=BASIS)  # 9
    update = operations.ItemUpdate(8, 1, {"colour": bytes(32)})
    refused = operations.ItemUpdate(8, 7, {})
    change = operations.update_items("130100", class_code="010203", updates=[update])
    stale = operations.update_items("130100", class_code="010203", updates=[refused])
    found = chain.decide([change], [stale])  # 10
    assert sorted(one["status"] for one in found) == ["committed", "rejected"]
    other = operations.ItemUpdate(1_007, 1, {})
    change = operations.update_items("130100", class_code="010203", updates=[other])
    chain.decide([change], signer=chain.holder("B8L3"))  # 11
    chain.decide()  # 12
    return chain


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return build(tmp_path / "network")


def audit(chain: Chain, out: Path, first: int = 9, last: int | None = 11, since: Path | None = None) -> Path:
    with chain.client() as client:
        export(client, OFFICE, first, last, out, since=since, gateway="http://node")
    return out


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def local(height: int) -> datetime:
    return datetime.fromtimestamp((START_MS + height * STEP_MS) / 1000, tz=UTC)


# ---------------------------------------------------------------- what it shows


def test_the_tables_say_what_happened(chain: Chain, tmp_path: Path) -> None:
    folder = audit(chain, tmp_path / "visit")
    codes = table(folder, "codes.csv")
    assert [row["code"] for row in codes] == [OFFICE, f"{OFFICE}/60.010203.1", LAMP, SECOND]
    assert [(row["kind"], row["status"], row["version"], row["height"]) for row in codes[2:]] == [
        ("item", "suspended", "2", "9"),
        ("item", "active", "2", "10"),
    ]
    history = table(folder, "history.csv")
    assert [(row["height"], row["code"], row["version"], row["reason"]) for row in history] == [
        ("9", LAMP, "2", "7"),
        ("10", SECOND, "2", ""),
    ]
    assert history[0]["basis"] == BASIS.hex()
    assert history[0]["changed"] == "status: active → suspended; status_by_city: – → true"
    assert datetime.fromisoformat(history[0]["time"]) == local(9)
    transactions = table(folder, "transactions.csv")
    assert [(row["height"], row["outcome"], row["concerns"]) for row in transactions] == [
        ("9", "committed", LAMP),
        *sorted([("10", "committed", SECOND), ("10", "rejected: stale_version", SECOND)], key=lambda row: [
            one["outcome"] for one in transactions].index(row[1])),
    ]  # fmt: skip
    assert [row["votes"] for row in table(folder, "votes.csv")] == ["3", "3", "3"]
    assert [(row["first"], row["last"], row["holder"]) for row in table(folder, "ranges.csv")] == [
        ("000000000", "000000999", OFFICE)
    ]
    page = (folder / "index.html").read_text(encoding="utf-8")
    for word in (
        "What is proven, and what is not",
        "Not proven",
        LAMP,
        "suspended",
        "cityid verify FOLDER",
        "TEST network",
    ):
        assert word in page
    assert "<script" not in page
    assert not re.search(r"(src|href)\s*=\s*[\"'](?!#)", page), "nothing from outside"
    assert "url(" not in page
    # What an auditor does with tools of everybody's.
    done = subprocess.run(
        ["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, capture_output=True, timeout=30
    )
    assert done.returncode == 0, done.stdout


def test_a_process_without_network_verifies_it_with_the_trust_file_alone(chain: Chain, tmp_path: Path) -> None:
    folder = audit(chain, tmp_path / "visit")
    command = [sys.executable, "-c", GUARD, "verify", str(folder), "--trust", str(chain.genesis_file), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    found = json.loads(done.stdout)
    assert [step["name"] for step in found["steps"]] == [
        "files", "network", "records", "blocks", "completeness", "tables",
    ]  # fmt: skip
    assert (found["from"]["height"], found["to"]["height"], found["head"]["height"]) == ("9", "11", "12")
    (folder / "codes.csv").write_text("code\n", encoding="utf-8")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "codes.csv" in json.loads(done.stdout)["error"]["message"]


def test_spans_by_date_and_up_to_now(chain: Chain, tmp_path: Path) -> None:
    with chain.client() as client:
        by_date = export(client, "MA.156.130100", local(8), local(10), tmp_path / "dates")
        early = export(client, "MA.156.130100", local(-9_999), local(99_999_999), tmp_path / "all")
        assert (early.manifest.first, early.manifest.last) == (1, 12)
        assert (by_date.manifest.first, by_date.manifest.last) == (9, 10)
        whole = export(client, "ma.156", 0, None, tmp_path / "whole")
    assert (whole.manifest.prefix, whole.manifest.first, whole.manifest.last) == ("MA.156", 1, 12)
    assert len(table(tmp_path / "whole", "codes.csv")) == 4 + 2 + 2 + 3
    assert "registered before the span" not in (tmp_path / "whole" / "index.html").read_text(encoding="utf-8")
    for folder in ("dates", "whole"):
        verify_audit(tmp_path / folder, chain.trust)
    # As of a height at which less was there.
    audit(chain, tmp_path / "early", 1, 3)
    assert [row["code"] for row in table(tmp_path / "early", "codes.csv")] == [OFFICE, f"{OFFICE}/60.010203.1"]


def test_what_cannot_be_audited_is_said(chain: Chain, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with chain.client() as client:
        for first, last, prefix, out, why in [
            (9, 11, OFFICE, "there", "exists"),
            (9, 13, OFFICE, "new", "not decided yet"),
            (11, 9, OFFICE, "new", "is empty"),
        ]:
            with pytest.raises(InputError, match=why):
                export(client, prefix, first, last, tmp_path / out)
        with pytest.raises(CodeError, match="no prefix"):
            export(client, "MA.156.13", 1, 2, tmp_path / "new")
    assert not (tmp_path / "new").exists()


# ---------------------------------------------------------------- forgeries


def spoil(path: Path, place: float = 0.5) -> None:
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 1
    path.write_bytes(data)


def refused(folder: Path, chain: Chain, since: Path | None = None) -> str:
    with pytest.raises(VerificationError) as caught:
        verify_audit(folder, chain.trust, since=since)
    return str(caught.value)


def test_a_changed_byte_in_any_file_is_refused_by_its_name(chain: Chain, tmp_path: Path) -> None:
    before = audit(chain, tmp_path / "before", 1, 8)
    chain.decide()
    folder = audit(chain, tmp_path / "visit", 9, 12, since=before)
    names = [path.relative_to(folder).as_posix() for path in files(folder)]
    assert {"records/000001.cbor", "others/000001.cbor", "since/seen.json", "manifest.json", "index.html"} <= set(names)
    for name in names:
        kept = (folder / name).read_bytes()
        spoil(folder / name)
        assert refused(folder, chain).startswith(f"{name}: "), name
        (folder / name).unlink()
        assert refused(folder, chain) == f"{name}: it is missing, and SHA256SUMS names it"
        (folder / name).write_bytes(kept)
    listed = (folder / "SHA256SUMS").read_bytes()
    for place in (0.1, 0.5, 0.9):
        spoil(folder / "SHA256SUMS", place)
        assert "SHA256SUMS" in refused(folder, chain)
        (folder / "SHA256SUMS").write_bytes(listed)
    (folder / "more").write_bytes(b"")
    assert refused(folder, chain) == "more: it is not in SHA256SUMS"
    (folder / "more").unlink()
    (folder / "link").symlink_to("codes.csv")
    assert "link: an audit has plain files" in refused(folder, chain)
    (folder / "link").unlink()
    verify_audit(folder, chain.trust, since=before)


def test_a_forger_who_writes_the_digests_anew_is_refused_by_the_proofs(chain: Chain, tmp_path: Path) -> None:
    before = audit(chain, tmp_path / "before", 1, 8)
    folder = audit(chain, tmp_path / "visit", 9, 12, since=before)
    for path in files(folder):
        name = path.relative_to(folder).as_posix()
        if name == "trust-path.json":
            continue  # it is empty: no set has changed
        kept = path.read_bytes()
        for place in (0.2, 0.5, 0.8):
            spoil(path, place)
            (folder / "SHA256SUMS").write_text(sums(folder), encoding="utf-8")
            why = refused(folder, chain)
            # What nothing proves by itself has to fit what is proven: a time in the manifest the page, the start of a
            # log its blocks.
            loose = ("index.html", "log.json", "blocks", "since") if path.suffix == ".json" else ()
            assert why.startswith((name, *loose)), (name, why)
            path.write_bytes(kept)


def forge(folder: Path, chain: Chain, change: Callable[[Path], object]) -> str:
    """What is said of a folder that a forger changed, with tables, page and digests made anew."""
    change(folder)
    try:
        for name, text in made_files(read_audit(folder, chain.trust)).items():
            (folder / name).write_text(text, encoding="utf-8")
    except VerificationError as error:
        return str(error)
    (folder / "SHA256SUMS").write_text(sums(folder), encoding="utf-8")
    return refused(folder, chain)


def put_text(name: str, text: str, folder: Path) -> None:
    (folder / name).write_text(text, encoding="utf-8")


def put_visit(visit: Path, folder: Path) -> None:
    """Makes a folder go on from this visit."""
    for name in ("SHA256SUMS", "seen.json"):
        shutil.copyfile(visit / name, folder / "since" / name)
    made = replace(Manifest.load(folder), since=hashlib.sha256((visit / "SHA256SUMS").read_bytes()).hexdigest())
    put_text("manifest.json", made.to_json(), folder)


def page_of(chain: Chain, *codes: str, versions: bool = True, first: int = 9) -> bytes:
    """A page of true records, but only of these codes, or without the versions before them."""
    with chain.client() as client:
        keys = [key for key, code, _ in chain.ledger.listing(chain.ledger.snapshot(), OFFICE)[0] if code in codes]
        query = "&".join(f"key={key.hex()}" for key in keys)
        down_to = first - 1 if versions else 99
        return client.fetch(f"/v1/audit/records?from={down_to}&{query}", accept="application/cbor").body


def test_what_a_transaction_changed_cannot_be_left_out(chain: Chain, tmp_path: Path) -> None:
    folder = audit(chain, tmp_path / "visit")
    first = folder / "records" / "000001.cbor"
    why = forge(folder, chain, lambda _: first.write_bytes(page_of(chain, OFFICE, SECOND)))
    assert LAMP in why
    assert why.endswith("which is not shown")
    why = forge(folder, chain, lambda _: first.write_bytes(page_of(chain, OFFICE, LAMP, SECOND, versions=False)))
    assert "version 1 and those before it are missing" in why
    # The control: what no transaction of the span touched can be left out, and the page says so.
    first.write_bytes(page_of(chain, LAMP, SECOND))
    for name, text in made_files(read_audit(folder, chain.trust)).items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "SHA256SUMS").write_text(sums(folder), encoding="utf-8")
    verify_audit(folder, chain.trust)
    assert "not touched in it" in (folder / "index.html").read_text(encoding="utf-8")


def test_blocks_cannot_be_left_out_or_come_from_elsewhere(chain: Chain, tmp_path: Path) -> None:
    folder = audit(chain, tmp_path / "visit")
    (name,) = [path.name for path in (folder / "blocks").iterdir()]
    with chain.client() as client:

        def blocks(first: int, last: int) -> bytes:
            return client.fetch(f"/v1/audit/blocks?from={first}&to={last}", accept="application/cbor-seq").body

        def put(data: bytes) -> Callable[[Path], object]:
            return lambda folder: (folder / "blocks" / name).write_bytes(data)

        assert "end at height 10" in forge(folder, chain, put(blocks(9, 10)))
        assert "height 10 is due" in forge(folder, chain, put(blocks(9, 9) + blocks(11, 11)))
        assert "height 10 is due" in forge(folder, chain, put(blocks(9, 9) * 2))
        assert "after the span" in forge(folder, chain, put(blocks(9, 12)))
        whole = blocks(9, 11)
    assert forge(folder, chain, put(whole[:-1])).startswith(f"blocks/{name}: ")
    (folder / "blocks" / "000000000999.cborseq").write_bytes(whole)
    assert forge(folder, chain, put(whole)).startswith(
        ("blocks/000000000999.cborseq: block 9: height 12 is due", f"blocks/{name}")
    )


def test_another_network_and_another_span_are_refused(chain: Chain, tmp_path: Path) -> None:
    folder = audit(chain, tmp_path / "visit")
    stranger = Chain(tmp_path / "elsewhere")
    assert "another network" in refused(folder, stranger)

    def manifest(**changes: object) -> Callable[[Path], object]:
        made = replace(Manifest.load(folder), **changes)  # type: ignore[arg-type]
        return lambda folder: (folder / "manifest.json").write_text(made.to_json(), encoding="utf-8")

    kept = (folder / "manifest.json").read_bytes()
    for change, why in [
        (manifest(first=8), "complete subtrees"),
        (manifest(first=10), "is due"),
        (manifest(last=12), "end at height 11"),
        (manifest(last=10), "after the span"),
        (manifest(prefix=f"{OFFICE}/60"), "is not under the prefix"),
        (manifest(genesis="00" * 32), "another network"),
    ]:
        assert why in forge(folder, chain, change), why
        (folder / "manifest.json").write_bytes(kept)


# ---------------------------------------------------------------- the visit before


def test_nothing_was_removed_since_the_last_visit(chain: Chain, tmp_path: Path) -> None:
    before = audit(chain, tmp_path / "before", 1, 10)
    chain.register(9)
    chain.status(LAMP, 2, "active", reason=8)
    folder = audit(chain, tmp_path / "visit", 11, None, since=before)
    done = verify_audit(folder, chain.trust, since=before)
    assert {"since", "visit"} <= {step.name for step in done.steps}
    assert [row["code"] for row in table(folder, "codes.csv")][-3:] == [LAMP, SECOND, THIRD]
    assert "nothing was removed or replaced" in (folder / "index.html").read_text(encoding="utf-8")
    # A third visit goes on from the second.
    chain.decide()
    third = audit(chain, tmp_path / "third", 15, None, since=folder)
    verify_audit(third, chain.trust, since=folder)
    assert "another visit" in refused(third, chain, since=before)
    assert "does not go on" in refused(before, chain, since=folder)
    with chain.client() as client, pytest.raises(ProofInvalid, match="ended at height 10, this span begins at 12"):
        export(client, OFFICE, 12, None, tmp_path / "gap", since=before)


def test_a_range_that_changed_hands_since_the_last_visit_is_shown_with_its_new_holder(
    chain: Chain, tmp_path: Path
) -> None:
    before = audit(chain, tmp_path / "before", 1, 12)
    (place,) = table(before, "ranges.csv")
    assert place["holder"] == OFFICE
    span = operations.Range("130100", "010203", 0, 1_000)
    version = int(place["version"])
    chain.decide([operations.offer_transfer(span, expected_version=version, to="MA.156.130100.B8L3")])
    (receipt,) = chain.decide(
        [operations.accept_transfer(span, expected_version=version + 1)], signer=chain.holder("B8L3")
    )
    assert receipt["status"] == "committed", receipt
    folder = audit(chain, tmp_path / "visit", 13, None, since=before)
    verify_audit(folder, chain.trust, since=before)
    assert table(folder, "ranges.csv") == []
    assert LAMP in [row["code"] for row in table(folder, "codes.csv")], "codes never change"
    assert [row["operations"] for row in table(folder, "transactions.csv")] == ["offer_transfer", "accept_transfer"]
    # The next visit has nothing of it to look for.
    chain.decide()
    later = audit(chain, tmp_path / "later", 15, None, since=folder)
    verify_audit(later, chain.trust, since=folder)
    # The control: left out, it is missed.
    (only,) = (folder / "others").iterdir()
    assert "which is not shown" in forge(folder, chain, lambda _: only.unlink())


def test_another_history_of_the_same_network_is_refused(chain: Chain, tmp_path: Path) -> None:
    """The control: a forger with every key decides otherwise. Each of his folders verifies; none goes on from
    the visit."""
    before = audit(chain, tmp_path / "before", 1, 10)
    forger = Chain(chain.directory)
    forger.admit()
    forger.register(8)  # lamp 7 never was
    for _ in range(10):
        forger.decide()
    alone = audit(forger, tmp_path / "alone", 11, None)
    verify_audit(alone, chain.trust)
    with forger.client() as client, pytest.raises(ProofInvalid, match="not the one of the visit before, continued"):
        export(client, OFFICE, 11, None, tmp_path / "visit", since=before)
    assert not (tmp_path / "visit").exists()

    # By hand: he says that the visit before had seen his log. The records that it saw are not in his history.
    own = audit(forger, tmp_path / "own", 1, 10)
    folder = audit(forger, tmp_path / "visit", 11, None, since=own)
    verify_audit(folder, chain.trust, since=own)
    why = forge(folder, chain, partial(put_visit, before))
    assert why.startswith("log.json: the log is not the one of the visit before")
    seen = Since.load(before)
    in_his_log = replace(seen_by(read_audit(own, chain.trust)), records=seen.records)
    (before / "seen.json").write_text(in_his_log.to_json(), encoding="utf-8")
    (before / "SHA256SUMS").write_text(sums(before), encoding="utf-8")
    why = forge(folder, chain, partial(put_visit, before))
    assert why.startswith("since/seen.json: ")
    assert "is gone" in why or "is not in its history" in why
    assert "another visit" in refused(audit(forger, tmp_path / "again", 11, None, since=own), chain, since=before)


def test_a_record_that_is_gone_or_replaced_since_the_last_visit(chain: Chain, tmp_path: Path) -> None:
    before = audit(chain, tmp_path / "before", 1, 10)
    folder = audit(chain, tmp_path / "visit", 11, None, since=before)
    seen = Since.load(before)
    *others, (key, version, digest) = seen.records
    for row, why in [
        ((key, version, "00" * 32), "is not in its history"),
        ((key, 9, digest), "is not in its history"),
        ((f"{key[:-1]}9", version, digest), "is gone"),
    ]:
        changed = replace(seen, records=(*others, row))
        assert "names" in forge(folder, chain, partial(put_text, "since/seen.json", changed.to_json()))
        visit = tmp_path / "forged"
        shutil.copytree(before, visit, dirs_exist_ok=True)
        (visit / "seen.json").write_text(changed.to_json(), encoding="utf-8")
        (visit / "SHA256SUMS").write_text(sums(visit), encoding="utf-8")
        assert why in forge(folder, chain, partial(put_visit, visit))
    # A visit that forgot a record is another visit: its digest is not the one that the auditor kept.
    put_text("seen.json", replace(seen, records=tuple(others)).to_json(), visit)
    (visit / "SHA256SUMS").write_text(sums(visit), encoding="utf-8")
    put_visit(visit, folder)
    for name, text in made_files(read_audit(folder, chain.trust)).items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "SHA256SUMS").write_text(sums(folder), encoding="utf-8")
    verify_audit(folder, chain.trust)
    assert "another visit" in refused(folder, chain, since=before)
    assert "is not what the visit in" in refused(folder, chain, since=visit)
