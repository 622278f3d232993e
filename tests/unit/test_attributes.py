"""A holder's attributes: salts are durable before a commitment is used, single ones are proven, erased is gone."""

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.property.network import Network

from cityid import Answer, _native, verify_disclosure
from cityid.client import attributes
from cityid.client.attributes import AttributeStore
from cityid.errors import CodeError, InputError, MalformedInput, StorageError

SCHEMA = "urn:example:lamp"
ORG = {"city": "130100", "org": "A7K2"}
CATEGORY = {"use": "60", "class": "010203", "model": "1"}
CODE = _native.make_item_code("130100", "A7K2", "60", "010203", "1", 7)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "office.attributes"


@pytest.fixture
def store(path: Path) -> Iterator[AttributeStore]:
    with AttributeStore.open(path) as store:
        yield store


def item(commitments: dict[str, bytes], **more: Any) -> dict[str, Any]:
    return {"serial": 7, "commitments": {name: value.hex() for name, value in commitments.items()}} | more


def answer(network: Network) -> Answer:
    return network.ledger.answer(CODE)


@pytest.fixture
def network(store: AttributeStore) -> Network:
    """A7K2 registered item 7 with two attributes of the store."""
    network = Network()
    keys = [network.key_entry("MA.156.130100.A7K2", "transaction", "a")]
    admit = {"op": "admit_organisation", **ORG, "name": "Lighting", "quota": 1000, "keys": keys}
    assert network.run([admit], "130100/transaction")["status"] == "committed"
    commitments = store.commit_attributes(CODE, {"material": "steel", "owner": "Lighting"}, schema=SCHEMA)
    receipt = network.run(
        [
            {"op": "allocate_range", **ORG, "class": "010203", "size": 1000},
            {"op": "register_category", **ORG, **CATEGORY, "name": "Lamp"},
            {"op": "register_items", **ORG, **CATEGORY, "items": [item(commitments)]},
        ],
        "a",
    )
    assert receipt["status"] == "committed"
    return network


def update(network: Network, commitments: dict[str, bytes], version: int) -> None:
    items = [item(commitments, expected_version=version)]
    operation = {"op": "update_items", "city": "130100", "class": "010203", "items": items}
    assert network.run([operation], "a")["status"] == "committed"


def test_a_shown_attribute_is_proven_and_the_others_stay_secret(store: AttributeStore, network: Network) -> None:
    shown = store.disclose(CODE, ["material"])
    disclosed = verify_disclosure(shown, answer(network), network.trust)
    assert disclosed.proven
    assert disclosed.attributes == [("material", SCHEMA, "steel", "proven")]
    assert "Lighting" not in shown
    assert json.loads(disclosed.to_json())["verdict"]["verdict"] == "REGISTERED"
    together = store.disclose(CODE, ["owner", "material"], answer=answer(network))
    assert verify_disclosure(together, None, network.trust).proven
    assert not verify_disclosure(shown.replace("steel", "brass"), answer(network), network.trust).proven
    late = verify_disclosure(shown, answer(network), network.trust, now=network.ledger.time_ms / 1000 + 100)
    assert (late.verdict.verdict, late.proven, late.attributes[0][3]) == ("UNKNOWN", False, "proven")
    with pytest.raises(MalformedInput, match="answer"):
        verify_disclosure(shown, None, network.trust)
    with pytest.raises(MalformedInput):
        verify_disclosure(shown, b"\x80", network.trust)


def test_of_several_versions_the_one_on_the_chain_is_shown(store: AttributeStore, network: Network) -> None:
    update(network, store.commitments(CODE) | store.commit_attributes(CODE, {"material": "brass"}, schema=SCHEMA), 1)
    # A third version is kept already, and not on the chain yet.
    store.commit_attributes(CODE, {"material": "tin"}, schema=SCHEMA)
    shown = store.disclose(CODE, ["material", "owner"], answer=answer(network))
    assert [value for _, _, value, _ in verify_disclosure(shown, None, network.trust).attributes] == [
        "brass",
        "Lighting",
    ]
    assert verify_disclosure(shown, None, network.trust).proven
    assert json.loads(store.disclose(CODE, ["material"]))["attributes"][0]["value"] == "tin"
    first = store.disclose(CODE, ["material"], version=1)
    assert verify_disclosure(first, answer(network), network.trust).attributes[0][2:] == ("steel", "differs")
    with pytest.raises(InputError, match="version that the record commits to"):
        store.disclose(CODE, ["material"], version=1, answer=answer(network))


