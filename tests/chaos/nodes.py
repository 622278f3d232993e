"""A network of real nodes, each alone in its namespace with a disk of its own, and what can happen to a process.

`Nodes` holds everything that a scenario may hurt: wires, disks, clocks, processes. It is made fresh for each trial, in
a private place that the kernel clears away (`machine`).
"""

import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import trio

from cityid import genesis, keys
from cityid._native import Genesis, Trust
from cityid.cli.local import FIRST_CITIES, LocalNetwork, create
from cityid.keys import Signer
from tests.chaos.disks import Disk
from tests.chaos.namespaces import Wires
from tests.chaos.shim import Shim

POLL_S = 0.05
START_S = 120.0
STOP_S = 30.0
PARAMETERS = {"heartbeat_ms": 1_000}
TODAY = (sys.executable, "-m", "cityid")
YESTERDAY = (sys.executable, "-m", "tests.chaos.older")


@dataclass(frozen=True, slots=True)
class Equipment:
    """What a scenario needs."""

    cities: int = 4
    shim: bool = False
    """Nodes run on disks that can fail and clocks that can be wrong."""
    older: bool = False
    """Nodes run a program that knows an older protocol only."""


@dataclass(slots=True)
class Nodes:
    """The network of one scenario."""

    directory: Path
    cities: tuple[str, ...]
    local: LocalNetwork
    genesis: Genesis
    trust: Trust
    wires: Wires
    disks: dict[str, Disk]
    http: httpx.AsyncClient
    shim: Shim | None
    programs: dict[str, tuple[str, ...]]
    parted: set[str] = field(default_factory=set)
    """Cities that a fault keeps from answering at the moment."""

    # ------------------------------------------------------------ processes

    def start(self, *cities: str) -> None:
        """Start nodes; `until_ready` says when they serve."""
        for city in cities:
            environment = dict(os.environ)
            if self.shim is not None:
                environment |= self.shim.environment(city)
            program = [*self.wires.program(city), *self.programs[city]]
            environment["PYTHONPATH"] = str(Path(__file__).parents[2])
            self.local.start(city, program=program, environment=environment)

    def kill(self, *cities: str) -> None:
        """SIGKILL, to all of them before any is waited for."""
        for city in cities:
            self.local.processes[city].kill()
        for city in cities:
            self.local.kill(city)

    async def pause(self, *cities: str) -> None:
        """SIGSTOP; returns when no thread of theirs runs any more."""
        for city in cities:
            self.local.processes[city].send_signal(signal.SIGSTOP)
        for city in cities:
            await until(partial(_stands_still, self.local.processes[city].pid), every_s=0.001)

    def resume(self, *cities: str) -> None:
        """SIGCONT."""
        for city in cities:
            self.local.processes[city].send_signal(signal.SIGCONT)

    async def stop(self, city: str) -> int:
        """SIGTERM; the exit status."""
        process = self.local.processes.pop(city)
        process.terminate()
        with trio.fail_after(STOP_S):
            await until(lambda: process.poll() is not None)
        return process.returncode

    async def cut_power(self, *cities: str) -> None:
        """All of them at one moment. Their disks go on with what had reached them; nobody is started again."""
        await self.pause(*cities)
        pictures = {city: await trio.to_thread.run_sync(self.disks[city].picture) for city in cities}
        self.kill(*cities)
        for city, picture in pictures.items():
            await trio.to_thread.run_sync(self.disks[city].go_on_with, picture)

    # ------------------------------------------------------------ asking

    def url(self, city: str) -> str:
        return self.local.urls[city]

    async def status(self, city: str) -> dict[str, Any] | None:
        """What a node says of itself; None when it does not answer."""
        with suppress(httpx.HTTPError, ValueError):
            reply = await self.http.get(f"{self.url(city)}/v1/status")
            if reply.status_code == 200:
                found: dict[str, Any] = reply.json()
                return found
        return None

    async def height(self) -> int:
        """The highest height that any node has."""
        found = [await self.status(city) for city in list(self.local.processes) if city not in self.parted]
        return max((int(status["height"]) for status in found if status is not None), default=0)

    async def until_ready(self, *cities: str, seconds: float = START_S) -> None:
        """Returns when these nodes are at the tip, connected with every other one, and not before they have what the
        network had when they were asked.
        """
        goal = await self.height()
        with trio.move_on_after(seconds):
            for city in cities or self.cities:
                while not await self._is_ready(city, goal):
                    self.assert_runs(city)
                    await trio.sleep(POLL_S)
            return
        states = {city: await self.status(city) for city in cities or self.cities}
        raise AssertionError(f"not ready within {seconds:g} s at height {goal}: {_brief(states)}; {self.log_ends()}")

    async def _is_ready(self, city: str, goal: int) -> bool:
        status = await self.status(city)
        return (
            status is not None
            and bool(status["ready"])
            and int(status["height"]) >= goal
            and len(status["peers"]) == len(self.cities) - 1
        )

    def assert_runs(self, city: str) -> None:
        """Whether the process is there at all."""
        process = self.local.processes.get(city)
        assert process is not None, f"{city} is down"
        assert process.poll() is None, f"{city} ended with {process.returncode}: {self.local.log_end(city)}"

    def log_ends(self) -> str:
        """For the message of whatever failed."""
        return "; ".join(f"{city}: {self.local.log_end(city)[-300:]}" for city in self.cities)

    def signer(self, city: str) -> Signer:
        """A city's transaction key."""
        return keys.load(keys.key_path(self.directory / city / "keys", "transaction"))

    def data(self, city: str) -> Path:
        """A city's data folder."""
        return self.directory / city / "data"


@asynccontextmanager
async def running(directory: Path, equipment: Equipment) -> AsyncIterator[Nodes]:
    """A fresh network that is ready; its processes are gone when the block ends, the rest with this program."""
    more = [city for city in sorted(genesis.member_names()) if city not in FIRST_CITIES]
    cities = (*FIRST_CITIES, *more)[: equipment.cities]
    wires = Wires(cities)
    local, made = create(directory, cities, name="chaos", addresses=wires.addresses(), parameters=PARAMETERS)
    disks = {city: Disk(directory / city / "data") for city in cities}
    async with httpx.AsyncClient(trust_env=False, timeout=2.0) as http:
        nodes = Nodes(
            directory=directory,
            cities=cities,
            local=local,
            genesis=made,
            trust=Trust.load(str(directory / "genesis.json")),
            wires=wires,
            disks=disks,
            http=http,
            shim=Shim(directory) if equipment.shim else None,
            programs=dict.fromkeys(cities, YESTERDAY if equipment.older else TODAY),
        )
        with local.running():
            nodes.start(*cities)
            await nodes.until_ready()
            yield nodes


async def until(condition: Callable[[], bool], *, every_s: float = POLL_S) -> None:
    """Looks again and again; the caller sets the limit."""
    while True:
        if condition():
            return
        await trio.sleep(every_s)


def _stands_still(pid: int) -> bool:
    """Whether every thread of a process is stopped or gone; one in the middle of a sync is not yet."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            if (task / "stat").read_text().rpartition(")")[2].split()[0] not in "TZX":
                return False
    return True


def _brief(states: Mapping[str, dict[str, Any] | None]) -> str:
    names: Sequence[str] = ("height", "ready", "synced", "halted", "peers")
    return str({city: None if one is None else {name: one[name] for name in names} for city, one in states.items()})
