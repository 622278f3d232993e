"""What cities decide together: proposals, votes, and the changes that they are about: P58 to P68."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from cityid.client.operations.values import KeyEntry, Operation, Services, service_pairs

__all__ = [
    "Change",
    "admit_city",
    "merge_city",
    "propose",
    "remove_city",
    "replace_keys",
    "schedule_protocol",
    "set_city_status",
    "set_committee",
    "set_parameters",
    "vote",
    "withdraw_proposal",
]

Change = dict[str, Any]


def propose(city: str, change: Change) -> Operation:
    """P58; signed by the city, which agrees by proposing. The receipt gives the number of the proposal."""
    return {"op": "propose", "city": city, "change": change}


def vote(city: str, proposal: int) -> Operation:
    """P59; signed by the city, which agrees. The vote that makes more than two thirds enacts the change."""
    return {"op": "vote", "city": city, "proposal": proposal}


def withdraw_proposal(city: str, proposal: int) -> Operation:
    """P60; signed by the city that proposed."""
    return {"op": "withdraw_proposal", "city": city, "proposal": proposal}


def admit_city(
    city: str, *, name: str, keys: Sequence[KeyEntry], certificate: bytes, services: Services = ()
) -> Change:
    """P61: a new member. One key each of purpose consensus, checkpoint and tls, 1 to 16 of purpose transaction.

    `certificate` is the self-signed TLS certificate of its tls key, DER; the service `peer` says where its node is.
    """
    return {
        "change": "admit_city",
        "city": city,
        "name": name,
        "keys": [key.to_operation() for key in keys],
        "certificate": certificate.hex(),
        "services": service_pairs(services),
    }


def remove_city(city: str) -> Change:
    """P62: it leaves the committee and is a member no longer. Its codes resolve for ever, as retired ones."""
    return {"change": "remove_city", "city": city}


def set_city_status(city: str, status: Literal["active", "suspended"]) -> Change:
    """P63."""
    return {"change": "set_city_status", "city": city, "status": status}


def replace_keys(city: str, *, keys: Sequence[KeyEntry], certificate: bytes | None = None) -> Change:
    """P64: the city's keys of each purpose that occurs; with a tls key its new certificate, DER."""
    change: Change = {"change": "replace_keys", "city": city, "keys": [key.to_operation() for key in keys]}
    return change if certificate is None else change | {"certificate": certificate.hex()}


def set_committee(cities: Sequence[str]) -> Change:
    """P65: 4 to 100 active member cities decide the blocks from now on."""
    return {"change": "set_committee", "cities": sorted(cities)}


def set_parameters(parameters: Mapping[str, int]) -> Change:
    """P66."""
    return {"change": "set_parameters", "parameters": dict(parameters)}


def schedule_protocol(version: int, *, height: int) -> Change:
    """P67: from that height on the rules of that protocol version hold."""
    return {"change": "schedule_protocol", "version": version, "height": height}


def merge_city(city: str, *, into: str) -> Change:
    """P68: `into` signs for `city` from now on. The codes of both resolve for ever."""
    return {"change": "merge_city", "city": city, "into": into}
