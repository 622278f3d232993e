"""Concurrent clients of real nodes, recorded: they register, change and read the same few keys, and race for versions.

They are what `cityid.testing.rivals` are for a simulated network, with the client that people use: it verifies every
answer against the genesis and keeps the highest height that it saw. A client waits WRITE_S for a receipt and then does
not know; at the end every city is asked about every write, and every key is read everywhere.
"""

import itertools
from collections.abc import Iterator
from random import Random
from typing import Literal

import httpx
import trio

from cityid import keys
from cityid.client import Client, operations
from cityid.errors import CityIDError, Unavailable
from cityid.keys import Signer
from cityid.testing.histories import Decided, Failed, History, Look, Outcome, Read, Saw, Unknown, Write
from cityid.testing.rivals import VALUE, observe
from tests.chaos.nodes import Nodes

CLIENTS = 6
KEYS = 4
WRITE_S = 6.0
READ_S = 4.0
THINK_S = (0.05, 0.4)
LOOKED_UP_S = 60.0


class Clients:
    """Some clients. `run` until cancelled, then `finish`."""

    def __init__(self, nodes: Nodes, *, seed: int, part: int = 0) -> None:
        """`part` tells apart recordings of one network: each has keys of its own."""
        self._nodes = nodes
        self._random = Random(f"clients {seed} {part}")
        self._names = [f"K{part:03d}{place}" for place in range(KEYS)]
        self._holders = [keys.generate(nodes.directory / f"{name}.pem") for name in self._names]
        self._numbers: Iterator[int] = itertools.count(1)
        self._seen: dict[str, Saw] = {}
        self.history = History(trio.current_time)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """All of them at once."""
        async with trio.open_nursery() as nursery:
            for number in range(CLIENTS):
                nursery.start_soon(self._live, f"client-{number}", number)
            task_status.started()

    async def finish(self) -> None:
        """What every city says of each write, and shows of each key. Ends what was under way."""
        for call in self.history.calls:
            if call.outcome is None:
                self.history.end(call, Unknown("the recording ends"))
        written = [call.question for call in self.history.calls if isinstance(call.question, Write)]
        top = await self._nodes.height()
        async with trio.open_nursery() as nursery:
            for city in self._nodes.cities:
                nursery.start_soon(self._look_up, city, written, top)

    # ------------------------------------------------------------ one client

    async def _live(self, name: str, number: int) -> None:
        cities = self._nodes.cities
        turn = [cities[(number + step) % len(cities)] for step in range(len(cities))]
        random = self._random
        async with Client([self._nodes.url(city) for city in turn], self._nodes.trust) as client:
            while True:
                place = random.randrange(KEYS)
                if random.random() < 0.5:
                    least = client.highest if random.random() < 0.5 else 0
                    await self._read(name, client, self._key(place), min_height=least)
                else:
                    await self._write(name, client, place)
                await trio.sleep(random.uniform(*THINK_S))

    def _key(self, place: int) -> str:
        return f"MA.156.{self._nodes.cities[0]}.{self._names[place]}"

    async def _read(self, name: str, client: Client, key: str, *, min_height: int) -> None:
        call = self.history.begin(name, Read(key, min_height))
        outcome: Outcome = Failed("no reply in time")
        with trio.move_on_after(READ_S):
            try:
                found = await client.resolve(key, min_height=min_height)
            except Unavailable as error:
                outcome = Failed(f"{type(error).__name__}: {error}"[:200])
            else:
                # Of UNKNOWN, `resolve` says what it was offered: not new enough to be an answer.
                saw = None
                if found.verdict.verdict != "UNKNOWN":
                    saw = observe(found.answer, self._nodes.trust, key, min_height=min_height, now=None)
                outcome = Failed("only older answers") if saw is None else saw
        self.history.end(call, outcome)
        if isinstance(outcome, Saw) and outcome.height >= self._seen.get(key, outcome).height:
            self._seen[key] = outcome

    async def _write(self, name: str, client: Client, place: int) -> None:
        key = self._key(place)
        known = self._seen.get(key)
        expected = max(0, (0 if known is None else known.version) + self._random.choice((0, 0, 0, 0, 0, -1, 1)))
        operation, signer, sets = self._operation(place, key, expected, known)
        try:
            with trio.fail_after(READ_S):
                id, data, _ = await client.sign([operation], [signer])
        except (Unavailable, trio.TooSlowError):
            return  # nothing was sent
        call = self.history.begin(name, Write(key, id.hex(), expected, sets))
        outcome: Outcome = Unknown("no receipt in time")
        with trio.move_on_after(WRITE_S):
            try:
                [receipt] = await client.submit({id: data})
            except CityIDError as error:  # at one door; another one may have let it in before
                outcome = Unknown(f"{type(error).__name__}: {error}"[:200])
            else:
                outcome = _of(receipt.state, receipt.height, receipt.reason)
        self.history.end(call, outcome)

    def _operation(
        self, place: int, key: str, expected: int, known: Saw | None
    ) -> tuple[operations.Operation, Signer, dict[str, str]]:
        """An operation on a key, who signs it, and what readers see of it."""
        city = self._nodes.cities[0]
        own, holder = self._nodes.signer(city), self._holders[place]
        if expected == 0:
            entry = operations.prove_possession(holder, self._nodes.genesis.hash, key)
            made = operations.admit_organisation(city, self._names[place], name="An office", quota=1_000, keys=[entry])
            return made, own, {"status": "active", VALUE: ""}
        suspended = known is not None and known.fields.get("status") == "suspended"
        if suspended or self._random.random() < 0.2:
            status: Literal["active", "suspended"] = "active" if suspended else "suspended"
            return operations.set_status(key, expected_version=expected, status=status), own, {"status": status}
        value = f"https://{next(self._numbers)}.example"
        made = operations.update_profile(key, expected_version=expected, commitments={}, services=[(VALUE, value)])
        return made, holder, {VALUE: value}

    # ------------------------------------------------------------ the end

    async def _look_up(self, city: str, written: list[Write], top: int) -> None:
        name = f"reader-{city}"
        async with httpx.AsyncClient(base_url=self._nodes.url(city), trust_env=False, timeout=10.0) as http:
            with trio.fail_after(LOOKED_UP_S):
                for write in written:
                    call = self.history.begin(name, Look(write.id))
                    reply = await http.get(f"/v1/transactions/{write.id}")
                    if reply.status_code == 404:
                        self.history.end(call, Unknown("it has no receipt"))
                    else:
                        found = reply.raise_for_status().json()
                        self.history.end(call, _of(found["status"], int(found["height"]), found.get("reason")))
        async with Client([self._nodes.url(city)], self._nodes.trust) as client:
            for key in sorted({write.key for write in written}):
                await self._read(name, client, key, min_height=top)


def _of(state: str, height: int | None, reason: str | None) -> Outcome:
    """What a receipt says. A refusal at the door is no receipt: the same bytes may have gone through another one."""
    match state, height:
        case "committed", int():
            return Decided(height)
        case "rejected", int():
            return Decided(height, reason)
        case _:
            return Unknown(f"{state}: {reason}")
