"""Governance as Python sees it: what the committed state says of cities, limits, validators; and trust that follows."""

import hashlib
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import cityid
from cityid import _native
from cityid.errors import CertificateInvalid, MalformedInput, RuleViolation
from cityid.genesis import PARAMETERS

CITIES = ("110000", "130100", "330100", "440300")
SIGNERS = (0, 1, 3)  # 330100 is not among them: its consensus key changes


def key(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


def public(name: str) -> bytes:
    return key(name).public_key().public_bytes_raw()


class Network:
    """A ledger, the certificates of its heights, and the keys to make both."""

    def __init__(self) -> None:
        cities = [
            {"city": city, "name": city, "transaction": [public(f"{city}/transaction").hex()]}
            | {purpose: public(f"{city}/{purpose}").hex() for purpose in ("consensus", "checkpoint", "tls")}
            for city in CITIES
        ]
        fields = {"cityid": "genesis", "name": "governed", "prefix": "MA.156", "suite": 1, "test": True}
        text = json.dumps(fields | {"time_ms": "1790000000000", "parameters": dict(PARAMETERS), "cities": cities})
        self.genesis = cityid.Genesis.from_json(text)
        self.ledger = cityid.Ledger(self.genesis)
        self.trust = _native.Trust.from_json(text)
        self.proposals = 0
        self.certified: dict[int, tuple[bytes, bytes, bytes]] = {}

    def block(self, operation: dict[str, Any], city: str) -> tuple[str, _native.Commit]:
        """What became of one operation in a block of its own: its reason or `committed`, and the commit."""
        height = self.ledger.height + 1
        signer = f"{city}/transaction"
        body, identity, message = _native.build_transaction(
            self.genesis.hash, height + 9, height.to_bytes(8, "big"), [public(signer)], json.dumps([operation])
        )
        self.ledger.admit(_native.finish_transaction(body, [key(signer).sign(message)]))
        sealed = self.ledger.seal(10, 1 << 20)
        assert sealed is not None
        candidate = self.ledger.execute(height, self.ledger.time_ms + 1_000, "130100", sealed[0])
        certificate = self.certificate(height, candidate.value)
        commit = self.ledger.commit(candidate, certificate)
        self.certified[height] = (candidate.header, self.ledger.inclusion(height, height + 1), certificate)
        found = self.ledger.receipt(identity)
        assert found is not None
        receipt = json.loads(found[1])
        return receipt.get("reason", receipt["status"]), commit

    def certificate(self, height: int, value: bytes) -> bytes:
        """A quorum's precommits (P35, P36)."""
        tail = bytes(4) + b"\xff\xff\xff\xff" + value
        message = b"cityid/1/V" + self.genesis.hash + height.to_bytes(8, "big") + tail
        signatures = b"".join(key(f"{CITIES[index]}/consensus").sign(message) for index in SIGNERS)
        bitmap = sum(0x80 >> index for index in SIGNERS)
        return height.to_bytes(8, "big") + bytes(4) + value + bytes([0, len(CITIES), bitmap]) + signatures

    def decide(self, change: dict[str, Any]) -> _native.Commit:
        """Proposed by one city, and agreed to by two."""
        self.proposals += 1
        assert self.block({"op": "propose", "city": "110000", "change": change}, "110000")[0] == "committed"
        for city in ("130100", "440300"):
            reason, commit = self.block({"op": "vote", "city": city, "proposal": self.proposals}, city)
            assert reason == "committed"
        return commit


@pytest.fixture
def network() -> Network:
    return Network()


def new_consensus_key(network: Network) -> dict[str, Any]:
    fresh = "330100/consensus/2"
    message = _native.possession_message(network.genesis.hash, "MA.156.330100", "consensus", public(fresh))
    entry = {"purpose": "consensus", "key": public(fresh).hex(), "possession": key(fresh).sign(message).hex()}
    return {"change": "replace_keys", "city": "330100", "keys": [entry]}


def test_limits_follow_what_the_cities_decide(network: Network) -> None:
    ledger = network.ledger
    assert ledger.parameters() == network.genesis.parameters() == dict(PARAMETERS)
    commit = network.decide({"change": "set_parameters", "parameters": {"heartbeat_ms": 500}})
    assert commit.configuration
    assert ledger.parameters() == dict(PARAMETERS) | {"heartbeat_ms": 500}
    assert network.genesis.parameters()["heartbeat_ms"] == PARAMETERS["heartbeat_ms"]
    reason, commit = network.block({"op": "vote", "city": "330100", "proposal": 1}, "330100")
    assert (reason, commit.configuration) == ("closed", False)
    assert ledger.protocol == 1
    network.decide({"change": "schedule_protocol", "version": 2, "height": ledger.height + 6})
    assert (ledger.protocol, json.loads(_native.header_json(ledger.header))["version"]) == (1, 1)
    for _ in range(2):
        network.block({"op": "vote", "city": "330100", "proposal": 1}, "330100")
    assert (ledger.protocol, json.loads(_native.header_json(ledger.header))["version"]) == (2, 1)


def test_cities_say_who_they_are(network: Network) -> None:
    cities = {city["city"]: city for city in network.ledger.cities()}
    assert list(cities) == list(CITIES)
    assert cities["330100"] == {
        "city": "330100", "name": "330100", "status": "active", "committee": True, "certificate": None, "services": [],
        "administered_by": None, "successor": None, "transaction": [public("330100/transaction")],
        **{purpose: public(f"330100/{purpose}") for purpose in ("consensus", "checkpoint", "tls")},
    }  # fmt: skip
    network.decide({"change": "set_city_status", "city": "330100", "status": "suspended"})
    assert {city["city"]: city["status"] for city in network.ledger.cities()}["330100"] == "suspended"


def test_validators_change_by_height_and_trust_walks_over_it(network: Network) -> None:
    ledger = network.ledger
    first = [(city, public(f"{city}/consensus")) for city in CITIES]
    assert ledger.validators == ledger.validators_at(0) == ledger.validators_at(1) == first
    network.decide(new_consensus_key(network))
    changed = [(city, public(f"{city}/consensus/2") if city == "330100" else old) for city, old in first]
    assert ledger.validators == ledger.validators_at(4) == changed
    assert ledger.validators_at(3) == first
    with pytest.raises(RuleViolation, match="unknown_height"):
        ledger.validators_at(5)
    ((height, encoded),) = ledger.set_changes()
    assert (height, _native.validator_set(encoded), ledger.set_changes(3)) == (3, changed, [])
    with pytest.raises(MalformedInput):
        _native.validator_set(encoded[:-1])

    network.block({"op": "vote", "city": "330100", "proposal": 9}, "330100")
    answer = cityid.Answer.from_bytes(ledger.answer("MA.156.330100").to_bytes())
    assert cityid.verify(answer, network.trust).verdict == "UNKNOWN"
    with pytest.raises(CertificateInvalid, match="another validator set"):
        network.trust.advance(*network.certified[4])
    with pytest.raises(CertificateInvalid, match="give that set"):
        network.trust.advance(*network.certified[3])
    trust = network.trust.advance(*network.certified[3], encoded)
    assert (trust.height, trust.validators) == (3, changed)
    assert cityid.verify(answer, trust).verdict == "REGISTERED"
    assert trust.advance(*network.certified[4]).height == 4
