"""The HTTP interface over a node that only pretends: in process, and on Hypercorn over loopback."""

import io
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import trio
import trio.testing
from starlette.types import ASGIApp

from cityid import genesis
from cityid._native import Ledger
from cityid.client.plans import code_path
from cityid.errors import (
    CodeError,
    InputError,
    MalformedInput,
    NotSynced,
    Overloaded,
    PeerUnreachable,
    ProofInvalid,
    RuleViolation,
    StorageError,
)
from cityid.node.config import Address, Config, Limits, Timeouts
from cityid.node.control import FilesFace, create_app, serve
from cityid.node.control.requests import choose
from cityid.node.histories import Histories
from cityid.node.telemetry import Log, Metrics

ITEM = "MA.156.130100.A7K2/60.010203.1/000012345B"
PROBLEM = "urn:cityid:problem:"
FINE, REFUSED, LATE = bytes(32), b"\x01" * 32, b"\x02" * 32


class FakeAnswer:
    def __init__(self, code: str) -> None:
        self.code = code

    def to_bytes(self) -> bytes:
        return b"\x8a" + self.code.encode()

    def to_json(self) -> str:
        return json.dumps({"subject": self.code, "header": "00"})


class FakeLedger:
    """Knows one item; its JSON has odd spaces, so that encoding it again would show."""

    height = 9

    def snapshot(self) -> "FakeLedger":
        return self

    def resolve(self, code: str) -> str:
        if not code.upper().startswith(("MA.", "ALIAS:")):
            raise CodeError(f"{code!r} is no code; it starts with MA.")
        verdict = {ITEM: "REGISTERED", "MA.156.999999": "NOT_OURS", "MA.156.130100.SEAL": "UNAVAILABLE"}
        found = verdict.get(code, "NOT_REGISTERED")
        return (
            f'{{"verdict" :"{found}", "code":{json.dumps(code)},"status":null,"record":null,"as_of":"1","height":"9"}}'
        )

    def resolve_many(self, codes: Sequence[str]) -> list[str]:
        return [self._row(code) for code in codes]

    def _row(self, code: str) -> str:
        try:
            return self.resolve(code)
        except CodeError as error:
            return json.dumps({"subject": code, "verdict": "INVALID", "error": str(error)})

    def answer(self, code: str) -> FakeAnswer:
        self.resolve(code)
        return FakeAnswer(code)

    def range(self, city: str, cls: str, base: int, size: int) -> str | None:
        if not (len(city) == 6 and city.isdigit()):
            raise CodeError(f"{city!r} is no city; it has six digits.")
        record = {"version": "1", "holder": "MA.156.130100.A7K2"}
        return json.dumps(record) if (base, size) == (12_000, 1_000) else None

    def proposal(self, number: int) -> str | None:
        status = {1: "active", 2: "allocated"}.get(number)
        return status and json.dumps({"number": str(number), "status": status, "change": {"change": "remove_city"}})

    def configuration(self) -> str:
        return json.dumps({"parameters": {"window": 2_000}, "members": 4, "proposals": "2", "committee": []})

    def cities(self) -> list[dict[str, Any]]:
        return [{"city": "130100", "consensus": b"\x01", "transaction": [b"\x02"], "certificate": None}]


def no_histories() -> Histories:
    """Those of a network that has decided nothing: what is asked of them is tested where there is a store."""
    cities = [("130100", "石家庄"), ("110000", "北京"), ("440300", "深圳"), ("330100", "杭州")]
    with TemporaryDirectory() as folder:
        made = genesis.create_network(Path(folder) / "network", cities, name="none", time_ms=1_790_000_000_000)
    return Histories(Ledger(made), made, NoRecords())


class NoRecords:
    def batch(self, digest: bytes) -> bytes | None:
        return None

    def block(self, height: int) -> tuple[bytes, bytes, bytes] | None:
        return None

    def certified(self, height: int) -> tuple[bytes, bytes] | None:
        found = self.block(height)
        return None if found is None else found[:2]

    def check_kept(self, height: int) -> None:
        """It keeps everything."""

    def changes(self, height: int) -> bytes | None:
        return None

    def receipts(self, height: int) -> bytes | None:
        return None


