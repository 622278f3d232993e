"""The consensus engine as Python sees it: shapes of effects, the signer, errors. What it decides is tested in Rust."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cityid._native import Consensus, message_height, verify_certificate
from cityid.errors import CertificateInvalid, InputError, MalformedInput

GENESIS = bytes(range(32))
VALUE = hashlib.sha256(b"a block").digest()


class MemorySigner:
    """A key in memory, as a node's key file is once it is read."""

    def __init__(self, city: int) -> None:
        self.key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"city %d" % city).digest())
        self.public_key = self.key.public_key().public_bytes_raw()
        self.signed = 0

    def sign(self, message: bytes) -> bytes:
        self.signed += 1
        return self.key.sign(message)


SIGNERS = [MemorySigner(city) for city in range(4)]
VALIDATORS = [signer.public_key for signer in SIGNERS]


def engine(city: int, signer: Any = None) -> Consensus:
    return Consensus(VALIDATORS[city], signer or SIGNERS[city], GENESIS, bytes(32), propose_ms=300)


def decide() -> tuple[list[list[tuple[Any, ...]]], list[Consensus]]:
    """Four cities decide height 1; every effect of each, and the engines."""
    engines = [engine(city) for city in range(4)]
    seen: list[list[tuple[Any, ...]]] = [[] for _ in engines]
    inboxes: list[list[bytes]] = [[] for _ in engines]

    def obey(city: int, effects: list[tuple[Any, ...]]) -> None:
        seen[city].extend(effects)
        for effect in effects:
            match effect:
                case ("publish", message):
                    for other, inbox in enumerate(inboxes):
                        if other != city:
                            inbox.append(message)
                case ("get_value", height, round_):
                    obey(city, engines[city].propose(height, round_, VALUE))

    for city in range(4):
        obey(city, engines[city].start_height(1, VALIDATORS))
    for city in (0, 2, 3):
        obey(city, engines[city].proposed_value(1, 0, -1, 1, VALUE, True, False))
    while any(inboxes):
        for city in range(4):
            messages, inboxes[city] = inboxes[city], []
            obey(city, engines[city].receive(messages))
    return seen, engines


def named(effects: list[tuple[Any, ...]], name: str) -> list[tuple[Any, ...]]:
    return [effect for effect in effects if effect[0] == name]


def test_four_cities_decide_and_the_certificate_verifies() -> None:
    seen, engines = decide()
    for effects, city in zip(seen, engines, strict=True):
        [(_, height, round_, value, certificate)] = named(effects, "decide")
        assert (height, round_, value) == (1, 0, VALUE)
        assert named(effects, "finalize")[0][:2] == ("finalize", 1)
        assert named(effects, "finalize")[0][3] == []
        assert verify_certificate(GENESIS, VALIDATORS, certificate)[:3] == (1, 0, VALUE)
        assert (city.height, city.round, city.step) == (1, 0, "commit")
        assert not named(effects, "error")
        assert not named(effects, "fatal")


def test_effects_have_the_shapes_the_driver_matches() -> None:
    seen, _ = decide()
    shapes = {
        "wal": (int, bytes),
        "publish": (bytes,),
        "timer": (str, int, int),
        "cancel": (str, int),
        "cancel_all": (),
        "start_round": (int, int, int, str),
        "get_value": (int, int),
        "decide": (int, int, bytes, bytes),
        "finalize": (int, bytes, list),
    }
    for name, *fields in (effect for effects in seen for effect in effects):
        assert tuple(type(field) for field in fields) == shapes[name], name
    assert {effect[0] for effect in seen[1]} == set(shapes)
    roles = [named(effects, "start_round")[0][4] for effects in seen]
    assert roles == ["validator", "proposer", "validator", "validator"]
    timers = {effect[1]: effect[3] for effect in named(seen[0], "timer")}
    assert timers["propose"] == 300_000
    assert set(timers) <= {"propose", "prevote", "precommit", "rebroadcast"}


