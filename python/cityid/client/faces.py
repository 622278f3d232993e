"""The two faces of the client: one for Trio, one for programs that do not wait in nurseries.

Both only obey the plans of `plans.py`. Every reply is read up to REPLY_BYTES, redirects are not followed (a gateway is
named by the person who asks), and proxies named by the environment are not used: a request goes where it is sent.
"""

import os
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias, TypeVar, overload

import httpx
import trio

from cityid._native import Trust, build_item_transaction, build_transaction, finish_transaction
from cityid.client import histories, plans
from cityid.client.histories import Then, Traced
from cityid.client.operations import ItemColumns, Operation, to_json
from cityid.client.plans import Memory, Plan, Resolved
from cityid.client.replies import Ask, Lost, Pause, Receipt, Reply
from cityid.errors import InputError, MalformedInput
from cityid.keys import Signer

if TYPE_CHECKING:
    from cityid.client.schemas import Schema

__all__ = ["Client", "SyncClient", "read_reply", "sign"]

Outcome = TypeVar("Outcome")

StrPath: TypeAlias = str | os.PathLike[str]

CHUNK_BYTES: Final = 1_048_576
REPLY_BYTES: Final = 16 * 1024 * 1024
TIMEOUT_S: Final = httpx.Timeout(30.0, connect=3.0)
LIMITS: Final = httpx.Limits(max_connections=32, max_keepalive_connections=16)
GATEWAYS: Final = 64
HEIGHT_AGE_S: Final = 5.0  # half a window is at least twenty-five seconds of the fastest blocks


def sign(
    operations: Sequence[Operation] | ItemColumns, signers: Sequence[Signer], *, genesis_hash: bytes, valid_until: int
) -> tuple[bytes, bytes]:
    """(id, transaction): operations signed by every signer, with a fresh nonce (P14, P15)."""
    # Signers stand in ascending order of their keys, and each once.
    ordered = [signer for _, signer in sorted({signer.public_key: signer for signer in signers}.items())]
    keys = [signer.public_key for signer in ordered]
    nonce = os.urandom(16)
    if isinstance(operations, ItemColumns):
        body, id, message = build_item_transaction(
            genesis_hash,
            valid_until,
            nonce,
            keys,
            category=operations.category,
            serials=operations.serials,
            commitments=[list(row.items()) for row in operations.commitments],
            namespace=operations.namespace,
            aliases=operations.aliases,
        )
    else:
        body, id, message = build_transaction(genesis_hash, valid_until, nonce, keys, to_json(operations))
    return id, finish_transaction(body, [signer.sign(message) for signer in ordered])


