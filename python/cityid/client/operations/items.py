"""Categories, items and their old numbers: P24 to P27, P47, P49."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cityid.client.operations.values import (
    Item,
    ItemUpdate,
    Operation,
    Services,
    Status,
    hexadecimal,
    service_pairs,
)

__all__ = [
    "ItemColumns",
    "override_item",
    "register_aliases",
    "register_category",
    "register_items",
    "set_status",
    "update_items",
]


def register_category(
    city: str,
    org: str | None,
    *,
    use: str,
    class_code: str,
    model: str,
    name: str,
    schema: bytes | None = None,
) -> Operation:
    """P24; signed by the organisation, or by the city when `org` is None.

    `schema` is the SHA-256 of a JSON Schema for the attributes of its items, whose body is a blob.
    """
    operation: Operation = {"op": "register_category", "city": city}
    if org is not None:
        operation["org"] = org
    operation |= {"use": use, "class": class_code, "model": model, "name": name}
    return operation if schema is None else operation | {"schema": schema.hex()}


def register_items(
    city: str, org: str | None, *, use: str, class_code: str, model: str, items: Sequence[Item]
) -> Operation:
    """P25; signed by the organisation, or the city when `org` is None. All of the items are registered, or none."""
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
                "commitments": hexadecimal(item.commitments),
                "services": service_pairs(item.services),
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
                "commitments": hexadecimal(update.commitments),
                "services": service_pairs(update.services),
            }
            for update in updates
        ],
    }


def override_item(
    city: str,
    org: str | None,
    *,
    use: str,
    class_code: str,
    model: str,
    serial: int,
    expected_version: int,
    status: Status,
    commitments: Mapping[str, bytes],
    services: Services,
    proof: bytes,
) -> Operation:
    """P47; signed by the item's holder, or by its city when only the status changes.

    The next version of an item of a sealed range. `proof` is the table proof of its serial (`Answer.table`);
    `expected_version` 0 registers a serial that the table does not hold.
    """
    operation: Operation = {"op": "override_item", "city": city}
    if org is not None:
        operation["org"] = org
    return operation | {
        "use": use,
        "class": class_code,
        "model": model,
        "serial": serial,
        "expected_version": expected_version,
        "status": status,
        "commitments": hexadecimal(commitments),
        "services": service_pairs(services),
        "proof": proof.hex(),
    }


def set_status(code: str, *, expected_version: int, status: Status) -> Operation:
    """P27 for an item or an organisation; signed by its holder or its city."""
    return {"op": "set_status", "code": code, "expected_version": expected_version, "status": status}


def register_aliases(namespace: str, aliases: Mapping[str, str]) -> Operation:
    """P49; signed by the holder of the namespace and of every range that the codes lie in. Alias → canonical code."""
    return {
        "op": "register_aliases",
        "namespace": namespace,
        "aliases": [{"alias": alias, "code": code} for alias, code in aliases.items()],
    }


@dataclass(frozen=True, slots=True)
class ItemColumns:
    """Many items of one category as columns, a row each; `Client.sign` takes it in place of operations.

    It says what `register_items` and `register_aliases` say, for registers of which a dict a row would cost too much.

    `commitments` may be empty when no row has any, `aliases` when no row has an old number.
    """

    category: str  # its canonical code
    serials: Sequence[int]
    commitments: Sequence[Mapping[str, bytes]] = ()
    namespace: str = ""
    aliases: Sequence[str | None] = ()
