"""Networks that work, and networks in which one thing goes wrong."""

import gc
import json
import sys
from collections.abc import Callable

import pytest

from cityid._native import Candidate, Ledger, Trust, verify
from cityid.node import messages
from cityid.node.driver import Driver
from cityid.node.heights import Height, Invalid
from cityid.node.messages import Frame
from cityid.node.ports import Effect, Event, FramesReceived, Now, PendingProposal, ServeBlocks, Settings
from cityid.testing import NetworkFaults, Simulation

BUSY = {"heartbeat_ms": 100}  # a block every 100 ms, with or without transactions


def test_a_transaction_is_acknowledged_then_committed_everywhere() -> None:
    simulation = Simulation(cities=4, seed=1)
    city, *others = simulation.cities
    ids = simulation.admit_organisation(city, "A7K2", name="Water works")
    simulation.run_until(lambda: simulation.acknowledged.issuperset(ids), limit_ms=100)
    simulation.run_until(lambda: simulation.is_committed(ids), limit_ms=100)
    for other in others:
        found = simulation.resolve(f"MA.156.{city}.A7K2", at=other)
        assert found["verdict"] == "REGISTERED"
    roots = {simulation.ledger(each).state_root for each in simulation.cities}
    assert len(roots) == 1


def test_a_refused_transaction_says_why_and_the_next_one_is_served() -> None:
    simulation = Simulation(cities=4, seed=1)
    city, other, *_ = simulation.cities
    operation = {"op": "register_category", "city": city, "use": "10", "class": "010203", "model": "0", "name": "Lamp"}
    [expired] = simulation.submit(city, [operation], valid_for=0)
    assert simulation.results[expired][0] == "expired"
    [foreign] = simulation.submit(city, [operation], signers=[simulation.signer(other)])
    simulation.run_until(lambda: simulation.is_committed([foreign]), limit_ms=1_000)
    assert json.loads(simulation.ledger(other).receipt(foreign)[1])["reason"] == "not_authorised"  # type: ignore[index]
    [good] = simulation.submit(city, [operation])
    simulation.run_until(lambda: simulation.is_committed([good]), limit_ms=1_000)
    assert simulation.ledger(other).receipt(expired) is None


def test_an_idle_network_makes_a_block_a_heartbeat_and_no_failed_rounds() -> None:
    simulation = Simulation(cities=4, seed=1)
    simulation.run_for(100_000)
    assert set(simulation.heights().values()) <= {9, 10}
    assert not [log for city in simulation.cities for log in simulation.logs(city) if log.event == "round_started"]


def test_blocks_keep_their_distance() -> None:
    simulation = Simulation(cities=4, seed=1)
    city = simulation.cities[0]
    for number in range(100):
        simulation.admit_organisation(city, f"ORG{number:04}", name="An office")
        simulation.run_for(5)
    # 500 ms of a transaction every 5 ms: a block every 25 ms would be 20 of them
    assert 10 <= min(simulation.heights().values()) <= max(simulation.heights().values()) <= 21


def test_one_dead_city_of_four_leaves_no_long_gaps() -> None:
    simulation = Simulation(cities=4, seed=3)
    dead, alive = simulation.cities[0], simulation.cities[1]
    simulation.crash(dead)
    slowest_us = 0
    for number in range(24):
        sent_us = simulation.now_us
        ids = simulation.admit_organisation(alive, f"ORG{number:04}", name="An office")
        simulation.run_until(lambda ids=ids: simulation.is_committed(ids), limit_ms=5_000)  # type: ignore[misc]
        slowest_us = max(slowest_us, simulation.now_us - sent_us)
    assert slowest_us < 1_000_000
    rounds = [log for log in simulation.logs(alive) if log.event == "round_started"]
    assert rounds, "the dead city was never the proposer: this test shows nothing"