class Client:
    """Asks gateways, trusts none of them. `async with Client(urls, trust) as client: await client.resolve(code)`.

    `urls` are tried in turn, the one that answered last first. `trust` is all that is believed; `Client.trust` is newer
    after `update_trust`. `Client.sync` is the same client for a program without Trio.
    """

    def __init__(
        self, urls: str | Iterable[str], trust: Trust, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._memory = _memory(urls, trust)
        self._http = httpx.AsyncClient(timeout=TIMEOUT_S, limits=LIMITS, trust_env=False, transport=transport)
        self._validity: tuple[float, int, int] | None = None  # when asked, height, window

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with trio.CancelScope(shield=True):
            await self._http.aclose()

    @property
    def sync(self) -> "SyncClient":
        """A synchronous client with the same gateways, and the trust and highest height known so far."""
        return SyncClient(self._memory.gateways, self._memory.trust, highest=self._memory.highest)

    @property
    def trust(self) -> Trust:
        """What is believed now."""
        return self._memory.trust

    @property
    def highest(self) -> int:
        """The highest height that a verified answer showed; nothing older passes again."""
        return max(self._memory.highest, self._memory.trust.height)

    @property
    def gateways(self) -> tuple[str, ...]:
        """The URLs, in the order in which they were given."""
        return self._memory.gateways

    @overload
    async def resolve(
        self, code: str, *, max_age: float | None = None, min_height: int | None = None, at: None = None
    ) -> Resolved: ...
    @overload
    async def resolve(self, code: str, *, at: int | datetime) -> Then: ...
    async def resolve(
        self,
        code: str,
        *,
        max_age: float | None = None,
        min_height: int | None = None,
        at: int | datetime | None = None,
    ) -> Resolved | Then:
        """A verified answer about `code`; with `at` what held after that height or at that time.

        See `plans.resolve` and `histories.resolve_at`.
        """
        if at is not None:
            return await self._obey(histories.resolve_at(self._memory, code, at))
        return await self._obey(
            plans.resolve(self._memory, code, clock=time.time, max_age=max_age, min_height=min_height)
        )

    async def history(self, code: str, *, max_age: float | None = None, min_height: int | None = None) -> Traced:
        """Every version of `code`, verified. See `histories.history`."""
        return await self._obey(
            histories.history(self._memory, code, clock=time.time, max_age=max_age, min_height=min_height)
        )

    async def look_up(self, codes: Sequence[str]) -> list[dict[str, Any]]:
        """What a gateway says about many codes, unproven."""
        return await self._obey(plans.look_up(self._memory, codes))

    async def status(self, gateway: int | None = None) -> dict[str, Any]:
        """What a gateway says about itself."""
        return await self._obey(plans.status(self._memory, gateway))

    async def wait_for(self, height: int, *, gateway: int) -> dict[str, Any]:
        """The status of one gateway as soon as it has reached `height`."""
        return await self._obey(plans.wait_for(self._memory, height, gateway=gateway))

    async def configuration(self) -> dict[str, Any]:
        """What a gateway says of the network: parameters, committee, cities, protocol, open proposals. Unproven."""
        return await self._obey(plans.configuration(self._memory))

    async def proposal(self, number: int) -> dict[str, Any]:
        """What a gateway says of a proposal. Unproven."""
        return await self._obey(plans.proposal(self._memory, number))

    async def ranges_of(self, city: str, class_code: str, serial: int) -> list[dict[str, Any]]:
        """The records of the ranges that hold a serial, as a gateway says: the million, the thousand. Unproven."""
        return await self._obey(plans.ranges_of(self._memory, city, class_code, serial))

    async def items_of(self, city: str, class_code: str, base: int, size: int) -> list[str]:
        """Codes of the items with a record of their own in a range of serials, as a gateway says. Unproven."""
        return await self._obey(plans.items_of(self._memory, city, class_code, base, size))

    async def schema(self, category: str) -> "Schema | None":
        """The schema of a category, if it has one: its digest from a verified answer, its body checked against that."""
        from cityid.client.schemas import parse_schema, schema_digest

        found = await self.resolve(category)
        digest = schema_digest(found)
        return None if digest is None else parse_schema(await self._obey(plans.blob(self._memory, digest)))

    async def height_and_window(self) -> tuple[int, int]:
        """The height of a gateway, and for how many heights a transaction may stay valid, as it says."""
        return _height_and_window(await self.status())

    @property
    def genesis_hash(self) -> bytes:
        """Which network."""
        return self._memory.trust.genesis_hash

    async def submit(self, transactions: Mapping[bytes, bytes]) -> list[Receipt]:
        """Sends finished transactions, by id, and waits for their receipts. See `plans.submit`."""
        return await self._obey(plans.submit(self._memory, transactions))

    async def upload(self, path: StrPath) -> bytes:
        """Sends a file, for example a table, to a gateway; returns its digest. See `plans.upload`."""
        file = Path(path)
        digest = await trio.to_thread.run_sync(hash_file, file)
        await self._obey(plans.upload(self._memory, file, digest))
        return digest

    async def storage_receipts(self, digest: bytes, expected_version: int) -> list[dict[str, Any]]:
        """Storage receipts for an uploaded table. See `plans.storage_receipts`."""
        return await self._obey(plans.storage_receipts(self._memory, digest, expected_version))

    async def sign(
        self, operations: Sequence[Operation] | ItemColumns, signers: Sequence[Signer]
    ) -> tuple[bytes, bytes, int]:
        """(id, transaction, valid_until): operations signed, valid for half of the window from now."""
        now = time.monotonic()
        if self._validity is None or now - self._validity[0] > HEIGHT_AGE_S:
            self._validity = (now, *await self.height_and_window())
        _, height, window = self._validity
        valid_until = height + window // 2
        id, transaction = sign(
            operations, signers, genesis_hash=self._memory.trust.genesis_hash, valid_until=valid_until
        )
        return id, transaction, valid_until

    async def transact(self, operations: Sequence[Operation], signers: Sequence[Signer]) -> Receipt:
        """Signs, sends and waits: the receipt of a committed transaction.

        Raises:
            RuleViolation: the network rejects it; `.reason` is the stable code.
            Unavailable: it is not decided in time, or no gateway answers.
        """
        id, transaction, _ = await self.sign(operations, signers)
        return (await self.submit({id: transaction}))[0].require_committed()

    async def update_trust(self) -> Trust:
        """Trust, advanced to the newest header that a gateway proves."""
        return await self._obey(plans.update_trust(self._memory))

    async def _obey(self, plan: Plan[Outcome]) -> Outcome:
        answer: Reply | Lost | None = None
        while True:
            try:
                step = plan.send(answer)
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]
            match step:
                case Pause(seconds):
                    await trio.sleep(seconds)
                    answer = None
                case Ask():
                    answer = await self._ask(step)

    async def _ask(self, ask: Ask) -> Reply | Lost:
        url = self._memory.gateways[ask.gateway] + ask.path
        content = ask.content if ask.file is None else _read_waiting(ask.file)
        try:
            async with self._http.stream(
                ask.method, url, content=content, headers=_headers(ask), timeout=_timeout(ask)
            ) as response:
                body = bytearray()
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > REPLY_BYTES:
                        return Lost(f"its reply is longer than {REPLY_BYTES} bytes")
                return _reply(response, bytes(body))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return Lost(_why(error))


