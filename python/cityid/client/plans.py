"""What a client does, without doing it: a job is a generator that yields what to ask next and is sent what came back.

    Ask(gateway, method, path, …)   →  Reply, or Lost when nothing usable came
    Pause(seconds)                  →  None

So the order of gateways, the retries, the checks and the verdicts are written once and serve the Trio face and the
synchronous face alike (`faces.py` obeys them); and they are tested without a socket or a clock.

Rules. An answer is verified before anything is concluded from it, whichever gateway gave it. The highest height that a
verified answer showed is kept, and nothing older passes for an answer again. When an answer is under another validator
set, trust is walked there first, by the certificates of the sets between. Sending the same transaction twice is safe
(P19), so a lost reply means: ask another gateway, with identical bytes. Receipts, and rows of `look_up`, are a
gateway's word, not a proof; what must be proven is resolved.
"""

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode

from cityid._native import Answer, Code, Trust, Verdict, header_json, verify
from cityid.client.operations import digest_of_document
from cityid.client.replies import (
    CBOR,
    CBOR_SEQUENCE,
    JSON,
    OCTETS,
    Ask,
    Lost,
    Pause,
    Receipt,
    Reply,
    failure,
    json_object,
    receipts,
    whole_number,
)
from cityid.errors import (
    CertificateInvalid,
    MalformedInput,
    PeerUnreachable,
    ProofInvalid,
    Unavailable,
    VerificationError,
)

__all__ = [
    "FIRST_PAUSE_S",
    "ROUNDS",
    "Memory",
    "Plan",
    "Resolved",
    "Troubles",
    "ask",
    "blob",
    "code_path",
    "configuration",
    "first_proven",
    "first_usable",
    "items_of",
    "look_up",
    "proposal",
    "ranges_of",
    "resolve",
    "status",
    "storage_receipts",
    "submit",
    "update_trust",
    "upload",
    "wait_for",
]

Outcome = TypeVar("Outcome")
Proven = TypeVar("Proven")
Plan = Generator[Ask | Pause, Reply | Lost | None, Outcome]

ROUNDS: Final = 3  # times that every gateway is asked before a question counts as unanswered
SERIALS: Final = 1_000_000_000  # of a class
ITEM_KIND: Final = 8  # first byte of an item's map key (P8)
LOOK_UP_CODES: Final = 1_000  # the bound of POST /v1/resolve
SUBMIT_BYTES: Final = 4 * 1024 * 1024  # of one request; a gateway refuses more
TRUST_CHANGES: Final = 256  # changes of the validator set in one reply of /v1/trust
TRUST_REPLIES: Final = 64  # replies in one walk: far more changes than a network makes in a year
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 2.0
RECEIPTS_S: Final = 180.0  # for several cities to fetch and check a large table
MAX_RECEIPTS: Final = 100
SIGNATURE_DIGITS: Final = 128


@dataclass(slots=True)
class Memory:
    """What a client remembers between jobs: trust, the highest height seen, which gateway answered last."""

    gateways: tuple[str, ...]
    trust: Trust
    highest: int = 0
    preferred: int = 0

    def tour(self) -> list[int]:
        """Every gateway once, the one that answered last first."""
        count = len(self.gateways)
        return [(self.preferred + step) % count for step in range(count)]


@dataclass(frozen=True, slots=True)
class Resolved:
    """A verified answer and what it proves. The verdict is never INVALID."""

    code: str
    verdict: Verdict
    answer: Answer
    gateway: str


@dataclass(slots=True)
class Troubles:
    """Why each gateway was passed over; the last word goes to the person who asked."""

    seen: list[tuple[str, Exception]] = field(default_factory=list)

    def add(self, gateway: str, error: Exception) -> None:
        """This gateway was of no use."""
        self.seen.append((gateway, error))

    def as_error(self, memory: Memory, question: str) -> Exception:
        """All of it, as the error of the question."""
        if not self.seen:
            return PeerUnreachable(f"{question}: no gateway is known. Next: name one with its URL.")
        worst = next((error for _, error in self.seen if isinstance(error, VerificationError)), self.seen[-1][1])
        latest = {gateway: str(error) for gateway, error in self.seen}
        told = "; ".join(f"{gateway}: {message}" for gateway, message in latest.items())
        kind = type(worst) if isinstance(worst, Unavailable | ProofInvalid) else PeerUnreachable
        return kind(f"{question}: no gateway of {len(memory.gateways)} gives a usable answer ({told})")


