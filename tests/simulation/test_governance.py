"""Committees, keys, members and limits that change while the network runs, under load, crashes and partitions.

`Checks` watches every message and every commit: only a height's committee signs for it, with the keys that the chain
names, and its certificate counts under that committee.
"""

from collections.abc import Callable
from random import Random

import pytest

from cityid._native import NEWEST_PROTOCOL, Trust, header_json, verify, verify_certificate
from cityid.client.operations import Change, remove_city, schedule_protocol, set_committee, set_parameters
from cityid.errors import CertificateInvalid
from cityid.node import messages
from cityid.testing import Simulation, Violation
from cityid.testing.chaos import torment
from cityid.testing.governance import Campaign, admit_city, enact, replace_keys

BUSY = {"heartbeat_ms": 200}


@pytest.fixture
def five() -> Simulation:
    """Four founders and a fifth city that was admitted and follows."""
    simulation = Simulation(cities=4, seed=11, parameters=BUSY)
    simulation.run_for(1_000)
    enact(simulation, admit_city(simulation, simulation.add_city()))
    return simulation


def newcomer(simulation: Simulation) -> str:
    founders = Simulation(cities=4, seed=simulation.seed).cities
    return next(city for city in simulation.cities if city not in founders)


def is_near_tip(simulation: Simulation, city: str) -> bool:
    return simulation.height(city) >= simulation.checks.height - 1


def load(simulation: Simulation, city: str, *, seconds: int) -> list[bytes]:
    """Ten transactions a second."""
    ids = []
    for number in range(10 * seconds):
        name = f"L{simulation.now_us // 1_000 % 100_000:05}{number % 10}"
        ids += simulation.admit_organisation(city, name, name="An office")
        simulation.run_for(100)
    return ids


# ---------------------------------------------------------------- joining, following, deciding


def test_a_city_that_nobody_admitted_reaches_nobody() -> None:
    simulation = Simulation(cities=4, seed=11, parameters=BUSY)
    stranger = simulation.add_city()
    simulation.run_for(3_000)
    assert simulation.height(stranger) == 0
    assert simulation.checks.height > 5
    assert not any(simulation.is_linked(stranger, city) for city in simulation.cities if city != stranger)


def test_an_admitted_city_follows_and_signs_nothing(five: Simulation) -> None:
    fifth = newcomer(five)
    five.run_until(lambda: is_near_tip(five, fifth), limit_ms=10_000)
    roles = five.driver(fifth).roles
    assert (roles.votes, roles.why) == (False, "not_in_committee")
    five.run_for(2_000)
    assert is_near_tip(five, fifth)
    assert five.driver(fifth).engine.stats()["signed"] == 0
    assert fifth not in five.checks.committee(five.height(fifth))
    assert five.driver(fifth).checkpoints.height >= five.height(fifth) - 1  # it collects what the others cosigned


def test_a_follower_takes_transactions_and_serves_answers(five: Simulation) -> None:
    fifth = newcomer(five)
    five.run_until(lambda: is_near_tip(five, fifth), limit_ms=10_000)
    ids = five.admit_organisation(fifth, "A7K2", name="Water works")
    five.run_until(lambda: five.is_committed(ids), limit_ms=5_000)
    assert set(ids) <= five.acknowledged
    assert five.resolve(f"MA.156.{fifth}.A7K2", at=fifth)["verdict"] == "REGISTERED"
    trust = Trust.from_json(five.genesis.to_json())
    answer = five.answer(f"MA.156.{fifth}.A7K2", at=fifth).to_bytes()
    assert verify(answer, trust, now=five.now_ms / 1000).verdict == "REGISTERED"


def test_what_only_followers_hold_is_not_safe(five: Simulation) -> None:
    """Cut off with one founder, a follower's client is not acknowledged: one of the committee is not f + 1."""
    fifth = newcomer(five)
    five.run_until(lambda: is_near_tip(five, fifth), limit_ms=10_000)
    founder, *others = [city for city in five.cities if city != fifth]
    five.partition([fifth, founder], others)
    ids = five.admit_organisation(fifth, "A7K2", name="Water works")
    five.run_for(5_000)
    assert not set(ids) & five.acknowledged
    five.heal()
    five.run_until(lambda: set(ids) <= five.acknowledged, limit_ms=10_000)
    five.settle()


def test_followers_are_no_part_of_the_quorum(five: Simulation) -> None:
    """Two of four founders and the follower are three of five, and decide nothing."""
    fifth = newcomer(five)
    five.run_until(lambda: is_near_tip(five, fifth), limit_ms=10_000)
    for city in [city for city in five.cities if city != fifth][:2]:
        five.crash(city)
    five.run_for(500)
    stopped = five.checks.height
    five.run_for(5_000)
    assert five.checks.height == stopped
    five.settle()


