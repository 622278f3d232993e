"""Refusals as problem+json (RFC 9457): one table of types, one form.

`type` is `urn:cityid:problem:` and a word of `TYPES`; both it and `reason`, where a rule was broken, are stable.
`detail` is for people. A refusal by a bound names the bound and its value in `limit` and `value`.
"""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from cityid.errors import (
    CityIDError,
    CodeError,
    InputError,
    NotSynced,
    Overloaded,
    PeerUnreachable,
    RuleViolation,
    StorageError,
    Unavailable,
    VerificationError,
)

__all__ = ["MEDIA_TYPE", "TYPES", "Problem", "on_cityid_error", "on_http_exception", "on_invalid_request", "on_problem"]

MEDIA_TYPE: Final = "application/problem+json"
PREFIX: Final = "urn:cityid:problem:"

TYPES: Final[Mapping[str, tuple[int, str]]] = {
    "code": (400, "The text is not a code"),
    "malformed": (400, "The request cannot be read"),
    "verification": (400, "What was sent does not verify"),
    "rule": (409, "The distribution rule forbids it"),
    "not-found": (404, "There is nothing at this path"),
    "unknown-transaction": (404, "No receipt for this transaction"),
    "unknown-block": (404, "No such block"),
    "unknown-file": (404, "No such file here"),
    "unknown-proposal": (404, "No such proposal"),
    "method": (405, "The path does not take this method"),
    "not-acceptable": (406, "No representation that the client accepts"),
    "slow-request": (408, "The request body did not arrive in time"),
    "too-large": (413, "The request is over a limit"),
    "media-type": (415, "The body's media type is not taken here"),
    "overloaded": (429, "The node is at a limit"),
    "internal": (500, "The node failed"),
    "not-synced": (503, "The node is behind the network"),
    "peers": (503, "Other cities do not answer"),
    "storage": (503, "The node's disk fails"),
    "no-checkpoint": (503, "No checkpoint is cosigned yet"),
    "unavailable": (503, "The node cannot serve this now"),
}

# Reasons of P18 to P29 that say "not you" rather than "not so".
FORBIDDEN: Final = frozenset({"not_authorised", "bad_signature", "suspended"})
RETRY_AFTER_S: Final[Mapping[str, int]] = {
    "overloaded": 1, "not-synced": 5, "peers": 5, "no-checkpoint": 5, "unavailable": 1,
}  # fmt: skip


class Problem(Exception):
    """A refusal on its way to the client."""

    def __init__(self, kind: str, detail: str, *, status: int | None = None, **members: Any) -> None:
        super().__init__(kind, detail)
        self.kind = kind
        self.status, self.title = TYPES[kind]
        if status is not None:
            self.status = status
        self.detail = detail
        self.members = members

    def response(self) -> Response:
        """The refusal as an HTTP response."""
        body = {"type": PREFIX + self.kind, "title": self.title, "status": self.status, "detail": self.detail}
        headers = {"Cache-Control": "no-store"}
        if self.kind in RETRY_AFTER_S:
            headers["Retry-After"] = str(RETRY_AFTER_S[self.kind])
        text = json.dumps(body | self.members, ensure_ascii=False)
        return Response(text, status_code=self.status, media_type=MEDIA_TYPE, headers=headers)


def over_limit(kind: str, what: str, limit: str, value: int) -> Problem:
    """A refusal by one of the node's limits."""
    return Problem(kind, f"{what}; the limit {limit} is {value}", limit=limit, value=value)


def from_error(error: CityIDError) -> Problem:
    """The refusal that an error stands for."""
    match error:
        case RuleViolation():
            return from_reason(error.reason, str(error.args[1]))
        case CodeError():
            return Problem("code", str(error))
        case InputError():
            return Problem("malformed", str(error))
        case VerificationError():
            return Problem("verification", str(error))
        case Overloaded():
            return Problem("overloaded", str(error))
        case NotSynced():
            return Problem("not-synced", str(error))
        case PeerUnreachable():
            return Problem("peers", str(error))
        case Unavailable():
            return Problem("unavailable", str(error))
        case StorageError():
            return Problem("storage", str(error))
        case _:
            return Problem("internal", str(error))


def from_reason(reason: str, message: str) -> Problem:
    """The refusal that a reason code of the rule stands for (P18 to P29)."""
    if reason == "malformed":
        return Problem("malformed", message, reason=reason)
    if reason == "not_ready":  # the ledger before its first certified block
        return Problem("not-synced", message, reason=reason)
    if reason == "too_large":
        return Problem("too-large", message, reason=reason)
    return Problem("rule", message, status=HTTPStatus.FORBIDDEN if reason in FORBIDDEN else None, reason=reason)


# ---------------------------------------------------------------- handlers for FastAPI


async def on_problem(request: Request, problem: Exception) -> Response:
    """A refusal that a route raised."""
    assert isinstance(problem, Problem)
    return problem.response()


async def on_cityid_error(request: Request, error: Exception) -> Response:
    """An error of the node or the core."""
    assert isinstance(error, CityIDError)
    return from_error(error).response()


async def on_invalid_request(request: Request, error: Exception) -> Response:
    """A path or query parameter that does not fit. Values are not echoed."""
    assert isinstance(error, RequestValidationError)
    wrong = [f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()[:10]]
    return Problem("malformed", "; ".join(wrong)).response()


async def on_http_exception(request: Request, error: Exception) -> Response:
    """What the framework refuses by itself: unknown paths and methods."""
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        response = Problem("method", "see /openapi.json for what this path takes").response()
        response.headers.update(error.headers or {})
        return response
    if error.status_code == HTTPStatus.NOT_FOUND:
        return Problem(
            "not-found", "see /openapi.json for the paths; a code is a path that starts with /MA."
        ).response()
    return Problem("malformed", str(error.detail), status=error.status_code).response()
