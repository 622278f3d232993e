"""Nodes that come back: from their own snapshot, from the snapshot of others, without their store, without their votes.

One network of four processes whose nodes make a snapshot every few heights and prune soon. The tests follow one
another.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.conftest import LiveNetwork, running_network

pytestmark = pytest.mark.processes

EVERY = 20
KEEP = 64


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNetwork]:
    with running_network(tmp_path_factory.mktemp("recovery") / "network") as network:
        network.stop(network.cities[0])
        network.start(network.cities[0])
        for city in network.cities:
            network.stop(city)
            archive = "true" if city == network.cities[0] else "false"
            with (network.directory / city / "node.toml").open("a") as file:
                file.write(
                    f"\n[store]\narchive = {archive}\nsnapshot_heights = {EVERY}\nkeep_heights = {KEEP}\n"
                    f"snapshot_lag_heights = {10 * KEEP}\n"
                )
        network.start(*network.cities)
        network.wait_ready()
        yield network


def pass_heights(network: LiveNetwork, number: int) -> None:
    """So many heights, each with something in it."""
    city = next(iter(network.local.processes))
    goal = network.height(city) + number
    with network.load(city):
        network.until(lambda: network.height(city) >= goal, f"height {goal}")


def last(network: LiveNetwork, city: str, event: str) -> dict[str, object]:
    return network.events(city, event)[-1]


def data(network: LiveNetwork, city: str) -> Path:
    return network.directory / city / "data"


def test_a_restart_begins_with_the_newest_snapshot(network: LiveNetwork) -> None:
    city = network.cities[1]
    pass_heights(network, 3 * EVERY)
    network.until(lambda: len(network.events(city, "snapshot_made")) >= 2, "two snapshots")
    network.kill(city)
    network.start(city)
    network.wait_ready(city)
    network.wait_same_tip()
    network.assert_serves(city)


def test_a_pruned_node_says_what_it_does_not_have_and_an_archive_has_it(network: LiveNetwork) -> None:
    archive, pruned = network.cities[0], network.cities[2]
    code = network.assert_serves(pruned)
    pass_heights(network, KEEP + 3 * EVERY)
    network.until(lambda: network.clients[pruned].get("/v1/blocks/1").status_code == 503, "the first block is dropped")
    reply = network.clients[pruned].get("/v1/blocks/1")
    assert "archive node" in reply.json()["detail"]
    assert network.clients[archive].get("/v1/blocks/1").status_code == 200
    # What holds now is answered and proven by both, and so is the way of trust.
    assert network.verdicts(pruned, [code]) == network.verdicts(archive, [code]) == ["REGISTERED"]
    for city in (archive, pruned):
        assert network.clients[city].get("/v1/trust").status_code == 200
    network.kill(pruned)
    network.start(pruned)
    network.wait_ready(pruned)
    network.wait_same_tip()


def test_a_node_without_store_takes_a_snapshot_and_votes_again(network: LiveNetwork) -> None:
    city = network.cities[3]
    network.kill(city)
    for name in ("db", "snapshots"):
        shutil.rmtree(data(network, city) / name)
    (data(network, city) / "tip").unlink()
    archive = network.cities[0]
    network.stop(archive)  # nobody else has the first blocks any more
    network.start(city)
    network.wait_ready(city)
    installed = last(network, city, "snapshot_installed")
    assert int(str(installed["height"])) > KEEP
    assert network.events(city, "store_damaged")
    network.start(archive)
    network.wait_ready(archive)
    network.wait_same_tip()
    network.assert_serves(city)
    network.until(lambda: network.status(city)["role"] == "validator", "it votes again")
    # It starts again from what it fetched.
    network.kill(city)
    network.start(city)
    network.wait_ready(city)
    network.wait_same_tip()


def test_a_node_without_vote_log_stays_silent_at_one_height(network: LiveNetwork) -> None:
    city = network.cities[2]
    network.kill(city)
    (data(network, city) / "votes").unlink()
    network.start(city)
    network.wait_ready(city)
    silent_until = int(str(last(network, city, "votes_damaged")["silent_until"]))
    network.assert_serves(city)
    network.wait_height(silent_until + 1, city)
    network.until(lambda: network.status(city)["role"] == "validator", "it votes again")
    roles = [event for event in network.events(city, "role") if event["why"] == "votes_lost"]
    assert roles
    assert all(int(event["height"]) <= silent_until for event in roles)


def test_a_node_without_both_refuses(network: LiveNetwork) -> None:
    city = network.cities[1]
    network.kill(city)
    folder = data(network, city)
    kept = folder.with_name("kept")
    shutil.copytree(folder, kept)
    (folder / "votes").unlink()
    (folder / "tip").unlink()
    network.start(city)
    process = network.local.processes.pop(city)
    assert process.wait(30) == 5
    assert "new consensus key" in network.local.log_end(city)
    shutil.rmtree(folder)
    kept.rename(folder)
    network.start(city)
    network.wait_ready(city)
    network.wait_same_tip()


def test_a_damaged_snapshot_is_dropped_and_the_one_before_serves(network: LiveNetwork) -> None:
    city = network.cities[1]
    pass_heights(network, 3 * EVERY)
    network.kill(city)
    folder = data(network, city) / "snapshots"
    manifests = (folder / "latest").read_bytes()
    newest = folder / manifests[8:40].hex()
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    network.start(city)
    network.wait_ready(city)
    assert network.events(city, "snapshot_damaged")
    network.wait_same_tip()
    network.assert_serves(city)
    assert json.loads(network.clients[city].get("/v1/status").text)["halted"] is None
