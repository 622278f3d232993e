"""Clients that register codes at a steady rate, whatever comes back, and remember what they were promised.

A promise is the reply 202 with the row `pending`: f + 1 cities hold the transaction durably. What is refused for the
moment, or gets no reply, is sent again with the same bytes to another city; after three cities the client gives up, and
nothing was promised.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx
import trio

from cityid.client.faces import sign
from cityid.client.operations import register_category
from tests.chaos.nodes import Nodes

SEQUENCE = {"Content-Type": "application/cbor-seq"}
CITIES_TRIED = 3
REQUESTS_AT_ONCE = 64
REQUESTS_PER_S = 20
LEAST_PER_REQUEST = 5
REPLY_S = 4.0
VALID_HEIGHTS = 1_900  # nearly the window: a long fault is no reason to expire
AGAIN = frozenset({"overloaded", "pool_share", "not_ready"})  # refusals that hold for a moment


@dataclass(slots=True)
class Load:
    """One steady load. `acknowledged` maps codes to transaction ids, in the order of the promises."""

    nodes: Nodes
    rate: int
    first: int = 0
    """The number of the first code; loads of one network that follow one another have codes of their own."""
    acknowledged: dict[str, str] = field(default_factory=dict)
    sent: int = 0
    given_up: int = 0
    withheld: int = 0
    """Not sent because REQUESTS_AT_ONCE were waiting for a reply."""
    refused: list[str] = field(default_factory=list)
    """Refusals that no right network gives to these transactions."""
    latencies_s: list[float] = field(default_factory=list)
    per_request: int = field(init=False)
    _numbers: Iterator[int] = field(init=False)
    _height: int = 0

    def __post_init__(self) -> None:
        self.per_request = max(LEAST_PER_REQUEST, self.rate // REQUESTS_PER_S)
        self._numbers = itertools.count(self.first)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Send until cancelled; requests under way are then given up."""
        self._height = await self.nodes.height()
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=REQUESTS_AT_ONCE)
        slots = trio.CapacityLimiter(REQUESTS_AT_ONCE)
        timeout = httpx.Timeout(REPLY_S, connect=1.0)
        async with (
            httpx.AsyncClient(trust_env=False, timeout=timeout, limits=limits) as http,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(self._watch)
            task_status.started()
            began = trio.current_time()
            for number in itertools.count(1):
                await trio.sleep_until(began + number * self.per_request / self.rate)
                try:
                    slots.acquire_on_behalf_of_nowait(number)
                except trio.WouldBlock:
                    self.withheld += self.per_request
                    continue
                nursery.start_soon(self._request, http, slots, number)

    async def _watch(self) -> None:
        while True:
            self._height = max(self._height, await self.nodes.height())
            await trio.sleep(1.0)

    async def _request(self, http: httpx.AsyncClient, slots: trio.CapacityLimiter, number: int) -> None:
        try:
            turn = [self.nodes.cities[(number + step) % len(self.nodes.cities)] for step in range(CITIES_TRIED)]
            codes, body = self._make(turn[0])
            self.sent += len(codes)
            began = trio.current_time()
            for city in turn:
                if await self._post(http, city, codes, body):
                    self.latencies_s.append(trio.current_time() - began)
                    return
            self.given_up += len(codes)
        finally:
            slots.release_on_behalf_of(number)

    def _make(self, city: str) -> tuple[list[str], bytes]:
        codes, body = [], b""
        signer = self.nodes.signer(city)
        for _ in range(self.per_request):
            number = next(self._numbers)
            class_code, model = f"{number % 1_000_000:06d}", str(number // 1_000_000)
            made = register_category(city, None, use="10", class_code=class_code, model=model, name="Lamp")
            _, data = sign(
                [made], [signer], genesis_hash=self.nodes.genesis.hash, valid_until=self._height + VALID_HEIGHTS
            )
            codes.append(f"MA.156.{city}/10.{class_code}.{model}")
            body += data
        return codes, body

    async def _post(self, http: httpx.AsyncClient, city: str, codes: list[str], body: bytes) -> bool:
        """Whether this city promised to keep them."""
        try:
            reply = await http.post(f"{self.nodes.url(city)}/v1/transactions", content=body, headers=SEQUENCE)
        except httpx.HTTPError:
            return False
        if reply.status_code in (429, 503):
            return False
        if reply.status_code != 202:
            self.refused.append(f"{city}: {reply.status_code} {reply.text[:200]}")
            return True
        for code, row in zip(codes, reply.json()["transactions"], strict=True):
            if row["status"] == "pending":
                self.acknowledged[code] = row["id"]
            elif row.get("reason") not in AGAIN:
                self.refused.append(f"{city}: {row}")
        return True
