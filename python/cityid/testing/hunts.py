"""Hunts in simulated networks: each plays one kind of trouble that follows from a seed, and raises `Violation`.

What is looked for, the simulation itself looks for (`checks`, `clients`, `runs`), wherever it can. A hunt adds the
trouble that random trouble rarely makes, and what only somebody who knows of that trouble can tell.
"""

import json
from copy import deepcopy
from random import Random
from typing import Final

from cityid._native import Trust, header_json
from cityid.client import operations, plans
from cityid.client.plans import Memory
from cityid.client.replies import CBOR, Lost, Pause, Reply
from cityid.node import messages
from cityid.node.batches import batch_digest
from cityid.node.ports import CancelTimer, Effect, Settings
from cityid.testing import twins
from cityid.testing.checks import Violation
from cityid.testing.cities import City
from cityid.testing.engines import LoneEngine
from cityid.testing.faults import Disk, DiskFaults, NetworkFaults
from cityid.testing.governance import admit_city, enact, replace_keys
from cityid.testing.runs import run, scenario
from cityid.testing.simulation import Simulation

BUSY: Final = {"heartbeat_ms": 100}
OFFICE: Final = "An office"


class Rig(Simulation):
    """A network with a few more handles."""

    def inject(self, sender: str, kind: int, payload: bytes) -> None:
        """Let every other city receive a frame that this one never meant to send."""
        for receiver in self.cities:
            if receiver != sender:
                self._deliver(sender, receiver, kind, payload)

    def back_up(self, city: str) -> Disk:
        """A copy of a city's disk."""
        return deepcopy(self._nodes[city].disk)

    def restore(self, city: str, copy: Disk) -> None:
        """Cut a city's power, and put an old copy of its disk in."""
        self.crash(city)
        self._nodes[city].disk = copy


def trouble(seed: int) -> None:
    """Anything fails, also everywhere at once, while clients write and read."""
    outcome = run(scenario(seed, cities=4, duration_ms=10_000, whole_network=True))
    if outcome.violation is not None:
        raise Violation(outcome.violation, kind=outcome.kind)


def liars(seed: int) -> None:
    """The same with one city that lies."""
    outcome = run(scenario(seed, cities=4, duration_ms=10_000, liars=1))
    if outcome.violation is not None:
        raise Violation(outcome.violation, kind=outcome.kind)


def twin_schedules(seed: int) -> None:
    """One schedule of `twins`: a city runs twice, and who hears whom changes from step to step."""
    outcome = twins.play(twins.scenario(seed), seed)
    if outcome.violation is not None:
        raise Violation(outcome.violation, kind=outcome.kind)


def cut_between_effects(seed: int) -> None:
    """Slow disks; the power of the first proposer fails after so many effects, and comes back a moment later."""
    simulation = Simulation(cities=4, seed=seed, disks=DiskFaults(sync_ms=(10, 40)))
    proposer, author = simulation.cities[1], simulation.cities[2]
    simulation.crash(proposer, after_effects=5 + seed % 40)
    simulation.admit_organisation(author, "A7K2", name=OFFICE)
    simulation.run_for(150)
    if not simulation.is_up(proposer):
        simulation.restart(proposer)
    simulation.settle()


def cut_after_acknowledgement(seed: int) -> None:
    """Slow disks; the power fails everywhere as soon as a client was told "accepted"."""
    simulation = Simulation(cities=4, seed=seed, disks=DiskFaults(sync_ms=(5, 40)))
    city = simulation.cities[seed % 4]
    ids = simulation.admit_organisation(city, "A7K2", name=OFFICE)
    simulation.run_until(lambda: simulation.acknowledged.issuperset(ids), limit_ms=5_000)
    for each in simulation.cities:
        simulation.crash(each)
    simulation.settle()


def author_lost(seed: int) -> None:
    """A city alone takes a transaction; if it says "accepted", the others must have it when the city is gone."""
    simulation = Simulation(cities=4, seed=seed, parameters=BUSY)
    random = Random(f"author {seed}")
    author = random.choice(simulation.cities)
    others = [city for city in simulation.cities if city != author]
    simulation.run_for(random.randint(200, 2_000))
    simulation.partition([author], others)
    ids = simulation.admit_organisation(author, "A7K2", name=OFFICE)
    simulation.run_for(1_000)
    told = simulation.acknowledged.issuperset(ids)
    simulation.crash(author)
    simulation.heal()
    simulation.run_for(5_000)
    if told and not all(simulation.is_committed(ids, at=other) for other in others):
        raise Violation(f"{author} acknowledged a transaction and is gone, and the others do not have it", kind="lost")


