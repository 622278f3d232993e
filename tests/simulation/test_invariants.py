"""Controls: each thing that is checked is broken on purpose, and found, under its own name."""

from random import Random

import pytest

from cityid.client import operations
from cityid.client.operations import Item
from cityid.testing import Simulation, Violation
from cityid.testing.byzantine import Byzantine
from cityid.testing.clients import Claims, Clients
from cityid.testing.governance import enact, replace_keys
from cityid.testing.traffic import CLASS, MODEL, USE, Reader, Writer

BUSY = {"heartbeat_ms": 100}


@pytest.fixture
def network() -> Simulation:
    simulation = Simulation(cities=4, seed=3, parameters=BUSY)
    simulation.run_for(1_000)
    return simulation


def precommits(simulation: Simulation, cities: list[str], *, height: int, round_: int, value: bytes) -> list[bytes]:
    """Signed precommits, made with the keys of these cities."""
    made = []
    for city in cities:
        signer = Byzantine(simulation.genesis.hash, simulation.signer(city, "consensus"), seed=0)
        made.append(signer._sign(b"V", height, round_, value))
    return made


def test_two_values_with_a_quorum_of_precommits_are_a_fork(network: Simulation) -> None:
    checks, height = network.checks, network.checks.height + 1
    cities = network.cities
    network.checks.liars.update(cities[:2])  # f + 1, or it could not be
    for city, message in zip(
        cities, precommits(network, cities[:3], height=height, round_=0, value=b"a" * 32), strict=False
    ):
        checks.on_message(city, message)
    again = precommits(network, cities[:3], height=height, round_=1, value=b"a" * 32)
    for city, message in zip(cities[:3], again, strict=True):
        checks.on_message(city, message)  # two rounds of one value are no fork
    others = [*cities[:2], cities[3]]
    second = precommits(network, others, height=height, round_=1, value=b"b" * 32)
    for city, message in zip(others[:2], second[:2], strict=True):
        checks.on_message(city, message)
    with pytest.raises(Violation, match="two certified values") as found:
        checks.on_message(others[2], second[2])
    assert found.value.kind == "fork"


def test_votes_that_a_liar_did_not_sign_count_for_nothing(network: Simulation) -> None:
    checks, height = network.checks, network.checks.height + 1
    cities = network.cities
    checks.liars.update(cities[:2])
    good = precommits(network, cities[:3], height=height, round_=0, value=b"a" * 32)
    for city, message in zip(cities[:3], good, strict=True):
        checks.on_message(city, message)
    forged = [message.replace(b"a" * 32, b"b" * 32) for message in good]
    for message in [*forged, good[2], b"", b"V", b"V" * 200]:
        checks.on_message(cities[0], message)
    checks.on_message(cities[3], precommits(network, cities[3:], height=height, round_=1, value=b"b" * 32)[0])


def test_a_second_vote_and_a_foreign_vote_are_found(network: Simulation) -> None:
    checks, height, city = network.checks, network.checks.height + 1, network.cities[0]
    one = precommits(network, [city], height=height, round_=0, value=b"a" * 32)[0]
    other = precommits(network, [city], height=height, round_=0, value=b"b" * 32)[0]
    checks.on_message(city, one)
    checks.on_message(city, one)
    with pytest.raises(Violation, match="two precommits") as found:
        checks.on_message(city, other)
    assert found.value.kind == "equivocation"
    with pytest.raises(Violation) as found:
        checks.on_message(network.cities[1], one)
    assert found.value.kind == "outsider"


def test_what_was_signed_is_remembered_as_long_as_somebody_could_sign_for_it_again(network: Simulation) -> None:
    stopped = network.cities[0]
    height = network.height(stopped) + 1
    network.crash(stopped)
    network.run_for(3_000)
    network.check()
    assert network.checks.height > height + 3
    assert min(network.checks._signed) <= height
    network.restart(stopped)
    network.settle()
    network.run_for(1_000)
    network.check()
    assert len(network.checks._signed) < 10


def commit_again(simulation: Simulation, **changes: object) -> None:
    ledger, record = simulation.ledger(simulation.cities[0]), simulation.record(simulation.cities[0], 3)
    below = simulation.checks._values[3]
    values: dict[str, object] = {
        "value": below[0], "state_root": below[1], "next_committee": ledger.validators,
        "certificate": record.certificate, "header": record.header,
    }  # fmt: skip
    simulation.checks.on_commit("130100", 3, **(values | changes))  # type: ignore[arg-type]


def test_a_commit_that_differs_is_found(network: Simulation) -> None:
    commit_again(network)
    other = network.record(network.cities[0], 2)
    for changes, kind in (
        ({"state_root": b"x" * 32}, "root"),
        ({"certificate": other.certificate}, "certificate"),
        ({"next_committee": []}, "committee"),
        ({"value": b"x" * 32}, "certificate"),
    ):
        with pytest.raises(Violation) as found:
            commit_again(network, **changes)
        assert found.value.kind == kind, changes


def test_a_block_that_no_honest_disk_holds_is_found(network: Simulation) -> None:
    ids = network.admit_organisation(network.cities[0], "A7K2", name="Water works")
    network.run_until(lambda: network.is_committed(ids), limit_ms=2_000)
    network.check()
    for city in network.honest:
        network._nodes[city].disk.batches.clear()
    network.check()  # it was held when it was looked at: only the full check at the end looks again
    with pytest.raises(Violation, match="no disk holds it") as found:
        network.checks.check_held([network._nodes[city].disk for city in network.honest], again=True)
    assert found.value.kind == "unheld"


