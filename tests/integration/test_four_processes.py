"""Four real nodes: processes, sockets, RocksDB, a load, kill -9. One network for all tests, which follow one another.

A transaction counts as acknowledged when a node answered 202. What is checked after each kill is the promise behind
that: it ends committed, at every node, and there is one chain.
"""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING

import httpx
import pytest

from cityid._native import verify
from cityid.client import SyncClient
from cityid.errors import MalformedInput

if TYPE_CHECKING:
    from tests.integration.conftest import LiveNetwork

pytestmark = pytest.mark.processes

COMPARED_HEIGHTS = 40


def assert_one_chain(network: "LiveNetwork") -> None:
    """All nodes stand at one tip, and hold the same blocks below it."""
    network.wait_same_tip()
    tip = min(network.height(city) for city in network.cities)
    heights = {1 + (tip - 1) * step // COMPARED_HEIGHTS for step in range(COMPARED_HEIGHTS)} | {tip}
    for height in sorted(heights):
        blocks = [network.clients[city].get(f"/v1/blocks/{height}").json() for city in network.cities]
        assert len({(block["header_bytes"], tuple(block["batches"])) for block in blocks}) == 1, height


# ---------------------------------------------------------------- the normal life


def test_what_one_city_takes_every_city_proves(live_network: "LiveNetwork") -> None:
    network = live_network
    code = network.assert_serves(network.cities[0])
    network.wait_same_tip()
    for city in network.cities:
        with SyncClient([network.local.urls[city]], network.trust) as client:
            assert client.resolve(code).verdict.verdict == "REGISTERED"


def test_a_checkpoint_and_a_newer_trust_are_handed_out(live_network: "LiveNetwork") -> None:
    network, city = live_network, live_network.cities[1]
    with SyncClient([network.local.urls[city]], network.trust) as client:
        assert client.update_trust().height >= network.height(city) - 1
    origin, size, _, *rest = network.clients[city].get("/checkpoint").text.splitlines()
    assert network.genesis.hash.hex() in origin
    assert int(size) > 1
    assert len([line for line in rest if line.startswith("— ")]) == 3


def test_an_answer_is_verified_without_any_node(live_network: "LiveNetwork") -> None:
    network, city = live_network, live_network.cities[2]
    code = network.assert_serves(city)
    with SyncClient([network.local.urls[city]], network.trust) as client:
        data = client.resolve(code).answer.to_bytes()
    assert verify(data, network.trust, code=code).verdict == "REGISTERED"
    spoiled = bytearray(data)
    spoiled[len(data) // 2] ^= 1
    with suppress(MalformedInput):  # it may not even parse
        assert verify(bytes(spoiled), network.trust, code=code).verdict == "INVALID"


def test_a_stop_is_quick_and_leaves_a_good_store(live_network: "LiveNetwork") -> None:
    network, city = live_network, live_network.cities[3]
    began = time.monotonic()
    assert network.stop(city) == 0
    assert time.monotonic() - began < 6
    network.start(city)
    network.wait_ready(city)
    network.wait_same_tip()


# ---------------------------------------------------------------- kill -9


def test_three_go_on_without_the_fourth_and_it_comes_back(live_network: "LiveNetwork") -> None:
    network = live_network
    killed, *others = network.cities
    with network.load() as load:
        load.wait_for_more(50)
        network.kill(killed)
        before = max(network.height(city) for city in others)
        load.wait_for_more(100)
        network.wait_height(before + 5, *others)
        network.start(killed)
        network.wait_ready(killed)
        network.wait_height(before + 5, killed)
    network.assert_kept(load)
    assert_one_chain(network)
    network.assert_serves(killed)


def test_all_four_are_killed_at_once(live_network: "LiveNetwork") -> None:
    network = live_network
    with network.load() as load:
        load.wait_for_more(100)
        network.kill(*network.cities)
    network.start(*network.cities)
    network.wait_ready()
    network.assert_kept(load)
    assert_one_chain(network)
    for city in network.cities:
        network.assert_serves(city)


def test_one_after_the_other_is_killed_at_random_moments(live_network: "LiveNetwork") -> None:
    network, random = live_network, Random(7)
    with network.load() as load:
        for _ in range(5):
            city = random.choice(network.cities)
            load.wait_for_more(random.randint(1, 60))
            network.kill(city)
            load.wait_for_more(random.randint(1, 60))
            network.start(city)
            network.wait_ready(city)
    network.assert_kept(load)
    assert_one_chain(network)


def test_the_last_one_standing_promises_nothing_and_denies_nothing(live_network: "LiveNetwork") -> None:
    """The control: alone there is no 202; after a restart alone no verdict either, until others say how far it is."""
    network = live_network
    alone, *others = network.cities
    unknown, operation = network.category(alone)
    _, data = network.sign([operation], [network.signer(alone)])
    network.kill(*others)
    with pytest.raises(httpx.ReadTimeout):
        network.clients[alone].post(
            "/v1/transactions", content=data, headers={"Content-Type": "application/cbor"}, timeout=1.0
        )
    network.kill(alone)
    network.start(alone)
    network.until(lambda: network.answers(alone), "it serves")
    assert network.clients[alone].get("/health/ready").status_code == 503
    assert network.status(alone)["synced"] is False
    reply = network.clients[alone].get("/" + unknown)
    assert (reply.status_code, json.loads(reply.text)["verdict"]) == (503, "UNKNOWN")
    network.start(*others)
    network.wait_ready()
    assert network.post(alone, data).json()["transactions"][0]["status"] == "committed"
    assert_one_chain(network)


# ---------------------------------------------------------------- a second node on one folder


def test_a_second_node_on_the_same_folder_refuses_to_start(
    live_network: "LiveNetwork", run_node: Callable[..., str]
) -> None:
    network, city = live_network, live_network.cities[0]
    said = run_node(network.directory / city / "node.toml", status=5)
    assert "Another node runs" in said
    assert "Stop the other one first" in said
    network.assert_serves(city)
