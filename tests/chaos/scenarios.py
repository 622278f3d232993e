"""The scenarios: what is done to a network under load, and how long it may take to be whole again.

Each fault function does its harm, ends it, and calls `Trial.recover`, which measures; the rest is the aftermath. At
most f of the nodes are hurt at one time where the network must go on (`Trial.more` shows that it does), and more where
it must stop and lose nothing.
"""

import trio

from cityid.client import Client
from cityid.client.operations import propose, schedule_protocol, vote
from tests.chaos import shim, stores
from tests.chaos.nodes import TODAY, Equipment
from tests.chaos.trials import Scenario, Trial

LIMIT_S = 30.0
"""Of recoveries in which processes start: on a busy machine that alone takes a while."""
REJOIN_S = 5.0
"""Of recoveries in which no process starts."""
PROMISES = 50
HALT_S = 30.0


async def kill(trial: Trial) -> None:
    """One by one, one at a time, and then all at once."""
    nodes = trial.nodes
    for _ in range(3):
        city = trial.random.choice(nodes.cities)
        nodes.kill(city)
        await trial.more(PROMISES)
        nodes.start(city)
        await trial.recover(within_s=LIMIT_S)
        await trio.sleep(trial.random.uniform(0.2, 1.0))
    nodes.kill(*nodes.cities)
    nodes.start(*nodes.cities)
    await trial.recover(within_s=2 * LIMIT_S)


async def kill_once(trial: Trial) -> None:
    """Ten kills at random moments: nine of one node, one of all; each store is looked at while its node is down."""
    nodes = trial.nodes
    for number in range(10):
        hurt = nodes.cities if number == 9 else (trial.random.choice(nodes.cities),)
        await trio.sleep(trial.random.uniform(0.1, 1.5))
        nodes.kill(*hurt)
        trial.notes["kills"] = trial.notes.get("kills", 0) + 1
        for city in hurt:
            await _assert_whole(trial, city)
        nodes.start(*hurt)
        await trial.recover(within_s=2 * LIMIT_S)


async def cut_power(trial: Trial) -> None:
    """Five power cuts: one of one node, four of the whole network; each store is looked at as the cut left it."""
    nodes = trial.nodes
    for number in range(5):
        hurt = (trial.random.choice(nodes.cities),) if number == 0 else nodes.cities
        await trio.sleep(trial.random.uniform(0.1, 1.5))
        await nodes.cut_power(*hurt)
        trial.notes["cuts"] = trial.notes.get("cuts", 0) + 1
        for city in hurt:
            await _assert_whole(trial, city)
        nodes.start(*hurt)
        await trial.recover(within_s=2 * LIMIT_S)


async def lie_and_cut_power(trial: Trial) -> None:
    """The control: syncs that do nothing, and then no power. What was promised since is lost, and must be found so."""
    nodes = trial.nodes
    assert nodes.shim is not None
    for city in nodes.cities:
        nodes.shim.set_disk(city, shim.SYNC_LIES)
    await trial.more(PROMISES)
    await nodes.cut_power(*nodes.cities)
    for city in nodes.cities:
        nodes.shim.set_disk(city, shim.SOUND)
    nodes.start(*nodes.cities)
    try:
        await nodes.until_ready(seconds=LIMIT_S)
    except AssertionError as error:  # also right: nodes that know what they lost do not go on
        trial.findings.add(f"the network does not come back: {error}")


async def pause(trial: Trial) -> None:
    """A node stands still for 10 s with its connections open, as a machine that is moved does."""
    nodes = trial.nodes
    city = trial.random.choice(nodes.cities)
    await nodes.pause(city)
    nodes.parted.add(city)
    await trial.more(PROMISES)
    await trio.sleep(10.0)
    nodes.parted.clear()
    nodes.resume(city)
    await trial.recover(within_s=REJOIN_S)


async def disconnect(trial: Trial) -> None:
    """The plug of one node is out for 30 s."""
    nodes = trial.nodes
    city = trial.random.choice(nodes.cities)
    nodes.wires.unplug(city)
    nodes.parted.add(city)
    await trial.more(PROMISES)
    await trio.sleep(30.0)
    nodes.parted.clear()
    nodes.wires.plug(city)
    await trial.recover(within_s=REJOIN_S)
    nodes.assert_runs(city)


