"""Four real processes under load, and SIGKILL: nothing acknowledged is lost, and there is one chain.

A transaction counts as acknowledged when a node answered 202. What is checked at the end of each test is the promise
behind that: it ends committed, at every node.
"""

from random import Random
from typing import TYPE_CHECKING

import pytest

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
    assert network.assert_serves(killed)


def test_all_four_are_killed_at_once(live_network: "LiveNetwork") -> None:
    network = live_network
    with network.load() as load:
        load.wait_for_more(100)
        network.kill(*network.cities)
    network.start(*network.cities)
    network.wait_ready()
    network.assert_kept(load)
    assert_one_chain(network)
    network.wait_height(network.height(network.cities[0]) + 2)
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


def test_the_last_one_standing_promises_nothing(live_network: "LiveNetwork") -> None:
    """The control: without f + 1 nodes there is no 202; what was sent is committed later, or never was promised."""
    network = live_network
    alone, *others = network.cities
    network.kill(*others)
    _, operation = network.category(alone)
    _, data = network.sign([operation], [network.signer(alone)])
    with pytest.raises(Exception, match="timed out"):
        network.clients[alone].post(
            "/v1/transactions", content=data, headers={"Content-Type": "application/cbor"}, timeout=1.0
        )
    network.start(*others)
    network.wait_ready()
    assert network.post(alone, data).json()["transactions"][0]["status"] == "committed"
    assert_one_chain(network)
