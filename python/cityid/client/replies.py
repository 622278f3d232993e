"""What travels between a client and a gateway, read once into values: requests, replies, receipts, problems.

A gateway is not trusted: every field is checked before it is used, and a reply that is not what the route promises is
`MalformedInput`, never a crash.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from cityid.client.reasons import explain
from cityid.errors import (
    CityIDError,
    CodeError,
    MalformedInput,
    NotSynced,
    Overloaded,
    RuleViolation,
    Unavailable,
)

__all__ = [
    "CBOR",
    "CBOR_SEQUENCE",
    "JSON",
    "OCTETS",
    "Ask",
    "Lost",
    "Output",
    "Pause",
    "Receipt",
    "Reply",
    "failure",
    "json_object",
    "receipts",
    "whole_number",
]

CBOR: Final = "application/cbor"
CBOR_SEQUENCE: Final = "application/cbor-seq"
JSON: Final = "application/json"
OCTETS: Final = "application/octet-stream"

State = Literal["committed", "rejected", "expired", "refused", "pending"]
Output = tuple[int, int] | int | None


@dataclass(frozen=True, slots=True)
class Ask:
    """One HTTP request to one gateway, by its index. With `file` its bytes are the content, read while they are sent;
    `patience_s` is how long the gateway may take to answer, when that is longer than usual.
    """

    gateway: int
    method: str
    path: str
    accept: str = JSON
    content: bytes = b""
    content_type: str = ""
    file: Path | None = None
    patience_s: float | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait before going on."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. `media_type` is without parameters, in lower case; `following` names the next page."""

    status: int
    media_type: str
    body: bytes
    retry_after_s: float | None = None
    following: str | None = None


@dataclass(frozen=True, slots=True)
class Lost:
    """Nothing usable came back, and whether the gateway acted on the request is not known."""

    reason: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one transaction.

    `outputs`: for each operation `(base, size)` of an allocated range, the number of a proposal, or None.
    """

    id: bytes
    state: State
    height: int | None = None
    reason: str | None = None
    message: str | None = None
    operation: int | None = None
    outputs: tuple[Output, ...] = ()

    @property
    def final(self) -> bool:
        """Whether asking again can change anything."""
        return self.state != "pending"

    def require_committed(self) -> "Receipt":
        """Itself when committed; else raises RuleViolation, or Unavailable when it is not decided."""
        match self.state:
            case "committed":
                return self
            case "pending":
                raise Unavailable(
                    f"Transaction {self.id.hex()} is not decided yet. "
                    "Next: send the same bytes again; that is always safe."
                )
            case "rejected" | "refused" | "expired":
                where = "" if self.operation is None else f" (operation {self.operation})"
                reason = self.reason or self.state
                raise RuleViolation(reason, f"{self.message or explain(reason)}{where}")


def json_object(reply: Reply) -> dict[str, Any]:
    """The body as a JSON object."""
    try:
        found = json.loads(reply.body)
    except (ValueError, RecursionError) as error:
        raise MalformedInput(
            f"The gateway's reply is no JSON ({error}). Next: is this the URL of a cityid gateway?"
        ) from None
    if not isinstance(found, dict):
        raise MalformedInput("The gateway's reply is JSON but no object. Next: is this the URL of a cityid gateway?")
    return found


def whole_number(found: Mapping[str, Any], name: str) -> int:
    """A whole number in a gateway's reply. Raises MalformedInput when there is none."""
    try:
        return int(found[name])
    except (KeyError, OverflowError, TypeError, ValueError):
        raise MalformedInput(
            f"The gateway's reply names no {name}. Next: is this the URL of a cityid gateway?"
        ) from None


def failure(reply: Reply) -> CityIDError:
    """The exception that a refusal stands for: RFC 9457 problem+json, or the bare status without it."""
    try:
        problem = json_object(reply)
    except MalformedInput:
        problem = {}
    detail = problem.get("detail") or problem.get("title") or f"the gateway answers with status {reply.status}"
    message = str(detail)[:2_000]
    kind = str(problem.get("type", "")).rpartition(":")[2]
    match reply.status, kind:
        case 400, "code":
            return CodeError(message)
        case ((403 | 409), _):
            return RuleViolation(str(problem.get("reason") or "refused")[:100], message)
        case 429, _:
            return Overloaded(message)
        case 503, "not-synced":
            return NotSynced(message)
        case (408, _) | (503, _):
            return Unavailable(message)
        case status, _ if status >= 500:
            return Unavailable(message)
        case _:
            return MalformedInput(message)


def receipts(reply: Reply) -> list[Receipt]:
    """The receipts in a reply to `POST /v1/transactions`."""
    rows = json_object(reply).get("transactions")
    if not isinstance(rows, list):
        raise MalformedInput("The gateway's reply to a submission has no list of transactions.")
    return [_receipt(row) for row in rows]


def _receipt(row: Any) -> Receipt:
    try:
        state, reason = _state(row["status"], row.get("reason"))
        return Receipt(
            id=bytes.fromhex(row["id"]),
            state=state,
            height=None if row.get("height") is None else int(row["height"]),
            reason=reason,
            message=_text(row.get("message")),
            operation=None if row.get("operation") is None else int(row["operation"]),
            outputs=tuple(_output(output) for output in row.get("outputs") or ()),
        )
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise MalformedInput(f"The gateway's reply has a receipt that cannot be read: {error!r}") from None


def _output(found: Any) -> Output:
    match found:
        case None:
            return None
        case {"proposal": number}:
            return int(number)
        case _:
            return int(found["base"]), int(found["size"])


def _state(status: Any, reason: Any) -> tuple[State, str | None]:
    match status, reason:
        case "committed", _:
            return "committed", None
        case "rejected", str():
            return "rejected", reason[:100]
        case "refused", "expired":
            return "expired", "expired"
        case "refused", str() if reason not in ("overloaded", "pool_share", "not_ready"):
            return "refused", reason[:100]
        case _:
            # Not decided, or not taken for the moment; of a `duplicate` the first inclusion's receipt is still to come.
            return "pending", None


def _text(value: object) -> str | None:
    return None if value is None else str(value)[:2_000]
