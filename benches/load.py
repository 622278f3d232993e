"""Offers transactions to the gateways of running nodes, and measures what becomes of them.

Transactions go out in requests of `PER_REQUEST`, to the gateways in turn. A closed loop keeps at most `window` of them
outstanding; an open loop sends at a fixed rate whatever comes back. A transaction is outstanding from the moment its
request is sent until node 0 says, by its stream of blocks and its number of records, that it is committed there. Each
one registers one item, so one more record is one more transaction.

Latency is of a sample, asked for afterwards: the height in a receipt, and the moment at which node 0 told that height.
"""

import itertools
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import trio

__all__ = ["Load", "Offered", "cpu_s", "post"]

PER_REQUEST: Final = 200
PER_REQUEST_OPEN: Final = 20
REQUESTS_AT_ONCE: Final = 32
SAMPLES: Final = 2_000
SLICES: Final = 5
DRAIN_S: Final = 30.0
SEQUENCE: Final = {"content-type": "application/cbor-seq"}
TICKS_PER_S: Final = 100


@dataclass(frozen=True, slots=True)
class Offered:
    """What one run measured."""

    committed_per_s: float
    slices_per_s: Sequence[float]
    """The same in each of `SLICES` equal parts of the measured time."""
    latencies_ms: Sequence[float]
    cpu_us_per_transaction_and_node: float
    blocks_per_s: float
    load_cores: float
    other_cores: float


@dataclass(slots=True)
class Load:
    """One run against running nodes. `urls` and `pids` go together; node 0 is the first."""

    urls: Sequence[str]
    pids: Sequence[int]
    transactions: Sequence[bytes]
    warm_s: float
    measure_s: float
    window: int | None = None
    rate: int | None = None

    sent: int = 0
    committed: int = 0
    sent_at: list[float] = field(default_factory=list)
    heights: dict[int, float] = field(default_factory=dict)
    _stopped: bool = False
    _ids: list[str] = field(default_factory=list)
    _at_first: int = 0
    _progress: trio.Event = field(default_factory=trio.Event)

    async def run(self) -> Offered:
        """Warms up, measures, drains, and asks for the sample."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        self._ids = [""] * len(self.transactions)
        async with httpx.AsyncClient(timeout=30.0, limits=limits, trust_env=False) as http:
            self._at_first = await self._records(http)
            async with trio.open_nursery() as nursery:
                await nursery.start(self._watch, http)
                nursery.start_soon(self._send, http)
                await trio.sleep(self.warm_s)
                readings = [self._reading()]
                for _ in range(SLICES):
                    await trio.sleep(self.measure_s / SLICES)
                    readings.append(self._reading())
                self._stopped = True
                with trio.fail_after(DRAIN_S):
                    while self.committed < self.sent:
                        await self._wait()
                nursery.cancel_scope.cancel()
            before, after = readings[0], readings[-1]
            latencies = await self._latencies(http, before.at, after.at)
        seconds = after.at - before.at
        committed = after.committed - before.committed
        return Offered(
            committed_per_s=committed / seconds,
            slices_per_s=[
                (late.committed - early.committed) / (late.at - early.at)
                for early, late in itertools.pairwise(readings)
            ],
            latencies_ms=latencies,
            cpu_us_per_transaction_and_node=(after.cpu_s - before.cpu_s) / len(self.pids) / max(committed, 1) * 1e6,
            blocks_per_s=sum(before.at < at <= after.at for at in self.heights.values()) / seconds,
            load_cores=(after.own_s - before.own_s) / seconds,
            other_cores=(after.all_s - before.all_s - after.own_s + before.own_s - after.cpu_s + before.cpu_s)
            / seconds,
        )

    # ------------------------------------------------------------ sending

    async def _send(self, http: httpx.AsyncClient) -> None:
        """Sends until it is told to stop; requests that are on their way are finished."""
        slots = trio.CapacityLimiter(REQUESTS_AT_ONCE)
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            while not self._stopped:
                size = self._room(trio.current_time() - began)
                if size == 0:
                    with trio.move_on_after(0.002):
                        await self._wait()
                    continue
                if self.sent + size > len(self.transactions):
                    raise RuntimeError(
                        f"all {len(self.transactions)} signed transactions are sent before the time is over. "
                        "Next: CITYID_BENCH_TRANSACTIONS=1000000 make bench"
                    )
                first, self.sent = self.sent, self.sent + size
                url = self.urls[first // PER_REQUEST % len(self.urls)]
                await slots.acquire_on_behalf_of(first)
                nursery.start_soon(self._post, http, url, first, size, slots)

    def _room(self, passed_s: float) -> int:
        """How many to send now, in one request; 0 to wait."""
        if self.window is not None:
            room = self.window - (self.sent - self.committed)
            return PER_REQUEST if room >= PER_REQUEST else 0
        assert self.rate is not None
        due = int(passed_s * self.rate) - self.sent
        return PER_REQUEST_OPEN if due >= PER_REQUEST_OPEN else 0

    async def _post(
        self, http: httpx.AsyncClient, url: str, first: int, size: int, slots: trio.CapacityLimiter
    ) -> None:
        self.sent_at.extend([0.0] * (first + size - len(self.sent_at)))
        self.sent_at[first : first + size] = [trio.current_time()] * size
        rows = await post(http, url, self.transactions[first : first + size])
        self._ids[first : first + size] = [row["id"] for row in rows]
        slots.release_on_behalf_of(first)

    # ------------------------------------------------------------ watching

    async def _watch(
        self, http: httpx.AsyncClient, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Notes when node 0 tells each height, and how many records it has then."""
        async with http.stream("GET", f"{self.urls[0]}/v1/events", timeout=None) as stream:
            task_status.started()
            async for line in stream.aiter_lines():
                if line.startswith("id: "):
                    self.heights[int(line[4:])] = trio.current_time()
                    self.committed = await self._records(http) - self._at_first
                    self._progress.set()
                    self._progress = trio.Event()

    async def _records(self, http: httpx.AsyncClient) -> int:
        return int((await http.get(f"{self.urls[0]}/v1/status")).json()["records"])

    async def _wait(self) -> None:
        await self._progress.wait()

    def _reading(self) -> "_Reading":
        return _Reading(trio.current_time(), self.committed, sum(map(cpu_s, self.pids)), cpu_s("self"), busy_s())

    async def _latencies(self, http: httpx.AsyncClient, after: float, before: float) -> list[float]:
        """Of a sample of those that were sent in the measured time."""
        numbers = [number for number in range(self.sent) if after < self.sent_at[number] <= before]
        latencies = []
        for number in random.Random(1).sample(numbers, min(SAMPLES, len(numbers))):
            reply = await http.get(f"{self.urls[0]}/v1/transactions/{self._ids[number]}")
            receipt = reply.json()
            if receipt.get("status") != "committed":
                raise RuntimeError(f"a measured transaction was not committed: {reply.text[:300]}")
            latencies.append((self.heights[int(receipt["height"])] - self.sent_at[number]) * 1e3)
        return latencies


