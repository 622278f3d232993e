"""The past, asked for and verified: jobs of a client like those of `plans.py`.

A history is verified before anything is concluded from it, and a part of one is bound to the part before it, whichever
gateway gave it. What no gateway has is said: `Traced.told.complete` is false then.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

from cityid._native import History, Told, Verdict
from cityid.client.plans import Memory, Plan, ask, first_proven
from cityid.client.replies import CBOR, Ask, Reply
from cityid.errors import InputError, MalformedInput, ProofInvalid, Unavailable
from cityid.moments import to_milliseconds

__all__ = ["Then", "Traced", "history", "resolve_at"]

MOST_VERSIONS: Final = 65_536  # of one history, over all its parts
PART_VERSIONS: Final = 4_096


@dataclass(frozen=True, slots=True)
class Traced:
    """A verified history. The verdict in `told` is never INVALID; `parts` are the beginning and what continues it."""

    code: str
    told: Told
    parts: tuple[History, ...]
    gateway: str


@dataclass(frozen=True, slots=True)
class Then:
    """What held of a code at a moment, proven.

    `verdict` is REGISTERED, NOT_REGISTERED, MISMATCH, NOT_OURS or UNAVAILABLE (`why` says what is missing). `version`,
    `height`, `time_ms` and `record` are of the version that held; its status is its own, not the worst along the chain.
    """

    code: str
    verdict: str
    why: str | None
    version: int | None
    height: int | None
    time_ms: int | None
    record: dict[str, Any] | None
    traced: Traced


def history(
    memory: Memory,
    code: str,
    *,
    clock: Callable[[], float],
    max_age: float | None = None,
    min_height: int | None = None,
) -> Plan[Traced]:
    """Every version of a code, newest first; UNKNOWN when only older answers can be had.

    Raises:
        InputError: every gateway refuses the question, for example because the code breaks the grammar.
        ProofInvalid: what gateways answered does not verify.
        Unavailable: no gateway answers.
    """
    floor = max(memory.highest, memory.trust.height, min_height or 0)

    def verify(found: History) -> Told:
        return found.verify(memory.trust, code=code, now=clock(), max_age=max_age, min_height=floor)

    return (yield from _trace(memory, code, verify, lambda verdict: verdict.verdict != "UNKNOWN"))


def resolve_at(memory: Memory, code: str, at: int | datetime) -> Plan[Then]:
    """What held of a code after a height, or at a time. What was does not age: any answer that is not from before that
    moment will do. Raises as `history`; `Unavailable` when no gateway has come as far.
    """
    if isinstance(at, datetime) and at.tzinfo is None:
        raise InputError(f"{at} has no offset from UTC. Next: give it one.")
    if isinstance(at, int) and at < 0:
        raise InputError(f"{at} is no height; heights count from 0.")

    def held(told: Told) -> tuple[int | None, str | None]:
        return told.at(at) if isinstance(at, int) else told.at_time(to_milliseconds(at))

    def reaches(verdict: Verdict) -> bool:
        as_of, height = verdict.as_of, verdict.height
        if as_of is None or height is None:
            return False
        return height >= at if isinstance(at, int) else as_of >= to_milliseconds(at)

    traced = yield from _trace(memory, code, lambda found: found.verify(memory.trust, code=code), reaches)
    if not reaches(traced.told.verdict):
        raise Unavailable(
            f"No gateway of {len(memory.gateways)} has come to {at} yet, or trust does not know its cities."
        )
    number, why = held(traced.told)
    verdict = traced.told.verdict.verdict
    if number is None:
        denied = verdict in ("NOT_REGISTERED", "NOT_OURS")
        # Nothing is ever deleted: what is proven absent today was never there.
        kept = verdict if denied or verdict == "UNAVAILABLE" else "NOT_REGISTERED" if why is None else "UNAVAILABLE"
        return Then(code, kept, None if denied else why, None, None, None, None, traced)
    row = next(row for row in traced.told.versions if row[0] == number)
    return Then(code, verdict, None, number, row[1], row[2], json.loads(row[3]), traced)


def _trace(
    memory: Memory, code: str, verify: Callable[[History], Told], suffices: Callable[[Verdict], bool]
) -> Plan[Traced]:
    def judge(body: bytes) -> tuple[tuple[History, Told], Verdict]:
        try:
            found = History.from_bytes(body)
        except MalformedInput as malformed:
            raise ProofInvalid(f"its history does not parse: {malformed}") from None
        told = verify(found)
        return (found, told), told.verdict

    index, (found, told), _ = yield from first_proven(
        memory, _path(code), judge, suffices, "history", f"the history of {code}"
    )
    rest = yield from _rest(memory, code, told, index)
    return Traced(code, told, (found, *rest), memory.gateways[index])


def _rest(memory: Memory, code: str, told: Told, first: int) -> Plan[list[History]]:
    """The parts that continue a history, from whichever gateway has them; fewer when none has."""
    parts: list[History] = []
    order = [first, *(index for index in memory.tour() if index != first)]
    while told.missing is not None and told.verdict.height is not None and len(told.versions) < MOST_VERSIONS:
        _, height, hash_ = told.missing
        path = f"{_path(code)}&from={height}-{hash_.hex()}-{told.verdict.height + 1}"
        for index in order:
            reply = yield from ask(Ask(index, "GET", path, accept=CBOR))
            if not isinstance(reply, Reply) or reply.media_type != CBOR:
                continue
            before = len(told.versions)
            try:
                part = History.from_bytes(reply.body)
                told.extend(part)
            except (MalformedInput, ProofInvalid):
                continue  # nothing of it was added: another gateway may do better
            if len(told.versions) > before:
                parts.append(part)
                break
        else:
            return parts
    return parts


def _path(code: str) -> str:
    return f"/v1/codes/{quote(code, safe='/.')}/history?limit={PART_VERSIONS}"
