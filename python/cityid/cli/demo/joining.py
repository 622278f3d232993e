"""The demo's last scene: a fifth city joins by the votes of the others, follows, and enters the committee.

Its keys and its node are made by the commands that an operator types. What a relying party trusts is walked from the
genesis over the change of the committee, and then judges an answer that the new committee signed.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import trio

from cityid._native import Trust
from cityid.cli.demo.lines import Narrator
from cityid.cli.demo.outside import Outside
from cityid.cli.demo.stage import BEIJING, HANGZHOU, SHENZHEN, SHIJIAZHUANG, DemoFailure, Stage, require
from cityid.cli.local import free_ports
from cityid.cli.messages import choose
from cityid.client import Client, operations

__all__ = ["a_fifth_city"]

SUZHOU: Final = "320500"
JOIN_S: Final = 30.0
COMMAND_S: Final = 60.0


async def a_fifth_city(stage: Stage, narrator: Narrator, outside: Outside, code: str) -> None:
    """Admitted, it follows; in the committee, it votes; trust walks from the genesis to the new committee."""
    home = stage.directory / SUZHOU
    genesis = stage.directory / "genesis.json"
    peers, http = (f"127.0.0.1:{port}" for port in free_ports(2))
    await _command("init", SUZHOU, "--dir", home, "--peers", peers, "--http", http)
    introduction = home / "introduction.json"
    await _command("keys", "introduction", home, "--trust", genesis, "--out", introduction)
    gateway = stage.network.urls[SHENZHEN]
    await _command("init", SUZHOU, "--dir", home, "--join", genesis, "--at", gateway)
    stage.network.urls = {**stage.network.urls, SUZHOU: f"http://{http}"}
    stage.network.start(SUZHOU)
    began = time.monotonic()
    # With the city that proposes three of four members, then four of five: more than two thirds.
    await _agree(stage, json.loads(introduction.read_text(encoding="utf-8")), BEIJING, SHENZHEN)
    await stage.network.wait_ready(SUZHOU)
    async with Client(stage.network.urls[SUZHOU], stage.trust) as client:
        status = await client.status()
        require(status["role"] == "follower", f"the fifth city is a {status['role']} before it is in the committee")
        narrator.tell("joined", seconds=time.monotonic() - began, height=status["height"])

        cities = sorted([*stage.clients, SUZHOU])
        changed = await _agree(stage, operations.set_committee(cities), BEIJING, SHENZHEN, HANGZHOU)
        with trio.move_on_after(JOIN_S):
            while True:
                status = await client.status()
                if status["role"] == "validator" and int(status["height"]) > changed + 1:
                    break
                await trio.sleep(0.1)
        require(status["role"] == "validator", f"the fifth city is still a {status['role']}: {status}")
        found = await client.resolve(code, min_height=changed + 1)
    (stage.directory / "five.cbor").write_bytes(found.answer.to_bytes())
    ruling = await trio.to_thread.run_sync(lambda: outside.verify(stage.directory, "five.cbor", "--code", code))
    require(ruling.verdict == "UNKNOWN", f"trust of the genesis should not know the new committee: {ruling.found}")
    trust = stage.directory / "trust.json"
    trust.write_text(Trust.load(genesis).to_json(), encoding="utf-8")
    await _command("trust", "update", "--trust", trust, "--at", stage.network.urls[BEIJING])
    ruling = await trio.to_thread.run_sync(
        lambda: outside.verify(stage.directory, "five.cbor", "--code", code, trust="trust.json")
    )
    signed = ruling.found["signatures"]
    require(ruling.verdict == "REGISTERED" and signed["of"] == len(cities), f"after the walk: {ruling.found}")
    narrator.tell("five", height=changed, count=signed["count"], of=signed["of"])


async def _agree(stage: Stage, change: dict[str, Any], *voters: str) -> int:
    """Proposed by Shijiazhuang, agreed to by others; the height at which it was enacted."""
    client = stage.clients[SHIJIAZHUANG]
    receipt = await client.transact([operations.propose(SHIJIAZHUANG, change)], [stage.signer(SHIJIAZHUANG)])
    [number] = receipt.outputs
    if not isinstance(number, int):
        raise DemoFailure(f"the receipt of a proposal names no number: {receipt}")
    for city in voters:
        receipt = await stage.clients[city].transact([operations.vote(city, number)], [stage.signer(city)])
    return receipt.height or 0


async def _command(*arguments: str | Path) -> None:
    """A command of `cityid`, as a person types it."""
    done = await trio.to_thread.run_sync(
        lambda: subprocess.run(
            [sys.executable, "-m", "cityid", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
    )
    require(done.returncode == 0, choose("命令失败：", "a command failed: ") + f"{arguments}: {done.stderr.strip()}")
