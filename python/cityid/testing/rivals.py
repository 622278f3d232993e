"""Clients of a simulated network, concurrent and recorded: they register, change and read the same few keys.

Each client does one thing at a time, at a city drawn by lot; a write is sent once or, as an impatient client would,
a second time with the same bytes to another city. Keys are organisations: registered by their city, with new services
from their own key, suspended and resumed by the city. So writes race for versions, and `consistency` can tell who won.

A client believes verified answers only, keeps the highest height that it saw, and takes nothing older (as `Client`
does). Everything follows from the seed of the simulation and the moments at which `step` is called.
"""

import base64
import json
from dataclasses import dataclass
from random import Random
from typing import Any, Final, Literal

from cityid._native import Answer, Trust, header_json, verify
from cityid.client import operations
from cityid.testing.histories import Call, Decided, Failed, History, Look, Read, Saw, Unknown, Write
from cityid.testing.simulation import Simulation

__all__ = ["Rivals", "observe"]

PATIENCE_MS: Final = 4_000
VALUE: Final = "value"
FIRST: Final = {"status": "active", VALUE: ""}


@dataclass(slots=True)
class _Client:
    name: str
    highest: int = 0
    call: Call | None = None
    ticket: int = 0
    data: bytes = b""


class Rivals:
    """Some clients of one simulation. Call `step` often, and `finish` once the network is whole again."""

    def __init__(self, simulation: Simulation, *, count: int = 6, keys: int = 4) -> None:
        self.simulation = simulation
        self.keys = keys
        self.history = History(lambda: simulation.now_us)
        self._random = Random(f"clients {simulation.seed}")
        self._trust = Trust.from_json(simulation.genesis.to_json())
        self._clients = [_Client(f"client-{number}") for number in range(count)]
        self._numbers = iter(range(1, 1_000_000))
        self._seen: dict[str, Saw] = {}  # the newest that anybody saw of a key

    def step(self) -> None:
        """Ends calls whose reply is there or overdue, and begins new ones."""
        for client in self._clients:
            if client.call is None:
                if self._random.random() < 0.5:
                    self._begin(client)
            elif isinstance(client.call.question, Write):
                self._poll(client, client.call, client.call.question)

    def finish(self) -> None:
        """Asks every city what became of each write, and reads each key everywhere. Ends the recording."""
        for client in self._clients:
            if client.call is not None:
                self.history.end(client.call, Unknown("the recording ends"))
                client.call = None
        known = [call.question for call in self.history.calls if isinstance(call.question, Write)]
        top = max(self.simulation.heights().values())
        for city in self.simulation.cities:
            reader = _Client(f"reader-{city}")
            for write in known:
                found = self.simulation.ledger(city).receipt(bytes.fromhex(write.id))
                call = self.history.begin(reader.name, Look(write.id))
                self.history.end(call, Unknown("it has no receipt") if found is None else _decided(found[1]))
            for key in sorted({write.key for write in known}):
                self._read(reader, city, key, min_height=min(top, self.simulation.height(city)))

    # ------------------------------------------------------------ one client

    def _begin(self, client: _Client) -> None:
        simulation = self.simulation
        up = [city for city in simulation.cities if simulation.is_up(city)]
        if not up:
            return
        at = self._random.choice(up)
        home = simulation.cities[0]
        org = f"KEY{self._random.randrange(self.keys)}"
        key = f"MA.156.{home}.{org}"
        if self._random.random() < 0.5:
            self._read(client, at, key, min_height=client.highest if self._random.random() < 0.5 else 0)
            return
        # The version that somebody saw, now and then a wrong one: that must be refused.
        known = self._seen.get(key)
        expected = max(0, (0 if known is None else known.version) + self._random.choice((0, 0, 0, 0, 0, -1, 1)))
        operation, signer, sets = self._operation(home, org, key, expected)
        id, data = simulation.build(at, [operation], signers=[signer])
        client.call = self.history.begin(client.name, Write(key, id.hex(), expected, sets))
        client.data = data
        client.ticket = simulation.send(at, data, ids=[id])
        if self._random.random() < 0.2:
            simulation.send(self._random.choice(up), data, ids=[id])

    def _operation(self, city: str, org: str, key: str, expected: int) -> tuple[dict[str, Any], Any, dict[str, str]]:
        """An operation on a key, who signs it, and what readers see of it."""
        own, holder = self.simulation.signer(city), self.simulation.organisation_signer(city, org)
        if expected == 0:
            entry = operations.prove_possession(holder, self.simulation.genesis.hash, key)
            made = operations.admit_organisation(city, org, name="An office", quota=1_000, keys=[entry])
            return made, own, dict(FIRST)
        suspended = key in self._seen and self._seen[key].fields.get("status") == "suspended"
        if suspended or self._random.random() < 0.3:
            status: Literal["active", "suspended"] = "active" if suspended else "suspended"
            return operations.set_status(key, expected_version=expected, status=status), own, {"status": status}
        value = f"https://{next(self._numbers)}.example"
        made = operations.update_profile(key, expected_version=expected, commitments={}, services=[(VALUE, value)])
        return made, holder, {VALUE: value}

    def _poll(self, client: _Client, call: Call, write: Write) -> None:
        simulation = self.simulation
        id = bytes.fromhex(write.id)
        if call.acknowledged is None and id in simulation.acknowledged:
            self.history.acknowledge(call)
        receipts = [
            found
            for city in simulation.cities
            if simulation.is_up(city) and (found := simulation.ledger(city).receipt(id)) is not None
        ]
        if receipts:
            self.history.end(call, _decided(receipts[0][1]))
        elif client.ticket in simulation.refused:
            self.history.end(call, Unknown(simulation.refused[client.ticket].kind))  # a second copy may be under way
        elif simulation.now_us - call.invoked > PATIENCE_MS * 1_000:
            self.history.end(call, Unknown("it took too long"))
        else:
            return
        client.call = None

    def _read(self, client: _Client, city: str, key: str, *, min_height: int) -> None:
        simulation = self.simulation
        call = self.history.begin(client.name, Read(key, min_height))
        floor = max(min_height, client.highest)
        if simulation.height(city) == 0:
            self.history.end(call, Failed("no block yet"))
            return
        saw = observe(simulation.answer(key, at=city), self._trust, key, min_height=floor, now=None)
        self.history.end(call, Failed("older than what was asked for") if saw is None else saw)
        if saw is not None:
            client.highest = saw.height
            if key not in self._seen or saw.height >= self._seen[key].height:
                self._seen[key] = saw


def observe(answer: Answer, trust: Trust, key: str, *, min_height: int, now: float | None) -> Saw | None:
    """What a verified answer shows; None when it is too old. Raises `AssertionError` when it does not verify.

    A time makes the check of its age that a client makes; without one only heights count.
    """
    verdict = verify(answer, trust, code=key, now=now, min_height=min_height)
    if verdict.verdict == "UNKNOWN":
        return None
    assert verdict.verdict in ("REGISTERED", "NOT_REGISTERED"), verdict.to_json()
    assert verdict.height is not None, "a verdict without a height is UNKNOWN"
    header = json.loads(answer.to_json())["header"]
    root = json.loads(header_json(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4))))["state_root"]
    if verdict.verdict == "NOT_REGISTERED":
        return Saw(verdict.height, root, 0, 0, {})
    record = json.loads(verdict.record or "{}")
    values = dict(record.get("services", ()))
    fields = {"status": record["status"], VALUE: values.get(VALUE, "")}
    return Saw(verdict.height, root, int(record["version"]), int(record["height"]), fields)


def _decided(receipt: str) -> Decided:
    found = json.loads(receipt)
    return Decided(int(found["height"]), None if found["status"] == "committed" else str(found.get("reason")))