def test_two_dead_cities_of_four_stop_the_network_until_one_is_back() -> None:
    simulation = Simulation(cities=4, seed=3)
    a, b, c, _ = simulation.cities
    simulation.crash(a)
    simulation.crash(b)
    ids = simulation.admit_organisation(c, "A7K2", name="Water works")
    simulation.run_for(30_000)
    assert set(simulation.heights().values()) == {0}
    simulation.restart(a)
    simulation.run_until(lambda: simulation.is_committed(ids), limit_ms=10_000)
    simulation.settle()


def test_a_minority_neither_commits_nor_blocks_the_majority() -> None:
    simulation = Simulation(cities=4, seed=5, parameters=BUSY)
    alone, *others = simulation.cities
    simulation.partition([alone], others)
    simulation.run_for(5_000)
    assert simulation.height(alone) == 0
    assert min(simulation.height(city) for city in others) >= 10
    simulation.heal()
    simulation.run_until(lambda: simulation.height(alone) >= simulation.checks.height - 1, limit_ms=10_000)
    simulation.settle()


def test_a_stalled_city_says_unknown_about_a_fresh_code() -> None:
    """Its proof that nobody has the code is good, and of a height before the code: `min_height` tells."""
    simulation = Simulation(cities=4, seed=5, parameters=BUSY)
    trust = Trust.from_json(simulation.genesis.to_json())
    stalled, *others = simulation.cities
    simulation.run_for(1_000)
    simulation.partition([stalled], others)
    ids = simulation.admit_organisation(others[0], "A7K2", name="Water works")
    simulation.run_until(lambda: simulation.is_committed(ids, at=others[1]), limit_ms=5_000)
    code = f"MA.156.{others[0]}.A7K2"
    found = simulation.ledger(others[1]).receipt(ids[0])
    assert found is not None
    height = found[0]

    def verdict(city: str, min_height: int | None) -> tuple[str, str | None]:
        answer = simulation.answer(code, at=city).to_bytes()
        found = verify(answer, trust, code=code, now=simulation.now_ms / 1000, min_height=min_height)
        return found.verdict, found.was

    assert simulation.ledger(stalled).height < height
    assert verdict(stalled, height) == ("UNKNOWN", "NOT_REGISTERED")
    assert verdict(stalled, None)[0] == "NOT_REGISTERED"  # the control: nothing else in its answer is wrong
    assert verdict(others[1], height)[0] == "REGISTERED"
    simulation.heal()
    simulation.run_until(lambda: simulation.ledger(stalled).height >= height, limit_ms=10_000)
    assert verdict(stalled, height)[0] == "REGISTERED"


def test_a_seven_city_network_tolerates_two() -> None:
    simulation = Simulation(cities=7, seed=1)
    for city in simulation.cities[:2]:
        simulation.crash(city)
    ids = simulation.admit_organisation(simulation.cities[3], "A7K2", name="Water works")
    simulation.run_until(lambda: simulation.is_committed(ids), limit_ms=10_000)
    simulation.settle()


def test_a_lossy_network_with_wrong_clocks_goes_on() -> None:
    network = NetworkFaults(loss=0.1, duplication=0.1, latency_ms=(1, 60))
    simulation = Simulation(cities=4, seed=8, network=network, parameters=BUSY)
    for position, city in enumerate(simulation.cities):
        simulation.set_clock(city, ahead_ms=(position - 2) * 400)
    simulation.run_for(60_000)
    assert min(simulation.heights().values()) > 20
    simulation.settle()


def test_checkpoints_gather_a_quorum() -> None:
    simulation = Simulation(cities=4, seed=1, parameters=BUSY)
    simulation.run_for(2_000)
    for city in simulation.cities:
        checkpoints = simulation.driver(city).checkpoints
        assert checkpoints.note is not None
        assert simulation.height(city) - checkpoints.height <= 1
        assert checkpoints.note.count("\n— ") == 3


# ---------------------------------------------------------------- catching up


