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

from cityid._native import History, Told
from cityid.client.plans import FIRST_PAUSE_S, ROUNDS, Memory, Plan, Troubles, ask
from cityid.client.replies import CBOR, Ask, Lost, Pause, Reply, failure
from cityid.errors import InputError, MalformedInput, PeerUnreachable, ProofInvalid, Unavailable
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

    def judge(found: History) -> Told:
        return found.verify(memory.trust, code=code, now=clock(), max_age=max_age, min_height=floor)

    return (yield from _trace(memory, code, judge, lambda told: told.verdict.verdict != "UNKNOWN"))


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

    def reaches(told: Told) -> bool:
        as_of, height = told.verdict.as_of, told.verdict.height
        if as_of is None or height is None:
            return False
        return height >= at if isinstance(at, int) else as_of >= to_milliseconds(at)

    traced = yield from _trace(memory, code, lambda found: found.verify(memory.trust, code=code), reaches)
    if not reaches(traced.told):
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
    memory: Memory, code: str, judge: Callable[[History], Told], suffices: Callable[[Told], bool]
) -> Plan[Traced]:
    troubles = Troubles()
    stale: Traced | None = None
    for round_number in range(ROUNDS):
        for index in memory.tour():
            gateway = memory.gateways[index]
            reply = yield from ask(Ask(index, "GET", _path(code), accept=CBOR))
            if (error := _trouble(reply)) is not None:
                if not isinstance(error, Unavailable):
                    raise error
                troubles.add(gateway, error)
                continue
            assert isinstance(reply, Reply)
            try:
                found = History.from_bytes(reply.body)
            except MalformedInput as malformed:
                troubles.add(gateway, ProofInvalid(f"its history does not parse: {malformed}"))
                continue
            told = judge(found)
            if told.verdict.verdict == "INVALID":
                step, _, detail = told.verdict.steps[-1]
                troubles.add(gateway, ProofInvalid(f"its history fails at the step {step}: {detail}"))
                continue
            rest = yield from _rest(memory, code, told, index)
            traced = Traced(code, told, (found, *rest), gateway)
            if suffices(told):
                memory.preferred = index
                memory.highest = max(memory.highest, told.verdict.height or 0)
                return traced
            stale = traced
        if round_number + 1 < ROUNDS:
            yield Pause(FIRST_PAUSE_S * 2**round_number)
    if stale is not None:
        return stale
    raise troubles.as_error(memory, f"the history of {code}")


def _rest(memory: Memory, code: str, told: Told, first: int) -> Plan[list[History]]:
    """The parts that continue a history, from whichever gateway has them; fewer when none has."""
    parts: list[History] = []
    order = [first, *(index for index in memory.tour() if index != first)]
    while told.missing is not None and told.verdict.height is not None and len(told.versions) < MOST_VERSIONS:
        _, height, hash_ = told.missing
        path = f"{_path(code)}&from={height}-{hash_.hex()}-{told.verdict.height + 1}"
        for index in order:
            reply = yield from ask(Ask(index, "GET", path, accept=CBOR))
            if _trouble(reply) is not None or not isinstance(reply, Reply):
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


def _trouble(reply: Reply | Lost) -> Exception | None:
    """Why a reply brings no history. A gateway that says the question itself is wrong is believed."""
    if isinstance(reply, Lost):
        return PeerUnreachable(reply.reason)
    return None if reply.media_type == CBOR else failure(reply)


def _path(code: str) -> str:
    return f"/v1/codes/{quote(code, safe='/.')}/history?limit={PART_VERSIONS}"
