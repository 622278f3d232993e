"""Files over HTTP: a node's own folder behind the routes, receipts that only pretend."""

import hashlib
import io
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from tests.integration.test_control import FakeNode, problem

from cityid._native import Trust
from cityid.client import Client, SyncClient
from cityid.errors import InputError, MalformedInput, RuleViolation, StorageError, Unavailable
from cityid.node.blobs import Blobs, Incoming
from cityid.node.config import Address, Config, Limits, Timeouts
from cityid.node.control import create_app, serve
from cityid.node.exchange import Collected, FileNotHere
from cityid.node.telemetry import Log, Metrics
from cityid.testing.keys import seeded_genesis

MiB = 1_048_576
CITY, OTHER = "130100", "330100"
JSON = {"Content-Type": "application/json"}


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Files:
    """A folder, and whatever the test wants to be said about receipts."""

    def __init__(self, directory: Path, *, limit_bytes: int = 8 * MiB, bound_bytes: int = 64 * MiB) -> None:
        self.limit_bytes = limit_bytes
        self.blobs = Blobs(directory, bound_bytes=bound_bytes)
        self.collected = Collected(2, [(CITY, b"a" * 64), (OTHER, b"b" * 64)], {})
        self.raises: Exception | None = None
        self.asked: list[tuple[bytes, int]] = []
        self.hold: trio.Event | None = None

    def receive(self, digest: bytes) -> Incoming:
        if self.raises is not None:
            raise self.raises
        return self.blobs.receive(digest, limit_bytes=self.limit_bytes)

    @contextmanager
    def using(self, digest: bytes) -> Iterator[Path | None]:
        with self.blobs.using(digest) as path:
            yield path

    async def receipts(self, digest: bytes, expected_version: int) -> Collected:
        self.asked.append((digest, expected_version))
        if self.hold is not None:
            await self.hold.wait()
        if self.raises is not None:
            raise self.raises
        return self.collected

    def left_over(self) -> list[str]:
        return [path.name for path in self.blobs.directory.iterdir() if path.suffix == ".upload"]


class Node(FakeNode):
    def __init__(self, files: Files) -> None:
        super().__init__()
        self.files = files


@asynccontextmanager
async def open_site(files: Files, **limits: int) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(
        Node(files), limits=Limits(**limits), timeouts=Timeouts(), metrics=Metrics(), log=Log(io.StringIO())
    )
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
        yield client


@contextmanager
def served(files: Files, **timeouts: int) -> Iterator[str]:
    """The same on Hypercorn in a thread of its own, for clients that know nothing of Trio; its URL."""
    nowhere, address = Path("/nonexistent"), Address("127.0.0.1", 0)
    config = Config(
        city=CITY, genesis=nowhere, certificates=nowhere, keys=nowhere, data=nowhere,
        listen_peers=address, listen_http=address, peers={}, timeouts=Timeouts(stop_ms=100, **timeouts),
    )  # fmt: skip
    ready = threading.Event()
    started: dict[str, Any] = {}

    async def run() -> None:
        started["token"], started["stop"] = trio.lowlevel.current_trio_token(), trio.Event()
        async with trio.open_nursery() as nursery:

            async def server(*, task_status: trio.TaskStatus[list[str]]) -> None:
                await serve(
                    Node(files), config, metrics=Metrics(), log=Log(io.StringIO()), stop=started["stop"],
                    task_status=task_status,
                )  # fmt: skip

            [started["url"]] = await nursery.start(server)
            ready.set()

    thread = threading.Thread(target=trio.run, args=(run,))
    thread.start()
    try:
        assert ready.wait(20)
        yield started["url"]
    finally:
        started["token"].run_sync_soon(started["stop"].set)
        thread.join(20)


# ---------------------------------------------------------------- sending and fetching


