"""Ranges of serials, handed out, reserved and sealed, and their status: P23, P27, P46, P48."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from cityid.client.operations.values import Operation, Range, Status

__all__ = ["allocate_range", "reserve_range", "seal_range", "set_range_status"]


def allocate_range(
    city: str, org: str | None, *, class_code: str, size: Literal[1_000, 1_000_000] = 1_000
) -> Operation:
    """P23; signed by the organisation, or the city when `org` is None. The receipt names the range that it got."""
    return {"op": "allocate_range", "city": city, "org": org, "class": class_code, "size": size}


def reserve_range(held: Range, *, org: str | None) -> Operation:
    """P48; signed by the city. A range whose serials were given before it joined, for `org` or the city itself."""
    operation: Operation = {"op": "reserve_range", "city": held.city}
    if org is not None:
        operation["org"] = org
    return operation | {"class": held.class_code, "base": held.base, "size": held.size}


def seal_range(
    sealed: Range,
    *,
    expected_version: int,
    root: bytes,
    digest: bytes,
    count: int,
    receipts: Sequence[Mapping[str, Any]],
) -> Operation:
    """P46; signed by the holder of the range. `receipts` are those of `Client.storage_receipts`: city and signature."""
    return {
        "op": "seal_range",
        "range": sealed.to_operation(),
        "expected_version": expected_version,
        "table": {"root": root.hex(), "digest": digest.hex(), "count": count},
        "receipts": [{"city": receipt["city"], "signature": receipt["signature"]} for receipt in receipts],
    }


def set_range_status(changed: Range, *, expected_version: int, status: Status) -> Operation:
    """P27 for a range; signed by its city."""
    return {
        "op": "set_status",
        "range": changed.to_operation(),
        "expected_version": expected_version,
        "status": status,
    }