class LateTimers(Simulation):
    """Cancelling a timer comes too late: it fires all the same, which a host may do (`ports.CancelTimer`)."""

    def _obey(self, node: City, effect: Effect) -> None:
        if not isinstance(effect, CancelTimer):
            super()._obey(node, effect)


def late_timers(seed: int) -> None:
    """A healthy network whose cancelled timers fire makes a block a heartbeat, and no round fails."""
    # A timer of another length comes at another moment of a later height.
    settings = Settings(propose_ms=400 + 7 * seed % 100)
    simulation = LateTimers(cities=4, seed=seed, parameters=BUSY, settings=settings)
    simulation.run_for(5_000)
    failed = [log for city in simulation.cities for log in simulation.logs(city) if log.event == "round_started"]
    if failed:
        raise Violation(f"nothing failed but timers that came late, and a round did: {failed[0].fields}", kind="round")


def fast_clock(seed: int) -> None:
    """One city's clock is far ahead: no block of a time that has not come is decided (P34)."""
    settings = Settings()
    simulation = Simulation(cities=4, seed=seed, parameters=BUSY, settings=settings)
    fast = simulation.cities[seed % 4]
    simulation.set_clock(fast, ahead_ms=Random(f"clock {seed}").randint(5_000, 60_000))
    seen = 0
    for _ in range(50):
        simulation.run_for(100)
        city = max((city for city in simulation.cities if city != fast), key=simulation.height)
        fresh = range(seen + 1, simulation.height(city) + 1)
        seen = simulation.height(city)
        for height in fresh:
            time_ms = int(json.loads(header_json(simulation.record(city, height).header))["time_ms"])
            if time_ms > simulation.now_ms + settings.clock_drift_ms:
                raise Violation(f"height {height} is {time_ms - simulation.now_ms} ms ahead of its time", kind="future")


def absurd_height(seed: int) -> None:
    """One city claims again and again to be far ahead; the others go on, and take transactions."""
    simulation = Rig(cities=4, seed=seed, parameters=BUSY)
    random = Random(f"height {seed}")
    liar, city = random.sample(simulation.cities, 2)
    simulation.run_for(random.randint(100, 1_000))
    claim = messages.encode_status(messages.Status(simulation.height(city) + 10 ** random.randint(4, 12), b"v" * 32))
    ids: list[bytes] = []
    for number in range(50):
        simulation.inject(liar, messages.STATUS, claim)
        simulation.run_for(100)
        if number == 10:
            ids = simulation.admit_organisation(city, "A7K2", name=OFFICE)
    honest = [each for each in simulation.cities if each != liar]
    if simulation.refused or not all(simulation.is_committed(ids, at=each) for each in honest):
        raise Violation("one city claims an absurd height, and the others do not go on", kind="stuck")


def forged_batch(seed: int) -> None:
    """A city spreads a batch with a transaction that nobody signed; then a good one, which must be served."""
    simulation = Rig(cities=4, seed=seed, parameters=BUSY)
    liar, other, *_ = simulation.cities
    maker = Simulation(cities=4, seed=seed, parameters=BUSY)  # of the same network: a batch of its ledger is one of any
    category = operations.register_category(other, None, use="60", class_code="010203", model="1", name="Lamp")
    [forged], data = _built(maker, other, category)
    maker.ledger(other).admit(data)
    sealed = maker.ledger(other).seal(1_000, 1_000_000)
    assert sealed is not None, "it was admitted just now"
    body = bytearray(sealed[1])
    body[-1 - seed % 64] ^= 1  # in the signature, which ends it
    simulation.run_for(500)
    simulation.inject(liar, messages.BATCH, bytes(body))
    simulation.inject(liar, messages.HAVE, messages.encode_digests([batch_digest(bytes(body))]))
    simulation.run_for(2_000)
    if any(simulation.ledger(city).receipt(forged) is not None for city in simulation.cities):
        raise Violation("a transaction with a bad signature is in a block", kind="forged")
    if not any("bad_signature" in str(log.fields.get("why")) for log in simulation.logs(other)):
        raise AssertionError("the batch was refused for something else: this hunt shows nothing")
    good = simulation.admit_organisation(other, "A7K2", name=OFFICE)
    simulation.run_until(lambda: simulation.is_committed(good), limit_ms=5_000)


