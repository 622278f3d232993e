"""The figures of the demo: measured in this run, on this machine, with four nodes and the load on the same cores.

They show that the thing works and how it feels; how fast it can be is for `make bench`.
"""

import os
import time
from collections.abc import Sequence
from statistics import quantiles
from typing import Final

import trio

from cityid._native import verify
from cityid.cli.demo.lines import Narrator
from cityid.cli.demo.stage import SHENZHEN, SHIJIAZHUANG, Stage, require
from cityid.client import Client, operations, sign
from cityid.keys import Signer

__all__ = ["LAMP_CLASS", "inspected", "measure"]

LAMP_CLASS: Final = "010203"
SINGLES: Final = 60
BURST: Final = 2_000
BURST_REQUEST: Final = 50
BURST_TASKS: Final = 8
RESOLVES: Final = 50
VERIFICATIONS: Final = 200


async def measure(stage: Stage, narrator: Narrator, office: Signer, code: str, serials: Sequence[int]) -> None:
    """Single transactions for latency, then a burst through all four cities for throughput, then reads."""
    singles: list[float] = []
    client = stage.clients[SHIJIAZHUANG]
    for serial in serials[:SINGLES]:
        began = time.perf_counter()
        await client.transact([inspected(serial)], [office])
        singles.append(1000 * (time.perf_counter() - began))
    cuts = quantiles(singles, n=100, method="inclusive")
    rate = await _burst(stage, office, serials[SINGLES : SINGLES + BURST])
    narrator.tell("latency", count=SINGLES, p50=cuts[49], p99=cuts[98], burst=BURST, rate=rate)

    plain: list[float] = []
    for _ in range(RESOLVES):
        began = time.perf_counter()
        await stage.clients[SHENZHEN].look_up([code])
        plain.append(1000 * (time.perf_counter() - began))
    data = (stage.directory / "answer.cbor").read_bytes()
    began = time.perf_counter()
    for _ in range(VERIFICATIONS):
        verify(data, stage.trust, code=code)
    verify_ms = 1000 * (time.perf_counter() - began) / VERIFICATIONS
    middle = quantiles(plain, n=100, method="inclusive")[49]
    cores = len(os.sched_getaffinity(0))
    narrator.tell("resolve_time", plain=middle, verify=verify_ms, bytes=len(data), cores=cores)


async def _burst(stage: Stage, office: Signer, serials: Sequence[int]) -> float:
    """Committed transactions a second: BURST signed beforehand, sent through all four cities at once."""
    status = await stage.clients[SHIJIAZHUANG].status()
    valid_until = int(status["height"]) + 500
    signed = dict(
        sign([inspected(serial)], [office], genesis_hash=stage.trust.genesis_hash, valid_until=valid_until)
        for serial in serials
    )
    ids = list(signed)
    parts = [ids[start : start + BURST_REQUEST] for start in range(0, BURST, BURST_REQUEST)]
    committed = 0

    async def send(client: Client) -> None:
        nonlocal committed
        while parts:
            part = parts.pop()
            receipts = await client.submit({id: signed[id] for id in part})
            committed += sum(receipt.state == "committed" for receipt in receipts)

    clients = list(stage.clients.values())
    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for number in range(BURST_TASKS):
            nursery.start_soon(send, clients[number % len(clients)])
    seconds = time.perf_counter() - began
    require(committed == BURST, f"{committed} of {BURST} transactions of the burst were committed")
    return BURST / seconds


def inspected(serial: int) -> operations.Operation:
    """The second version of a lamp's record: somebody has looked at it."""
    change = operations.ItemUpdate(serial, 1, {"inspection": os.urandom(32)})
    return operations.update_items(SHIJIAZHUANG, class_code=LAMP_CLASS, updates=[change])
