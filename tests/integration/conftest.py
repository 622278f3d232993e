"""A live network for the tests that need one: four node processes, real TLS, real disks, and a load on them.

`live_network` is shared by the tests of one module, which leave it running and whole. Nothing here sleeps for a fixed
time: `until` polls with a deadline.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from cityid import keys
from cityid._native import Genesis, Trust
from cityid.cli.local import FIRST_CITIES, LocalNetwork, create, free_ports
from cityid.client import operations
from cityid.client.faces import sign
from cityid.keys import Signer

POLL_S = 0.02
CBOR = {"Content-Type": "application/cbor"}
SEQUENCE = {"Content-Type": "application/cbor-seq"}
PARAMETERS = {"heartbeat_ms": 1_000}  # a block a second when nothing happens, so that nobody waits for long


@dataclass(slots=True)
class LiveNetwork:
    """Four cities, clients of their HTTP ports, and their keys to sign with."""

    directory: Path
    local: LocalNetwork
    genesis: Genesis
    trust: Trust
    clients: dict[str, httpx.Client]
    cities: tuple[str, ...] = FIRST_CITIES
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    # ------------------------------------------------------------ processes

    def start(self, *cities: str) -> None:
        for city in cities:
            self.local.start(city)

    def kill(self, *cities: str) -> None:
        """SIGKILL, to all of them before any is waited for."""
        for city in cities:
            self.local.processes[city].kill()
        for city in cities:
            self.local.kill(city)

    def stop(self, city: str) -> int:
        """SIGTERM; the exit status."""
        process = self.local.processes.pop(city)
        process.terminate()
        return process.wait(10)

    def wait_ready(self, *cities: str) -> None:
        for city in cities or self.cities:
            trio.run(self.local.wait_ready, city)

    def until(self, condition: Callable[[], bool], what: str, *, seconds: float = 40.0) -> None:
        """Polls until something holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            ends = {city: self.local.log_end(city)[-300:] for city in self.cities}
            assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}; logs end with {ends}"
            time.sleep(POLL_S)

    def events(self, city: str, name: str) -> list[dict[str, Any]]:
        """What a node logged under this name, over all its lives."""
        lines = (self.directory / city / "node.log").read_text(encoding="utf-8").splitlines()
        logged = [json.loads(line) for line in lines if line.startswith("{")]
        return [event for event in logged if event["event"] == name]

    # ------------------------------------------------------------ asking

    def answers(self, city: str) -> bool:
        """Whether a node serves HTTP."""
        try:
            return self.clients[city].get("/v1/status").status_code == 200
        except httpx.TransportError:
            return False

    def status(self, city: str) -> dict[str, Any]:
        found: dict[str, Any] = self.clients[city].get("/v1/status").json()
        return found

    def height(self, city: str) -> int:
        return int(self.status(city)["height"])

    def root(self, city: str) -> str:
        return str(self.status(city)["state_root"])

    def wait_height(self, height: int, *cities: str) -> None:
        for city in cities or self.cities:
            self.until(lambda city=city: self.height(city) >= height, f"height {height} at {city}")  # type: ignore[misc]

    def wait_same_tip(self, *cities: str) -> None:
        """All of these are at one height with one state root and one log root."""

        def is_same() -> bool:
            found = [self.status(city) for city in cities or self.cities]
            return len({(one["height"], one["state_root"], one["log_root"]) for one in found}) == 1

        self.until(is_same, "one tip everywhere")

    def verdicts(self, city: str, codes: Sequence[str]) -> list[str]:
        rows: list[str] = []
        for start in range(0, len(codes), 1_000):
            reply = self.clients[city].post("/v1/resolve", json={"codes": list(codes[start : start + 1_000])})
            rows += [row["verdict"] for row in reply.json()["results"]]
        return rows

    # ------------------------------------------------------------ sending

    def signer(self, city: str, purpose: str = "transaction") -> Signer:
        return keys.load(keys.key_path(self.directory / city / "keys", purpose))

    def category(self, city: str) -> tuple[str, operations.Operation]:
        """A code nobody has registered yet, and the operation of its city that registers it."""
        class_code = f"{next(self.numbers):06d}"
        operation = operations.register_category(city, None, use="10", class_code=class_code, model="1", name="Lamp")
        return f"MA.156.{city}/10.{class_code}.1", operation

    def sign(
        self,
        made: Sequence[operations.Operation],
        signers: Sequence[Signer],
        *,
        valid_until: int | None = None,
        genesis_hash: bytes | None = None,
    ) -> tuple[bytes, bytes]:
        """The id and the bytes of a transaction, valid for a thousand heights unless said otherwise."""
        if valid_until is None:
            valid_until = max(self.height(city) for city in self.local.processes) + 1_000
        return sign(made, signers, genesis_hash=genesis_hash or self.genesis.hash, valid_until=valid_until)

    def post(self, city: str, data: bytes, *, wait: bool = True, headers: Mapping[str, str] = CBOR) -> httpx.Response:
        path = "/v1/transactions?wait=committed" if wait else "/v1/transactions"
        return self.clients[city].post(path, content=data, headers=headers)

    def transact(self, city: str, made: Sequence[operations.Operation], signer: Signer) -> dict[str, Any]:
        """The receipt of a transaction, committed or rejected."""
        reply = self.post(city, self.sign(made, [signer])[1])
        assert reply.status_code == 200, reply.text
        receipt: dict[str, Any] = reply.json()["transactions"][0]
        return receipt

    def assert_serves(self, city: str) -> str:
        """A valid request is served; returns the code that it registered."""
        code, operation = self.category(city)
        receipt = self.transact(city, [operation], self.signer(city))
        assert receipt["status"] == "committed", receipt
        assert self.verdicts(city, [code]) == ["REGISTERED"]
        return code

    @contextmanager
    def load(self, *cities: str) -> Iterator["Load"]:
        """Clients that send to these cities, and to the next one when theirs does not answer, until the block ends."""
        load = Load(self)
        threads = [threading.Thread(target=load.run, args=(city,), daemon=True) for city in cities or self.cities]
        for thread in threads:
            thread.start()
        try:
            yield load
        finally:
            load.stop.set()
            for thread in threads:
                thread.join(60)
        assert not load.failed, load.failed

    def assert_kept(self, load: "Load") -> None:
        """Every acknowledged transaction is committed at every node that runs."""
        codes = [code for code, _ in load.acknowledged]
        assert codes, "nothing was acknowledged: this test shows nothing"
        for city in self.local.processes:

            def lost(city: str = city) -> list[str]:
                found = zip(codes, self.verdicts(city, codes), strict=True)
                return [code for code, verdict in found if verdict != "REGISTERED"]

            self.until(lambda: not lost(), f"{len(codes)} acknowledged transactions at {city}")
            for _, id in load.acknowledged[:: max(1, len(codes) // 20)]:
                reply = self.clients[city].get(f"/v1/transactions/{id}")
                assert (reply.status_code, reply.json().get("status")) == (200, "committed"), (city, reply.text)


@dataclass(slots=True)
class Load:
    """What clients sent and were told is safe: (code, transaction id)."""

    network: LiveNetwork
    acknowledged: list[tuple[str, str]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self, city: str) -> None:
        """One client; a thread."""
        network = self.network
        signer = network.signer(city)
        turn = list(network.cities)
        turn = turn[turn.index(city) :] + turn[: turn.index(city)]
        with httpx.Client(timeout=5.0, trust_env=False) as http:
            while not self.stop.is_set():
                url = network.local.urls[turn[0]]
                try:
                    height = int(http.get(f"{url}/v1/status").json()["height"])
                    made = [network.category(city) for _ in range(3)]
                    signed = [network.sign([one], [signer], valid_until=height + 1_000) for _, one in made]
                    body = b"".join(data for _, data in signed)
                    reply = http.post(f"{url}/v1/transactions", content=body, headers=SEQUENCE)
                except httpx.HTTPError:
                    turn.append(turn.pop(0))  # it is down
                    self.stop.wait(POLL_S)
                    continue
                if reply.status_code == 202:
                    rows = reply.json()["transactions"]
                    pairs = zip(made, rows, strict=True)
                    self.acknowledged += [(code, row["id"]) for (code, _), row in pairs if row["status"] != "refused"]
                elif reply.status_code in (429, 503):
                    turn.append(turn.pop(0))
                    self.stop.wait(POLL_S)
                else:
                    self.failed.append(reply.text)
                    return

    def wait_for_more(self, number: int) -> None:
        """Returns when so many more transactions are acknowledged than now."""
        goal = len(self.acknowledged) + number
        self.network.until(lambda: len(self.acknowledged) >= goal, f"{number} more acknowledged transactions")


@contextmanager
def running_network(directory: Path) -> Iterator[LiveNetwork]:
    """Four nodes that are ready; all of them are gone when the block ends."""
    ports = free_ports(2 * len(FIRST_CITIES))
    addresses = {
        city: (f"127.0.0.1:{ports[2 * index]}", f"127.0.0.1:{ports[2 * index + 1]}")
        for index, city in enumerate(FIRST_CITIES)
    }
    local, genesis = create(directory, FIRST_CITIES, name="tests", addresses=addresses, parameters=PARAMETERS)
    trust = Trust.load(str(directory / "genesis.json"))
    clients = {city: httpx.Client(base_url=url, timeout=20.0, trust_env=False) for city, url in local.urls.items()}
    network = LiveNetwork(directory, local, genesis, trust, clients)
    try:
        with local.running():
            network.start(*network.cities)
            network.wait_ready()
            yield network
    finally:
        for client in clients.values():
            client.close()


@pytest.fixture(scope="module")
def live_network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNetwork]:
    with running_network(tmp_path_factory.mktemp("network") / "live") as network:
        yield network


@pytest.fixture(scope="session")
def run_node() -> Callable[..., str]:
    """Runs a node that is expected to refuse to start: `run_node(config, status=2)` returns what it says on stderr."""

    def run(config: Path, *, status: int) -> str:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("CITYID_", "LC_"))}
        done = subprocess.run(
            [sys.executable, "-m", "cityid", "run", str(config)],
            capture_output=True, text=True, timeout=30, check=False, env=environment | {"LANG": "en_US.UTF-8"},
        )  # fmt: skip
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr, "a person gets a sentence"
        return done.stderr

    return run