def _built(simulation: Simulation, city: str, operation: operations.Operation) -> tuple[list[bytes], bytes]:
    id_, data = simulation.build(city, [operation])
    return [id_], data


def sent_again(seed: int) -> None:
    """The whole network restarts: every receipt is still there, and what is sent again is not done again."""
    simulation = Simulation(cities=4, seed=seed, parameters=BUSY)
    random = Random(f"again {seed}")
    built = [
        simulation.build(city, [operations.allocate_range(city, None, class_code="010203", size=1_000)])
        for city in random.sample(simulation.cities, random.randint(1, 4))
    ]
    for id_, data in built:
        simulation.send(random.choice(simulation.cities), data, ids=[id_])
    simulation.run_until(lambda: simulation.is_committed(id_ for id_, _ in built), limit_ms=5_000)
    simulation.run_for(random.randint(0, 3_000))
    before = {id_: simulation.ledger(simulation.cities[0]).receipt(id_) for id_, _ in built}
    for city in simulation.cities:
        simulation.crash(city)
    simulation.settle()
    random.shuffle(built)  # in another order the same transactions are another batch
    data, ids = b"".join(data for _, data in built), [id_ for id_, _ in built]
    simulation.send(random.choice(simulation.cities), data + simulation.build(simulation.cities[0], _LAST)[1], ids=ids)
    simulation.run_for(3_000)
    for city in simulation.cities:
        for id_, receipt in before.items():
            if (now := simulation.ledger(city).receipt(id_)) != receipt:
                raise Violation(f"{city} has another receipt of a transaction: {receipt}, then {now}", kind="receipt")
    simulation.settle()


_LAST: Final = [operations.allocate_range("130100", None, class_code="010204", size=1_000)]


def committee_changes(seed: int) -> None:
    """A city comes in, the committee changes, a city gets a new key, under load."""
    simulation = Simulation(cities=4, seed=seed, parameters={"heartbeat_ms": 200})
    random = Random(f"committee {seed}")
    simulation.run_for(random.randint(200, 2_000))
    enact(simulation, admit_city(simulation, simulation.add_city()))
    leaver, renewed, *_ = random.sample(simulation.cities, 4)
    enact(simulation, operations.set_committee([city for city in simulation.cities if city != leaver]))
    simulation.run_for(1_000)
    simulation.renew(renewed, "consensus")
    enact(simulation, replace_keys(simulation, renewed, ["consensus"]))
    simulation.run_for(2_000)
    simulation.settle()


class Spoilers(Simulation):
    """Cities that spoil the certificate of every block that they are asked for."""

    def __init__(self, *, seed: int, position: int) -> None:
        self.told = 0
        self.spoilers: list[str] = []
        self._at = position
        super().__init__(cities=4, seed=seed, parameters=BUSY)

    def _deliver(self, sender: str, receiver: str, kind: int, payload: bytes) -> None:
        if kind == messages.BLOCK and sender in self.spoilers:
            block = messages.decode_block(payload)
            spoiled = bytearray(block.certificate)
            spoiled[-1 - self._at % 64] ^= 1  # in its last signature
            self.told += 1
            payload = messages.encode_block(
                messages.Block(block.height, block.header, bytes(spoiled), block.digests, block.bodies)
            )
        super()._deliver(sender, receiver, kind, payload)


def spoiled_certificates(seed: int) -> None:
    """A city comes back, and two of the three that it can ask send blocks with certificates that do not count."""
    simulation = Spoilers(seed=seed, position=seed)
    away, *others = simulation.cities
    simulation.spoilers = others[:2]
    simulation.crash(away)
    for number in range(3):
        simulation.admit_organisation(others[0], f"ORG{number:04}", name=OFFICE)
        simulation.run_for(1_000)
    simulation.restart(away)
    simulation.run_for(10_000)
    if not simulation.told:
        raise AssertionError("no liar was asked: this hunt shows nothing")
    simulation.settle()


