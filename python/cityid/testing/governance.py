"""Governance in a simulated network: changes, and the proposals and votes that enact them.

>>> simulation = Simulation(cities=4, seed=1)
>>> fifth = simulation.add_city()
>>> enact(simulation, admit_city(simulation, fifth))
>>> enact(simulation, set_committee([*simulation.cities]))
"""

import json
from collections.abc import Sequence
from typing import Any, Final

from cityid import keys
from cityid.client import operations
from cityid.client.operations import Change
from cityid.testing.keys import PURPOSES
from cityid.testing.simulation import Simulation

RETRY_MS: Final = 500


def admit_city(simulation: Simulation, city: str) -> Change:
    """The change that makes a city a member, with the newest key of each purpose."""
    return operations.admit_city(
        city,
        name=f"City {city}",
        keys=_entries(simulation, city, PURPOSES),
        certificate=_certificate(simulation, city),
        services=[("peer", f"tls://{city}.example:27100")],
    )


def replace_keys(simulation: Simulation, city: str, purposes: Sequence[str]) -> Change:
    """The change that gives a city its newest key of these purposes (`Simulation.renew` makes one)."""
    certificate = _certificate(simulation, city) if "tls" in purposes else None
    return operations.replace_keys(city, keys=_entries(simulation, city, purposes), certificate=certificate)


def enact(simulation: Simulation, change: Change, *, limit_ms: int = 60_000) -> int:
    """Propose a change and let every member vote until it is enacted; the height at which it was.

    Raises:
        TimeoutError: it is not enacted in time.
        ValueError: the rule refuses it.
    """
    campaign = Campaign(simulation, change)
    end_us = simulation.now_us + limit_ms * 1_000
    while not campaign.step():
        if simulation.now_us >= end_us:
            raise TimeoutError(f"{change} is not enacted in time; heights are {simulation.heights()}")
        simulation.run_for(RETRY_MS)
    return campaign.height


class Campaign:
    """A change on its way, whatever fails meanwhile: identical bytes are sent again until they are decided (P19)."""

    def __init__(self, simulation: Simulation, change: Change) -> None:
        self.height = 0
        """The height at which the change was enacted."""
        self._simulation = simulation
        self._change = change
        self._members = sorted(simulation.members())
        self._turn = 0
        self._proposer = next((city for city in self._members if simulation.is_up(city)), self._members[0])
        self._proposal = self._build(self._proposer, operations.propose(self._proposer, change))
        self._votes: dict[str, tuple[bytes, bytes]] = {}

    def step(self) -> bool:
        """Send what is not decided yet, once; whether the change is enacted.

        Raises:
            ValueError: the rule refuses it.
        """
        proposed = self._receipt(*self._proposal)
        if proposed is None:
            return False
        if proposed["status"] != "committed":
            raise ValueError(f"{self._change} is refused: {proposed}")
        number = int(proposed["outputs"][0]["proposal"])
        for city in self._members:
            if city != self._proposer and city not in self._votes:
                self._votes[city] = self._build(city, operations.vote(city, number))
        receipts = [self._receipt(*built) for built in self._votes.values()]
        agreed = sorted(int(found["height"]) for found in receipts if found and found["status"] == "committed")
        needed = len(self._members) * 2 // 3  # besides the city that proposed
        if len(agreed) < needed:
            return False
        self.height = agreed[needed - 1]
        return True

    def _build(self, city: str, operation: operations.Operation) -> tuple[bytes, bytes]:
        up = [member for member in self._members if self._simulation.is_up(member)] or self._members
        newest = max(up, key=self._simulation.height)
        valid_for = 1_500 + self._simulation.height(newest) - self._simulation.height(city)
        signers = [self._simulation.signer(city)]
        return self._simulation.build(city, [operation], signers=signers, valid_for=valid_for)

    def _receipt(self, id_: bytes, data: bytes) -> dict[str, Any] | None:
        """What became of a transaction; it is sent to one more city while nobody knows."""
        up = [city for city in self._members if self._simulation.is_up(city)]
        for city in up:
            if (found := self._simulation.ledger(city).receipt(id_)) is not None:
                receipt: dict[str, Any] = json.loads(found[1])
                return receipt | {"height": found[0]}
        if up:
            self._turn += 1
            self._simulation.send(up[self._turn % len(up)], data, ids=[id_])
        return None


def _entries(simulation: Simulation, city: str, purposes: Sequence[str]) -> list[operations.KeyEntry]:
    genesis_hash, subject = simulation.genesis.hash, f"MA.156.{city}"
    return [
        operations.prove_possession(simulation.signer(city, purpose), genesis_hash, subject, purpose=purpose)
        for purpose in purposes
    ]


def _certificate(simulation: Simulation, city: str) -> bytes:
    signer = keys.FileSigner(simulation.signer(city, "tls").private)
    return keys.parse_certificate(keys.tls_certificate(signer, city)).der