def test_a_city_enters_the_committee_and_leaves_it_under_load(five: Simulation) -> None:
    fifth = newcomer(five)
    leaver = next(city for city in five.cities if city != fifth)
    stay = next(city for city in five.cities if city not in (fifth, leaver))
    ids = load(five, stay, seconds=1)
    entered = enact(five, set_committee(five.cities))
    assert fifth not in five.checks.committee(entered)  # the block that says so is still decided without it
    assert fifth in five.checks.committee(entered + 1)
    ids += load(five, stay, seconds=2)
    assert five.driver(fifth).roles.votes
    left = enact(five, set_committee([city for city in five.cities if city != leaver]))
    ids += load(five, stay, seconds=2)
    assert five.checks.committee(left + 1) == sorted(city for city in five.cities if city != leaver)
    assert not five.driver(leaver).roles.votes
    signed = five.driver(leaver).engine.stats()["signed"]
    five.run_for(2_000)
    assert five.driver(leaver).engine.stats()["signed"] == signed == 0  # an engine of its own, that follows
    assert is_near_tip(five, leaver)
    five.run_until(lambda: five.is_committed(ids), limit_ms=10_000)
    five.settle()


def test_five_cities_decide_where_four_would_stop(five: Simulation) -> None:
    enact(five, set_committee(five.cities))
    five.run_for(1_000)
    five.crash(five.cities[0])
    before = five.checks.height
    five.run_for(10_000)
    assert five.checks.height > before + 5
    five.settle()


def test_a_removed_city_is_alone_and_the_others_go_on(five: Simulation) -> None:
    fifth = newcomer(five)
    removed = enact(five, remove_city(fifth))
    five.run_for(2_000)
    assert fifth not in five.members()
    assert five.height(fifth) <= removed + 1
    assert five.checks.height > removed + 3
    assert "city_removed" in [log.event for log in five.logs(fifth)]
    five.settle()


def test_a_city_far_behind_walks_through_every_committee(five: Simulation) -> None:
    """Away while the whole committee was replaced, it believes each set by the certificates of the one before."""
    away, *founders = [city for city in five.cities if city != newcomer(five)]
    others = [newcomer(five)]
    five.crash(away)
    for _ in range(3):
        others.append(five.add_city())
        enact(five, admit_city(five, others[-1]))
    enact(five, set_committee(others))
    load(five, others[0], seconds=1)
    enact(five, remove_city(founders[0]))
    five.run_for(3_000)
    assert five.checks.committee(five.checks.height) == sorted(others)
    five.restart(away)
    five.run_until(lambda: is_near_tip(five, away), limit_ms=20_000)
    assert not five.driver(away).roles.votes
    five.settle()


# ---------------------------------------------------------------- keys


def test_a_replaced_consensus_key_counts_at_the_next_height(five: Simulation) -> None:
    city = five.cities[1]
    old = dict(five.ledger(city).validators)[city]
    new = five.renew(city, "consensus").public_key
    height = enact(five, replace_keys(five, city, ["consensus"]))
    assert dict(five.ledger(city).validators_at(height))[city] == old
    assert dict(five.ledger(city).validators_at(height + 1))[city] == new
    five.run_for(2_000)
    assert five.driver(city).roles.votes
    assert five.driver(city).engine.stats()["signed"] > 0
    five.settle()


def test_a_city_without_its_new_keys_follows_until_they_are_there(five: Simulation) -> None:
    city = five.cities[1]
    for purpose in ("consensus", "checkpoint"):
        five.renew(city, purpose, at_once=False)
    enact(five, replace_keys(five, city, ["consensus", "checkpoint"]))
    five.run_for(2_000)
    roles = five.driver(city).roles
    assert (roles.votes, roles.why) == (False, "key_missing")
    missing = {log.fields["purpose"] for log in five.logs(city) if log.event == "key_missing"}
    assert missing == {"checkpoint", "consensus"}
    assert is_near_tip(five, city)
    for purpose in ("consensus", "checkpoint"):
        five.hand_over(city, purpose)
    five.run_until(lambda: roles.votes and not roles.lacks_keys, limit_ms=5_000)
    five.settle()


def test_a_restart_in_the_height_of_a_new_key_votes_once(five: Simulation) -> None:
    """Crashes at every moment around the change of a key: `Checks` would see two votes, or one with a wrong key."""
    city = five.cities[2]
    for effects in range(0, 60, 6):
        five.renew(city, "consensus")
        campaign = Campaign(five, replace_keys(five, city, ["consensus"]))
        while not campaign.step():
            five.run_for(50)
        five.crash(city, after_effects=effects)
        five.run_for(300)
        five.restart(city)
        five.run_for(300)
    five.settle()