@dataclass(frozen=True, slots=True)
class _Reading:
    at: float
    committed: int
    cpu_s: float
    own_s: float
    all_s: float


async def post(http: httpx.AsyncClient, url: str, transactions: Sequence[bytes], *, wait: bool = False) -> list[Any]:
    """Sends transactions in one request; their rows. Raises when one of them is refused."""
    query = "?wait=committed" if wait else ""
    reply = await http.post(f"{url}/v1/transactions{query}", content=b"".join(transactions), headers=SEQUENCE)
    if reply.status_code not in (200, 202):
        raise RuntimeError(f"{url} refused a request: {reply.status_code} {reply.text[:300]}")
    rows: list[Any] = json.loads(reply.content)["transactions"]
    for row in rows:
        if row["status"] not in ("pending", "committed"):
            raise RuntimeError(f"{url} did not take a transaction: {row}")
    return rows


def cpu_s(pid: int | str) -> float:
    """User and system time of a process so far, from /proc."""
    columns = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(columns[11]) + int(columns[12])) / TICKS_PER_S


def busy_s() -> float:
    """CPU time of the whole machine so far: all but idle, waiting for disks, and guests."""
    columns = Path("/proc/stat").read_text(encoding="utf-8").split("\n", 1)[0].split()[1:]
    return sum(int(ticks) for index, ticks in enumerate(columns) if index not in (3, 4, 8, 9)) / TICKS_PER_S