def test_a_city_that_was_away_for_a_thousand_heights_comes_back() -> None:
    hurry = Settings(propose_ms=30, step_ms=20, precommit_ms=10)  # so that the dead proposer costs little
    simulation = Simulation(cities=4, seed=2, parameters=BUSY, settings=hurry)
    away, author, *_ = simulation.cities
    simulation.run_for(1_000)
    simulation.crash(away)
    for number in range(20):
        simulation.admit_organisation(author, f"ORG{number:04}", name="An office")
        simulation.run_for(6_000)
    assert simulation.checks.height - simulation.height(away) > 900
    simulation.restart(away)
    simulation.run_until(lambda: simulation.height(away) >= simulation.checks.height - 1, limit_ms=20_000)
    assert simulation.resolve(f"MA.156.{author}.ORG0007", at=away)["verdict"] == "REGISTERED"
    simulation.settle()


def lie_about_blocks(simulation: Simulation, liar: str, spoil: Callable[[messages.Block], messages.Block]) -> list[int]:
    """From now on this city answers requests for blocks with spoiled ones; returns a list of the heights it sent."""
    told: list[int] = []
    deliver = simulation._deliver

    def delivering(sender: str, receiver: str, kind: int, payload: bytes) -> None:
        if sender == liar and kind == messages.BLOCK:
            block = spoil(messages.decode_block(payload))
            told.append(block.height)
            payload = messages.encode_block(block)
        deliver(sender, receiver, kind, payload)

    simulation._deliver = delivering  # type: ignore[method-assign]
    return told


def flip(data: bytes, position: int = -1) -> bytes:
    changed = bytearray(data)
    changed[position] ^= 1
    return bytes(changed)


def replaced(block: messages.Block, **fields: object) -> messages.Block:
    values = {name: getattr(block, name) for name in ("height", "header", "certificate", "digests", "bodies")}
    return messages.Block(**(values | fields))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda block: replaced(block, certificate=flip(block.certificate)),
        lambda block: replaced(block, certificate=b"junk"),
        lambda block: replaced(block, header=flip(block.header)),
        lambda block: replaced(block, header=b"junk"),
        lambda block: replaced(block, digests=b"x" * 32, bodies=(b"junk",)),
        lambda block: replaced(block, bodies=tuple(flip(body) for body in block.bodies)),
    ],
    ids=["signature", "certificate", "header", "no header", "digests", "bodies"],
)
def test_a_lying_city_delays_a_returning_one_and_no_more(spoil: Callable[[messages.Block], messages.Block]) -> None:
    simulation = Simulation(cities=4, seed=2, parameters=BUSY)
    away, author, other, _ = simulation.cities
    simulation.crash(away)
    for number in range(5):
        simulation.admit_organisation(author, f"ORG{number:04}", name="An office")
        simulation.run_for(1_000)
    told = [lie_about_blocks(simulation, liar, spoil) for liar in (author, other)]  # two of three lie
    simulation.restart(away)
    simulation.run_until(lambda: simulation.height(away) >= simulation.checks.height - 1, limit_ms=30_000)
    assert any(told), "no liar was asked: this test shows nothing"
    assert not simulation.halted()
    simulation.settle()