HISTORIES = no_histories()


class FakeNode:
    files: FilesFace  # tests/integration/test_files.py has some

    def __init__(self) -> None:
        self.ledger = FakeLedger()
        self.histories = HISTORIES
        self.results: list[tuple[bytes, str | None, str | None]] = [(FINE, None, None)]
        self.raises: Exception | None = None
        self.hold = trio.Event()
        self.is_ready = self.is_healthy = True
        self.submitted = b""
        self.heights, self._reader = trio.open_memory_channel[int](10)

    async def submit(self, data: bytes) -> Sequence[tuple[bytes, str | None, str | None]]:
        await trio.lowlevel.checkpoint()
        if self.raises is not None:
            raise self.raises
        self.submitted = data
        return self.results

    async def wait_committed(self, ids: Sequence[bytes]) -> Sequence[str]:
        if LATE in ids:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        return [json.dumps({"id": id.hex(), "height": "7", "status": "committed"}) for id in ids]

    def receipt(self, id: bytes) -> str | None:
        return json.dumps({"id": id.hex(), "height": "7", "status": "committed"}) if id == FINE else None

    def block(self, height: int) -> Mapping[str, Any] | None:
        return {"height": str(height)} if height <= 9 else None

    def status(self) -> Mapping[str, Any]:
        return {"city": "130100", "height": "9", "name": "石家庄"}

    def cities(self) -> Mapping[str, Any]:
        return {"genesis": "00" * 32, "height": "1", "cities": []}

    def checkpoint(self) -> str | None:
        return "cityid/abc\n10\nAAAA\n\n— x y\n" if self.is_ready else None

    def trust_path(self, from_height: int) -> Mapping[str, Any]:
        if from_height > 9:
            raise InputError("height 10 is not decided here")
        return {"newest": None, "from": str(from_height)}

    def healthy(self) -> bool:
        return self.is_healthy

    def ready(self) -> bool:
        return self.is_ready

    def subscribe(self) -> trio.MemoryReceiveChannel[int]:
        return self._reader.clone()


class Site:
    """An application over a fake node, and a client for it."""

    def __init__(self, **limits: int) -> None:
        self.node = FakeNode()
        self.log = io.StringIO()
        self.metrics = Metrics()
        self.app: ASGIApp = create_app(
            self.node, limits=Limits(**limits), timeouts=Timeouts(), metrics=self.metrics, log=Log(self.log)
        )
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://node")


@asynccontextmanager
async def open_site(**limits: int) -> AsyncIterator[Site]:
    site = Site(**limits)
    async with site.client:
        yield site


