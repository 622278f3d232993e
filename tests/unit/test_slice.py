"""The whole path in one process: a city issues a code, and a verifier with the genesis alone judges the answer."""

import hashlib
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import cityid
from cityid import _native
from cityid.genesis import PARAMETERS

CITIES = {"110000": "北京市", "130100": "石家庄市", "330100": "杭州市", "440300": "深圳市"}


def key(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


def public(name: str) -> bytes:
    return key(name).public_key().public_bytes_raw()


def genesis_json() -> str:
    cities = [
        {"city": city, "name": name}
        | {purpose: public(f"{city}/{purpose}").hex() for purpose in ("consensus", "checkpoint", "tls")}
        | {"transaction": [public(f"{city}/transaction").hex()]}
        for city, name in CITIES.items()
    ]
    fields = {"cityid": "genesis", "name": "slice", "prefix": "MA.156", "suite": 1, "test": True}
    return json.dumps(fields | {"time_ms": "1790000000000", "parameters": dict(PARAMETERS), "cities": cities})


class Network:
    """A ledger and the keys to certify what it executes."""

    def __init__(self) -> None:
        self.genesis = cityid.Genesis.from_json(genesis_json())
        self.ledger = cityid.Ledger(self.genesis)
        self.trust = _native.Trust.from_json(genesis_json())
        self.nonce = 0

    def commit(self, operations: list[dict[str, Any]], signer: str) -> dict[str, Any]:
        self.nonce += 1
        body, identity, message = _native.build_transaction(
            self.genesis.hash,
            self.ledger.height + 100,
            self.nonce.to_bytes(8, "big"),
            [public(signer)],
            json.dumps(operations),
        )
        ((admitted, reason, text),) = self.ledger.admit(_native.finish_transaction(body, [key(signer).sign(message)]))
        assert (admitted, reason) == (identity, None), text
        sealed = self.ledger.seal(1000, 1 << 20)
        assert sealed is not None
        height, time_ms = self.ledger.height + 1, self.ledger.time_ms + 1000
        candidate = self.ledger.execute(height, time_ms, "130100", sealed[0])
        self.ledger.commit(candidate, self.certificate(height, candidate.value, signers=(0, 1, 3)))
        found = self.ledger.receipt(identity)
        assert found is not None
        receipt: dict[str, Any] = json.loads(found[1])
        return receipt

    def certificate(self, height: int, value: bytes, *, signers: tuple[int, ...]) -> bytes:
        # P35: kind, genesis hash, height, round, pol_round, value
        message = (
            b"cityid/1/V"
            + self.genesis.hash
            + height.to_bytes(8, "big")
            + bytes(4)
            + (-1).to_bytes(4, "big", signed=True)
            + value
        )
        bitmap = sum(0x80 >> index for index in signers)
        signatures = [key(f"{self.genesis.cities[index]}/consensus").sign(message) for index in signers]
        head = height.to_bytes(8, "big") + bytes(4) + value + (4).to_bytes(2, "big") + bytes([bitmap])
        return head + b"".join(signatures)


@pytest.fixture(scope="module")
def network() -> Network:
    network = Network()
    possession = key("A7K2").sign(
        _native.possession_message(network.genesis.hash, "MA.156.130100.A7K2", "transaction", public("A7K2"))
    )
    keys = [{"purpose": "transaction", "key": public("A7K2").hex(), "possession": possession.hex()}]
    holder = {"city": "130100", "org": "A7K2"}
    category = {"use": "60", "class": "010203", "model": "1"}
    admit = {"op": "admit_organisation", **holder, "name": "路灯管理处", "quota": 10000, "keys": keys}
    assert network.commit([admit], "130100/transaction")["status"] == "committed"
    receipt = network.commit(
        [
            {"op": "allocate_range", **holder, "class": "010203", "size": 1000},
            {"op": "register_category", **holder, **category, "name": "路灯"},
            {"op": "register_items", **holder, **category, "items": [{"serial": serial} for serial in range(100)]},
        ],
        "A7K2",
    )
    assert receipt["outputs"] == [{"base": 0, "size": 1000}, None, None]
    return network


def verdict_of(network: Network, code: str, **options: Any) -> cityid.Verdict:
    answer = cityid.Answer.from_bytes(network.ledger.answer(code).to_bytes())
    assert cityid.Answer.from_json(answer.to_json()).to_bytes() == answer.to_bytes()
    return cityid.verify(answer, network.trust, code=code, **options)


def test_a_registered_code_is_registered_on_three_of_four_words(network: Network) -> None:
    code = _native.make_item_code("130100", "A7K2", "60", "010203", "1", 7)
    verdict = verdict_of(network, code, now=network.ledger.time_ms / 1000 + 5)
    assert (verdict.verdict, verdict.status, verdict.current) == ("REGISTERED", "active", True)
    assert (verdict.signatures, verdict.height, verdict.as_of) == ((3, 4), 2, network.ledger.time_ms)
    assert all(passed for _, passed, _ in verdict.steps)
    assert any("TEST" in note for note in verdict.notes)


def test_other_codes_get_their_verdicts(network: Network) -> None:
    absent = _native.make_item_code("130100", "A7K2", "60", "010203", "1", 100)
    beyond = _native.make_item_code("130100", "A7K2", "60", "010203", "1", 123456)
    elsewhere = _native.make_item_code("999999", "A7K2", "60", "010203", "1", 7)
    other_office = _native.make_item_code("130100", "B7K2", "60", "010203", "1", 7)
    assert verdict_of(network, absent).verdict == "NOT_REGISTERED"
    assert verdict_of(network, beyond).verdict == "NOT_REGISTERED"
    assert verdict_of(network, other_office).verdict == "MISMATCH"
    assert verdict_of(network, elsewhere).verdict == "NOT_OURS"
    assert verdict_of(network, "MA.156.430121.1006/10.29000000.PG100001").verdict == "NOT_OURS"
    assert verdict_of(network, "130100010203000000007").verdict == "REGISTERED"
    for code in ("MA.156.130100", "MA.156.130100.A7K2", "MA.156.130100.A7K2/60.010203.1"):
        assert verdict_of(network, code).verdict == "REGISTERED"
    for code in ("MA.156.130100.B7K2", "MA.156.130100.A7K2/60.010203.2", "MA.156.130100.A7K2/60.010204.1"):
        assert verdict_of(network, code).verdict == "NOT_REGISTERED"


def test_age_and_height_make_it_unknown_and_keep_what_was(network: Network) -> None:
    code = _native.make_item_code("130100", "A7K2", "60", "010203", "1", 7)
    old = verdict_of(network, code, now=network.ledger.time_ms / 1000 + 81)
    assert (old.verdict, old.was, old.current) == ("UNKNOWN", "REGISTERED", False)
    behind = verdict_of(network, code, min_height=3)
    assert (behind.verdict, behind.was) == ("UNKNOWN", "REGISTERED")
    assert verdict_of(network, code, min_height=2).verdict == "REGISTERED"


def test_two_signatures_of_four_are_not_enough(network: Network) -> None:
    code = _native.make_item_code("130100", "A7K2", "60", "010203", "1", 7)
    answer = json.loads(network.ledger.answer(code).to_json())
    text = json.dumps(answer)
    assert cityid.verify(cityid.Answer.from_json(text), network.trust).verdict == "REGISTERED"
    flipped = bytearray(network.ledger.answer(code).to_bytes())
    flipped[-1] ^= 1
    verdict = cityid.verify(flipped, network.trust)
    assert (verdict.verdict, verdict.steps[-1][:2]) == ("INVALID", ("certificate", False))


def test_resolving_says_the_same_as_the_answer(network: Network) -> None:
    codes = [_native.make_item_code("130100", "A7K2", "60", "010203", "1", serial) for serial in (0, 99, 100, 5000)]
    for code, row in zip(codes, network.ledger.resolve_many(codes), strict=True):
        resolved = json.loads(row)
        assert resolved == json.loads(network.ledger.resolve(code))
        assert resolved["verdict"] == verdict_of(network, code).verdict
        assert resolved["height"] == "2"
    assert json.loads(network.ledger.resolve_many(["nonsense"])[0])["verdict"] == "INVALID"