def test_the_certificate_of_a_retired_set_is_refused() -> None:
    simulation = Simulation(cities=4, seed=4, parameters=BUSY)
    founders = list(simulation.cities)
    successors = [simulation.add_city() for _ in range(4)]
    for city in successors:
        enact(simulation, admit_city(simulation, city))
    enact(simulation, set_committee(successors))
    simulation.run_for(1_000)
    victim, liar = founders[0], successors[0]
    simulation.crash(victim)
    simulation.run_for(2_000)
    height = simulation.height(victim) + 1
    keys = [key for _, key in simulation.ledger(liar).validators_at(1)]
    forged: list[bytes] = []
    deliver = simulation._deliver

    def signed_by_founders(block: messages.Block) -> bytes:
        ledger = simulation.ledger(liar)
        value = verify_certificate(simulation.genesis.hash, [key for _, key in ledger.validators_at(block.height)],
                                   block.certificate)[2]  # fmt: skip
        place = block.height.to_bytes(8, "big") + bytes(4)
        message = b"cityid/1/V" + simulation.genesis.hash + place + b"\xff" * 4 + value  # P35
        signatures = b"".join(simulation.signer(city, "consensus").sign(message) for city in founders[:3])
        return place + value + (4).to_bytes(2, "big") + b"\xe0" + signatures

    def delivering(sender: str, receiver: str, kind: int, payload: bytes) -> None:
        if kind == messages.BLOCK and receiver == victim:
            block = messages.decode_block(payload)
            forged.append(signed_by_founders(block))
            block = messages.Block(block.height, block.header, forged[-1], block.digests, block.bodies)
            payload = messages.encode_block(block)
        deliver(sender, receiver, kind, payload)

    simulation._deliver = delivering  # type: ignore[method-assign]
    simulation.restart(victim)
    simulation.run_for(3_000)
    assert forged
    assert simulation.height(victim) == height - 1
    assert "peer_left_aside" in [log.event for log in simulation.logs(victim)]
    # The control: those signatures are good, under the set that is retired.
    assert verify_certificate(simulation.genesis.hash, keys, forged[0])[3] == 3
    with pytest.raises(CertificateInvalid):
        verify_certificate(simulation.genesis.hash, [key for _, key in simulation.ledger(liar).validators], forged[0])
    simulation._deliver = deliver  # type: ignore[method-assign]
    simulation.settle()


def test_checks_see_a_city_that_signs_outside_its_committee(five: Simulation) -> None:
    """The control of the checks: a message that a follower lets out is a violation."""
    seen: list[bytes] = []
    on_message = five.checks.on_message

    def watching(city: str, message: bytes) -> None:
        seen.append(message)
        on_message(city, message)

    five.checks.on_message = watching  # type: ignore[method-assign]
    five.run_for(1_000)
    five.checks.on_message = on_message  # type: ignore[method-assign]
    vote = next(message for message in seen if message[:1] in b"vV")
    with pytest.raises(Violation, match="not in its committee"):
        five.checks.on_message(newcomer(five), vote)


# ---------------------------------------------------------------- limits and protocol


def test_the_heartbeat_changes_for_everybody(five: Simulation) -> None:
    enact(five, set_parameters({"heartbeat_ms": 2_000}))
    five.run_for(2_000)
    before = five.checks.height
    five.run_for(10_000)
    assert 4 <= five.checks.height - before <= 6
    enact(five, set_parameters({"heartbeat_ms": 200}))
    five.run_for(2_000)
    before = five.checks.height
    five.run_for(10_000)
    assert five.checks.height - before > 40


def test_narrower_limits_let_go_of_what_waits(five: Simulation) -> None:
    """Batches that were sealed under the wide limits are sealed anew; what was acknowledged is committed."""
    city, *others = [code for code in five.cities if code != newcomer(five)]
    ids = []
    for number in range(30):
        ids += five.admit_organisation(city, f"N{number:04}", name="x" * 60)
    enact(five, set_parameters({"max_batch_transactions": 4, "max_block_batches": 3}))
    ids += load(five, others[0], seconds=2)
    five.run_until(lambda: five.is_committed(ids), limit_ms=20_000)
    assert not five.halted()
    five.settle()