def test_an_acknowledged_transaction_that_nobody_has_is_found(network: Simulation) -> None:
    city = network.cities[0]
    id_, _ = network.build(city, [operations.allocate_range(city, None, class_code=CLASS)])
    network.settle()
    network.acknowledged.add(id_)  # nobody ever sent it
    with pytest.raises(Violation, match="does not recover"):
        network.settle(limit_ms=5_000)
    with pytest.raises(Violation, match="in no block") as found:
        network.clients.check_kept([network.ledger(city)])
    assert found.value.kind == "lost"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Claims(serials=((("130100", CLASS), 7),)), Claims(serials=((("130100", CLASS), 7),))),
        (Claims(ranges=((0, ("130100", CLASS)),)), Claims(ranges=((0, ("130100", CLASS)),))),
    ],
    ids=["serial", "range"],
)
def test_what_is_issued_twice_is_found(first: Claims, second: Claims) -> None:
    clients = Clients(bytes(32))
    clients._issue(first, [{"base": 1_000, "size": 1_000}])
    clients._issue(Claims(serials=((("320500", CLASS), 7),)), [None])  # another city's
    with pytest.raises(Violation) as found:
        clients._issue(second, [{"base": 1_500, "size": 1_000}])
    assert found.value.kind == "issued twice"


def test_the_network_issues_a_serial_once_although_two_ask(network: Simulation) -> None:
    city = network.cities[0]
    opening = [
        operations.register_category(city, None, use=USE, class_code=CLASS, model=MODEL, name="Lamp"),
        operations.allocate_range(city, None, class_code=CLASS),
    ]
    network.submit(city, opening)
    network.run_for(500)
    item = operations.register_items(city, None, use=USE, class_code=CLASS, model=MODEL, items=[Item(7, {})])
    for other in network.cities[:2]:
        network.submit(other, [item], signers=[network.signer(city)])
    network.run_for(500)
    assert network.clients._issued[city, CLASS].serials == {7}


def opened(simulation: Simulation) -> Writer:
    writer = Writer(simulation, Random(1))
    for _ in range(20):
        writer.write(2)
        simulation.run_for(200)
    assert len(writer.registered) > 5
    return writer


def test_readers_accept_what_honest_cities_answer(network: Simulation) -> None:
    writer, reader = opened(network), Reader(network, Random(1))
    for _ in range(100):
        reader.read(writer.registered)
    assert (reader.reads, reader.refused) == (100, 0)
    assert reader.height > 0


def test_an_answer_that_does_not_verify_or_is_not_true_is_found(network: Simulation) -> None:
    writer, reader = opened(network), Reader(network, Random(1))
    city = network.cities[0]
    code = next(iter(writer.registered))
    answer = network.answer(code, at=city).to_bytes()
    reader.check(city, code, answer, writer.registered)
    spoiled = bytearray(answer)
    spoiled[len(spoiled) // 2] ^= 1
    with pytest.raises(Violation, match="INVALID") as found:
        reader.check(city, code, bytes(spoiled), writer.registered)
    assert found.value.kind == "answer"
    with pytest.raises(Violation, match="registered since None"):
        Reader(network, Random(1)).check(city, code, answer, {})
    absent = f"MA.156.{city}.NONE"
    answer = network.answer(absent, at=city).to_bytes()
    with pytest.raises(Violation, match="NOT_REGISTERED, registered since 1"):
        reader.check(city, absent, answer, {absent: 1})


def behind(simulation: Simulation) -> str:
    """A city that is cut off while the others go on."""
    stale, *others = simulation.cities
    simulation.partition([stale], others)
    simulation.run_for(2_000)
    assert simulation.ledger(stale).height < simulation.checks.height
    return stale


def test_a_reader_refuses_an_answer_older_than_what_it_saw(network: Simulation) -> None:
    writer, reader = opened(network), Reader(network, Random(1))
    code = next(iter(writer.registered))
    stale = behind(network)
    fresh = network.cities[1]
    reader.check(fresh, code, network.answer(code, at=fresh).to_bytes(), writer.registered)
    seen = reader.height
    reader.check(stale, code, network.answer(code, at=stale).to_bytes(), writer.registered)
    assert (reader.refused, reader.height) == (1, seen)


def test_control_a_reader_that_remembers_nothing_goes_back(network: Simulation) -> None:
    writer, reader = opened(network), Reader(network, Random(1), remembers=False)
    code = next(iter(writer.registered))
    stale = behind(network)
    fresh = network.cities[1]
    reader.check(fresh, code, network.answer(code, at=fresh).to_bytes(), writer.registered)
    with pytest.raises(Violation, match="a client saw height") as found:
        reader.check(stale, code, network.answer(code, at=stale).to_bytes(), writer.registered)
    assert found.value.kind == "stale read"


def test_a_reader_follows_a_committee_that_changes(network: Simulation) -> None:
    writer, reader = opened(network), Reader(network, Random(1))
    reader.read(writer.registered)
    city = network.cities[0]
    network.renew(city, "consensus")
    enact(network, replace_keys(network, city, ["consensus"]))
    network.run_for(1_000)
    for _ in range(20):
        reader.read(writer.registered)
    assert reader.refused == 0


def test_a_network_that_does_not_recover_is_found(network: Simulation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "end_faults", lambda: None)
    network.partition(network.cities[:2], network.cities[2:])
    with pytest.raises(Violation, match="does not recover") as found:
        network.settle(limit_ms=20_000)
    assert found.value.kind == "stuck"
