"""A network on this machine: a directory, four or more node processes on loopback, and no trace of them afterwards.

Each node is `python -m cityid run CITY/node.toml`, a process of its own with its own keys, store and log file. Whoever
holds a `LocalNetwork` stops every process it started, by its own handle, whatever happens in between.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
import trio

from cityid import genesis
from cityid._native import Genesis
from cityid.errors import PeerUnreachable, StorageError
from cityid.node import config as configs
from cityid.node import node

__all__ = ["FIRST_CITIES", "LocalNetwork", "create", "free_ports"]

FIRST_CITIES: Final = ("130100", "110000", "440300", "330100")
"""石家庄, 北京, 深圳, 杭州; a larger network goes on in the order of the shipped table."""

READY_S: Final = 30.0
STOP_S: Final = 8.0
POLL_S: Final = 0.05


@dataclass(slots=True)
class LocalNetwork:
    """The nodes of one directory. `urls` and `processes` go by city code."""

    directory: Path
    urls: Mapping[str, str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(
        self,
        city: str,
        *,
        program: Sequence[str] = (sys.executable, "-m", "cityid"),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Starts one node; `wait_ready` says when it serves. `program` and `environment` are for tests that start it
        elsewhere than here, or hurt.
        """
        log = (self.directory / city / "node.log").open("ab")
        with log:
            self.processes[city] = subprocess.Popen(
                [*program, "run", str(self.directory / city / "node.toml")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory / city,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches us, and we stop them in order
            )

    def kill(self, city: str) -> None:
        """SIGKILL: what a power cut leaves of a process."""
        process = self.processes.pop(city)
        process.kill()
        process.wait()

    async def wait_connected(self, city: str) -> None:
        """Returns when the node has heard of every other one, at the latest height that they know of.

        Enough to send to; it has answers to give once something is decided (`wait_ready`). Raises as `wait_ready`.
        """
        await self._wait(city, "/v1/status", lambda reply: _is_connected(reply, len(self.urls) - 1))

    async def wait_ready(self, city: str) -> None:
        """Returns when the node says that it is at the tip.

        Raises:
            StorageError: it ended instead; the message has the end of its log.
            PeerUnreachable: it is not there in READY_S seconds.
        """
        await self._wait(city, "/health/ready", lambda reply: reply.status_code == 200)

    async def _wait(self, city: str, path: str, enough: Callable[[httpx.Response], bool]) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=2.0) as http:
            with trio.move_on_after(READY_S):
                while True:
                    if self.processes[city].poll() is not None:
                        raise StorageError(f"The node of {city} ended at once. Its log ends with: {self.log_end(city)}")
                    try:
                        if enough(await http.get(self.urls[city] + path)):
                            return
                    except httpx.HTTPError:
                        pass  # it does not listen yet
                    await trio.sleep(POLL_S)
        raise PeerUnreachable(
            f"The node of {city} is not ready after {READY_S:g} s. Its log ends with: {self.log_end(city)}"
        )

    def log_end(self, city: str) -> str:
        """The last lines of a node's log."""
        try:
            with (self.directory / city / "node.log").open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 2_000))
                return file.read().decode("utf-8", "replace").strip()[-1_000:]
        except OSError as error:
            return f"(no log: {error})"

    def ended(self) -> list[str]:
        """Cities whose process has ended by itself."""
        return [city for city, process in self.processes.items() if process.poll() is not None]

    def stop(self) -> None:
        """Asks every node to stop, waits, and kills what is left after STOP_S seconds."""
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        deadline = time.monotonic() + STOP_S
        for process in self.processes.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()

    @contextmanager
    def running(self) -> Iterator["LocalNetwork"]:
        """Stops every process at the end, however the end comes."""
        try:
            yield self
        finally:
            self.stop()


def create(
    directory: Path,
    cities: Sequence[str],
    *,
    name: str,
    addresses: Mapping[str, tuple[str, str]],
    parameters: Mapping[str, int] | None = None,
) -> tuple[LocalNetwork, Genesis]:
    """Makes keys, genesis and configuration for `cities`; `addresses` are (peer, HTTP) as host:port, by city."""
    names = genesis.member_names()
    made = genesis.create_network(
        directory,
        [(city, names[city]) for city in cities],
        name=name,
        time_ms=time.time_ns() // 1_000_000,
        addresses=addresses,
        parameters=parameters,
    )
    for city in cities:
        node.prepare(configs.load(directory / city / "node.toml"))
    return LocalNetwork(directory, {city: f"http://{addresses[city][1]}" for city in cities}), made


def _is_connected(reply: httpx.Response, peers: int) -> bool:
    if reply.status_code != 200:
        return False
    found = reply.json()
    return bool(found.get("synced")) and len(found.get("peers", ())) == peers


def free_ports(count: int) -> list[int]:
    """Ports on loopback that nobody listens on at the moment, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in sockets]
