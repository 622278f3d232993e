"""What the network has decided about itself, and who holds which range: plain reads of the last committed height.

Nothing here is proven, and every reply says so: `proven` is false. What a verifier believes comes from answers
(`/v1/codes`) and from the trust path (`/v1/trust`).
"""

import json
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Response
from fastapi.responses import JSONResponse

from cityid.node.control.face import NodeFace, SnapshotFace
from cityid.node.control.problems import Problem

__all__ = ["routes"]

OPEN_PROPOSALS: Final = 200
"""Only so many of the newest proposals are looked through for open ones."""
MAX_NUMBER: Final = 2**63 - 1  # P3
MILLION: Final = 1_000_000
THOUSAND: Final = 1_000
_FRESH: Final = {"Cache-Control": "no-cache"}

Number = Annotated[int, Path(ge=0, le=MAX_NUMBER)]
Serial = Annotated[int, Path(ge=0, le=999_999_999)]


def routes(face: NodeFace) -> APIRouter:
    """`/v1/governance` and `/v1/ranges`."""
    router = APIRouter(tags=["governance"])

    @router.get(
        "/v1/governance",
        summary="Parameters, committee, member cities, protocol versions, open proposals",
        description=f"Open proposals are those among the newest {OPEN_PROPOSALS}, the newest first.",
    )
    async def governance() -> Response:
        snapshot = face.ledger.snapshot()
        found: dict[str, Any] = json.loads(snapshot.configuration())
        found |= {
            "cities": [_city(city) for city in face.ledger.cities()],
            "open": _open(snapshot, int(found["proposals"])),
            "proven": False,
        }
        return JSONResponse(found, headers=_FRESH)

    @router.get("/v1/governance/proposals/{number}", summary="A proposal, its change spelled out")
    async def proposal(number: Number) -> Response:
        text = face.ledger.snapshot().proposal(number)
        if text is None:
            raise Problem("unknown-proposal", f"there is no proposal {number}; /v1/governance lists the open ones")
        return JSONResponse(json.loads(text) | {"proven": False}, headers=_FRESH)

    @router.get(
        "/v1/ranges/{city}/{cls}/{serial}",
        summary="The ranges that hold a serial",
        description="None, the million range, or the million and the thousand range. A thousand inside a million that "
        "is held as a whole has no record of its own.",
    )
    async def ranges(city: str, cls: str, serial: Serial) -> Response:
        snapshot = face.ledger.snapshot()
        found = []
        for size in (MILLION, THOUSAND):
            base = serial - serial % size
            text = snapshot.range(city, cls, base, size)
            if text is not None:
                where = {"city": city, "class": cls, "base": base, "size": size}
                found.append(json.loads(text) | {"range": where})
        return JSONResponse({"ranges": found, "proven": False}, headers=_FRESH)

    return router


def _open(snapshot: SnapshotFace, count: int) -> list[dict[str, Any]]:
    """Proposals are numbered from 1 in the order in which they were made."""
    found = []
    for number in range(count, max(0, count - OPEN_PROPOSALS), -1):
        text = snapshot.proposal(number)
        if text is not None:
            proposal: dict[str, Any] = json.loads(text)
            if proposal["status"] == "allocated":
                found.append(proposal)
    return found


def _city(city: dict[str, Any]) -> dict[str, Any]:
    return {name: _readable(value) for name, value in city.items()}


def _readable(value: Any) -> Any:
    match value:
        case bytes():
            return value.hex()
        case list() | tuple():
            return [_readable(one) for one in value]
        case _:
            return value