def resolve(
    memory: Memory,
    code: str,
    *,
    clock: Callable[[], float],
    max_age: float | None = None,
    min_height: int | None = None,
) -> Plan[Resolved]:
    """Asks for `code` until an answer verifies and is new enough; UNKNOWN when only older ones can be had.

    Raises:
        InputError: every gateway refuses the question, for example because the code breaks the grammar.
        ProofInvalid: what gateways answered does not verify.
        Unavailable: no gateway answers.
    """

    def judge(body: bytes) -> tuple[bytes, Verdict]:
        return body, _verdict(body, memory, code, clock(), max_age, min_height)

    index, body, verdict = yield from first_proven(
        memory, code_path(code), judge, lambda verdict: verdict.verdict != "UNKNOWN", "answer", f"resolving {code}"
    )
    return Resolved(code, verdict, Answer.from_bytes(body), memory.gateways[index])


def first_proven(
    memory: Memory,
    path: str,
    judge: Callable[[bytes], tuple[Proven, Verdict]],
    suffices: Callable[[Verdict], bool],
    what: str,
    question: str,
) -> Plan[tuple[int, Proven, Verdict]]:
    """Asks one gateway after the other for bytes that prove something, until what `judge` makes of them suffices; the
    last that verifies but does not suffice when no gateway has better. Which gateway, what it proves, the verdict.

    `judge` raises `ProofInvalid` for bytes that do not parse. What else is raised: as for `resolve`.
    """
    troubles = Troubles()
    stale: tuple[int, Proven, Verdict] | None = None
    for round_number in range(ROUNDS):
        for index in memory.tour():
            try:
                proven, verdict = yield from _proven(memory, index, path, judge, troubles)
                if verdict.verdict == "INVALID":
                    step, _, detail = verdict.steps[-1] if verdict.steps else (what, False, "no step was recorded")
                    raise ProofInvalid(f"its {what} fails at the step {step}: {detail}")
            except (Unavailable, ProofInvalid) as error:
                troubles.add(memory.gateways[index], error)
                continue
            if suffices(verdict):
                memory.preferred = index
                memory.highest = max(memory.highest, verdict.height or 0)
                return index, proven, verdict
            stale = index, proven, verdict
        if round_number + 1 < ROUNDS:
            yield Pause(FIRST_PAUSE_S * 2**round_number)
    if stale is not None:
        return stale
    raise troubles.as_error(memory, question)


def _proven(
    memory: Memory, index: int, path: str, judge: Callable[[bytes], tuple[Proven, Verdict]], troubles: Troubles
) -> Plan[tuple[Proven, Verdict]]:
    reply = yield from ask(Ask(index, "GET", path, accept=CBOR))
    if isinstance(reply, Lost):
        raise PeerUnreachable(reply.reason)
    if reply.media_type != CBOR:
        # A gateway that says the question itself is wrong is believed: asking another one changes nothing.
        raise failure(reply)
    proven, verdict = judge(reply.body)
    if verdict.verdict == "UNKNOWN" and _is_of_another_set(verdict):
        # The committee changed: follow it, as far as this gateway proves, and ask again.
        try:
            yield from _walk(memory, index)
        except (Unavailable, VerificationError, MalformedInput) as error:
            troubles.add(memory.gateways[index], error)
            return proven, verdict
        again = yield from ask(Ask(index, "GET", path, accept=CBOR))
        if isinstance(again, Reply) and again.media_type == CBOR:
            return judge(again.body)
    return proven, verdict


def look_up(memory: Memory, codes: Sequence[str]) -> Plan[list[dict[str, Any]]]:
    """What a gateway says about many codes, in their order; without proof, so a hint and nothing more."""
    rows: list[dict[str, Any]] = []
    for start in range(0, len(codes), LOOK_UP_CODES):
        part = list(codes[start : start + LOOK_UP_CODES])
        body = json.dumps({"codes": part, "proof": False}).encode()
        reply = yield from first_usable(memory, "POST", "/v1/resolve", content=body, content_type=JSON)
        found = json_object(reply).get("results")
        if not isinstance(found, list) or len(found) != len(part):
            raise MalformedInput(f"/v1/resolve answers {len(part)} codes with something else than as many rows.")
        rows.extend(row if isinstance(row, dict) else {} for row in found)
    return rows


def status(memory: Memory, gateway: int | None = None) -> Plan[dict[str, Any]]:
    """What one gateway says about itself; the first that answers when none is named."""
    if gateway is None:
        return json_object((yield from first_usable(memory, "GET", "/v1/status")))
    reply = yield from ask(Ask(gateway, "GET", "/v1/status", accept=JSON))
    if isinstance(reply, Lost):
        raise PeerUnreachable(f"{memory.gateways[gateway]} does not answer: {reply.reason}")
    if reply.status >= 400:
        raise failure(reply)
    return json_object(reply)