async def short_cut(trial: Trial) -> None:
    """The same for 6 s: connections live through it."""
    nodes = trial.nodes
    city = trial.random.choice(nodes.cities)
    nodes.wires.unplug(city)
    nodes.parted.add(city)
    await trio.sleep(6.0)
    nodes.parted.clear()
    nodes.wires.plug(city)
    await trial.recover(within_s=2 * REJOIN_S)


async def partition(trial: Trial) -> None:
    """Parts of which none is a quorum, or only the larger one, for 10 s: what either promised is kept."""
    nodes = trial.nodes
    half = len(nodes.cities) // 2
    nodes.wires.split(nodes.cities[:half], nodes.cities[half:])
    await trio.sleep(10.0)
    nodes.wires.mend()
    await trial.recover(within_s=4 * REJOIN_S)


async def one_way(trial: Trial) -> None:
    """One node hears the others for 10 s and is not heard; then it is heard and does not hear."""
    nodes = trial.nodes
    deaf, *others = nodes.cities
    for ways in ([(deaf, other) for other in others], [(other, deaf) for other in others]):
        nodes.wires.silence(ways)
        await trial.more(PROMISES)
        await trio.sleep(10.0)
        nodes.wires.mend()
        await trial.recover(within_s=4 * REJOIN_S)


async def loss(trial: Trial) -> None:
    """One of five packets between cities is lost, for 30 s; the network goes on."""
    trial.nodes.wires.lose(20)
    await trial.more(PROMISES)
    await trio.sleep(30.0)
    await trial.more(PROMISES)
    trial.nodes.wires.lose(0)
    await trial.recover(within_s=2 * REJOIN_S)


async def narrow(trial: Trial) -> None:
    """Each wire carries 1 Mbit/s either way, for 20 s."""
    nodes = trial.nodes
    for city in nodes.cities:
        nodes.wires.narrow(city, 1_000)
    await trial.more(PROMISES)
    await trio.sleep(20.0)
    await trial.more(PROMISES)
    for city in nodes.cities:
        nodes.wires.widen(city)
    await trial.recover(within_s=REJOIN_S)


async def wrong_clocks(trial: Trial) -> None:
    """One node's clock goes 5 s ahead, another time 5 s behind, and is set right again."""
    nodes = trial.nodes
    assert nodes.shim is not None
    for ahead_ms in (5_000, -5_000):
        city = trial.random.choice(nodes.cities)
        nodes.shim.set_clock(city, ahead_ms=ahead_ms)
        await trial.more(PROMISES)
        await trio.sleep(10.0)
        await trial.more(PROMISES)
        nodes.shim.set_clock(city, ahead_ms=0)
        await trial.recover(within_s=2 * REJOIN_S)


async def full_disk(trial: Trial) -> None:
    """One node's disk is full: it halts, says so, and returns when there is space."""
    nodes = trial.nodes
    city = trial.random.choice(nodes.cities)
    nodes.disks[city].fill()
    await _until_halted(trial, city, "No space")
    await trial.more(PROMISES)
    nodes.disks[city].free()
    await nodes.stop(city)
    nodes.start(city)
    await trial.recover(within_s=LIMIT_S)


async def failing_disk(trial: Trial) -> None:
    """Syncs of one node's disk fail, then also writes: it halts each time and returns on a sound disk."""
    nodes = trial.nodes
    assert nodes.shim is not None
    for how in (shim.SYNC_FAILS, shim.ALL_FAILS):
        city = trial.random.choice(nodes.cities)
        nodes.shim.set_disk(city, how)
        await _until_halted(trial, city, "")
        await trial.more(PROMISES)
        nodes.shim.set_disk(city, shim.SOUND)
        nodes.kill(city)
        await _assert_whole(trial, city)
        nodes.start(city)
        await trial.recover(within_s=LIMIT_S)


