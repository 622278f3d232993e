"""What a city does with its organisations and its districts: P22, P50, P53."""

from collections.abc import Mapping, Sequence

from cityid.client.operations.values import KeyEntry, Operation, hexadecimal

__all__ = ["admit_organisation", "map_district", "set_terms"]


def admit_organisation(
    city: str,
    org: str,
    *,
    name: str,
    quota: int,
    keys: Sequence[KeyEntry],
    rate: int | None = None,
    commitments: Mapping[str, bytes] | None = None,
) -> Operation:
    """P22; signed by the city.

    `quota` counts the serials that the organisation may hold in each class, `rate` its operations and items in a block
    (None: as many as the network allows everybody).
    """
    return {
        "op": "admit_organisation",
        "city": city,
        "org": org,
        "name": name,
        "quota": quota,
        "rate": rate,
        "keys": [key.to_operation() for key in keys],
        "commitments": hexadecimal(commitments or {}),
    }


def set_terms(
    city: str, org: str, *, expected_version: int, name: str, quota: int, rate: int | None = None
) -> Operation:
    """P53; signed by the city. Name, quota and rate from now on; what is not repeated is not kept."""
    return {
        "op": "set_terms",
        "city": city,
        "org": org,
        "expected_version": expected_version,
        "name": name,
        "quota": quota,
        "rate": rate,
    }


def map_district(city: str, district: str) -> Operation:
    """P50; signed by the city. Old numbers that begin with the six digits of `district` are looked up at `city`."""
    return {"op": "map_district", "city": city, "district": district}
