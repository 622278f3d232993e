"""Five real nodes whose committee, keys and limits change under load; one network, and the tests follow one another.

A fifth city joins the running network with the commands of docs/operating.md, follows, decides, leaves; a founder's
consensus, checkpoint and TLS keys are replaced; the heartbeat changes. Blocks never stop for long, nothing that was
acknowledged is lost, and a trust file of the genesis walks to the tip.
"""

import itertools
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from cityid import keys
from cityid.cli.local import free_ports
from cityid.client import SyncClient, operations
from cityid.client.operations import Change

if TYPE_CHECKING:
    from tests.integration.conftest import LiveNetwork

pytestmark = pytest.mark.processes

FIFTH = "320500"
PAUSE_MS = 5_000
"""Far above a block under load, and above the timeouts of a failed round on a busy machine."""


def cityid(*arguments: object) -> str:
    """A command, as a person types it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CITYID_", "LC_", "LANG"))}
    done = subprocess.run(
        [sys.executable, "-m", "cityid", *map(str, arguments)],
        capture_output=True, text=True, timeout=60, env=kept, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return done.stdout


def members(network: "LiveNetwork") -> list[str]:
    found: list[str] = network.status(network.cities[0])["members"]
    return found


def enact(network: "LiveNetwork", change: Change) -> int:
    """Proposed by the first city, agreed to by as many others as it takes; the height at which it was enacted."""
    first = network.cities[0]
    voting = members(network)
    receipt = network.transact(first, [operations.propose(first, change)], network.signer(first))
    assert receipt["status"] == "committed", receipt
    number = int(receipt["outputs"][0]["proposal"])
    for city in [city for city in voting if city != first][: len(voting) * 2 // 3]:
        receipt = network.transact(first, [operations.vote(city, number)], network.signer(city))
        assert receipt["status"] == "committed", receipt
    return int(receipt["height"])


def committee(network: "LiveNetwork", city: str) -> list[str]:
    found: list[str] = network.status(city)["validators"]
    return found


def longest_pause_ms(network: "LiveNetwork", first: int) -> int:
    """The longest time between two blocks from a height on."""
    city = network.cities[0]
    tip = network.height(city)
    times = [
        int(network.clients[city].get(f"/v1/blocks/{height}").json()["header"]["time_ms"])
        for height in range(first, tip + 1)
    ]
    return max(later - earlier for earlier, later in itertools.pairwise(times))


@pytest.fixture(scope="module")
def network(live_network: "LiveNetwork") -> Iterator["LiveNetwork"]:
    yield live_network
    if FIFTH in live_network.clients:
        live_network.clients[FIFTH].close()


def entries(network: "LiveNetwork", city: str, made: dict[str, Path]) -> list[operations.KeyEntry]:
    return [
        operations.prove_possession(keys.load(path), network.genesis.hash, f"MA.156.{city}", purpose=purpose)
        for purpose, path in made.items()
    ]


def test_a_city_joins_the_running_network_and_follows(network: "LiveNetwork") -> None:
    directory = network.directory / FIFTH
    peers, http = (f"127.0.0.1:{port}" for port in free_ports(2))
    genesis = network.directory / "genesis.json"
    cityid("init", FIFTH, "--dir", directory, "--peers", peers, "--http", http)
    cityid("keys", "introduction", directory, "--trust", genesis, "--out", directory / "introduction.json")
    gateway = network.local.urls[network.cities[1]]
    cityid("init", FIFTH, "--dir", directory, "--join", genesis, "--at", gateway)
    network.local.urls = {**network.local.urls, FIFTH: f"http://{http}"}
    network.clients[FIFTH] = httpx.Client(base_url=network.local.urls[FIFTH], timeout=20.0, trust_env=False)
    network.start(FIFTH)
    network.until(lambda: network.answers(FIFTH), "the fifth city serves HTTP")
    assert network.status(FIFTH)["ready"] is False  # nobody lets it in yet
    with network.load() as load:
        load.wait_for_more(100)
        first = network.height(network.cities[0])
        enact(network, json.loads((directory / "introduction.json").read_text()))
        network.until(lambda: bool(network.status(FIFTH)["ready"]), "the fifth city is at the tip")
        load.wait_for_more(300)
        assert longest_pause_ms(network, first) < PAUSE_MS
    network.assert_kept(load)
    status = network.status(FIFTH)
    assert (status["role"], status["role_reason"]) == ("follower", "not_in_committee")
    assert FIFTH not in status["validators"]
    assert FIFTH in status["members"]
    network.assert_serves(FIFTH)  # it takes transactions of its own, and answers


def test_it_enters_the_committee_and_a_founder_leaves_it_under_load(network: "LiveNetwork") -> None:
    first_city, leaver = network.cities[0], network.cities[3]
    with network.load(*network.cities) as load:
        load.wait_for_more(100)
        first = network.height(first_city)
        enact(network, operations.set_committee([*network.cities, FIFTH]))
        network.until(lambda: network.status(FIFTH)["role"] == "validator", "the fifth city decides")
        load.wait_for_more(300)
        enact(network, operations.set_committee([city for city in (*network.cities, FIFTH) if city != leaver]))
        network.until(lambda: network.status(leaver)["role"] == "follower", "a founder follows")
        load.wait_for_more(300)
        assert longest_pause_ms(network, first) < PAUSE_MS
    network.assert_kept(load)
    network.wait_same_tip(*network.cities, FIFTH)
    for city in (*network.cities, FIFTH):
        assert committee(network, city) == sorted({*network.cities, FIFTH} - {leaver})
    network.assert_serves(leaver)


def test_the_new_city_restarts_as_what_it_is(network: "LiveNetwork") -> None:
    network.kill(FIFTH)
    network.assert_serves(network.cities[0])  # three of four of the committee
    network.start(FIFTH)
    network.wait_ready(FIFTH)
    assert network.status(FIFTH)["role"] == "validator"
    network.wait_same_tip(*network.cities, FIFTH)


def test_keys_of_a_city_are_replaced_while_it_runs(network: "LiveNetwork") -> None:
    """The files lie beside the old ones before the change; the node takes each up at the height that names it."""
    city = network.cities[1]
    folder = network.directory / city / "keys"
    made = {purpose: folder / f"{purpose}.next.pem" for purpose in ("consensus", "checkpoint", "tls")}
    for path in made.values():
        cityid("keys", "new", path)
    certificate = network.directory / city / "tls.next.crt"
    cityid("keys", "certificate", made["tls"], "--city", city, "--out", certificate)
    der = ssl.PEM_cert_to_DER_cert(certificate.read_text())
    change = operations.replace_keys(city, keys=entries(network, city, made), certificate=der)
    everybody = {*network.cities, FIFTH}
    with network.load(network.cities[0]) as load:
        load.wait_for_more(50)
        first = network.height(network.cities[0])
        connects = len(network.events(city, "peer_connected"))
        enact(network, change)

        def is_back() -> bool:
            newly = network.events(city, "peer_connected")[connects:]
            return {event["peer"] for event in newly} == everybody - {city} and network.status(city)["ready"]

        network.until(is_back, "links under the new TLS key")
        load.wait_for_more(200)
        assert longest_pause_ms(network, first) < PAUSE_MS
    network.assert_kept(load)
    assert network.status(city)["role"] == "validator"
    ended = [event["reason"] for event in network.events(network.cities[0], "peer_disconnected")]
    assert "not_member" in ended or "closed" in ended
    network.wait_same_tip(*everybody)
    for purpose, path in made.items():  # now they are the keys, and the old files can go
        path.replace(folder / f"{purpose}.pem")
    network.stop(city)
    network.start(city)
    network.wait_ready(city)
    assert network.status(city)["role"] == "validator"


def test_a_city_without_its_key_follows_and_says_so(network: "LiveNetwork", tmp_path: Path) -> None:
    city = network.cities[2]
    elsewhere = tmp_path / "consensus.pem"
    keys.generate(elsewhere)
    enact(network, operations.replace_keys(city, keys=entries(network, city, {"consensus": elsewhere})))
    network.until(lambda: network.status(city)["role_reason"] == "key_missing", "it follows")
    assert network.events(city, "key_missing")[-1]["purpose"] == "consensus"
    network.assert_serves(city)
    place = network.directory / city / "keys" / "consensus.next.pem"
    elsewhere.replace(place)
    network.until(lambda: network.status(city)["role"] == "validator", "it decides again, without a restart")
    network.wait_same_tip(*network.cities, FIFTH)


def test_the_heartbeat_changes(network: "LiveNetwork") -> None:
    city = network.cities[0]
    enacted = enact(network, operations.set_parameters({"heartbeat_ms": 300}))
    network.wait_height(enacted + 8, city)
    assert network.status(FIFTH)["parameters"]["heartbeat_ms"] == 300
    times = [
        int(network.clients[city].get(f"/v1/blocks/{height}").json()["header"]["time_ms"])
        for height in range(enacted + 2, enacted + 9)
    ]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert min(gaps) >= 295
    assert sorted(gaps)[len(gaps) // 2] < 900  # it was 1,000


def test_trust_walks_from_the_genesis_and_verifies_answers(network: "LiveNetwork") -> None:
    code = network.assert_serves(FIFTH)
    for city in (network.cities[3], FIFTH):
        with SyncClient([network.local.urls[city]], network.trust) as client:
            advanced = client.update_trust()
            assert advanced.height >= network.height(city) - 3
            assert [member for member, _ in advanced.validators] == committee(network, city)
            assert client.resolve(code).verdict.verdict == "REGISTERED"
        # A client that still believes the founders walks by itself when an answer is of a set that it does not know.
        with SyncClient([network.local.urls[city]], network.trust) as client:
            assert client.resolve(code).verdict.verdict == "REGISTERED"
            assert client.trust.height > 0


def test_trust_update_on_the_command_line(network: "LiveNetwork", tmp_path: Path) -> None:
    believed = tmp_path / "trust.json"
    believed.write_text(network.trust.to_json())
    url = network.local.urls[network.cities[0]]
    said: dict[str, Any] = json.loads(cityid("trust", "update", "--trust", believed, "--at", url, "--json"))
    assert [row["city"] for row in said["validators"]] == committee(network, network.cities[0])
    code = network.assert_serves(network.cities[0])
    found = json.loads(cityid("resolve", code, "--trust", believed, "--at", url, "--json"))
    assert found["verdict"] == "REGISTERED"


def test_a_removed_city_is_let_in_nowhere(network: "LiveNetwork") -> None:
    leaver = network.cities[3]
    network.wait_same_tip(*network.cities, FIFTH)
    enact(network, operations.remove_city(leaver))
    staying = [city for city in (*network.cities, FIFTH) if city != leaver]
    network.until(
        lambda: all(leaver not in network.status(city)["peers"] for city in staying), f"the others drop {leaver}"
    )
    network.until(lambda: not network.status(leaver)["peers"], "it is alone")
    network.assert_serves(FIFTH)
    network.wait_same_tip(*staying)
    height = network.height(leaver)
    network.wait_height(height + 3, *staying)
    assert network.height(leaver) <= height + 1
    with SyncClient([network.local.urls[leaver]], network.trust) as client:
        found = client.resolve(f"MA.156.{FIFTH}", min_height=network.height(FIFTH))
        assert (found.verdict.verdict, found.verdict.was) == ("UNKNOWN", "REGISTERED")
    with SyncClient([network.local.urls[FIFTH]], network.trust) as client:
        assert client.resolve(f"MA.156.{leaver}").verdict.status == "retired"