async def upgrade(trial: Trial) -> None:
    """Nodes of an older program are replaced one by one, a newer protocol is scheduled, and the one that was forgotten
    halts before its height, goes on answering, and returns with the newer program.
    """
    nodes = trial.nodes
    *early, forgotten = nodes.cities
    for city in early:
        await nodes.stop(city)
        nodes.programs[city] = TODAY
        nodes.start(city)
        await trial.recover(within_s=LIMIT_S)
    at = await nodes.height() + 60
    first = nodes.cities[0]
    async with Client([nodes.url(first)], nodes.trust) as client:
        receipt = await client.transact([propose(first, schedule_protocol(2, height=at))], [nodes.signer(first)])
        assert isinstance(receipt.outputs[0], int)
        for city in early[1:]:
            await client.transact([vote(city, receipt.outputs[0])], [nodes.signer(city)])
    await _until_halted(trial, forgotten, "Install a version that knows it")
    status = await nodes.status(forgotten)
    assert status is not None
    trial.notes["halted_at"] = int(status["height"])
    if int(status["height"]) != at - 1:
        trial.findings.add(f"the old program halted at {status['height']}, and the version holds from {at} on")
    await trial.more(PROMISES)  # the others go on, under the newer version
    found = await nodes.status(first)
    if found is None or found["protocol"]["version"] != 2:
        trial.findings.add(f"the network does not run the scheduled version: {found}")
    await nodes.stop(forgotten)
    nodes.programs[forgotten] = TODAY
    nodes.start(forgotten)
    await trial.recover(within_s=LIMIT_S)


async def _until_halted(trial: Trial, city: str, why: str) -> None:
    """The node says that it has halted, and why, and still serves what it knows."""
    known = next(iter(trial.load.acknowledged))
    with trio.move_on_after(HALT_S):
        while True:
            status = await trial.nodes.status(city)
            if status is not None and status["halted"] is not None:
                break
            await trio.sleep(0.05)
        if why not in status["halted"]:
            trial.findings.add(f"{city} halted because of {status['halted']}")
        reply = await trial.nodes.http.get(f"{trial.nodes.url(city)}/{known}")
        if reply.status_code not in (200, 503):
            trial.findings.add(f"{city} halted and does not answer: {reply.status_code} {reply.text[:200]}")
        return
    trial.findings.add(f"{city} did not halt within {HALT_S:g} s")


async def _assert_whole(trial: Trial, city: str) -> None:
    """The store of a node that is down has no partial block."""
    held = await trio.to_thread.run_sync(stores.inspect, trial.nodes.data(city))
    trial.findings.partial += len(held.partial)
    for what in held.partial[:3]:
        trial.findings.add(f"{city}, while it was down: {what}")
    trial.notes["stores_looked_at"] = trial.notes.get("stores_looked_at", 0) + 1


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("kill", "kill -9 of one node, three times, then of all", kill),
        Scenario("kill-7", "the same with seven nodes", kill, Equipment(cities=7)),
        Scenario("pause", "one node stopped for 10 s and continued", pause),
        Scenario("disconnect", "one node unplugged for 30 s", disconnect),
        Scenario("disconnect-7", "the same with seven nodes", disconnect, Equipment(cities=7)),
        Scenario("short-cut", "one node unplugged for 6 s", short_cut),
        Scenario("rejoin-500", "one node unplugged for 30 s under 500 transactions a second", disconnect, rate=500),
        Scenario("partition", "two halves for 10 s", partition),
        Scenario("partition-7", "three and four of seven for 10 s", partition, Equipment(cities=7)),
        Scenario("one-way", "one node not heard for 10 s, then not hearing", one_way),
        Scenario("loss", "20 % of packets lost for 30 s", loss),
        Scenario("loss-7", "the same with seven nodes", loss, Equipment(cities=7)),
        Scenario("narrow", "1 Mbit/s for each node for 20 s", narrow),
        Scenario("clock", "one clock 5 s ahead, then one 5 s behind", wrong_clocks, Equipment(shim=True)),
        Scenario("full-disk", "one disk full", full_disk),
        Scenario("failing-disk", "one disk whose syncs, then writes, end with EIO", failing_disk, Equipment(shim=True)),
        Scenario("power", "power cut of one node, four times of all", cut_power),
        Scenario("upgrade", "older programs replaced one by one, protocol 2 scheduled", upgrade, Equipment(older=True)),
        Scenario("kills", "ten kills, nine of one node and one of all (--parts 10: a hundred)", kill_once),
        Scenario(
            "lying-disk", "control: syncs that do nothing, then a power cut of all", lie_and_cut_power,
            Equipment(shim=True), breaks_promises=True,
        ),
    )
}  # fmt: skip
