"""Operation builders: the core reads each of them, and reads back what was meant."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from cityid import keys
from cityid._native import build_transaction, finish_transaction, make_item_code, transaction_json
from cityid.client import operations
from cityid.client.operations import Item, ItemUpdate, KeyEntry, Operation, Range
from cityid.errors import InputError
from cityid.testing.keys import seeded_signer

KEY = KeyEntry(bytes(range(32)), bytes(64))
LATER = KeyEntry(bytes(range(1, 33)), bytes(64), "recovery", 7, 9)
OFFICE, ITEM = "MA.156.130100.A7K2", make_item_code("130100", "A7K2", "60", "010203", "1", 7)
PLACE = Range("130100", "010203", 5_000, 1_000)
KIND: dict[str, Any] = {"use": "60", "class_code": "010203", "model": "1"}
HASH = bytes([7]) * 32
EMPTY_PROOF = bytes.fromhex("84f6f60040")  # [null, null, 0, h'']: an empty table

ALL: list[tuple[Callable[[], Operation], dict[str, Any]]] = [
    (lambda: operations.admit_organisation("130100", "A7K2", name="x", quota=5, rate=7, keys=[KEY]),
     {"op": "admit_organisation", "quota": 5, "rate": 7}),
    (lambda: operations.set_terms("130100", "A7K2", expected_version=2, name="x", quota=5),
     {"op": "set_terms", "rate": None, "expected_version": 2}),
    (lambda: operations.map_district("130100", "130104"), {"op": "map_district", "district": "130104"}),
    (lambda: operations.allocate_range("130100", None, class_code="010203", size=1_000_000),
     {"op": "allocate_range", "org": None, "size": 1_000_000}),
    (lambda: operations.reserve_range(PLACE, org="A7K2"), {"op": "reserve_range", "org": "A7K2", "base": 5_000}),
    (lambda: operations.reserve_range(PLACE, org=None), {"op": "reserve_range", "org": None}),
    (lambda: operations.seal_range(PLACE, expected_version=1, root=HASH, digest=HASH, count=9,
                                   receipts=[{"city": "130100", "signature": "00" * 64}]),
     {"op": "seal_range", "table": {"root": HASH.hex(), "digest": HASH.hex(), "count": 9}}),
    (lambda: operations.set_range_status(PLACE, expected_version=1, status="suspended"),
     {"op": "set_status", "range": PLACE.to_operation(), "status": "suspended"}),
    (lambda: operations.register_category("130100", "A7K2", **KIND, name="lamp", schema=HASH),
     {"op": "register_category", "schema": HASH.hex()}),
    (lambda: operations.register_items("130100", None, **KIND, items=[Item(7, {"a": HASH}, [("web", "https://x.y")])]),
     {"op": "register_items", "org": None, "items": [{"serial": 7, "status": "active", "commitments": {"a": HASH.hex()},
                                                      "services": [["web", "https://x.y"]]}]}),
    (lambda: operations.update_items("130100", class_code="010203", updates=[ItemUpdate(7, 2, {})]),
     {"op": "update_items", "items": [{"serial": 7, "expected_version": 2, "commitments": {}, "services": []}]}),
    (lambda: operations.override_item("130100", "A7K2", **KIND, serial=7, expected_version=0, status="active",
                                      commitments={}, services=[], proof=EMPTY_PROOF),
     {"op": "override_item", "serial": 7, "expected_version": 0, "proof": EMPTY_PROOF.hex()}),
    (lambda: operations.set_status(ITEM, expected_version=1, status="retired"), {"op": "set_status", "code": ITEM}),
    (lambda: operations.register_aliases("130100.A7K2/old", {"B-2": ITEM, "A-1": ITEM}),
     {"op": "register_aliases", "aliases": [{"alias": "A-1", "code": ITEM}, {"alias": "B-2", "code": ITEM}]}),
    (lambda: operations.rotate_keys(OFFICE, expected_version=3, add=[LATER], remove=[HASH]),
     {"op": "rotate_keys", "remove": [HASH.hex()], "add": [LATER.to_operation()]}),
    (lambda: operations.set_controllers(OFFICE, expected_version=3, threshold=2), {"op": "set_controllers"}),
    (lambda: operations.update_profile(OFFICE, expected_version=3, commitments={"a": HASH}),
     {"op": "update_profile", "schema": None}),
    (lambda: operations.start_recovery(ITEM, expected_version=3, keys=[KEY]), {"op": "start_recovery", "code": ITEM}),
    (lambda: operations.end_recovery(OFFICE, expected_version=3, cancel=True), {"op": "end_recovery", "cancel": True}),
    (lambda: operations.offer_transfer(PLACE, expected_version=3, to=OFFICE),
     {"op": "offer_transfer", "range": PLACE.to_operation(), "to": OFFICE}),
    (lambda: operations.offer_transfer(ITEM, expected_version=3, to=None), {"op": "offer_transfer", "to": None}),
    (lambda: operations.accept_transfer(ITEM, expected_version=3), {"op": "accept_transfer", "code": ITEM}),
    (lambda: operations.vote("130100", 7), {"op": "vote", "proposal": 7}),
    (lambda: operations.withdraw_proposal("130100", 7), {"op": "withdraw_proposal", "proposal": 7}),
    *(
        (lambda change=change: operations.propose("130100", change), {"op": "propose", "change": change})
        for change in (
            operations.admit_city("320500", name="x", keys=[KEY], certificate=b"der", services=[("peer", "tls://h:1")]),
            operations.remove_city("320500"),
            operations.set_city_status("320500", "suspended"),
            operations.replace_keys("320500", keys=[KEY], certificate=b"der"),
            operations.set_committee(["110000", "130100", "330100", "440300"]),
            operations.set_parameters({"heartbeat_ms": 5_000}),
            operations.schedule_protocol(2, height=900),
            operations.merge_city("320500", into="130100"),
        )
    ),
]  # fmt: skip


def read_back(made: list[Operation]) -> list[dict[str, Any]]:
    body, _, _ = build_transaction(bytes(32), 9, bytes(16), [bytes(32)], operations.to_json(made))
    found: list[dict[str, Any]] = json.loads(transaction_json(finish_transaction(body, [bytes(64)])))["operations"]
    return found


@pytest.mark.parametrize("number", range(len(ALL)))
def test_the_core_reads_back_what_was_meant(number: int) -> None:
    make, expected = ALL[number]
    operation = make()
    [found] = read_back([operation])
    assert {name: found.get(name) for name in expected} == expected
    assert {name for name, value in operation.items() if value is not None} <= found.keys()


def test_every_builder_is_tried_here() -> None:
    tried = {make()["op"] for make, _ in ALL}
    assert len(tried) == 22  # P22 to P28, P46 to P60
    made = {make()["change"]["change"] for make, _ in ALL if make()["op"] == "propose"}
    assert len(made) == 8  # P61 to P68


def test_reason_and_basis_stand_on_any_operation() -> None:
    plain = operations.vote("130100", 7)
    assert operations.because(plain) == plain
    [found] = read_back([operations.because(plain, reason=3, basis=HASH)])
    assert (found["reason"], found["basis"]) == (3, HASH.hex())
    [found] = read_back([operations.because(plain, basis=operations.digest_of_document(b"decision"))])
    assert "reason" not in found


def test_a_possession_is_for_one_subject_purpose_and_network() -> None:
    signer = seeded_signer("somebody")
    made = {
        operations.prove_possession(signer, genesis, subject, purpose=purpose).possession
        for genesis in (bytes(32), HASH)
        for subject in (OFFICE, ITEM, "MA.156.130100")
        for purpose in ("transaction", "recovery", "assertion")
    }
    assert len(made) == 2 * 3 * 3


# ---------------------------------------------------------------- what several people sign


class Chain:
    genesis_hash = HASH

    def height_and_window(self) -> tuple[int, int]:
        return 100, 2_000


def test_a_prepared_transaction_goes_from_desk_to_desk(tmp_path: Any) -> None:
    from cityid.client.prepared import Prepared

    first, second, stranger = (seeded_signer(name) for name in ("first", "second", "stranger"))
    made = Prepared.build([operations.vote("130100", 7)], [second.public_key, first.public_key], Chain())
    assert made.shown()["valid_until"] == "2090"
    path = tmp_path / "waiting.json"
    made.sign(first)
    made.write_new(path)
    with pytest.raises(InputError, match="exists"):
        made.write_new(path)
    read = Prepared.from_json(path.read_text())
    assert read.missing() == [second.public_key]
    with pytest.raises(InputError, match="missing"):
        read.finish()
    with pytest.raises(InputError, match="no signer"):
        read.sign(stranger)
    read.sign(second)
    read.replace(path)
    id, transaction = Prepared.from_json(path.read_text()).finish()
    assert json.loads(transaction_json(transaction))["id"] == id.hex()


@pytest.mark.parametrize("spoil", ["signature", "body", "words"])
def test_a_spoiled_file_is_refused(spoil: str) -> None:
    from cityid.client.prepared import Prepared
    from cityid.errors import MalformedInput

    signer = seeded_signer("first")
    made = Prepared.build([operations.vote("130100", 7)], [signer.public_key], Chain())
    made.sign(signer)
    found = made.to_json()
    match spoil:
        case "signature":
            found["signatures"] = {signer.public_key.hex(): "00" * 64}
        case "body":
            other = Prepared.build([operations.vote("130100", 8)], [signer.public_key], Chain())
            found["body"] = other.to_json()["body"]
        case "words":
            found["cityid"] = "answer"
    with pytest.raises(MalformedInput, match="Next:"):
        Prepared.from_json(json.dumps(found))


def test_key_files_sign_what_is_prepared(tmp_path: Any) -> None:
    from cityid.client.prepared import Prepared

    signer = keys.generate(tmp_path / "a.pem")
    made = Prepared.build([operations.vote("130100", 7)], [signer.public_key], Chain())
    made.sign(keys.load(tmp_path / "a.pem"))
    assert made.missing() == []