def test_a_file_is_sent_once_and_comes_back_as_it_was(tmp_path: Path) -> None:
    files = Files(tmp_path)
    data = bytes(range(256)) * (3 * MiB // 256) + b"end"
    path = f"/v1/blobs/{digest_of(data)}"
    with served(files) as url, httpx.Client(base_url=url, trust_env=False) as client:
        assert client.get(path).status_code == 404
        reply = client.put(path, content=data)
        assert (reply.status_code, reply.json()) == (201, {"digest": digest_of(data), "size_bytes": len(data)})
        assert client.put(path, content=iter([data[:7], data[7:]])).status_code == 200  # in chunks, without a length
        found = client.get(path)
        assert found.content == data
        assert found.headers["content-type"] == "application/octet-stream"
        assert found.headers["content-length"] == str(len(data))
    assert files.left_over() == []


async def test_an_empty_file_is_a_file(tmp_path: Path) -> None:
    async with open_site(Files(tmp_path)) as client:
        path = f"/v1/blobs/{digest_of(b'')}"
        assert (await client.put(path, content=b"")).status_code == 201
        assert (await client.get(path)).content == b""


async def test_other_bytes_than_the_digest_names_are_refused_and_gone(tmp_path: Path) -> None:
    files = Files(tmp_path)
    async with open_site(files) as client:
        right = f"/v1/blobs/{digest_of(b'right')}"
        body = problem(await client.put(right, content=b"wrong"), 400, "verification")
        assert digest_of(b"wrong") in body["detail"]
        problem(await client.get(right), 404, "unknown-file")
        assert (await client.put(right, content=b"right")).status_code == 201
        problem(await client.put(right, content=b"wrong"), 400, "verification")
        assert (await client.get(right)).content == b"right"
    assert files.left_over() == []
    assert files.blobs.digests() == [bytes.fromhex(digest_of(b"right"))]


@pytest.mark.parametrize("announced", [True, False])
def test_a_file_over_the_limit_is_refused_by_its_length_or_while_it_comes(tmp_path: Path, announced: bool) -> None:
    files = Files(tmp_path, limit_bytes=2 * MiB)
    data = bytes(3 * MiB)
    with served(files) as url, httpx.Client(base_url=url, trust_env=False) as client:
        content = data if announced else iter([data[:MiB], data[MiB:]])
        body = problem(client.put(f"/v1/blobs/{digest_of(data)}", content=content), 413, "too-large")
        assert (body["limit"], body["value"]) == ("max_table_bytes", 2 * MiB)
        fits = bytes(2 * MiB)
        assert client.put(f"/v1/blobs/{digest_of(fits)}", content=fits).status_code == 201
    assert files.left_over() == []


def test_an_upload_that_is_cut_off_leaves_nothing(tmp_path: Path) -> None:
    files = Files(tmp_path)
    data = bytes(2 * MiB)
    with served(files) as url:
        at = httpx.URL(url)
        with socket.create_connection((at.host, at.port or 80)) as raw:
            head = f"PUT /v1/blobs/{digest_of(data)} HTTP/1.1\r\nHost: node\r\nContent-Length: {len(data)}\r\n\r\n"
            raw.sendall(head.encode() + data[:MiB])
        with httpx.Client(base_url=url, trust_env=False) as client:
            assert client.get(f"/v1/blobs/{digest_of(data)}").status_code == 404
            assert client.put(f"/v1/blobs/{digest_of(data)}", content=data).status_code == 201
    assert files.left_over() == []
    assert files.blobs.budget.used_bytes < 3 * MiB


def test_an_upload_that_stalls_is_told_so(tmp_path: Path) -> None:
    files = Files(tmp_path)
    with served(files, http_body_ms=200) as url:
        at = httpx.URL(url)
        with socket.create_connection((at.host, at.port or 80)) as raw:
            raw.settimeout(20)
            raw.sendall(f"PUT /v1/blobs/{'0' * 64} HTTP/1.1\r\nHost: node\r\nContent-Length: 9\r\n\r\nabc".encode())
            assert raw.recv(13) == b"HTTP/1.1 408 "
    assert files.left_over() == []


async def test_a_full_folder_and_a_failing_disk_say_so(tmp_path: Path) -> None:
    files = Files(tmp_path, bound_bytes=2 * MiB)
    async with open_site(files) as client:
        large = bytes(3 * MiB)
        body = problem(await client.put(f"/v1/blobs/{digest_of(large)}", content=large), 429, "overloaded")
        assert "blob_bytes" in body["detail"]
        assert (await client.put(f"/v1/blobs/{digest_of(b'x')}", content=b"x")).status_code == 201
        files.raises = StorageError("files cannot be kept: no space; free some")
        problem(await client.put(f"/v1/blobs/{digest_of(b'y')}", content=b"y"), 503, "storage")
    assert files.left_over() == []


@pytest.mark.parametrize("digest", ["00", "0" * 63, "0" * 65, "G" * 64, "A" * 64, "..%2f..%2f" + "0" * 54])
async def test_what_is_no_digest_is_refused(tmp_path: Path, digest: str) -> None:
    async with open_site(Files(tmp_path)) as client:
        for reply in (
            await client.put(f"/v1/blobs/{digest}", content=b"x"),
            await client.get(f"/v1/blobs/{digest}"),
            await client.post(f"/v1/tables/{digest}/receipts", json={"expected_version": 1}),
        ):
            assert reply.status_code in (400, 404)
            assert reply.headers["content-type"] == "application/problem+json"


# ---------------------------------------------------------------- receipts


DIGEST = "ab" * 32
RECEIPTS = f"/v1/tables/{DIGEST}/receipts"


async def test_receipts_are_a_list_of_city_and_signature(tmp_path: Path) -> None:
    files = Files(tmp_path)
    async with open_site(files) as client:
        for version in (3, "3"):
            reply = await client.post(RECEIPTS, json={"expected_version": version})
            assert reply.status_code == 200
            assert reply.json() == {
                "receipts": [
                    {"city": CITY, "signature": (b"a" * 64).hex()},
                    {"city": OTHER, "signature": (b"b" * 64).hex()},
                ]
            }
    assert files.asked == [(bytes.fromhex(DIGEST), 3)] * 2


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"{}", b'{"expected_version": 0}', b'{"expected_version": -1}', b'{"expected_version": true}',
     b'{"expected_version": 1.5}', b'{"expected_version": "x"}', b'{"expected_version": 9223372036854775808}',
     b'{"expected_version": 1, "more": 1}', b"[" * 100_000],
)  # fmt: skip
async def test_a_request_for_receipts_that_does_not_parse(tmp_path: Path, body: bytes) -> None:
    files = Files(tmp_path)
    async with open_site(files) as client:
        problem(await client.post(RECEIPTS, content=body, headers=JSON), 400, "malformed")
        problem(await client.post(RECEIPTS, content=b"{}"), 415, "media-type")
    assert files.asked == []


