"""The client against gateways that answer, lie, stall, are busy, say nothing or are no gateways at all.

Most of it runs on the synchronous face: both faces obey the same plans, and the last tests see to it that they do.
"""

from pathlib import Path
from typing import Any

import pytest

from cityid import keys
from cityid.client import Client, SyncClient, operations, plans
from cityid.client.replies import Ask, Lost, Pause, Reply
from cityid.errors import (
    InputError,
    MalformedInput,
    Overloaded,
    PeerUnreachable,
    ProofInvalid,
    RuleViolation,
    Unavailable,
)

CITY = "MA.156.130100"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries stay, their pauses shrink: no test waits for the clock."""
    monkeypatch.setattr(plans, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(plans, "LONGEST_PAUSE_S", 0.001)


def admission(hand: Any, org: str, directory: Path) -> tuple[Any, operations.Operation]:
    signer = keys.generate(directory / f"{org}.pem")
    entry = operations.prove_possession(signer, hand.genesis.hash, f"{CITY}.{org}")
    return signer, operations.admit_organisation("130100", org, name="office", quota=5_000, keys=[entry])


def test_an_answer_is_verified_and_raises_the_floor(hand: Any, gateway: str) -> None:
    with SyncClient(gateway, hand.trust) as client:
        found = client.resolve(CITY)
        assert (found.verdict.verdict, found.verdict.status, found.gateway) == ("REGISTERED", "active", gateway)
        assert client.highest == hand.ledger.height
        missing = client.resolve(f"{CITY}.ZZZZ")
        assert missing.verdict.verdict == "NOT_REGISTERED"


def test_a_lie_is_refused_and_a_second_gateway_is_asked(hand: Any) -> None:
    with hand.serve() as url:
        hand.mood = "lying"
        with SyncClient(url, hand.trust) as client, pytest.raises(ProofInvalid, match="fails at the step"):
            client.resolve(CITY)
        # Control: the same gateway, honest, is believed.
        hand.mood = "well"
        with SyncClient(["http://127.0.0.1:1", url], hand.trust) as client:
            assert client.resolve(CITY).gateway == url


def test_nothing_older_than_what_was_seen_passes(hand: Any, gateway: str, tmp_path: Path) -> None:
    with SyncClient(gateway, hand.trust) as client:
        hand.stall()
        hand.decide()
        hand.mood = "well"
        assert client.resolve(CITY).verdict.height == hand.ledger.height
        hand.mood = "stalled"
        found = client.resolve(CITY)
        assert (found.verdict.verdict, found.verdict.was) == ("UNKNOWN", "REGISTERED")
        # Control: a client that has seen nothing newer believes it.
        with SyncClient(gateway, hand.trust) as other:
            assert other.resolve(CITY).verdict.verdict == "REGISTERED"
            assert other.resolve(CITY, min_height=hand.ledger.height).verdict.verdict == "UNKNOWN"


@pytest.mark.parametrize(
    ("mood", "kind", "says"),
    [
        ("busy", Overloaded, "busy"),
        ("mute", PeerUnreachable, "no gateway of 1"),
        ("nonsense", MalformedInput, "cityid gateway"),
    ],
)
def test_each_failure_has_its_error(hand: Any, gateway: str, mood: Any, kind: type[Exception], says: str) -> None:
    with SyncClient(gateway, hand.trust) as client:
        hand.mood = mood
        with pytest.raises(kind, match=says):
            client.status()
        hand.mood = "well"
        assert int(client.status()["height"]) == hand.ledger.height


def test_a_code_that_is_none_is_an_input_error(hand: Any, gateway: str) -> None:
    with pytest.raises(InputError, match="http"):
        SyncClient("ftp://example", hand.trust)
    with pytest.raises(InputError, match="gateways"):
        SyncClient([], hand.trust)


def test_transact_commits_or_says_the_reason(hand: Any, gateway: str, tmp_path: Path) -> None:
    office, operation = admission(hand, "A7K2", tmp_path)
    with SyncClient(gateway, hand.trust) as client:
        receipt = client.transact([operation], [hand.key("130100")])
        assert (receipt.state, receipt.height) == ("committed", hand.ledger.height)
        with pytest.raises(RuleViolation) as caught:
            client.transact([operation], [hand.key("130100")])
        assert caught.value.reason == "exists"
        with pytest.raises(RuleViolation) as caught:
            client.transact([operation], [hand.key("110000")])
        assert caught.value.reason == "not_authorised"
        given = client.transact([operations.allocate_range("130100", "A7K2", class_code="010203")] * 2, [office])
        assert given.outputs == ((0, 1_000), (1_000, 1_000))


def test_what_is_not_decided_is_sent_again_byte_for_byte_and_then_said(
    hand: Any, gateway: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "LONGEST_PAUSE_S", 0.01)
    _, operation = admission(hand, "A7K2", tmp_path)
    with SyncClient(gateway, hand.trust) as client:
        hand.mood = "pending"
        id, transaction = _signed(hand, operation)
        plan = plans.submit(client._memory, {id: transaction}, patience_s=0.05)
        [receipt] = client._obey(plan)
        assert receipt.state == "pending"
        with pytest.raises(Unavailable, match="same bytes"):
            receipt.require_committed()
        assert len(hand.submitted) > 2
        assert set(hand.submitted) == {transaction}
        hand.mood = "well"
        [receipt] = client.submit({id: transaction})
        assert receipt.state == "committed"


def test_a_refusal_outside_state_is_a_receipt_with_its_reason(hand: Any, gateway: str, tmp_path: Path) -> None:
    _, operation = admission(hand, "A7K2", tmp_path)
    with SyncClient(gateway, hand.trust) as client:
        id, transaction = _signed(hand, operation, valid_until=10**9)
        [receipt] = client.submit({id: transaction})
        assert (receipt.state, receipt.reason) == ("refused", "too_far")
        id, transaction = _signed(hand, operation)
        [receipt] = client.submit({id: transaction[:-1] + bytes([transaction[-1] ^ 1])})
        assert (receipt.state, receipt.reason) == ("refused", "bad_signature")


def test_a_lost_reply_asks_the_next_gateway_with_the_same_bytes(hand: Any, tmp_path: Path) -> None:
    _, operation = admission(hand, "A7K2", tmp_path)
    id, transaction = _signed(hand, operation)
    memory = plans.Memory(("a", "b"), hand.trust)
    plan = plans.submit(memory, {id: transaction})
    first = next(plan)
    second = plan.send(Lost("the line is dead"))
    assert isinstance(first, Ask)
    assert isinstance(second, Ask)
    assert (first.gateway, second.gateway) == (0, 1)
    assert first.content == second.content == transaction
    row = f'{{"transactions": [{{"id": "{id.hex()}", "status": "committed", "height": "9", "outputs": [null]}}]}}'
    with pytest.raises(StopIteration) as done:
        plan.send(Reply(200, "application/json", row.encode()))
    assert done.value.value[0].height == 9
    assert memory.preferred == 1


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"{",
        b'{"transactions": 3}',
        b'{"transactions": [3]}',
        b'{"transactions": [{"id": "zz", "status": "committed"}]}',
        b'{"transactions": [{"id": "00", "status": "committed", "outputs": [[1, 2]]}]}',
    ],
)
def test_receipts_that_cannot_be_read_are_malformed(hand: Any, body: bytes) -> None:
    plan = plans.submit(plans.Memory(("a",), hand.trust), {b"\0": b"\0"})
    next(plan)
    with pytest.raises(MalformedInput):
        plan.send(Reply(200, "application/json", body))


def test_no_plan_asks_for_ever(hand: Any) -> None:
    plan = plans.resolve(plans.Memory(("a", "b"), hand.trust), CITY, clock=lambda: 0.0)
    steps = [next(plan)]

    def until_the_end() -> None:
        while True:
            steps.append(plan.send(None if isinstance(steps[-1], Pause) else Lost("dead")))

    with pytest.raises(PeerUnreachable, match="no gateway of 2"):
        until_the_end()
    assert sum(isinstance(step, Ask) for step in steps) == 2 * plans.ROUNDS


def test_the_trio_face_does_the_same(hand: Any, gateway: str, tmp_path: Path) -> None:
    import trio

    async def main() -> None:
        async with Client(gateway, hand.trust) as client:
            _, operation = admission(hand, "A7K2", tmp_path)
            await client.transact([operation], [hand.key("130100")])
            found = await client.resolve(f"{CITY}.A7K2")
            assert found.verdict.verdict == "REGISTERED"
            rows = await client.look_up([f"{CITY}.A7K2", f"{CITY}.ZZZZ"])
            assert [row["verdict"] for row in rows] == ["REGISTERED", "NOT_REGISTERED"]
            with client.sync as synchronous:
                assert synchronous.highest == client.highest > 0
            hand.mood = "lying"
            with pytest.raises(ProofInvalid):
                await client.resolve(CITY)

    trio.run(main)


def _signed(hand: Any, operation: operations.Operation, *, valid_until: int | None = None) -> tuple[bytes, bytes]:
    from cityid.client import sign

    height = hand.ledger.height + 100 if valid_until is None else valid_until
    return sign([operation], [hand.key("130100")], genesis_hash=hand.genesis.hash, valid_until=height)