def test_salts_are_fresh_and_survive_the_process(path: Path, store: AttributeStore) -> None:
    first = store.commit_attributes(CODE, {"material": "steel", "colour": "steel"}, schema=SCHEMA)
    second = store.commit_attributes(CODE, {"material": "steel"}, schema=SCHEMA)
    assert len({*first.values(), *second.values()}) == 3, "the same value never has the same commitment"
    assert store.commitments(CODE) == first | second
    with pytest.raises(InputError, match="in use"):
        AttributeStore.open(path)
    store.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with AttributeStore.open(path) as again:
        assert again.commitments(CODE) == first | second
        assert (again.codes(), again.names(CODE)) == ([CODE], ["material", "colour"])


def test_what_is_on_disk_when_a_commitment_is_given_is_all_of_it(
    path: Path, store: AttributeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bytes] = []
    monkeypatch.setattr("cityid.client.private_lines.os.fsync", lambda _: synced.append(path.read_bytes()))
    store.commit_attributes(CODE, {"material": "steel"}, schema=SCHEMA)
    assert b'"value":"steel"' in synced[0]


def test_a_full_disk_gives_no_commitment(store: AttributeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("cityid.client.private_lines.os.fsync", full)
        with pytest.raises(StorageError, match="make room"):
            store.commit_attributes(CODE, {"material": "steel"}, schema=SCHEMA)
    assert store.commitments(CODE) == {}


def test_what_is_erased_is_gone_from_the_disk_and_can_no_longer_be_shown(
    path: Path, store: AttributeStore, network: Network
) -> None:
    store.commit_attributes(CODE, {"material": "brass"}, schema=SCHEMA)
    shown = store.disclose(CODE, ["material"], version=1)
    salts = [
        one["salt"] for line in path.read_text().splitlines() for one in [json.loads(line)["attributes"]["material"]]
    ]
    with path.open("rb") as old:
        assert store.erase(CODE, ["material"]) == 2
        assert old.read().strip(b"\0") == b"", "the bytes that had no name any more are overwritten"
    text = path.read_text()
    assert not any(salt in text for salt in salts)
    assert "steel" not in text
    assert "brass" not in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(InputError, match="was erased"):
        store.disclose(CODE, ["material"])
    # What was disclosed stays disclosed.
    assert verify_disclosure(shown, answer(network), network.trust).proven
    # The rest is still there, also for a store that is opened anew; and it can be written to.
    assert verify_disclosure(store.disclose(CODE, ["owner"]), answer(network), network.trust).proven
    store.commit_attributes(CODE, {"colour": "green"}, schema=SCHEMA)
    store.close()
    with AttributeStore.open(path) as again:
        assert again.names(CODE) == ["owner", "colour"]
        assert again.erase(CODE) == 2
        assert (again.codes(), path.read_bytes()) == ([], b"")
        with pytest.raises(InputError, match="nothing is kept"):
            again.erase(CODE)


def test_erasing_what_is_not_kept_erases_nothing(store: AttributeStore) -> None:
    store.commit_attributes(CODE, {"material": "steel", "owner": "Lighting"}, schema=SCHEMA)
    with pytest.raises(InputError, match="height"):
        store.erase(CODE, ["material", "height"])
    with pytest.raises(InputError):
        store.erase(CODE, [])
    assert store.names(CODE) == ["material", "owner"]


def test_an_erasure_that_the_disk_refuses_leaves_the_store_whole(
    path: Path, store: AttributeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.commit_attributes(CODE, {"material": "steel", "owner": "Lighting"}, schema=SCHEMA)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("cityid.client.attributes.os.replace", full)
        with pytest.raises(StorageError, match="make room"):
            store.erase(CODE, ["material"])
    assert store.names(CODE) == ["material", "owner"]
    store.commit_attributes(CODE, {"colour": "green"}, schema=SCHEMA)
    store.close()
    # The half-made file, which holds salts, is removed by whoever opens the store next.
    assert path.with_name(path.name + ".erasing").exists()
    with AttributeStore.open(path) as again:
        assert again.names(CODE) == ["material", "owner", "colour"]
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_torn_last_line_is_dropped_and_a_damaged_one_is_named(path: Path, store: AttributeStore) -> None:
    store.commit_attributes(CODE, {"material": "steel"}, schema=SCHEMA)
    store.close()
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"code":"MA')
    with AttributeStore.open(path) as again:
        assert again.names(CODE) == ["material"]
    assert path.read_bytes() == whole
    for damage in (b"[]\n", b"{}\n", b"nonsense\n", b'{"code":"x","version":1,"attributes":{"a":{"salt":"zz"}}}\n'):
        path.write_bytes(whole + damage)
        with pytest.raises(StorageError, match="restore it"):
            AttributeStore.open(path)


def test_bad_input_is_refused_with_what_to_do(store: AttributeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.commit_attributes(CODE, {"material": "steel"}, schema=SCHEMA, version=3)
    with pytest.raises(InputError, match="version 3 already"):
        store.commit_attributes(CODE, {"material": "brass"}, schema=SCHEMA, version=3)
    for values, version in (({}, None), ({"material": "x"}, 0)):
        with pytest.raises(InputError, match="at least one value"):
            store.commit_attributes(CODE, values, schema=SCHEMA, version=version)
    with pytest.raises(InputError, match="canonical"):
        store.commit_attributes(CODE.lower(), {"material": "x"}, schema=SCHEMA)
    with pytest.raises(InputError, match="canonical"):
        store.commit_attributes("MA.156.430121.1006/10.29000000.PG100001", {"material": "x"}, schema=SCHEMA)
    with pytest.raises(CodeError):
        store.commit_attributes("nonsense", {"material": "x"}, schema=SCHEMA)
    for values, schema in (({"material": "x" * 4097}, SCHEMA), ({"x" * 65: "x"}, SCHEMA), ({"m": "x"}, "x" * 256)):
        with pytest.raises(MalformedInput):
            store.commit_attributes(CODE, values, schema=schema)
    with pytest.raises(InputError, match="at least one attribute"):
        store.disclose(CODE, [])
    monkeypatch.setattr(attributes, "STORE_BYTES", 400)
    with pytest.raises(InputError, match="several stores"):
        store.commit_attributes(CODE, {"material": "x" * 400}, schema=SCHEMA)
    assert store.names(CODE) == ["material"]


def test_what_imports_and_tables_disclosed_is_taken_in_once(tmp_path: Path, store: AttributeStore) -> None:
    salt = os.urandom(16).hex()
    line = {"id": "L1", "line": 2, "digest": "00", "serial": 7, "code": CODE}
    line |= {"attributes": {"material": {"schema": SCHEMA, "salt": salt, "value": "steel"}}}
    file = tmp_path / "lamps.csv.disclosures.jsonl"
    file.write_text(json.dumps(line) + "\n")
    assert (store.take_disclosures(file), store.take_disclosures(file)) == (1, 0)
    head, start = "code,attribute,schema,salt,value", f"{SCHEMA},{salt}"
    rows = f'{head}\r\n{CODE},material,{start},steel\r\n{CODE},note,{start},"a,b"\r\n'
    assert (store.take_rows(rows.encode()), store.take_rows(rows.encode())) == (1, 0)
    assert store.commitments(CODE) == {
        "material": _native.commitment(CODE, "material", SCHEMA, bytes.fromhex(salt), "steel"),
        "note": _native.commitment(CODE, "note", SCHEMA, bytes.fromhex(salt), "a,b"),
    }
    with pytest.raises(InputError, match="no disclosure rows"):
        store.take_rows(b"code,attribute\r\nx,y\r\n")