def problem(response: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    """Checks that a reply is problem+json of this status and type."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["type"] == PROBLEM + kind
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    return body


# ---------------------------------------------------------------- looking up


@pytest.mark.parametrize("path", ["/", "/v1/codes/"])
async def test_one_code_by_both_paths(path: str) -> None:
    async with open_site() as site:
        reply = await site.client.get(path + ITEM)
        assert reply.status_code == 200
        assert reply.headers["content-type"] == "application/json"
        assert reply.headers["vary"] == "Accept"
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.text == site.node.ledger.resolve(ITEM)  # byte for byte
        proof = await site.client.get(path + ITEM, params={"proof": "1"})
        assert proof.json() == {"subject": ITEM, "header": "00"}
        cbor = await site.client.get(path + ITEM, headers={"Accept": "application/cbor"})
        assert (cbor.headers["content-type"], cbor.content) == ("application/cbor", FakeAnswer(ITEM).to_bytes())


@pytest.mark.parametrize("alias", ["LD-0017", "a:b", "x/../y", "..", "50%41", "a?b#c", "~!$&'()*+,;=@[]"])
async def test_an_alias_arrives_as_it_was_sent(alias: str) -> None:
    subject = f"alias:130100.A7K2/lamps:{alias}"
    async with open_site() as site:
        for path in (code_path(subject), f"/alias:{quote(subject.removeprefix('alias:'), safe='')}"):
            reply = await site.client.get(path)
            assert (reply.status_code, reply.json()["code"]) == (404, subject), path
            assert (await site.client.get(path, params={"proof": "1"})).json()["subject"] == subject


@pytest.mark.parametrize(
    ("code", "status", "verdict"),
    [
        ("MA.156.130100.A7K2/60.010203.1/000012346C", 404, "NOT_REGISTERED"),
        ("MA.156.999999", 404, "NOT_OURS"),
        ("MA.156.130100.SEAL", 503, "UNAVAILABLE"),
    ],
)
async def test_a_verdict_is_an_answer_whatever_its_status(code: str, status: int, verdict: str) -> None:
    async with open_site() as site:
        reply = await site.client.get("/" + code)
        assert reply.status_code == status
        assert reply.headers["content-type"] == "application/json"
        assert reply.json()["verdict"] == verdict
        assert ("retry-after" in reply.headers) is (status == 503)
        proof = await site.client.get("/" + code, headers={"Accept": "application/cbor"})
        assert (proof.status_code, proof.content) == (status, FakeAnswer(code).to_bytes())


async def test_a_node_that_is_behind_says_unknown_and_shows_its_proof() -> None:
    async with open_site() as site:
        site.node.is_ready = False
        reply = await site.client.get("/MA.156.130100.NONE")
        assert reply.status_code == 503
        assert reply.headers["retry-after"] == "5"
        assert (reply.json()["verdict"], reply.json()["was"]) == ("UNKNOWN", "NOT_REGISTERED")
        assert reply.json()["as_of"] == "1"
        proof = await site.client.get("/" + ITEM, headers={"Accept": "application/cbor"})
        assert (proof.status_code, proof.content) == (503, FakeAnswer(ITEM).to_bytes())
        many = await site.client.post("/v1/resolve", json={"codes": [ITEM, "bad"]})
        assert many.json()["results"][0]["verdict"] == "UNKNOWN"
        assert many.json()["results"][1]["verdict"] == "INVALID"  # what is no code stays no code
        site.node.is_ready = True  # the control
        assert (await site.client.get("/MA.156.130100.NONE")).json()["verdict"] == "NOT_REGISTERED"


async def test_what_is_no_code_or_no_path() -> None:
    async with open_site() as site:
        problem(await site.client.get("/v1/codes/hello"), 400, "code")
        problem(await site.client.get("/hello"), 404, "not-found")
        problem(await site.client.get("/docs"), 404, "not-found")  # it would need a CDN
        problem(await site.client.post("/" + ITEM), 405, "method")
        body = problem(await site.client.get("/" + ITEM, headers={"Accept": "image/png"}), 406, "not-acceptable")
        assert body["offered"] == ["application/json", "application/cbor"]
        assert "proof" in problem(await site.client.get("/" + ITEM, params={"proof": "x"}), 400, "malformed")["detail"]


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", "a/json"),
        ("*/*", "a/json"),
        ("a/cbor", "a/cbor"),
        ("A/CBOR;q=0.5, a/json;q=0.4", "a/cbor"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "a/json"),  # a browser
        ("a/json;q=0, */*", "a/cbor"),
        ("a/*;q=0.2", "a/json"),
        ("image/png", None),
        ("a/json;q=nan, a/cbor;q=9", None),
        (",;,=", None),
    ],
)
def test_the_representation_that_the_client_prefers(accept: str, chosen: str | None) -> None:
    assert choose(accept, ("a/json", "a/cbor")) == chosen


async def test_many_codes_at_once() -> None:
    async with open_site() as site:
        for codes in ([ITEM, "bad", "MA.156.999999"], [ITEM] * 1_000):  # at once, and in a thread
            reply = await site.client.post("/v1/resolve", json={"codes": codes})
            assert reply.status_code == 200
            assert reply.text == '{"results":[' + ",".join(site.node.ledger.resolve_many(codes)) + "]}"
        reply = await site.client.post("/v1/resolve", json={"codes": [ITEM, "bad"], "proof": True})
        first, second = reply.json()["results"]
        assert (first["verdict"], first["answer"]["subject"]) == ("REGISTERED", ITEM)
        assert "answer" not in second
        assert "is no code" in second["error"]
        assert (await site.client.post("/v1/resolve", json={"codes": []})).json() == {"results": []}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{", b'{"codes": "MA"}', b'{"codes": [1]}', b'{"codes": [], "proofs": true}',
        b'{"codes": [], "proof": 1}', b'{"codes": ["\\ud800"]}', b"[" * 100_000, b'{"codes": ["\xff"]}', b"{}",
    ],
)  # fmt: skip
async def test_bodies_that_are_no_list_of_codes(body: bytes) -> None:
    async with open_site() as site:
        headers = {"Content-Type": "application/json; charset=utf-8"}
        problem(await site.client.post("/v1/resolve", content=body, headers=headers), 400, "malformed")
        assert (await site.client.post("/v1/resolve", json={"codes": [ITEM]})).status_code == 200


async def test_limits_are_named_with_their_value() -> None:
    async with open_site(http_resolve_codes=5, http_body_bytes=65_536) as site:
        body = problem(await site.client.post("/v1/resolve", json={"codes": [ITEM] * 6}), 413, "too-large")
        assert (body["limit"], body["value"]) == ("http_resolve_codes", 5)
        too_large = bytes(65_537)
        headers = {"Content-Type": "application/cbor"}
        body = problem(await site.client.post("/v1/transactions", content=too_large, headers=headers), 413, "too-large")
        assert (body["limit"], body["value"]) == ("http_body_bytes", 65_536)
        assert site.node.submitted == b""
        assert (await site.client.post("/v1/transactions", content=bytes(65_536), headers=headers)).status_code == 202
        problem(await site.client.post("/v1/resolve", content=b"{}"), 415, "media-type")


async def call(
    app: ASGIApp, receive: Callable[[], Awaitable[Any]], path: str = "/v1/transactions"
) -> tuple[int, dict[str, Any]]:
    """One POST by hand, for bodies that httpx would not send."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        await trio.lowlevel.checkpoint()
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.1"}, "http_version": "1.1", "method": "POST",
        "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "headers": [(b"content-type", b"application/cbor")], "client": None, "server": None,
    }  # fmt: skip
    await app(scope, receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"])


async def test_a_body_is_capped_while_it_is_read() -> None:
    async with open_site(http_body_bytes=65_536) as site:
        chunks = 0

        async def endless() -> Any:
            nonlocal chunks
            chunks += 1
            return {"type": "http.request", "body": bytes(10_000), "more_body": True}

        status, body = await call(site.app, endless)
        assert (status, body["limit"]) == (413, "http_body_bytes")
        assert chunks == 7  # 70,000 bytes were enough to know


async def test_a_body_that_never_comes_is_given_up() -> None:
    async with open_site() as site:
        status, body = await call(site.app, trio.sleep_forever)
        assert (status, body["type"], body["limit"]) == (408, PROBLEM + "slow-request", "http_body_ms")
        assert trio.current_time() >= Timeouts().http_body_ms / 1000


async def test_requests_beyond_the_bound_are_refused_and_the_place_is_given_back() -> None:
    async with open_site(http_requests=3) as site:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(call, site.app, trio.sleep_forever)
            await trio.testing.wait_all_tasks_blocked()
            reply = await site.client.get("/v1/status")
            body = problem(reply, 429, "overloaded")
            assert (body["limit"], body["value"], reply.headers["retry-after"]) == ("http_requests", 3, "1")
        assert (await site.client.get("/v1/status")).status_code == 200  # the three have timed out


# ---------------------------------------------------------------- submitting

CBOR = {"Content-Type": "application/cbor"}
SEQUENCE = {"Content-Type": "application/cbor-seq"}


async def test_an_accepted_transaction() -> None:
    async with open_site() as site:
        reply = await site.client.post("/v1/transactions", content=b"tx", headers=CBOR)
        assert reply.status_code == 202
        assert reply.json() == {"transactions": [{"id": FINE.hex(), "status": "pending"}]}
        assert site.node.submitted == b"tx"
        reply = await site.client.post("/v1/transactions?wait=committed", content=b"tx", headers=CBOR)
        assert reply.status_code == 200
        assert reply.json()["transactions"][0]["status"] == "committed"


async def test_many_transactions_have_a_row_each() -> None:
    async with open_site() as site:
        site.node.results = [(FINE, None, None), (REFUSED, "bad_signature", "signature 0 does not verify")]
        reply = await site.client.post("/v1/transactions?wait=committed", content=b"txtx", headers=SEQUENCE)
        assert reply.status_code == 200
        fine, refused = reply.json()["transactions"]
        assert (fine["id"], fine["status"], fine["height"]) == (FINE.hex(), "committed", "7")
        assert refused == {
            "id": REFUSED.hex(), "status": "refused", "reason": "bad_signature",
            "message": "signature 0 does not verify",
        }  # fmt: skip
        site.node.results = [(REFUSED, "expired", "too late")]
        reply = await site.client.post("/v1/transactions", content=b"tx", headers=SEQUENCE)
        assert (reply.status_code, reply.json()["transactions"][0]["reason"]) == (202, "expired")


async def test_waiting_ends_and_tells_what_is_known() -> None:
    async with open_site() as site:
        site.node.results = [(FINE, None, None), (LATE, None, None)]
        reply = await site.client.post("/v1/transactions?wait=committed", content=b"txtx", headers=SEQUENCE, timeout=99)
        assert reply.status_code == 202
        assert [row["status"] for row in reply.json()["transactions"]] == ["committed", "pending"]
        assert trio.current_time() >= Timeouts().http_wait_ms / 1000


@pytest.mark.parametrize(
    ("reason", "status", "kind"),
    [
        ("malformed", 400, "malformed"),
        ("too_large", 413, "too-large"),
        ("bad_signature", 403, "rule"),
        ("not_authorised", 403, "rule"),
        ("expired", 409, "rule"),
        ("wrong_network", 409, "rule"),
        ("stale_version", 409, "rule"),
    ],
)
async def test_a_single_refused_transaction_is_a_problem_with_its_reason(reason: str, status: int, kind: str) -> None:
    async with open_site() as site:
        site.node.results = [(REFUSED, reason, "the message")]
        body = problem(await site.client.post("/v1/transactions", content=b"tx", headers=CBOR), status, kind)
        assert (body["reason"], body["detail"]) == (reason, "the message")


@pytest.mark.parametrize(
    ("error", "status", "kind", "retry"),
    [
        (MalformedInput("no CBOR"), 400, "malformed", None),
        (RuleViolation("over_quota", "quota is used up"), 409, "rule", None),
        (RuleViolation("not_ready", "no block yet"), 503, "not-synced", "5"),
        (ProofInvalid("another root"), 400, "verification", None),
        (Overloaded("pool_bytes is 5"), 429, "overloaded", "1"),
        (NotSynced("3 heights behind"), 503, "not-synced", "5"),
        (PeerUnreachable("no quorum"), 503, "peers", "5"),
        (StorageError("no space"), 503, "storage", None),
        (ZeroDivisionError("a bug"), 500, "internal", None),
    ],
)
async def test_errors_of_the_node(error: Exception, status: int, kind: str, retry: str | None) -> None:
    async with open_site() as site:
        site.node.raises = error
        reply = await site.client.post("/v1/transactions", content=b"tx", headers=CBOR)
        body = problem(reply, status, kind)
        assert reply.headers.get("retry-after") == retry
        if status == 500:
            assert "a bug" not in reply.text
            assert json.loads(site.log.getvalue())["error"] == "ZeroDivisionError"
        else:
            assert body["detail"] in str(error)
        site.node.raises = None
        assert (await site.client.post("/v1/transactions", content=b"tx", headers=CBOR)).status_code == 202


async def test_submissions_that_are_none() -> None:
    async with open_site() as site:
        problem(await site.client.post("/v1/transactions", content=b"", headers=CBOR), 400, "malformed")
        problem(await site.client.post("/v1/transactions", content=b"tx"), 415, "media-type")
        problem(await site.client.post("/v1/transactions?wait=long", content=b"tx", headers=CBOR), 400, "malformed")
        assert site.node.submitted == b""


async def test_receipts() -> None:
    async with open_site() as site:
        reply = await site.client.get(f"/v1/transactions/{FINE.hex()}")
        assert (reply.status_code, reply.json()["status"]) == (200, "committed")
        problem(await site.client.get(f"/v1/transactions/{LATE.hex()}"), 404, "unknown-transaction")
        for id in ("x" * 64, "00" * 31, " 0" * 32):
            problem(await site.client.get(f"/v1/transactions/{id}"), 400, "malformed")


# ---------------------------------------------------------------- the chain, and operations


async def test_blocks_status_trust_and_checkpoint() -> None:
    async with open_site() as site:
        assert (await site.client.get("/v1/blocks/9")).json() == {"height": "9"}
        problem(await site.client.get("/v1/blocks/10"), 404, "unknown-block")
        for height in ("-1", "x", str(2**63)):
            problem(await site.client.get(f"/v1/blocks/{height}"), 400, "malformed")
        assert (await site.client.get("/v1/status")).json()["name"] == "石家庄"
        assert (await site.client.get("/v1/trust?from=3")).json()["from"] == "3"
        problem(await site.client.get("/v1/trust?from=10"), 400, "malformed")
        reply = await site.client.get("/checkpoint")
        assert reply.headers["content-type"] == "text/plain; charset=utf-8"
        assert reply.text.startswith("cityid/abc\n10\n")
        site.node.is_ready = False
        assert problem(await site.client.get("/checkpoint"), 503, "no-checkpoint")


async def test_probes_and_figures() -> None:
    async with open_site() as site:
        assert (await site.client.get("/health/live")).json() == {"live": True}
        assert (await site.client.get("/health/ready")).json() == {"ready": True}
        site.node.is_ready = False
        problem(await site.client.get("/health/ready"), 503, "unavailable")
        assert (await site.client.get("/health/live")).status_code == 200
        site.node.is_healthy = False
        problem(await site.client.get("/health/live"), 503, "unavailable")
        await site.client.get("/" + ITEM)
        await site.client.get("/nobody/knows/this")
        text = (await site.client.get("/metrics")).text
        assert 'cityid_http_requests_total{route="/health/ready",status="503"} 1.0' in text
        assert 'cityid_http_requests_total{route="/MA.{rest:path}",status="503"} 1.0' in text
        assert "nobody" not in text  # a stranger cannot make a label


async def test_openapi_names_every_route() -> None:
    async with open_site() as site:
        document = (await site.client.get("/openapi.json")).json()
        assert set(document["paths"]) >= {
            "/MA.{rest}", "/alias:{rest}", "/v1/codes/{code}", "/v1/resolve", "/v1/transactions",
            "/v1/transactions/{id}", "/v1/blocks/{height}", "/v1/status", "/v1/events", "/v1/trust", "/checkpoint",
            "/metrics", "/health/live", "/health/ready",
        }  # fmt: skip
        for path in document["paths"].values():
            for operation in path.values():
                assert "application/problem+json" in operation["responses"]["default"]["content"]


# ---------------------------------------------------------------- on Hypercorn


def config_of(**timeouts: int) -> Config:
    nowhere, address = Path("/nonexistent"), Address("127.0.0.1", 0)
    return Config(
        city="130100", genesis=nowhere, certificates=nowhere, keys=nowhere, data=nowhere,
        listen_peers=address, listen_http=address, peers={}, limits=Limits(http_events=1),
        timeouts=Timeouts(**timeouts),
    )  # fmt: skip


async def start(nursery: trio.Nursery, node: FakeNode, stop: trio.Event, log: io.StringIO, config: Config) -> str:
    async def run_server(*, task_status: trio.TaskStatus[list[str]]) -> None:
        await serve(node, config, metrics=Metrics(), log=Log(log), stop=stop, task_status=task_status)

    [url] = await nursery.start(run_server)
    assert isinstance(url, str)
    return url


def test_on_hypercorn_with_events_and_a_graceful_stop() -> None:
    async def test() -> None:
        node, stop, log = FakeNode(), trio.Event(), io.StringIO()
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                url = await start(nursery, node, stop, log, config_of())
                async with httpx.AsyncClient(base_url=url) as client:
                    assert (await client.get("/" + ITEM)).json()["verdict"] == "REGISTERED"
                    headers = {"Content-Type": "application/cbor"}
                    assert (await client.post("/v1/transactions", content=b"tx", headers=headers)).status_code == 202
                    async with client.stream("GET", "/v1/events") as stream:
                        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
                        problem(await client.get("/v1/events"), 429, "overloaded")
                        lines = stream.aiter_lines()
                        assert await anext(lines) == "retry: 2000"
                        for height in (8, 9):
                            await node.heights.send(height)
                            while not (line := await anext(lines)).startswith("data:"):
                                pass
                            assert json.loads(line[5:]) == {"height": str(height)}
                        stop.set()  # ends the stream, and then the server
                        assert [line async for line in lines if line] == []
        # The nursery ended by itself: nothing was left running.
        assert "http_server" in log.getvalue()

    trio.run(test)


def test_a_client_that_reads_nothing_cannot_hold_up_a_stop() -> None:
    async def test() -> None:
        node, stop, log = FakeNode(), trio.Event(), io.StringIO()
        large = "x" * 8_000_000
        node.checkpoint = lambda: large  # type: ignore[method-assign]
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                url = httpx.URL(await start(nursery, node, stop, log, config_of(http_send_ms=500, stop_ms=100)))
                with socket.socket() as raw:
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
                    stalled = trio.socket.from_stdlib_socket(raw)
                    raw.setblocking(False)
                    assert url.port is not None
                    await stalled.connect(("127.0.0.1", url.port))
                    await stalled.send(b"GET /checkpoint HTTP/1.1\r\nHost: node\r\n\r\n")
                    assert await stalled.recv(16) == b"HTTP/1.1 200 \r\nc"[:16]
                    stop.set()
                    while nursery.child_tasks:
                        await trio.testing.wait_all_tasks_blocked(0.01)

    trio.run(test)


def test_an_address_that_is_taken() -> None:
    async def test() -> None:
        node, stop, log = FakeNode(), trio.Event(), io.StringIO()
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            config = config_of()
            object.__setattr__(config, "listen_http", Address("127.0.0.1", taken.getsockname()[1]))
            with pytest.raises(InputError, match="cannot listen for HTTP"):
                await serve(node, config, metrics=Metrics(), log=Log(log), stop=stop)

    trio.run(test)


# ---------------------------------------------------------------- governance and ranges


async def test_governance_shows_what_holds_and_the_open_proposals() -> None:
    async with open_site() as site:
        reply = await site.client.get("/v1/governance")
        found = reply.json()
        assert (reply.status_code, found["proven"], found["parameters"]) == (200, False, {"window": 2_000})
        assert [proposal["number"] for proposal in found["open"]] == ["2"]
        assert found["cities"] == [{"city": "130100", "consensus": "01", "transaction": ["02"], "certificate": None}]


async def test_a_proposal_is_shown_and_an_unknown_one_is_a_problem() -> None:
    async with open_site() as site:
        reply = await site.client.get("/v1/governance/proposals/1")
        assert (reply.status_code, reply.json()["status"]) == (200, "active")
        reply = await site.client.get("/v1/governance/proposals/3")
        assert (reply.status_code, reply.json()["type"]) == (404, "urn:cityid:problem:unknown-proposal")
        assert (await site.client.get("/v1/governance/proposals/-1")).status_code == 400


async def test_the_ranges_of_a_serial() -> None:
    async with open_site() as site:
        reply = await site.client.get("/v1/ranges/130100/010203/12345")
        where = {"city": "130100", "class": "010203", "base": 12_000, "size": 1_000}
        assert reply.json() == {
            "ranges": [{"version": "1", "holder": "MA.156.130100.A7K2", "range": where}],
            "proven": False,
        }
        assert (await site.client.get("/v1/ranges/130100/010203/0")).json()["ranges"] == []
        assert (await site.client.get("/v1/ranges/x/010203/0")).status_code == 400
        assert (await site.client.get("/v1/ranges/130100/010203/1000000000")).status_code == 400