def submit(memory: Memory, transactions: Mapping[bytes, bytes], *, patience_s: float = 60.0) -> Plan[list[Receipt]]:
    """Sends finished transactions (by id) and waits until each is decided; receipts in the same order.

    A transaction that the gateway refuses outright comes back as a receipt of state `refused`. Waiting ends after
    `patience_s` seconds of pauses: what is not decided by then has state `pending`, and may be sent again as it is.

    Raises:
        Unavailable: no gateway takes them. Nothing is known then; sending the same bytes again is safe.
    """
    ids = list(transactions)
    settled: dict[bytes, Receipt] = {}
    pause = FIRST_PAUSE_S
    waited = 0.0
    while True:
        open_ids = [id for id in ids if id not in settled]
        for part in _parts(open_ids, transactions):
            body = b"".join(transactions[id] for id in part)
            reply = yield from first_usable(
                memory, "POST", "/v1/transactions?wait=committed", content=body, content_type=CBOR_SEQUENCE
            )
            settled.update((receipt.id, receipt) for receipt in receipts(reply) if receipt.final)
        if all(id in settled for id in ids) or waited >= patience_s:
            return [settled.get(id, Receipt(id, "pending")) for id in ids]
        # Sending again is how one asks again: identical bytes are the same transaction, wherever they arrive.
        yield Pause(pause)
        waited += pause
        pause = min(pause * 2, LONGEST_PAUSE_S)


def upload(memory: Memory, path: Path, digest: bytes) -> Plan[None]:
    """Sends a file to one gateway, the first that takes it. `digest` is its SHA-256.

    Raises:
        InputError: the gateway refuses the file, for example because it is over the network's limit.
        Unavailable: no gateway takes it now.
    """
    yield from first_usable(
        memory, "PUT", f"/v1/blobs/{digest.hex()}", content_type=OCTETS, file=path, patience_s=RECEIPTS_S
    )


def storage_receipts(memory: Memory, digest: bytes, expected_version: int) -> Plan[list[dict[str, Any]]]:
    """Storage receipts for an uploaded table: `{"city", "signature"}` each, as `seal_range` takes them (P46).

    `expected_version` is the version of the range that the seal will name. The receipts are not verified here: the
    network does, when it executes the seal.

    Raises:
        RuleViolation: the state forbids the table or has another version of the range; `.reason` is the stable code.
        MalformedInput: the file is no table, or the gateway's reply no list of receipts.
        Unavailable: too few cities keep it; the message names what each said.
    """
    body = json.dumps({"expected_version": expected_version}).encode()
    reply = yield from first_usable(
        memory, "POST", f"/v1/tables/{digest.hex()}/receipts", content=body, content_type=JSON, patience_s=RECEIPTS_S
    )
    rows = json_object(reply).get("receipts")
    if not isinstance(rows, list) or len(rows) > MAX_RECEIPTS or not all(_is_receipt(row) for row in rows):
        raise MalformedInput(f"/v1/tables/{digest.hex()}/receipts answers with something else than a list of receipts.")
    return [{"city": row["city"], "signature": row["signature"]} for row in rows]


def _is_receipt(row: Any) -> bool:
    if not isinstance(row, dict):
        return False
    city, signature = row.get("city"), row.get("signature")
    return isinstance(city, str) and isinstance(signature, str) and len(signature) == SIGNATURE_DIGITS


def configuration(memory: Memory) -> Plan[dict[str, Any]]:
    """What a gateway says of the network: parameters, committee, cities, protocol, open proposals. Unproven."""
    return json_object((yield from first_usable(memory, "GET", "/v1/governance")))


def proposal(memory: Memory, number: int) -> Plan[dict[str, Any]]:
    """What a gateway says of a proposal. Unproven."""
    return json_object((yield from first_usable(memory, "GET", f"/v1/governance/proposals/{number}")))


def ranges_of(memory: Memory, city: str, class_code: str, serial: int) -> Plan[list[dict[str, Any]]]:
    """The records of the ranges that hold a serial, as a gateway says: the million, the thousand. Unproven."""
    path = f"/v1/ranges/{quote(city, safe='')}/{quote(class_code, safe='')}/{serial}"
    found = json_object((yield from first_usable(memory, "GET", path))).get("ranges")
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise MalformedInput(f"{path} answers with something else than a list of ranges.")
    return found


