"""Governance in a simulated network: changes, and the proposals and votes that enact them.

>>> simulation = Simulation(cities=4, seed=1)
>>> fifth = simulation.add_city()
>>> enact(simulation, admit_city(simulation, fifth))
>>> enact(simulation, set_committee([*simulation.cities]))
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final


from cityid import keys
from cityid._native import possession_message
from cityid.testing.keys import PURPOSES, SeededSigner
from cityid.testing.simulation import Simulation

Change = dict[str, Any]
RETRY_MS: Final = 500


def admit_city(simulation: Simulation, city: str) -> Change:
    """The change that makes a city a member, with the newest key of each purpose."""
    return {
        "change": "admit_city",
        "city": city,
        "name": f"City {city}",
        "keys": [_entry(simulation, city, purpose) for purpose in PURPOSES],
        "certificate": _certificate(simulation.signer(city, "tls"), city),
        "services": [["peer", f"tls://{city}.example:27100"]],
    }


def replace_keys(simulation: Simulation, city: str, purposes: Iterable[str]) -> Change:
    """The change that gives a city its newest key of these purposes (`Simulation.renew` makes one)."""
    wanted = list(purposes)
    change: Change = {
        "change": "replace_keys",
        "city": city,
        "keys": [_entry(simulation, city, purpose) for purpose in wanted],
    }
    if "tls" in wanted:
        change["certificate"] = _certificate(simulation.signer(city, "tls"), city)
    return change


def remove_city(city: str) -> Change:
    """The change that retires a city."""
    return {"change": "remove_city", "city": city}


def set_committee(cities: Iterable[str]) -> Change:
    """The change that lets these cities decide."""
    return {"change": "set_committee", "cities": sorted(cities)}


def set_parameters(parameters: Mapping[str, int]) -> Change:
    """The change of limits and intervals."""
    return {"change": "set_parameters", "parameters": {name: str(value) for name, value in parameters.items()}}


def schedule_protocol(version: int, height: int) -> Change:
    """The change that lets a protocol version hold from a height on."""
    return {"change": "schedule_protocol", "version": version, "height": height}


def enact(simulation: Simulation, change: Change, *, limit_ms: int = 60_000) -> int:
    """Propose a change, let cities vote until it is enacted, whatever fails meanwhile; the height at which it was.

    Raises:
        TimeoutError: it is not enacted in time.
        ValueError: the rule refuses it.
    """
    end_us = simulation.now_us + limit_ms * 1_000
    proposed = _receipt(simulation, {"op": "propose", "change": change}, _voters(simulation)[:1], end_us)
    number = _number(proposed)
    voters = [city for city in _voters(simulation) if city != proposed["city"]]
    needed = len(_voters(simulation)) * 2 // 3  # besides the one that proposed
    height = 0
    for city in voters[:needed]:
        voted = _receipt(simulation, {"op": "vote", "proposal": number}, [city], end_us)
        height = int(voted["height"])
    return height


def _voters(simulation: Simulation) -> list[str]:
    """The member cities, those first that run."""
    return sorted(simulation.members(), key=lambda city: (not simulation.is_up(city), city))


def _receipt(simulation: Simulation, operation: Change, cities: Sequence[str], end_us: int) -> dict[str, Any]:
    """Send an operation of a city to whoever takes it, until it is decided; identical bytes each time (P19)."""
    city = cities[0]
    up = [at for at in sorted(simulation.members()) if simulation.is_up(at)]
    id_, data = simulation.build(
        max(up, key=simulation.height), [operation | {"city": city}], signers=[simulation.signer(city)]
    )
    turn = 0
    while simulation.now_us < end_us:
        up = [at for at in sorted(simulation.members()) if simulation.is_up(at)]
        if up:
            simulation.send(up[turn % len(up)], data, ids=[id_])
            turn += 1
        simulation.run_for(RETRY_MS)
        for at in up:
            if simulation.is_up(at) and (found := simulation.ledger(at).receipt(id_)) is not None:
                height, text = found
                receipt: dict[str, Any] = json.loads(text)
                if receipt["status"] != "committed":
                    raise ValueError(f"{operation} is refused: {text}")
                return receipt | {"height": height, "city": city}
    raise TimeoutError(f"{operation} is not decided in time; heights are {simulation.heights()}")


def _number(receipt: Mapping[str, Any]) -> int:
    return int(receipt["outputs"][0]["proposal"])


def _entry(simulation: Simulation, city: str, purpose: str) -> dict[str, Any]:
    signer = simulation.signer(city, purpose)
    message = possession_message(simulation.genesis.hash, f"MA.156.{city}", purpose, signer.public_key)
    return {"purpose": purpose, "key": signer.public_key.hex(), "possession": signer.sign(message).hex()}


def _certificate(signer: SeededSigner, city: str) -> str:
    return keys.parse_certificate(keys.tls_certificate(keys.FileSigner(signer.private), city)).der.hex()