def test_a_scheduled_protocol_is_said_and_then_holds(five: Simulation) -> None:
    height = five.checks.height + 20
    enact(five, schedule_protocol(2, height=height))
    city = five.cities[0]
    [told] = [log.fields for log in five.logs(city) if log.event == "protocol_scheduled"]
    assert told == {"version": 2, "height": height, "known": True}
    five.run_until(lambda: five.checks.height > height + 2, limit_ms=20_000)
    record = five._nodes[city].disk.heights[height - 1]
    assert '"version":2' in header_json(record.header).replace(" ", "")
    assert not five.halted()
    five.settle()


def test_software_that_does_not_know_a_protocol_halts_at_its_height_and_returns_with_newer_one(
    five: Simulation,
) -> None:
    old = five.cities[0]
    five.set_software(old, newest_protocol=1)
    five.restart(old)
    five.run_for(1_000)
    height = five.checks.height + 25
    enact(five, schedule_protocol(2, height=height))
    five.run_for(500)
    [told] = [log for log in five.logs(old) if log.event == "protocol_scheduled"]
    assert (told.level, told.fields["known"]) == ("warning", False)
    five.run_until(lambda: five.checks.height > height + 5, limit_ms=20_000)
    assert five.height(old) == height - 1
    assert "Install a version that knows it" in five.halted()[old]
    assert list(five.halted()) == [old]
    five.restart(old)  # the same software again: it says so at once
    assert old in five.halted()
    five.set_software(old, newest_protocol=NEWEST_PROTOCOL)
    five.restart(old)
    five.run_until(lambda: is_near_tip(five, old), limit_ms=20_000)
    five.settle()


# ---------------------------------------------------------------- everything at once


class Government:
    """Random changes, one after the other, from a seed."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.random = Random(f"government {simulation.seed}")
        self.enacted: list[str] = []
        self.refused: list[str] = []
        self._campaign: Campaign | None = None
        self._change: Change = {}
        self._later: list[Callable[[], None]] = []

    def step(self) -> None:
        if self._campaign is None:
            self._change = self._next()
            self._campaign = Campaign(self.simulation, self._change)
        try:
            done = self._campaign.step()
        except ValueError:
            self.refused.append(self._change["change"])
            self._campaign = None
            return
        if done:
            self.enacted.append(self._change["change"])
            self._campaign = None

    def hand_over(self) -> None:
        """Every new key reaches its folder; a height that waits for one began without it, so its city starts again."""
        for later in self._later:
            later()
        simulation = self.simulation
        for city in [city for city in simulation.cities if simulation.is_up(city)]:
            if simulation.driver(city).roles.lacks_keys:
                simulation.restart(city)

    def _next(self) -> Change:
        simulation, random = self.simulation, self.random
        members = sorted(simulation.members())
        newest = max((city for city in members if simulation.is_up(city)), key=simulation.height, default=members[0])
        committee = [city for city, _ in simulation.ledger(newest).validators] if simulation.is_up(newest) else members
        outside = [city for city in members if city not in committee]
        match random.choice(("admit", "committee", "committee", "keys", "keys", "parameters", "remove")):
            case "admit" if len(members) < 7:
                return admit_city(simulation, simulation.add_city())
            case "committee" if len(members) > 4:
                return set_committee(random.sample(members, random.randint(4, len(members))))
            case "keys":
                city, purpose = random.choice(members), random.choice(("consensus", "checkpoint"))
                at_once = random.random() < 0.7
                simulation.renew(city, purpose, at_once=at_once)
                self._later.append(lambda: simulation.hand_over(city, purpose))
                return replace_keys(simulation, city, [purpose])
            case "remove" if outside and len(members) > 5:
                return remove_city(random.choice(outside))
            case _:
                return set_parameters({"heartbeat_ms": random.randint(150, 900)})


@pytest.mark.parametrize("seed", range(6))
def test_governance_under_crashes_partitions_and_load(seed: int) -> None:
    simulation = Simulation(cities=4, seed=seed, parameters=BUSY)
    simulation.run_for(1_000)
    government = Government(simulation)
    torment(simulation, duration_ms=80_000, whole_network=seed % 2 == 0, also=government.step)
    government.hand_over()
    simulation.settle(limit_ms=240_000)
    wanted = len(government.enacted) + 2
    for _ in range(240):  # it can still be governed, whatever became of the committee
        simulation.run_for(250)
        government.step()
        if len(government.enacted) >= wanted:
            break
    assert len(government.enacted) >= wanted, (government.enacted, government.refused)
    government.hand_over()
    simulation.settle(limit_ms=240_000)
    assert not simulation.halted()


def test_the_same_seed_gives_the_same_history_of_committees() -> None:
    traces = []
    for _ in range(2):
        simulation = Simulation(cities=4, seed=3, parameters=BUSY)
        torment(simulation, duration_ms=10_000, also=Government(simulation).step)
        traces.append(simulation.trace)
    assert traces[0] == traces[1]
