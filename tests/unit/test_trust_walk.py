"""`trust update` over changes of the committee, from a gateway that is honest, and from ones that are not.

The chain is a simulated one, its replies are those of a node's face; the plan is obeyed without a socket.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from cityid import Trust
from cityid._native import History
from cityid.client import histories, plans
from cityid.client.operations import set_committee
from cityid.client.plans import Memory
from cityid.client.replies import CBOR, JSON, Ask, Lost, Pause, Reply
from cityid.errors import CertificateInvalid, InputError, MalformedInput, PeerUnreachable
from cityid.node import face as face_module
from cityid.node.control.face import FilesFace
from cityid.node.face import Face
from cityid.node.histories import RecordSource
from cityid.testing import Simulation
from cityid.testing.governance import admit_city, enact, replace_keys

Spoil = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def network() -> Simulation:
    """A fifth city enters the committee of four, and a founder gets a new consensus key: two changes of the set."""
    simulation = Simulation(cities=4, seed=21, parameters={"heartbeat_ms": 200})
    simulation.run_for(500)
    enact(simulation, admit_city(simulation, simulation.add_city()))
    enact(simulation, set_committee(simulation.cities))
    simulation.renew(simulation.cities[0], "consensus")
    enact(simulation, replace_keys(simulation, simulation.cities[0], ["consensus"]))
    simulation.run_for(2_000)
    return simulation


@pytest.fixture
def trust(network: Simulation) -> Trust:
    return Trust.from_json(network.genesis.to_json())


def face_of(network: Simulation, tmp_path: Path) -> Face:
    city = network.cities[1]
    return Face(
        city=city, genesis=network.genesis, ledger=network.ledger(city), driver=network.driver(city),
        blocks=cast("RecordSource", network._nodes[city].disk),  # trust needs blocks alone
        post=lambda event: None, connected=lambda: frozenset(network.cities),
        files=cast("FilesFace", None), certificates=tmp_path, addresses={},
    )  # fmt: skip


def obey(plan: Any, face: Face, *, spoil: Spoil = lambda reply: None, lost: bool = False) -> Any:
    """Runs a plan to its end against one gateway; what it asked is in `obey.asked`."""
    answer: Reply | Lost | None = None
    asked: list[str] = []
    while True:
        try:
            step = plan.send(answer)
        except StopIteration as done:
            return done.value, asked
        if isinstance(step, Pause):
            answer = None
            continue
        assert isinstance(step, Ask)
        asked.append(step.path)
        if lost:
            answer = Lost("nobody is there")
        elif step.path.startswith("/v1/trust"):
            found = json.loads(json.dumps(face.trust_path(int(step.path.partition("=")[2]))))
            spoil(found)
            answer = Reply(200, JSON, json.dumps(found).encode())
        elif "/history?" in step.path:
            code = step.path.removeprefix("/v1/codes/").partition("/history?")[0]
            answer = Reply(200, CBOR, History(face.ledger.answer(code), [], []).to_bytes())
        else:
            answer = Reply(200, CBOR, face.ledger.answer(step.path.removeprefix("/")).to_bytes())


def test_it_walks_every_change_to_the_tip(network: Simulation, trust: Trust, tmp_path: Path) -> None:
    face = face_of(network, tmp_path)
    assert len(network.ledger(network.cities[1]).set_changes(0)) == 2
    advanced, asked = obey(plans.update_trust(Memory(("one",), trust)), face)
    assert advanced.height == face.ledger.height
    assert advanced.validators == face.ledger.validators
    assert len(asked) == 1
    again, _ = obey(plans.update_trust(Memory(("one",), advanced)), face)
    assert again.to_json() == advanced.to_json()


def test_many_changes_come_in_parts(
    network: Simulation, trust: Trust, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(face_module, "MAX_CHANGES", 1)
    face = face_of(network, tmp_path)
    advanced, asked = obey(plans.update_trust(Memory(("one",), trust)), face)
    assert advanced.height == face.ledger.height
    assert len(asked) == 2


def test_an_answer_of_another_set_moves_trust_by_itself(network: Simulation, trust: Trust, tmp_path: Path) -> None:
    face = face_of(network, tmp_path)
    memory = Memory(("one",), trust)
    code = f"MA.156.{network.cities[0]}"
    now = network.now_ms / 1000
    resolved, asked = obey(plans.resolve(memory, code, clock=lambda: now), face)
    assert resolved.verdict.verdict == "REGISTERED"
    assert memory.trust.validators == face.ledger.validators
    assert [path for path in asked if "trust" in path] == ["/v1/trust?from=0"]
    _, asked = obey(plans.resolve(memory, code, clock=lambda: now), face)
    assert len(asked) == 1  # the next answer needs no walk


def test_a_history_of_another_set_moves_trust_by_itself(network: Simulation, trust: Trust, tmp_path: Path) -> None:
    face = face_of(network, tmp_path)
    code = f"MA.156.{network.cities[1]}"  # its record is that of the genesis
    now = network.now_ms / 1000
    for plan in (lambda memory: histories.history(memory, code, clock=lambda: now),
                 lambda memory: histories.resolve_at(memory, code, 1)):  # fmt: skip
        memory = Memory(("one",), trust)
        _, asked = obey(plan(memory), face)
        assert memory.trust.validators == face.ledger.validators
        assert [path for path in asked if "trust" in path] == ["/v1/trust?from=0"]
        found, asked = obey(plan(memory), face)
        assert len(asked) == 1
    assert (found.verdict, found.version) == ("REGISTERED", 1)
    # The control: a gateway that does not show the way is believed nothing.
    memory = Memory(("one",), trust)
    traced, _ = obey(histories.history(memory, code, clock=lambda: now), face, spoil=leave_out_the_changes)
    assert (traced.told.verdict.verdict, traced.told.versions) == ("UNKNOWN", [])
    assert memory.trust.validators == trust.validators


def leave_out_the_changes(reply: dict[str, Any]) -> None:
    reply["changes"] = []


def another_set(reply: dict[str, Any]) -> None:
    first, second = reply["changes"]
    first["next_set"] = second["next_set"]


def another_certificate(reply: dict[str, Any]) -> None:
    first, second = reply["changes"]
    first["certificate"] = second["certificate"]


def flipped_signature(reply: dict[str, Any]) -> None:
    row = reply["changes"][0]
    row["certificate"] = row["certificate"][:-2] + f"{int(row['certificate'][-2:], 16) ^ 1:02x}"


def flipped_path(reply: dict[str, Any]) -> None:
    row = reply["changes"][0]
    row["log_path"] = f"{int(row['log_path'][:2], 16) ^ 1:02x}" + row["log_path"][2:]


@pytest.mark.parametrize(
    "spoil", [leave_out_the_changes, another_set, another_certificate, flipped_signature, flipped_path]
)
def test_a_lying_gateway_gets_a_clear_error(network: Simulation, trust: Trust, tmp_path: Path, spoil: Spoil) -> None:
    memory = Memory(("one",), trust)
    with pytest.raises(CertificateInvalid, match=r"one does not prove its way from height 0: .*Next: ask another"):
        obey(plans.update_trust(memory), face_of(network, tmp_path), spoil=spoil)
    assert memory.trust.to_json() == trust.to_json()


def endless(reply: dict[str, Any]) -> None:
    reply["changes"], reply["newest"], reply["more"] = [], None, True


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (endless, "shows none"),
        (lambda reply: reply.update(changes=reply["changes"] * 200), "400 changes are more than"),
        (lambda reply: reply.update(changes=[{}]), "something else"),
        (lambda reply: reply.update(changes="no"), "something else"),
        (lambda reply: reply["newest"].update(header="zz"), "something else"),
        (lambda reply: reply["newest"].update(header="00"), "something else"),
    ],
)
def test_a_reply_that_is_none_is_refused(
    network: Simulation, trust: Trust, tmp_path: Path, spoil: Spoil, says: str
) -> None:
    with pytest.raises(MalformedInput, match=says):
        obey(plans.update_trust(Memory(("one",), trust)), face_of(network, tmp_path), spoil=spoil)


def test_a_walk_that_never_ends_is_ended(
    network: Simulation, trust: Trust, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "TRUST_REPLIES", 1)
    monkeypatch.setattr(face_module, "MAX_CHANGES", 1)
    with pytest.raises(MalformedInput, match="more than 1 replies full of changes"):
        obey(plans.update_trust(Memory(("one",), trust)), face_of(network, tmp_path))


def test_a_second_gateway_is_asked_when_the_first_lies(network: Simulation, trust: Trust, tmp_path: Path) -> None:
    turn: list[int] = []

    def first_lies(reply: dict[str, Any]) -> None:
        turn.append(1)
        if len(turn) == 1:
            another_set(reply)

    memory = Memory(("one", "two"), trust)
    advanced, _ = obey(plans.update_trust(memory), face_of(network, tmp_path), spoil=first_lies)
    assert advanced.validators == network.ledger(network.cities[1]).validators
    assert memory.preferred == 1


def test_nobody_answers(network: Simulation, trust: Trust, tmp_path: Path) -> None:
    with pytest.raises(PeerUnreachable, match="nobody is there"):
        obey(plans.update_trust(Memory(("one",), trust)), face_of(network, tmp_path), lost=True)


def test_a_height_that_is_not_decided_is_an_input_error(network: Simulation, tmp_path: Path) -> None:
    face = face_of(network, tmp_path)
    with pytest.raises(InputError, match="ask another city"):
        face.trust_path(face.ledger.height + 1)