class SyncClient:
    """`Client` without Trio: `with Client(urls, trust).sync as client: client.resolve(code)`."""

    def __init__(
        self,
        urls: str | Iterable[str],
        trust: Trust,
        *,
        highest: int = 0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._memory = _memory(urls, trust)
        self._memory.highest = highest
        self._http = httpx.Client(timeout=TIMEOUT_S, limits=LIMITS, trust_env=False, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    @property
    def trust(self) -> Trust:
        """What is believed now."""
        return self._memory.trust

    @property
    def highest(self) -> int:
        """The highest height that a verified answer showed; nothing older passes again."""
        return max(self._memory.highest, self._memory.trust.height)

    @overload
    def resolve(
        self, code: str, *, max_age: float | None = None, min_height: int | None = None, at: None = None
    ) -> Resolved: ...
    @overload
    def resolve(self, code: str, *, at: int | datetime) -> Then: ...
    def resolve(
        self,
        code: str,
        *,
        max_age: float | None = None,
        min_height: int | None = None,
        at: int | datetime | None = None,
    ) -> Resolved | Then:
        """A verified answer about `code`; with `at` what held after that height or at that time.

        See `plans.resolve` and `histories.resolve_at`.
        """
        if at is not None:
            return self._obey(histories.resolve_at(self._memory, code, at))
        return self._obey(plans.resolve(self._memory, code, clock=time.time, max_age=max_age, min_height=min_height))

    def history(self, code: str, *, max_age: float | None = None, min_height: int | None = None) -> Traced:
        """Every version of `code`, verified. See `histories.history`."""
        return self._obey(
            histories.history(self._memory, code, clock=time.time, max_age=max_age, min_height=min_height)
        )

    def fetch(self, path: str, *, accept: str) -> Reply:
        """One GET, from the first gateway that serves it; what comes is for the caller to verify."""
        return self._obey(plans.first_usable(self._memory, "GET", path, accept=accept))

    def look_up(self, codes: Sequence[str]) -> list[dict[str, Any]]:
        """What a gateway says about many codes, unproven."""
        return self._obey(plans.look_up(self._memory, codes))

    def status(self, gateway: int | None = None) -> dict[str, Any]:
        """What a gateway says about itself."""
        return self._obey(plans.status(self._memory, gateway))

    def configuration(self) -> dict[str, Any]:
        """What a gateway says of the network: parameters, committee, cities, protocol, open proposals. Unproven."""
        return self._obey(plans.configuration(self._memory))

    def proposal(self, number: int) -> dict[str, Any]:
        """What a gateway says of a proposal. Unproven."""
        return self._obey(plans.proposal(self._memory, number))

    def ranges_of(self, city: str, class_code: str, serial: int) -> list[dict[str, Any]]:
        """The records of the ranges that hold a serial, as a gateway says: the million, the thousand. Unproven."""
        return self._obey(plans.ranges_of(self._memory, city, class_code, serial))

    def items_of(self, city: str, class_code: str, base: int, size: int) -> list[str]:
        """Codes of the items with a record of their own in a range of serials, as a gateway says. Unproven."""
        return self._obey(plans.items_of(self._memory, city, class_code, base, size))

    def schema(self, category: str) -> "Schema | None":
        """The schema of a category, if it has one: its digest from a verified answer, its body checked against that."""
        from cityid.client.schemas import parse_schema, schema_digest

        found = self.resolve(category)
        digest = schema_digest(found)
        return None if digest is None else parse_schema(self._obey(plans.blob(self._memory, digest)))

    def height_and_window(self) -> tuple[int, int]:
        """The height of a gateway, and for how many heights a transaction may stay valid, as it says."""
        return _height_and_window(self.status())

    @property
    def genesis_hash(self) -> bytes:
        """Which network."""
        return self._memory.trust.genesis_hash

    def submit(self, transactions: Mapping[bytes, bytes]) -> list[Receipt]:
        """Sends finished transactions, by id, and waits for their receipts. See `plans.submit`."""
        return self._obey(plans.submit(self._memory, transactions))

    def upload(self, path: StrPath) -> bytes:
        """Sends a file, for example a table, to a gateway; returns its digest. See `plans.upload`."""
        file = Path(path)
        digest = hash_file(file)
        self._obey(plans.upload(self._memory, file, digest))
        return digest

    def storage_receipts(self, digest: bytes, expected_version: int) -> list[dict[str, Any]]:
        """Storage receipts for an uploaded table. See `plans.storage_receipts`."""
        return self._obey(plans.storage_receipts(self._memory, digest, expected_version))

    def transact(self, operations: Sequence[Operation], signers: Sequence[Signer]) -> Receipt:
        """Signs, sends and waits: the receipt of a committed transaction. Raises as `Client.transact`."""
        height, window = self.height_and_window()
        id, transaction = sign(
            operations, signers, genesis_hash=self.trust.genesis_hash, valid_until=height + window // 2
        )
        return self.submit({id: transaction})[0].require_committed()

    def update_trust(self) -> Trust:
        """Trust, advanced to the newest header that a gateway proves."""
        return self._obey(plans.update_trust(self._memory))

    def _obey(self, plan: Plan[Outcome]) -> Outcome:
        answer: Reply | Lost | None = None
        while True:
            try:
                step = plan.send(answer)
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]
            match step:
                case Pause(seconds):
                    time.sleep(seconds)
                    answer = None
                case Ask():
                    answer = read_reply(self._http, self._memory.gateways[step.gateway], step)


def read_reply(http: httpx.Client, gateway: str, ask: Ask) -> Reply | Lost:
    """One request, synchronously; its reply up to REPLY_BYTES."""
    content = ask.content if ask.file is None else _read(ask.file)
    try:
        with http.stream(
            ask.method, gateway + ask.path, content=content, headers=_headers(ask), timeout=_timeout(ask)
        ) as response:
            body = bytearray()
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > REPLY_BYTES:
                    return Lost(f"its reply is longer than {REPLY_BYTES} bytes")
            return _reply(response, bytes(body))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Lost(_why(error))


def hash_file(path: Path) -> bytes:
    """The SHA-256 of a file. Raises `InputError` when it cannot be read."""
    hashed = sha256()
    for chunk in _read(path):
        hashed.update(chunk)
    return hashed.digest()


def _read(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}; check the path and its mode") from error


async def _read_waiting(path: Path) -> AsyncIterator[bytes]:
    chunks = _read(path)
    while (chunk := await trio.to_thread.run_sync(next, chunks, None)) is not None:
        yield chunk


def _timeout(ask: Ask) -> httpx.Timeout:
    return TIMEOUT_S if ask.patience_s is None else httpx.Timeout(ask.patience_s, connect=TIMEOUT_S.connect)


def _memory(urls: str | Iterable[str], trust: Trust) -> Memory:
    given = [urls] if isinstance(urls, str) else list(urls)
    if not 1 <= len(given) <= GATEWAYS:
        raise InputError(f"A client needs 1 to {GATEWAYS} gateways and gets {len(given)}. Next: name one with its URL.")
    for url in given:
        if not url.startswith(("http://", "https://")):
            raise InputError(f"{url!r} is no gateway: a URL starts with http:// or https://.")
    return Memory(tuple(url.rstrip("/") for url in given), trust)


def _headers(ask: Ask) -> dict[str, str]:
    headers = {"Accept": ask.accept}
    if ask.content_type:
        headers["Content-Type"] = ask.content_type
    if ask.file is not None:
        headers["Content-Length"] = str(ask.file.stat().st_size)
    return headers


def _reply(response: httpx.Response, body: bytes) -> Reply:
    media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        retry_after_s = float(response.headers["retry-after"])
    except (KeyError, ValueError):
        retry_after_s = None
    return Reply(response.status_code, media_type, body, retry_after_s, response.headers.get("cityid-next"))


def _why(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _height_and_window(found: Mapping[str, Any]) -> tuple[int, int]:
    try:
        return int(found["height"]), int(found["parameters"]["window"])
    except (KeyError, OverflowError, TypeError, ValueError):
        raise MalformedInput(
            "The gateway's status names no height and window. Next: is this a cityid gateway?"
        ) from None