def items_of(memory: Memory, city: str, class_code: str, base: int, size: int) -> Plan[list[str]]:
    """Codes of the items with a record of their own whose serials lie in a range, as a gateway says. Unproven."""
    codes: list[str] = []
    # Items stand in the order of city, class and serial; the list begins behind the place before the range (P8).
    place = int(class_code) * SERIALS + base - 1
    before = f"{city}{place // SERIALS:06d}{place % SERIALS:09d}".encode()
    after: str | None = (bytes([ITEM_KIND]) + before).hex() if place >= 0 else None
    while True:
        query = {"prefix": f"MA.156.{city}", "limit": "1000"} | ({} if after is None else {"after": after})
        reply = json_object((yield from first_usable(memory, "GET", f"/v1/codes?{urlencode(query)}")))
        try:
            found = [Code.parse(row["code"]) for row in reply["codes"] if row["kind"] == "item"]
            after = reply["next"]
        except (KeyError, TypeError) as error:
            raise MalformedInput(f"/v1/codes answers with something else than a list of codes: {error!r}") from None
        for code in found:
            if (code.cls or "", code.serial or 0) >= (class_code, base + size):
                return codes
            codes.append(code.text)
        if after is None:
            return codes


def blob(memory: Memory, digest: bytes) -> Plan[bytes]:
    """A small blob, checked against its digest, from the first gateway that has it.

    Raises:
        Unavailable: no gateway has it.
        ProofInvalid: what gateways send for it has another digest.
    """
    troubles = Troubles()
    for index in memory.tour():
        reply = yield from ask(Ask(index, "GET", f"/v1/blobs/{digest.hex()}", accept="*/*"))
        if isinstance(reply, Lost):
            troubles.add(memory.gateways[index], PeerUnreachable(reply.reason))
        elif reply.status >= 400:
            error = failure(reply)
            kept = error if isinstance(error, Unavailable) else PeerUnreachable(str(error))
            troubles.add(memory.gateways[index], kept)
        elif digest_of_document(reply.body) != digest:
            troubles.add(memory.gateways[index], ProofInvalid("what it sends has another digest"))
        else:
            return reply.body
    raise troubles.as_error(memory, f"fetching blob {digest.hex()}")


def wait_for(memory: Memory, height: int, *, gateway: int, patience_s: float = 30.0) -> Plan[dict[str, Any]]:
    """Asks one gateway for its status until it has reached `height`."""
    waited, last = 0.0, "nothing yet"
    while waited < patience_s:
        reply = yield from ask(Ask(gateway, "GET", "/v1/status", accept=JSON))
        if isinstance(reply, Reply) and reply.status < 400:
            found = json_object(reply)
            if whole_number(found, "height") >= height:
                return found
            last = f"height {found.get('height')}"
        elif isinstance(reply, Lost):
            last = reply.reason
        yield Pause(FIRST_PAUSE_S)
        waited += FIRST_PAUSE_S
    raise PeerUnreachable(
        f"{memory.gateways[gateway]} does not reach height {height} in {patience_s:g} s (last: {last})"
    )


def update_trust(memory: Memory) -> Plan[Trust]:
    """Walks trust to the newest header that a gateway proves, over every change of the validator set between (P75).

    Each step counts by the certificate of the set before it, so what was walked stays, whoever showed the rest.

    Raises:
        CertificateInvalid: a gateway's headers are not certified by the validators that lead to them, and no other
            gateway shows ones that are.
        Unavailable: no gateway answers.
    """
    troubles = Troubles()
    for index in memory.tour():
        try:
            yield from _walk(memory, index)
        except (Unavailable, VerificationError, MalformedInput) as error:
            troubles.add(memory.gateways[index], error)
            continue
        memory.preferred = index
        return memory.trust
    lies = [error for _, error in troubles.seen if isinstance(error, VerificationError)]
    if lies:
        raise lies[-1]
    if len(troubles.seen) == 1:
        raise troubles.seen[0][1]
    raise troubles.as_error(memory, "updating trust")


def _walk(memory: Memory, index: int) -> Plan[None]:
    """Advances trust as far as one gateway proves."""
    gateway = memory.gateways[index]
    for _ in range(TRUST_REPLIES):
        start = memory.trust.height
        reply = yield from ask(Ask(index, "GET", f"/v1/trust?from={start}", accept=JSON))
        if isinstance(reply, Lost):
            raise PeerUnreachable(f"{gateway} does not answer: {reply.reason}")
        if reply.status >= 400:
            raise failure(reply)
        changes, newest, more = _trust_steps(json_object(reply))
        try:
            for height, parts, next_set in changes + newest:
                if height > memory.trust.height:
                    memory.trust = memory.trust.advance(*parts, next_set)
        except CertificateInvalid as error:
            raise CertificateInvalid(
                f"{gateway} does not prove its way from height {start}: {error}. Nothing of that is believed. Next: "
                "ask another gateway; if all say so, compare the words of a newer trust file with a member city."
            ) from None
        memory.highest = max(memory.highest, memory.trust.height)
        if not more:
            return
        if memory.trust.height == start:
            raise MalformedInput(f"{gateway} says that there are more changes of the validator set, and shows none.")
    raise MalformedInput(f"{gateway} shows more than {TRUST_REPLIES} replies full of changes of the validator set.")


