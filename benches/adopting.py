"""Adopting a city's old register: four nodes as four processes on loopback, and the command that an operator runs.

Timed from the start of `cityid adopt numbers` on a CSV file (number and serial, no attributes) to its end, when every
row is committed: an item at its serial and its number as an alias. `.again` is the same command a second time, which
must change nothing. `.node_cpu` is the CPU time of one node during the first run, `.client_cpu` that of the command.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import trio

from benches import load, rows
from benches.network import running
from benches.rows import Row
from cityid import keys
from cityid._native import Trust
from cityid.cli import local
from cityid.client import SyncClient, operations

NUMBERS: Final = int(os.environ.get("CITYID_BENCH_ADOPTED_NUMBERS", "227000"))
CITY, ORG, USE, CLASS = "130100", "A7K2", "60", "010101"


@dataclass(frozen=True, slots=True)
class Adopted:
    """Seconds: the command, the same command again, and the CPU time of the first one and of each node meanwhile."""

    first: float
    again: float
    client_cpu: float
    nodes_cpu: Sequence[float]


def run(names: Sequence[str], place: Path) -> Iterator[Row]:
    """The row, that of the second time, and those of the CPU time."""
    [name] = names
    place.mkdir(parents=True, exist_ok=True)
    found = trio.run(_measure, place)
    yield rows.make(name, [found.first], "s", better="lower")
    yield rows.make(f"{name}.again", [found.again], "s", better="lower")
    yield rows.make(f"{name}.node_cpu", found.nodes_cpu, "s", better="lower")
    yield rows.make(f"{name}.client_cpu", [found.client_cpu], "s", better="lower")


async def _measure(place: Path) -> Adopted:
    async with running(place) as network:
        return await trio.to_thread.run_sync(_adopt, place, network)


def _adopt(place: Path, network: local.LocalNetwork) -> Adopted:
    trust = Trust.load(str(network.directory / "genesis.json"))
    office = keys.generate(place / "office.pem")
    city_key = keys.key_path(network.directory / CITY / "keys", "transaction")
    entry = operations.prove_possession(office, trust.genesis_hash, f"MA.156.{CITY}.{ORG}")
    with SyncClient(network.urls[CITY], trust) as client:
        admission = operations.admit_organisation(CITY, ORG, name="bench", quota=NUMBERS, keys=[entry])
        client.transact([admission], [keys.load(city_key)])
    register = place / "register.csv"
    with register.open("w") as file:
        file.write("number,position\n")
        file.writelines(f"OLD-{serial:07d},{serial}\n" for serial in range(NUMBERS))
    command = [
        sys.executable, "-m", "cityid", "adopt", "numbers", str(register), "--key", str(place / "office.pem"),
        "--city-key", str(city_key), "--city", CITY, "--org", ORG, "--use", USE, "--class", CLASS,
        "--category-name", "bench", "--map", "number=id", "--map", "position=serial", "--at", network.urls[CITY],
        "--trust", str(network.directory / "genesis.json"), "--json",
    ]  # fmt: skip
    nodes = [process.pid for process in network.processes.values()]
    before, client_before = [load.cpu_s(pid) for pid in nodes], _children_cpu_s()
    first, told = _timed(command)
    after, client_after = [load.cpu_s(pid) for pid in nodes], _children_cpu_s()
    again, told_again = _timed(command)
    assert (told["imported"], told_again["imported"]) == (NUMBERS, 0), (told, told_again)
    nodes_cpu = [now - then for then, now in zip(before, after, strict=True)]
    return Adopted(first, again, client_after - client_before, nodes_cpu)


def _children_cpu_s() -> float:
    """Of the children that have ended: the command, and not the nodes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _timed(command: Sequence[str]) -> tuple[float, dict[str, Any]]:
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return time.monotonic() - began, json.loads(done.stdout)
