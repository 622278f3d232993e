"""What operations are made of: key entries, items, ranges, and the reason that an operation may carry."""

import hashlib
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
    "Range",
    "Services",
    "Status",
    "because",
    "digest_of_document",
    "hexadecimal",
    "prove_possession",
    "service_pairs",
    "to_json",
]

Operation = dict[str, Any]
Status = Literal["allocated", "active", "suspended", "retired"]
Services = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """A public key with the proof that its holder has the private half (P16).

    It counts from the height `from_height` (0: at once) to the one before `until_height` (None: for ever).
    """

    key: bytes
    possession: bytes
    purpose: str = "transaction"
    from_height: int = 0
    until_height: int | None = None

    def to_operation(self) -> dict[str, Any]:
        """The form that stands in an operation."""
        return {
            "purpose": self.purpose,
            "key": self.key.hex(),
            "from": self.from_height,
            "until": self.until_height,
            "possession": self.possession.hex(),
        }


@dataclass(frozen=True, slots=True)
class Item:
    """One item to register: its serial, salted commitments by attribute name, services as (type, uri)."""

    serial: int
    commitments: Mapping[str, bytes]
    services: Services = ()
    status: Literal["active", "allocated"] = "active"


@dataclass(frozen=True, slots=True)
class ItemUpdate:
    """The next version of a registered item; `expected_version` is the version that it replaces."""

    serial: int
    expected_version: int
    commitments: Mapping[str, bytes]
    services: Services = ()


@dataclass(frozen=True, slots=True)
class Range:
    """A range of serials of one (city, class): its first serial, and 1,000 or 1,000,000 of them."""

    city: str
    class_code: str
    base: int
    size: int

    def to_operation(self) -> dict[str, Any]:
        """The form that stands in an operation."""
        return {"city": self.city, "class": self.class_code, "base": self.base, "size": self.size}

    def __str__(self) -> str:
        return f"{self.city} {self.class_code} {self.base:09d}-{self.base + self.size - 1:09d}"


def prove_possession(
    signer: Signer,
    genesis_hash: bytes,
    subject: str,
    *,
    purpose: str = "transaction",
    from_height: int = 0,
    until_height: int | None = None,
) -> KeyEntry:
    """A key entry for `subject` (the canonical code of a city, an organisation or an item), signed by the key itself
    (P16).
    """
    message = possession_message(genesis_hash, subject, purpose, signer.public_key)
    return KeyEntry(signer.public_key, signer.sign(message), purpose, from_height, until_height)


def because(operation: Operation, *, reason: int | None = None, basis: bytes | None = None) -> Operation:
    """The same operation with a reason code and the digest of a decision document, as far as they are given (P21)."""
    reasoned = dict(operation)
    if reason is not None:
        reasoned["reason"] = reason
    if basis is not None:
        reasoned["basis"] = basis.hex()
    return reasoned


def digest_of_document(data: bytes) -> bytes:
    """What stands for a document in `basis`, and for a schema in a category: its SHA-256."""
    return hashlib.sha256(data).digest()


def to_json(operations: Sequence[Operation]) -> str:
    """What `build_transaction` takes."""
    return json.dumps(list(operations), ensure_ascii=False, separators=(",", ":"))


def hexadecimal(commitments: Mapping[str, bytes]) -> dict[str, str]:
    """Commitments as they stand in an operation."""
    return {name: value.hex() for name, value in commitments.items()}


def service_pairs(services: Services) -> list[list[str]]:
    """Services as they stand in an operation."""
    return [list(service) for service in services]