_Step = tuple[int, tuple[bytes, bytes, bytes], bytes | None]


def _trust_steps(reply: Mapping[str, Any]) -> tuple[list[_Step], list[_Step], bool]:
    """(changes of the set, the newest header, whether there are more) of a reply of `/v1/trust`."""
    try:
        changes, newest = reply.get("changes") or [], reply.get("newest")
        if len(changes) > TRUST_CHANGES:
            raise ValueError(f"{len(changes)} changes are more than {TRUST_CHANGES}")
        rows = [_trust_step(row, bytes.fromhex(row["next_set"])) for row in changes]
        return rows, [] if newest is None else [_trust_step(newest, None)], reply.get("more") is True
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise MalformedInput(
            f"/v1/trust answers with something else than headers, paths and certificates: {error}"
        ) from None


def _trust_step(row: Mapping[str, str], next_set: bytes | None) -> _Step:
    header = bytes.fromhex(row["header"])
    height = int(json.loads(header_json(header))["height"])
    return height, (header, bytes.fromhex(row["log_path"]), bytes.fromhex(row["certificate"])), next_set


def _is_of_another_set(verdict: Verdict) -> bool:
    """Whether an answer is UNKNOWN because trust does not know the validators of its header."""
    return any(name == "trust" and not passed for name, passed, _ in verdict.steps)


def _verdict(
    body: bytes, memory: Memory, code: str, now: float, max_age: float | None, min_height: int | None
) -> Verdict:
    floor = max(memory.highest, memory.trust.height, min_height or 0)
    return verify(body, memory.trust, code=code, now=now, max_age=max_age, min_height=floor)


def ask(question: Ask) -> Generator[Ask | Pause, Reply | Lost | None, Reply | Lost]:
    """One request and what came of it."""
    reply = yield question
    assert reply is not None, "whoever obeys a plan answers every Ask"
    return reply


def first_usable(
    memory: Memory,
    method: str,
    path: str,
    *,
    content: bytes = b"",
    content_type: str = "",
    accept: str = JSON,
    file: Path | None = None,
    patience_s: float | None = None,
) -> Plan[Reply]:
    """The first reply that is neither lost nor a refusal for the moment; other refusals are raised at once."""
    troubles = Troubles()
    for round_number in range(ROUNDS):
        asked_to_wait = 0.0
        for index in memory.tour():
            question = Ask(
                index, method, path, accept=accept, content=content, content_type=content_type,
                file=file, patience_s=patience_s,
            )  # fmt: skip
            reply = yield from ask(question)
            if isinstance(reply, Lost):
                troubles.add(memory.gateways[index], PeerUnreachable(reply.reason))
                continue
            if reply.status < 400:
                memory.preferred = index
                return reply
            error = failure(reply)
            if not isinstance(error, Unavailable):
                raise error
            troubles.add(memory.gateways[index], error)
            asked_to_wait = max(asked_to_wait, reply.retry_after_s or 0.0)
        if round_number + 1 < ROUNDS:
            yield Pause(min(max(FIRST_PAUSE_S * 2**round_number, asked_to_wait), LONGEST_PAUSE_S))
    raise troubles.as_error(memory, f"{method} {path.partition('?')[0]}")


def _parts(ids: Sequence[bytes], transactions: Mapping[bytes, bytes]) -> list[list[bytes]]:
    """The ids in requests of at most SUBMIT_BYTES each."""
    parts: list[list[bytes]] = []
    size = SUBMIT_BYTES
    for id in ids:
        if size + len(transactions[id]) > SUBMIT_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(id)
        size += len(transactions[id])
    return parts


def code_path(code: str) -> str:
    """Where a gateway answers about a code or an alias."""
    # What is under MA is a path of its own. An alias may hold what means something else in a path: it is escaped whole.
    if code[:3].upper() == "MA.":
        return f"/{quote(code, safe='/.')}"
    return f"/v1/codes/{quote(code, safe='')}"
