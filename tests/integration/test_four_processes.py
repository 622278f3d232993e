"""Four real nodes: processes, sockets, RocksDB, kill -9. One network for all tests, which follow one another."""

import json
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from cityid import keys
from cityid._native import Genesis, Trust, verify
from cityid.cli.local import FIRST_CITIES, LocalNetwork, create, free_ports
from cityid.client import SyncClient, operations
from cityid.errors import MalformedInput

pytestmark = pytest.mark.processes

A, B, C, D = FIRST_CITIES
PATIENCE_S = 30.0


class Network:
    """Four cities and a key that an organisation of city A uses."""

    def __init__(self, directory: Path) -> None:
        ports = free_ports(8)
        addresses = {
            city: (f"127.0.0.1:{ports[2 * index]}", f"127.0.0.1:{ports[2 * index + 1]}")
            for index, city in enumerate(FIRST_CITIES)
        }
        made: tuple[LocalNetwork, Genesis] = create(directory, FIRST_CITIES, name="test", addresses=addresses)
        self.directory = directory
        self.local, self.genesis = made
        self.trust = Trust.load(str(directory / "genesis.json"))  # copied before anything runs
        self.organisations = 0

    def start(self, *cities: str) -> None:
        for city in cities:
            self.local.start(city)
        for city in cities:
            eventually(lambda city=city: self.get(city, "/health/ready") is not None, f"{city} is ready")  # type: ignore[misc]

    def get(self, city: str, path: str) -> Any:
        try:
            with urllib.request.urlopen(self.local.urls[city] + path, timeout=5) as reply:
                return json.loads(reply.read() or b"{}")
        except (OSError, ValueError):
            return None

    def status(self, city: str) -> dict[str, Any]:
        found = self.get(city, "/v1/status")
        return found if isinstance(found, dict) else {"height": "-1", "state_root": None}

    def height(self, city: str) -> int:
        return int(self.status(city)["height"])

    def admit(self, through: str) -> str:
        """One committed transaction; the code that it made."""
        self.organisations += 1
        org = f"ORG{self.organisations:04}"
        owner = keys.load(keys.key_path(self.directory / A / "keys", "transaction"))
        office = keys.generate(self.directory / f"{org}.pem")
        entry = operations.prove_possession(office, self.genesis.hash, f"MA.156.{A}.{org}")
        with SyncClient([self.local.urls[through]], self.trust) as client:
            admit = operations.admit_organisation(A, org, name="An office", quota=1_000, keys=[entry])
            receipt = client.transact([admit], [owner])
        assert receipt.state == "committed"
        return f"MA.156.{A}.{org}"

    def agree(self, *cities: str) -> None:
        def same() -> bool:
            found = [self.status(city) for city in cities]
            return len({(one["height"], one["state_root"]) for one in found}) == 1 and found[0]["height"] != "-1"

        eventually(same, f"{cities} agree")


def eventually(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S:g} s: {what}"
        time.sleep(0.05)  # real processes know no virtual time


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    network = Network(tmp_path_factory.mktemp("network") / "cities")
    with network.local.running():
        network.start(*FIRST_CITIES)
        yield network


def test_what_one_city_takes_every_city_proves(network: Network) -> None:
    code = network.admit(through=A)
    for city in FIRST_CITIES:
        with SyncClient([network.local.urls[city]], network.trust) as client:
            eventually(lambda client=client: client.resolve(code).verdict.verdict == "REGISTERED", "it is known")  # type: ignore[misc]
    network.agree(*FIRST_CITIES)


def test_a_killed_city_is_not_missed_and_comes_back(network: Network) -> None:
    network.local.kill(D)
    before = network.height(A)
    codes = [network.admit(through=city) for city in (A, B, C, A)]
    assert network.height(A) > before
    network.start(D)
    network.agree(*FIRST_CITIES)
    with SyncClient([network.local.urls[D]], network.trust) as client:
        assert {client.resolve(code).verdict.verdict for code in codes} == {"REGISTERED"}


def test_a_network_that_is_killed_as_a_whole_forgets_nothing(network: Network) -> None:
    code = network.admit(through=B)
    network.agree(*FIRST_CITIES)
    height = network.height(A)
    for city in FIRST_CITIES:
        network.local.kill(city)
    network.start(*FIRST_CITIES)
    assert network.height(A) >= height
    later = network.admit(through=C)
    network.agree(*FIRST_CITIES)
    with SyncClient([network.local.urls[D]], network.trust) as client:
        assert client.resolve(code).verdict.verdict == client.resolve(later).verdict.verdict == "REGISTERED"


def test_a_checkpoint_and_a_newer_trust_are_handed_out(network: Network) -> None:
    with SyncClient([network.local.urls[B]], network.trust) as client:
        assert client.update_trust().height >= network.height(B) - 1
    with urllib.request.urlopen(network.local.urls[B] + "/checkpoint", timeout=5) as reply:
        origin, size, _, *rest = reply.read().decode().splitlines()
    assert network.genesis.hash.hex() in origin
    assert int(size) > 1
    assert len([line for line in rest if line.startswith("— ")]) == 3


def test_an_answer_is_verified_without_any_node(network: Network) -> None:
    code = network.admit(through=A)
    with SyncClient([network.local.urls[C]], network.trust) as client:
        eventually(lambda: client.resolve(code).verdict.verdict == "REGISTERED", "it is known")
        data = client.resolve(code).answer.to_bytes()
    assert verify(data, network.trust, code=code).verdict == "REGISTERED"
    spoiled = bytearray(data)
    spoiled[len(data) // 2] ^= 1
    with suppress(MalformedInput):  # it may not even parse
        assert verify(bytes(spoiled), network.trust, code=code).verdict == "INVALID"


def run_node(network: Network, city: str) -> subprocess.CompletedProcess[str]:
    """A node that is expected to refuse to start."""
    command = [sys.executable, "-m", "cityid", "run", str(network.directory / city / "node.toml")]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_a_second_node_on_the_same_folder_refuses_to_start(network: Network) -> None:
    done = run_node(network, A)
    assert done.returncode == 5
    assert "Another node runs" in done.stderr


def test_a_stop_is_quick_and_leaves_a_good_store(network: Network) -> None:
    process = network.local.processes[D]
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 0
    assert time.monotonic() - began < 6
    network.start(D)
    network.agree(*FIRST_CITIES)


def test_a_store_that_lost_blocks_refuses_to_start(network: Network) -> None:
    network.local.kill(D)
    data = network.directory / D / "data"
    kept = data.with_name("kept")
    shutil.copytree(data, kept)
    for file in (data / "db").iterdir():
        file.unlink()
    done = run_node(network, D)
    assert done.returncode == 5
    assert "store" in done.stderr
    shutil.rmtree(data)
    done = run_node(network, D)  # nothing is made by itself: an empty folder would have forgotten its votes
    assert done.returncode == 5
    assert not data.exists()
    kept.rename(data)
    network.start(D)
    network.agree(*FIRST_CITIES)