def test_what_was_logged_recovers_without_signing_again() -> None:
    first = engine(1)
    effects = first.start_height(1, VALIDATORS) + first.propose(1, 0, VALUE)
    log = [entry for _, _, entry in named(effects, "wal")]
    assert [message_height(entry) for entry in log] == [1, 1, 1]
    before = SIGNERS[1].signed
    again = engine(1).recover(1, VALIDATORS, log)
    assert SIGNERS[1].signed == before
    assert {message for _, message in named(again, "publish")} == {message for _, message in named(effects, "publish")}
    assert not named(again, "wal")
    assert not named(again, "get_value")


def test_a_fetched_value_is_verified_and_then_decides() -> None:
    seen, _ = decide()
    certificate = named(seen[0], "decide")[0][4]
    late = engine(3)
    late.start_height(1, VALIDATORS)
    forged = certificate[:-1] + bytes([certificate[-1] ^ 1])
    [(name, height, reason)] = late.sync_value(forged, VALUE)
    assert (name, height, type(reason)) == ("sync_rejected", 1, str)
    [*_, verified] = late.sync_value(certificate, VALUE)
    assert verified == ("sync_verified", 1, 0, VALUE, 1)
    effects = late.proposed_value(1, 0, -1, 1, VALUE, True, True)
    assert named(effects, "decide")[0][1:4] == (1, 0, VALUE)


def test_a_bad_message_is_an_effect_with_its_position() -> None:
    city = engine(0)
    city.start_height(1, VALIDATORS)
    effects = city.receive([b"", b"junk"])
    assert [(name, position) for name, _, position in effects] == [("error", 0), ("error", 1)]
    assert city.stats()["malformed"] == 2


def raising(_message: bytes) -> bytes:
    raise OSError("the key file is locked")


@pytest.mark.parametrize(
    ("sign", "reason"),
    [
        (raising, "the key file is locked"),
        (lambda _message: b"short", "64"),
        (lambda _message: bytes(64), "does not verify"),
        (lambda _message: None, "signer"),
    ],
)
def test_a_failing_signer_stops_the_engine(
    monkeypatch: pytest.MonkeyPatch, sign: Callable[[bytes], bytes], reason: str
) -> None:
    signer = MemorySigner(1)
    monkeypatch.setattr(signer, "sign", sign)
    city = engine(1, signer)
    city.start_height(1, VALIDATORS)
    effects = city.propose(1, 0, VALUE)
    assert effects[-1][0] == "fatal"
    assert reason in effects[-1][1]
    assert not named(effects, "publish")
    assert city.step == "stopped"
    assert [effect[0] for effect in city.receive([])] == ["fatal"]


def test_senseless_calls_raise_and_change_nothing() -> None:
    city = engine(0)
    calls: list[Callable[[], object]] = [
        lambda: city.receive([]),
        lambda: city.start_height(1, []),
        lambda: city.start_height(1, [b"short"]),
        lambda: city.start_height(0, VALIDATORS),
        lambda: city.timeout("finalize", 0),
        lambda: city.set_timeouts(propose_ms=0, step_ms=1, precommit_ms=1, delta_ms=1),
        lambda: city.recover(1, VALIDATORS, [b"torn"]),
        lambda: message_height(b"v"),
    ]
    for call in calls:
        with pytest.raises(InputError):
            call()
    assert (city.height, city.round, city.step) == (0, -1, "unstarted")
    city.start_height(1, VALIDATORS)
    assert (city.height, city.round, city.step) == (1, 0, "propose")


def test_a_certificate_counts_only_under_its_network_and_set() -> None:
    seen, _ = decide()
    certificate = named(seen[0], "decide")[0][4]
    assert verify_certificate(GENESIS, VALIDATORS, bytearray(certificate))[3] >= 3
    for genesis, validators in [(bytes(32), VALIDATORS), (GENESIS, VALIDATORS[:3]), (GENESIS, VALIDATORS[::-1])]:
        with pytest.raises(CertificateInvalid):
            verify_certificate(genesis, validators, certificate)
    with pytest.raises(MalformedInput):
        verify_certificate(GENESIS, VALIDATORS, certificate[:-1])