@pytest.mark.parametrize(
    ("error", "status", "kind", "reason"),
    [
        (FileNotHere("it is not here; send it"), 404, "unknown-file", None),
        (MalformedInput("the file is no table"), 400, "malformed", None),
        (RuleViolation("bad_table", "an item is gone"), 409, "rule", "bad_table"),
        (RuleViolation("stale_version", "it has version 2"), 409, "rule", "stale_version"),
    ],
)
async def test_what_forbids_receipts_is_told(
    tmp_path: Path, error: Exception, status: int, kind: str, reason: str | None
) -> None:
    files = Files(tmp_path)
    files.raises = error
    async with open_site(files) as client:
        body = problem(await client.post(RECEIPTS, json={"expected_version": 1}), status, kind)
        assert body.get("reason") == reason


async def test_too_few_receipts_name_what_each_city_said(tmp_path: Path) -> None:
    files = Files(tmp_path)
    said = {OTHER: ("slow", "no answer"), "440300": ("stale_version", "it has version 2")}
    files.collected = Collected(2, [(CITY, b"a" * 64)], said)
    async with open_site(files) as client:
        reply = await client.post(RECEIPTS, json={"expected_version": 1})
        body = problem(reply, 503, "peers")
        assert reply.headers["retry-after"] == "5"
        assert body["cities"][OTHER] == {"reason": "slow", "message": "no answer"}
        assert "1 of 2 cities" in body["detail"]
        files.collected = Collected(2, [(CITY, b"a" * 64)], {"440300": ("stale_version", "it has version 2")})
        body = problem(await client.post(RECEIPTS, json={"expected_version": 1}), 409, "rule")
        assert body["reason"] == "stale_version"
        assert set(body["cities"]) == {"440300"}


async def test_more_uploads_than_the_bound_are_refused_for_the_moment(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.hold = trio.Event()
    async with open_site(files, blob_uploads=1) as client, trio.open_nursery() as nursery:

        async def collect() -> None:
            assert (await client.post(RECEIPTS, json={"expected_version": 1})).status_code == 200

        nursery.start_soon(collect)
        while not files.asked:
            await trio.lowlevel.checkpoint()
        path = f"/v1/blobs/{digest_of(b'x')}"
        body = problem(await client.put(path, content=b"x"), 429, "overloaded")
        assert (body["limit"], body["value"]) == ("blob_uploads", 1)
        files.hold.set()
    async with open_site(files) as client:
        assert (await client.put(path, content=b"x")).status_code == 201


# ---------------------------------------------------------------- the client


def trust() -> Trust:
    return Trust.from_json(seeded_genesis(["110000", CITY, OTHER, "440300"], seed=1).to_json())


def test_the_client_uploads_and_collects(tmp_path: Path) -> None:
    files = Files(tmp_path / "blobs")
    data = bytes(2 * MiB) + b"end"
    (tmp_path / "file").write_bytes(data)
    with served(files) as url:
        with SyncClient(["http://127.0.0.1:1", url], trust()) as client:
            digest = client.upload(tmp_path / "file")
            assert digest.hex() == digest_of(data)
            assert files.blobs.path(digest) is not None
            assert client.storage_receipts(digest, 7) == [
                {"city": CITY, "signature": (b"a" * 64).hex()},
                {"city": OTHER, "signature": (b"b" * 64).hex()},
            ]

        async def waiting() -> None:
            async with Client(url, trust()) as client:
                assert await client.upload(tmp_path / "file") == digest
                assert len(await client.storage_receipts(digest, 8)) == 2

        trio.run(waiting)
    assert files.asked == [(digest, 7), (digest, 8)]


def test_the_client_hears_why_not(tmp_path: Path) -> None:
    files = Files(tmp_path / "blobs", limit_bytes=10)
    (tmp_path / "file").write_bytes(bytes(11))
    with served(files) as url, SyncClient(url, trust()) as client:
        with pytest.raises(MalformedInput, match="max_table_bytes is 10"):
            client.upload(tmp_path / "file")
        with pytest.raises(InputError, match="cannot be read"):
            client.upload(tmp_path / "nothing")
        files.raises = RuleViolation("bad_table", "an item is gone")
        with pytest.raises(RuleViolation, match="an item is gone"):
            client.storage_receipts(bytes(32), 1)
        files.raises = None
        files.collected = Collected(2, [], {OTHER: ("slow", "no answer")})
        with pytest.raises(Unavailable, match=f"{OTHER}: slow"):
            client.storage_receipts(bytes(32), 1)
        files.collected = Collected(0, [(CITY, b"short")], {})
        with pytest.raises(MalformedInput, match="list of receipts"):
            client.storage_receipts(bytes(32), 1)
