"""Cities that exchange files over memory links, with tables that only pretend, on virtual time.

Threads are taken away: virtual time would jump while one works, and every timeout with it.
"""

import hashlib
import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cityid.errors import MalformedInput, RuleViolation
from cityid.node.blobs import Blobs
from cityid.node.config import Keep, Limits, Timeouts
from cityid.node.exchange import Exchange, Network
from cityid.node.exchange.ports import Against, TableFile
from cityid.node.messages import SNAPSHOT_KINDS, Frame
from cityid.node.snapshots import Snapshots
from cityid.node.telemetry import Log

CITIES = ("110000", "130100", "330100", "440300")
MiB = 1_048_576


@pytest.fixture(autouse=True)
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    async def inline(function: Callable[..., Any], *arguments: Any, **_: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return function(*arguments)

    monkeypatch.setattr(trio.to_thread, "run_sync", inline)


# ---------------------------------------------------------------- tables that only pretend


@dataclass
class FakeTable:
    digest: bytes
    root: bytes
    city: str
    cls: str
    base: int
    size: int
    previous: bytes | None
    size_bytes: int
    fault: str | None = None

    def statement(self, expected_version: int) -> bytes:
        return b"cityid/1/storage-receipt\0\1" + self.digest + bytes([expected_version])


def table_bytes(
    *, base: int = 0, previous: bytes | None = None, fault: str | None = None, padding: int = 0, seed: int = 0
) -> bytes:
    head = {"base": base, "previous": previous.hex() if previous else None, "fault": fault, "seed": seed}
    return json.dumps(head).encode() + b"\n" + bytes(padding)


def digest_of(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def read_table(path: Path) -> FakeTable:
    data = path.read_bytes()
    head, _, _ = data.partition(b"\n")
    try:
        fields = json.loads(head)
        base, previous, fault = fields["base"], fields["previous"], fields["fault"]
    except (ValueError, KeyError, TypeError):
        raise MalformedInput("the file is no table") from None
    before = bytes.fromhex(previous) if previous else None
    digest = digest_of(data)
    return FakeTable(digest, digest_of(b"root" + data), "130100", "010203", base, 1_000, before, len(data), fault)


class FakeFolder:
    """A folder of tables that finds damage when it is asked to read."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(exist_ok=True)
        self.tables = {bytes.fromhex(path.stem): read_table(path) for path in directory.glob("*.table")}
        self.hurt: list[str] = []

    def head(self, path: Path) -> FakeTable:
        return read_table(path)

    def add(self, path: Path, against: Against | None = None) -> FakeTable:
        table = read_table(path)
        if against is not None:
            self.check(table, against)
        path.rename(self.directory / f"{table.digest.hex()}.table")
        self.tables[table.digest] = table
        self.hurt = [name for name in self.hurt if table.digest.hex() not in name]
        return table

    def get(self, digest: bytes) -> FakeTable | None:
        return self.tables.get(digest)

    def remove(self, digest: bytes) -> None:
        self.tables.pop(digest, None)
        (self.directory / f"{digest.hex()}.table").unlink(missing_ok=True)

    def digests(self) -> list[bytes]:
        return sorted(self.tables)

    def damaged(self) -> list[str]:
        return self.hurt

    def find_damage(self, digest: bytes) -> None:
        """A read met other bytes."""
        del self.tables[digest]
        self.hurt.append(f"{digest.hex()}.table")

    def check(self, table: TableFile, against: Against) -> None:
        assert isinstance(table, FakeTable)
        assert (against.previous.digest if against.previous else None) == table.previous
        if table.fault is not None:
            raise RuleViolation("bad_table", table.fault)


@dataclass
class FakeLedger:
    """Ranges of 1,000 by their first serial: (version, digest, root)."""

    height: int = 10
    ranges: dict[int, tuple[int, bytes | None, bytes | None]] = field(default_factory=dict)

    def snapshot(self) -> "FakeLedger":
        return self

    def range(self, city: str, cls: str, base: int, size: int) -> str | None:
        if base not in self.ranges:
            return None
        version, digest, root = self.ranges[base]
        record: dict[str, Any] = {"version": str(version)}
        if digest is not None and root is not None:
            record["table"] = {"digest": digest.hex(), "root": root.hex()}
        return json.dumps(record)

    def sealed_tables(self) -> list[tuple[str, str, int, int, bytes]]:
        return [
            ("130100", "010203", base, 1_000, digest)
            for base, (_, digest, _) in sorted(self.ranges.items())
            if digest is not None
        ]


# ---------------------------------------------------------------- cities


class Signer:
    def __init__(self, city: str) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(city.encode()).digest())
        self.public_key = self._key.public_key().public_bytes_raw()

    def sign(self, message: bytes, /) -> bytes:
        return self._key.sign(message)


@dataclass
class City:
    """One city's exchange with what it stands on."""

    name: str
    world: "World"
    directory: Path
    keep: Keep = "all"
    limits: Limits = field(default_factory=Limits)
    timeouts: Timeouts = field(default_factory=Timeouts)
    bound_bytes: int = 64 * MiB

    def __post_init__(self) -> None:
        self.text = io.StringIO()
        self.ledger = FakeLedger()
        self.synced = True
        self.snapshots: Snapshots | None = None
        self.find: Callable[[bytes], Path | None] = lambda _: None
        self.signer = Signer(self.name)
        self.open()

    def open(self) -> None:
        """As after a start: what counts is what is on disk."""
        self.blobs = Blobs(self.directory / "blobs", bound_bytes=self.bound_bytes)
        self.folder = FakeFolder(self.directory / "tables")
        self.exchange = Exchange(
            folder=self.folder,
            tables_directory=self.directory / "tables",
            blobs=self.blobs,
            ledger=self.ledger,
            link=LinkOf(self),
            network=Network(
                self.name,
                lambda key: self.signer if key == self.signer.public_key else None,
                lambda: self.world.members,
                lambda: self.world.parameters,
                lambda: self.synced,
            ),
            keep=self.keep,
            limits=self.limits,
            timeouts=self.timeouts,
            log=Log(self.text, clock=trio.current_time),
            also=lambda digest: self.find(digest),
        )

    def put(self, data: bytes) -> bytes:
        """A file that a client sent."""
        digest = digest_of(data)
        with self.exchange.receive(digest) as incoming:
            for start in range(0, len(data), MiB):
                incoming.write(data[start : start + MiB])
            incoming.finish()
        return digest

    def read(self, digest: bytes) -> bytes | None:
        with self.exchange.using(digest) as path:
            return None if path is None else path.read_bytes()

    def events(self, name: str) -> list[dict[str, Any]]:
        events = [json.loads(line) for line in self.text.getvalue().splitlines()]
        return [event for event in events if event["event"] == name]

    def figure(self, name: str) -> Any:
        return self.exchange.figures()[name]


@dataclass
class LinkOf:
    """What one city reaches."""

    city: City

    @property
    def connected(self) -> frozenset[str]:
        return self.city.world.reached_from(self.city.name)

    def send(self, peer: str, kind: int, payload: bytes, *, urgent: bool) -> bool:
        assert not urgent, "a file never goes before a vote"
        if peer not in self.connected:
            return False
        self.city.world.post(self.city.name, peer, kind, payload)
        return True


class World:
    """Cities and the frames between them, each of which takes a millisecond."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.cities: dict[str, City] = {}
        self.parameters = {"receipts": 2, "max_table_bytes": 16 * MiB}
        self.members: dict[str, bytes] = {}
        self.gone: set[str] = set()
        self.tamper: Callable[[Frame, str], list[Frame]] = lambda frame, to: [frame]
        self.sent: list[tuple[str, str, int, int]] = []  # from, to, kind, bytes
        self._send, self._receive = trio.open_memory_channel[tuple[float, str, Frame]](100_000)

    def add(self, name: str, **settings: Any) -> City:
        directory = self.directory / name
        directory.mkdir()
        city = self.cities[name] = City(name, self, directory, **settings)
        self.members[name] = city.signer.public_key
        return city

    def reached_from(self, name: str) -> frozenset[str]:
        return frozenset() if name in self.gone else frozenset(self.cities) - self.gone - {name}

    def post(self, sender: str, to: str, kind: int, payload: bytes) -> None:
        self.sent.append((sender, to, kind, len(payload)))
        for frame in self.tamper(Frame(sender, kind, payload), to):
            self._send.send_nowait((trio.current_time() + 0.001, to, frame))

    def bytes_from(self, sender: str) -> int:
        return sum(size for one, _, _, size in self.sent if one == sender)

    async def _carry(self) -> None:
        async for due, to, frame in self._receive:
            await trio.sleep_until(due)
            if to not in self.gone and frame.peer not in self.gone:
                city = self.cities[to]
                if frame.kind not in SNAPSHOT_KINDS:
                    city.exchange.deliver(frame)
                elif city.snapshots is not None:
                    city.snapshots.deliver(frame)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["World"]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._carry)
            for city in self.cities.values():
                await nursery.start(city.exchange.run)
                if city.snapshots is not None:
                    await nursery.start(city.snapshots.run)
            yield self
            nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool], *, seconds: float = 1_000.0) -> None:
    """Waits, in virtual time."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - virtual time; what is waited for is a state of several nodes
            await trio.sleep(0.01)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)
