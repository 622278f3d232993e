"""Adopting a city's old register: four nodes as four processes on loopback, and the command that an operator runs.

Timed from the start of `cityid adopt numbers` on a CSV file (number and serial, no attributes) to its end, when every
row is committed: an item at its serial and its number as an alias. `.again` is the same command a second time, which
must change nothing.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import trio

from benches import rows
from benches.network import running
from benches.rows import Row
from cityid import keys
from cityid._native import Trust
from cityid.cli import local
from cityid.client import SyncClient, operations

NUMBERS: Final = int(os.environ.get("CITYID_BENCH_ADOPTED_NUMBERS", "227000"))
CITY, ORG, USE, CLASS = "130100", "A7K2", "60", "010101"


def run(names: Sequence[str], place: Path) -> Iterator[Row]:
    """The row, and that of the second time."""
    [name] = names
    place.mkdir(parents=True, exist_ok=True)
    first, again = trio.run(_measure, place)
    yield rows.make(name, [first], "s", better="lower")
    yield rows.make(f"{name}.again", [again], "s", better="lower")


async def _measure(place: Path) -> tuple[float, float]:
    async with running(place) as network:
        return await trio.to_thread.run_sync(_adopt, place, network)


def _adopt(place: Path, network: local.LocalNetwork) -> tuple[float, float]:
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
    first, told = _timed(command)
    again, told_again = _timed(command)
    assert (told["imported"], told_again["imported"]) == (NUMBERS, 0), (told, told_again)
    return first, again


def _timed(command: Sequence[str]) -> tuple[float, dict[str, Any]]:
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return time.monotonic() - began, json.loads(done.stdout)