def stale_gateway(seed: int) -> None:
    """A client reads at a city that is at the tip, then at one that was cut off: what is older is not current."""
    simulation = Simulation(cities=4, seed=seed, parameters=BUSY)
    random = Random(f"gateway {seed}")
    stalled, *others = random.sample(simulation.cities, 4)
    simulation.run_for(1_000)
    simulation.partition([stalled], others)
    ids = simulation.admit_organisation(others[0], "A7K2", name=OFFICE)
    simulation.run_until(lambda: simulation.is_committed(ids, at=others[1]), limit_ms=5_000)
    simulation.run_for(random.randint(0, 2_000))
    memory = Memory((others[1],), Trust.from_json(simulation.genesis.to_json()))
    code = f"MA.156.{others[0]}.A7K2"
    first = _resolved(simulation, memory, code)
    memory.gateways = (stalled,)
    second = _resolved(simulation, memory, code)
    if second.verdict.verdict != "UNKNOWN":
        why = f"a client saw height {first.verdict.height}, then {second.verdict.verdict} at {second.verdict.height}"
        raise Violation(why, kind="stale read")


def retired_committee(seed: int) -> None:
    """Cities that decide no more go on with a chain of their own: a client that knows who took over refuses it."""
    network, other = (Simulation(cities=4, seed=seed, parameters={"heartbeat_ms": 200}) for _ in range(2))
    for simulation in (network, other):  # the same history so far
        simulation.run_for(500)
    renewed = network.cities[seed % 4]
    network.renew(renewed, "consensus")
    enact(network, replace_keys(network, renewed, ["consensus"]))
    network.run_for(1_000)
    city = network.cities[0]
    trust = Trust.from_json(network.genesis.to_json())
    for height, next_set in network.ledger(city).set_changes(0):
        record = network.record(city, height)
        path = network.ledger(city).inclusion(height, height + 1)
        trust = trust.advance(record.header, path, record.certificate, next_set)
    ids = other.admit_organisation(city, "A7K2", name=OFFICE)
    other.run_until(lambda: other.height(city) > network.height(city) + 2 and other.is_committed(ids), limit_ms=60_000)
    memory = Memory((city,), trust, highest=trust.height)
    found = _resolved(other, memory, f"MA.156.{city}.A7K2")
    if found.verdict.verdict != "UNKNOWN":
        raise Violation(f"an answer of a retired committee is {found.verdict.verdict}", kind="retired")


def _resolved(simulation: Simulation, memory: Memory, code: str) -> plans.Resolved:
    """Obey the plan of a client; gateways are cities."""
    plan = plans.resolve(memory, code, clock=lambda: simulation.now_ms / 1_000)
    answer: Reply | Lost | None = None
    try:
        while True:
            wanted = plan.send(answer)
            if isinstance(wanted, Pause):
                answer = None
            elif wanted.path.startswith("/MA."):
                body = simulation.answer(code, at=memory.gateways[wanted.gateway]).to_bytes()
                answer = Reply(200, CBOR, body)
            else:
                answer = Lost("this gateway serves answers alone")
    except StopIteration as end:
        found: plans.Resolved = end.value
        return found


def restored_copy(seed: int) -> None:
    """A city is put back to an old copy of its disk in the middle of a height; it must not vote where it has voted."""
    simulation = Rig(cities=4, seed=seed, parameters=BUSY, network=NetworkFaults(latency_ms=(1, 30)))
    random = Random(f"copy {seed}")
    city = random.choice(simulation.cities)
    simulation.run_for(random.randint(500, 1_000))
    copy = simulation.back_up(city)
    simulation.run_for(random.randint(10, 400))
    simulation.restore(city, copy)
    simulation.restart(city)
    simulation.run_for(5_000)
    simulation.settle()


def forged_signatures(seed: int) -> None:
    """Votes in the name of all others, with signatures that are none: the engine must not vote on."""
    engine = LoneEngine(seed)
    value = engine.propose()
    _no_precommit(engine.receive([engine.vote(city, value, signed=False) for city in range(1, 4)]))
    _precommit(engine.receive([engine.vote(city, value) for city in range(1, 4)]))


def stuffed_certificate(seed: int) -> None:
    """A certificate that holds one validator's vote three times: the engine must not vote on."""
    engine = LoneEngine(seed)
    value = engine.propose()
    _no_precommit(engine.receive([engine.polka([1 + seed % 3] * 3, value)]))
    _precommit(engine.receive([engine.polka([1, 2, 3], value)]))


def _no_precommit(said: set[int]) -> None:
    if said & set(b"VN"):
        raise Violation("a precommit follows from votes that nobody cast", kind="forged")


def _precommit(said: set[int]) -> None:
    if not said & set(b"V"):
        raise AssertionError("a precommit does not follow from good votes either: this hunt shows nothing")
