"""Operations as values: one builder for each kind of docs/protocol.md P22 to P28.

A builder returns the JSON form that `cityid._native.build_transaction` encodes, with bytes in lower-case hexadecimal.
It checks nothing that the ledger checks: the rule lives in one place. What a builder does not know is whether the
network will accept the operation; `Client.transact` says so.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cityid._native import possession_message
from cityid.keys import Signer

__all__ = [
    "Item",
    "ItemUpdate",
    "KeyEntry",
    "Operation",
    "admit_organisation",
    "allocate_range",
    "because",
    "prove_possession",
    "register_category",
    "register_items",
    "rotate_keys",
    "set_item_status",
    "set_range_status",
    "to_json",
    "update_items",
]

Operation = dict[str, Any]
Status = Literal["allocated", "active", "suspended", "retired"]


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """A public key with the proof that its holder has the private half (P16)."""

    key: bytes
    possession: bytes
    purpose: str = "transaction"

    def to_operation(self) -> dict[str, str]:
        """The form that stands in an operation."""
        return {"purpose": self.purpose, "key": self.key.hex(), "possession": self.possession.hex()}


@dataclass(frozen=True, slots=True)
class Item:
    """One item to register: its serial, salted commitments by attribute name, services as (type, uri)."""

    serial: int
    commitments: Mapping[str, bytes]
    services: Sequence[tuple[str, str]] = ()
    status: Literal["active", "allocated"] = "active"


@dataclass(frozen=True, slots=True)
class ItemUpdate:
    """The next version of a registered item; `expected_version` is the version that it replaces."""

    serial: int
    expected_version: int
    commitments: Mapping[str, bytes]
    services: Sequence[tuple[str, str]] = ()


def prove_possession(signer: Signer, genesis_hash: bytes, subject: str, *, purpose: str = "transaction") -> KeyEntry:
    """A key entry for `subject` (a canonical code), signed by the key itself (P16)."""
    message = possession_message(genesis_hash, subject, purpose, signer.public_key)
    return KeyEntry(signer.public_key, signer.sign(message), purpose)


def admit_organisation(
    city: str,
    org: str,
    *,
    name: str,
    quota: int,
    keys: Sequence[KeyEntry],
    commitments: Mapping[str, bytes] | None = None,
) -> Operation:
    """P22; signed by the city. `quota` counts the serials that the organisation may hold in each class."""
    return {
        "op": "admit_organisation",
        "city": city,
        "org": org,
        "name": name,
        "quota": quota,
        "keys": [key.to_operation() for key in keys],
        "commitments": _hexadecimal(commitments or {}),
    }


def allocate_range(city: str, org: str, *, class_code: str, size: Literal[1_000, 1_000_000] = 1_000) -> Operation:
    """P23; signed by the organisation. The receipt names the range that the state machine assigned."""
    return {"op": "allocate_range", "city": city, "org": org, "class": class_code, "size": size}


def register_category(city: str, org: str | None, *, use: str, class_code: str, model: str, name: str) -> Operation:
    """P24; signed by the organisation, or by the city when `org` is None."""
    operation: Operation = {"op": "register_category", "city": city}
    if org is not None:
        operation["org"] = org
    return operation | {"use": use, "class": class_code, "model": model, "name": name}


def register_items(city: str, org: str, *, use: str, class_code: str, model: str, items: Sequence[Item]) -> Operation:
    """P25; signed by the organisation. All of the items are registered, or none."""
    return {
        "op": "register_items",
        "city": city,
        "org": org,
        "use": use,
        "class": class_code,
        "model": model,
        "items": [
            {
                "serial": item.serial,
                "commitments": _hexadecimal(item.commitments),
                "services": [list(service) for service in item.services],
                "status": item.status,
            }
            for item in items
        ],
    }


def update_items(city: str, *, class_code: str, updates: Sequence[ItemUpdate]) -> Operation:
    """P26; signed by the holder."""
    return {
        "op": "update_items",
        "city": city,
        "class": class_code,
        "items": [
            {
                "serial": update.serial,
                "expected_version": update.expected_version,
                "commitments": _hexadecimal(update.commitments),
                "services": [list(service) for service in update.services],
            }
            for update in updates
        ],
    }


def set_item_status(code: str, *, expected_version: int, status: Status) -> Operation:
    """P27 for an item or an organisation; signed by its holder or its city."""
    return {"op": "set_status", "code": code, "expected_version": expected_version, "status": status}


def set_range_status(
    city: str, *, class_code: str, base: int, size: int, expected_version: int, status: Status
) -> Operation:
    """P27 for a range; signed by its city."""
    whole_range = {"city": city, "class": class_code, "base": base, "size": size}
    return {"op": "set_status", "range": whole_range, "expected_version": expected_version, "status": status}


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


def because(operation: Operation, *, reason: int, basis: bytes | None = None) -> Operation:
    """The same operation with a reason code and, if there is one, the digest of a decision document (P21)."""
    reasoned = operation | {"reason": reason}
    return reasoned if basis is None else reasoned | {"basis": basis.hex()}


def to_json(operations: Sequence[Operation]) -> str:
    """What `build_transaction` takes."""
    return json.dumps(list(operations), ensure_ascii=False, separators=(",", ":"))


def _hexadecimal(commitments: Mapping[str, bytes]) -> dict[str, str]:
    return {name: value.hex() for name, value in commitments.items()}
