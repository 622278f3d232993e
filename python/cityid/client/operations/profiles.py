"""Profiles: keys, controllers, services, recovery, and who holds what: P28, P51, P52, P54 to P57."""

from collections.abc import Mapping, Sequence

from cityid.client.operations.values import KeyEntry, Operation, Range, Services, hexadecimal, service_pairs

__all__ = [
    "accept_transfer",
    "end_recovery",
    "offer_transfer",
    "rotate_keys",
    "set_controllers",
    "start_recovery",
    "update_profile",
]


def rotate_keys(
    code: str, *, expected_version: int, add: Sequence[KeyEntry] = (), remove: Sequence[bytes] = ()
) -> Operation:
    """P28; signed by the subject of the keys."""
    return {
        "op": "rotate_keys",
        "code": code,
        "expected_version": expected_version,
        "add": [key.to_operation() for key in add],
        "remove": [key.hex() for key in remove],
    }


def set_controllers(code: str, *, expected_version: int, threshold: int) -> Operation:
    """P51; signed by the subject under its present threshold. How many transaction keys must sign from now on."""
    return {"op": "set_controllers", "code": code, "expected_version": expected_version, "threshold": threshold}


def update_profile(
    code: str,
    *,
    expected_version: int,
    commitments: Mapping[str, bytes],
    services: Services = (),
    schema: bytes | None = None,
) -> Operation:
    """P52; signed by the subject. All commitments and services from now on; `schema` of a category."""
    operation: Operation = {
        "op": "update_profile",
        "code": code,
        "expected_version": expected_version,
        "commitments": hexadecimal(commitments),
        "services": service_pairs(services),
    }
    return operation if schema is None else operation | {"schema": schema.hex()}


def start_recovery(code: str, *, expected_version: int, keys: Sequence[KeyEntry]) -> Operation:
    """P54; signed by whoever stands above the subject. The new transaction keys take over after a delay."""
    return {
        "op": "start_recovery",
        "code": code,
        "expected_version": expected_version,
        "keys": [key.to_operation() for key in keys],
    }


def end_recovery(code: str, *, expected_version: int, cancel: bool) -> Operation:
    """P55: cancelled, by the subject or whoever started it; or finished, once its height is reached."""
    return {"op": "end_recovery", "code": code, "expected_version": expected_version, "cancel": cancel}


def offer_transfer(target: str | Range, *, expected_version: int, to: str | None) -> Operation:
    """P56; signed by the holder of an item (its code) or a range. `to` is a holder code; None withdraws the offer."""
    return _of({"op": "offer_transfer", "expected_version": expected_version, "to": to}, target)


def accept_transfer(target: str | Range, *, expected_version: int) -> Operation:
    """P57; signed by the receiver."""
    return _of({"op": "accept_transfer", "expected_version": expected_version}, target)


def _of(operation: Operation, target: str | Range) -> Operation:
    named = {"range": target.to_operation()} if isinstance(target, Range) else {"code": target}
    return operation | named