def test_a_proposer_whose_blocks_are_spoiled_only_costs_its_rounds() -> None:
    simulation = Simulation(cities=4, seed=2, parameters=BUSY)
    liar = simulation.cities[1]
    deliver = simulation._deliver
    spoiled: list[int] = []

    def delivering(sender: str, receiver: str, kind: int, payload: bytes) -> None:
        if sender == liar and kind == messages.PROPOSAL:
            proposal = messages.decode_proposal(payload)
            spoiled.append(proposal.height)
            header = flip(proposal.header, len(proposal.header) // 2)
            payload = messages.encode_proposal(
                messages.Proposal(proposal.height, proposal.round, -1, header, proposal.digests)
            )
        deliver(sender, receiver, kind, payload)

    simulation._deliver = delivering  # type: ignore[method-assign]
    simulation.run_for(10_000)
    assert len(set(spoiled)) >= 3
    assert min(simulation.heights().values()) >= 12
    assert not simulation.halted()
    simulation.settle()


def test_a_city_that_finds_a_decided_block_invalid_halts_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    simulation = Simulation(cities=4, seed=2, parameters=BUSY)
    odd, *others = simulation.cities
    judge = Height.judge

    def judging(height: Height, ledger: Ledger, body: PendingProposal) -> Candidate | Invalid:
        if ledger is simulation.ledger(odd) and height.number == 5:
            height.verdicts[body.value] = Invalid("this city computes another state root")
        return judge(height, ledger, body)

    monkeypatch.setattr(Height, "judge", judging)
    simulation.run_for(5_000)
    assert "invalid here" in simulation.halted()[odd]
    assert simulation.height(odd) == 4
    assert min(simulation.height(other) for other in others) > 10
    simulation.admit_organisation(odd, "A7K2", name="Water works")
    assert [refused.kind for refused in simulation.refused.values()] == ["storage"]
    assert simulation.resolve("MA.156." + odd, at=odd)["verdict"] == "REGISTERED"  # reads go on


def test_a_city_that_claims_an_absurd_height_is_not_believed() -> None:
    simulation = Simulation(cities=4, seed=2)
    honest, liar, *_ = simulation.cities
    status = messages.encode_status(messages.Status(10**9, b"v" * 32))
    for _ in range(10):
        simulation._deliver(liar, honest, messages.STATUS, status)
        simulation.run_for(500)
    ids = simulation.admit_organisation(honest, "A7K2", name="Water works")
    simulation.run_until(lambda: simulation.is_committed(ids), limit_ms=5_000)
    assert not simulation.refused


def test_junk_frames_change_nothing_and_are_named() -> None:
    simulation = Simulation(cities=4, seed=2)
    target, sender, *_ = simulation.cities
    before = simulation.ledger(target).state_root
    for kind in [*messages.NAMES, 77]:
        for payload in (b"", b"\x00", b"junk" * 30, bytes(200)):
            simulation._deliver(sender, target, kind, payload)
    simulation.run_for(200)
    dropped = [log for log in simulation.logs(target) if log.event in ("frame_dropped", "batch_refused")]
    assert {log.fields["kind"] for log in dropped if "kind" in log.fields} >= {"proposal", "block", "status", "77"}
    assert all(log.fields["peer"] == sender for log in dropped)
    assert simulation.ledger(target).state_root == before
    ids = simulation.admit_organisation(target, "A7K2", name="Water works")
    simulation.run_until(lambda: simulation.is_committed(ids), limit_ms=5_000)


# ---------------------------------------------------------------- bounds, and what the node does not do


def test_a_node_that_knows_it_is_behind_takes_no_transactions() -> None:
    simulation = Simulation(cities=4, seed=2, parameters=BUSY)
    away, *others = simulation.cities
    simulation.partition([away], others)
    simulation.run_for(3_000)
    for other in others:
        status = messages.encode_status(messages.Status(simulation.height(other), b"v" * 32))
        now = Now(simulation.now_us, simulation.now_ms)
        simulation.driver(away).step(FramesReceived([Frame(other, messages.STATUS, status)]), now)
    simulation.admit_organisation(away, "A7K2", name="Water works")
    [refused] = simulation.refused.values()
    assert refused.kind == "not_synced"
    simulation.settle()


def test_a_node_that_may_be_behind_refuses_nothing_for_good() -> None:
    """Cut off, it cannot tell a transaction from beyond its horizon from one that is valid too long."""
    simulation = Simulation(cities=4, seed=1, parameters={"heartbeat_ms": 200})
    behind, *others = simulation.cities
    simulation.run_for(1_000)
    simulation.partition([behind], others)
    simulation.run_for(2_000)
    id_, data = simulation.build(others[0], [{"op": "map_district", "city": others[0], "district": "130199"}],
                                 valid_for=2_000)  # fmt: skip
    assert simulation.height(others[0]) > simulation.height(behind)
    simulation.send(behind, data, ids=[id_])
    assert simulation.results[id_][0] == "not_ready"
    simulation.heal()
    simulation.run_for(3_000)
    simulation.send(behind, data, ids=[id_])
    simulation.run_until(lambda: simulation.is_committed([id_]), limit_ms=5_000)
    # The control: at the tip it is what it looks like.
    far, data = simulation.build(behind, [{"op": "map_district", "city": behind, "district": "130198"}],
                                 valid_for=2_100)  # fmt: skip
    simulation.send(behind, data, ids=[far])
    assert simulation.results[far][0] == "too_far"


def test_a_full_pool_refuses_and_recovers() -> None:
    simulation = Simulation(cities=4, seed=2, settings=Settings(max_author_bytes=4_000))
    city, *others = simulation.cities
    simulation.partition([city], others)
    for number in range(30):
        simulation.admit_organisation(city, f"ORG{number:04}", name="An office")
        simulation.run_for(10)
    assert {refused.kind for refused in simulation.refused.values()} == {"overloaded"}
    assert simulation.driver(city).batches.pool.size_bytes <= 4_000
    simulation.settle()
    ids = simulation.admit_organisation(city, "A7K2", name="Water works")
    simulation.run_until(lambda: simulation.is_committed(ids), limit_ms=5_000)


def test_serving_blocks_is_bounded_in_bytes() -> None:
    simulation = Simulation(cities=4, seed=2, parameters=BUSY)
    simulation.run_for(3_000)
    node = simulation._nodes[simulation.cities[0]]
    sent: list[int] = []
    simulation._deliver = lambda *found: sent.append(len(found[3]))  # type: ignore[method-assign]
    simulation._obey(node, ServeBlocks(simulation.cities[1], 1, 512, 2_000))
    assert sent
    assert sum(sent) <= 2_000


def test_no_python_runs_per_transaction() -> None:
    """Between a batch's arrival and its commit the number of Python calls does not depend on its size."""
    large = {"max_batch_transactions": 16_384, "max_batch_bytes": 8_388_608}
    settings = Settings(seal_at_transactions=10**9)
    calls = 0

    def profile(_: object, event: str, __: object) -> None:
        nonlocal calls
        calls += event == "call"

    class ProfiledDriver(Driver):
        def step(self, event: Event, now: Now) -> list[Effect]:
            gc.disable()  # what others hang on the collector (hypothesis does) is none of the driver's calls
            sys.setprofile(profile)
            try:
                return super().step(event, now)
            finally:
                sys.setprofile(None)
                gc.enable()

    def calls_for(transactions: int) -> int:
        nonlocal calls
        calls = 0
        simulation = Simulation(cities=4, seed=1, settings=settings, parameters=large)
        city = simulation.cities[0]
        category = {
            "op": "register_category",
            "city": city,
            "use": "10",
            "class": "010203",
            "model": "0",
            "name": "Lamp",
        }
        built = [simulation.build(city, [category]) for _ in range(transactions)]
        simulation.send(city, b"".join(data for _, data in built), ids=[id_ for id_, _ in built])
        simulation.run_until(lambda: simulation.is_committed([built[-1][0]]), limit_ms=10_000)
        assert simulation.checks.height == 1
        return calls

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cityid.testing.simulation.Driver", ProfiledDriver)
        few, many = calls_for(10), calls_for(10_000)
    assert few > 100
    assert many == few


# ---------------------------------------------------------------- determinism


def test_the_same_seed_gives_the_same_history_in_any_process(lines_of: Callable[[str, str], list[str]]) -> None:
    program = (
        "from cityid.testing import Simulation\n"
        "from cityid.testing.chaos import torment\n"
        "simulation = Simulation(cities=4, seed=12)\n"
        "torment(simulation, duration_ms=10_000)\n"
        "print(simulation.trace)\n"
    )
    assert len({tuple(lines_of(program, hash_seed)) for hash_seed in ("0", "1", "4242")}) == 1


def test_another_seed_gives_another_history() -> None:
    one, two = Simulation(seed=1, parameters=BUSY), Simulation(seed=2, parameters=BUSY)
    one.run_for(1_000)
    two.run_for(1_000)
    assert one.trace != two.trace
