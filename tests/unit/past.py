"""A chain in one hand with a memory: the real ledger, the real HTTP interface, and everything that a store would keep.

Two of them over one genesis are two histories of one network: what a forger with every key could make.
"""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import trio

from cityid import genesis, keys
from cityid._native import Commit, Genesis, Ledger, Trust
from cityid.client import SyncClient, operations
from cityid.client.faces import sign
from cityid.keys import Signer
from cityid.node.config import Limits, Timeouts
from cityid.node.control import create_app
from cityid.node.control.face import FilesFace
from cityid.node.driver import Driver
from cityid.node.face import Face
from cityid.node.telemetry import Log, Metrics

CITIES = (("130100", "石家庄"), ("110000", "北京"), ("440300", "深圳"), ("330100", "杭州"))
START_MS = 1_790_000_000_000
STEP_MS = 1_000
OFFICE = "MA.156.130100.A7K2"


class Kept:
    """Decided heights, as a store has them. Heights in `lost` have no changes any more."""

    def __init__(self) -> None:
        self.blocks: dict[int, tuple[bytes, bytes, bytes]] = {}
        self.commits: dict[int, Commit] = {}
        self.bodies: dict[bytes, bytes] = {}
        self.lost: set[int] = set()

    def batch(self, digest: bytes) -> bytes | None:
        return self.bodies.get(digest)

    def block(self, height: int) -> tuple[bytes, bytes, bytes] | None:
        return self.blocks.get(height)

    def certified(self, height: int) -> tuple[bytes, bytes] | None:
        found = self.block(height)
        return None if found is None else found[:2]

    def check_kept(self, height: int) -> None:
        """It keeps everything."""

    def changes(self, height: int) -> bytes | None:
        return self.commits[height].changes if height in self.commits and height not in self.lost else None

    def receipts(self, height: int) -> bytes | None:
        return self.commits[height].receipts if height in self.commits else None


class Chain:
    """A ledger, its keys, its blocks; time passes a second a block."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        if not directory.exists():
            genesis.create_network(directory, CITIES, name="one hand", time_ms=START_MS)
        self.genesis_file = directory / "genesis.json"
        self.trust = Trust.load(str(self.genesis_file))
        self.genesis = Genesis.from_json(self.genesis_file.read_text(encoding="utf-8"))
        self.ledger = Ledger(self.genesis)
        self.kept = Kept()
        self.office = self.holder("A7K2")
        self._transport: _InProcess | None = None

    def key(self, city: str, purpose: str = "transaction") -> Signer:
        return keys.load(keys.key_path(self.directory / city / "keys", purpose))

    def holder(self, org: str) -> Signer:
        """The key of an organisation: the same for every chain over one folder."""
        path = self.directory / f"{org}.pem"
        return keys.load(path) if path.exists() else keys.generate(path)

    # ------------------------------------------------------------ deciding

    def decide(
        self, *transactions: Sequence[operations.Operation], signer: Signer | None = None
    ) -> list[dict[str, Any]]:
        """One block of these transactions, signed by the office unless said otherwise; their receipts."""
        ids = []
        for made in transactions:
            id, data = sign(
                made,
                [signer or self.office],
                genesis_hash=self.genesis.hash,
                valid_until=self.ledger.height + 100,
            )
            ids.append(id)
            ((_, reason, message),) = self.ledger.admit(data)
            assert reason is None, message
        digests = b""
        while (sealed := self.ledger.seal(4_096, 1_048_576)) is not None:
            digests += sealed[0]
            self.kept.bodies[sealed[0]] = sealed[1]
        height = self.ledger.height + 1
        candidate = self.ledger.execute(height, START_MS + height * STEP_MS, self.genesis.cities[0], digests)
        place = height.to_bytes(8, "big") + bytes(4)
        message_ = b"cityid/1/V" + self.genesis.hash + place + b"\xff" * 4 + candidate.value  # P35
        signers = [self.key(city, "consensus") for city in self.genesis.cities[:3]]
        signatures = b"".join(one.sign(message_) for one in signers)
        certificate = place + candidate.value + (4).to_bytes(2, "big") + b"\xe0" + signatures
        header = candidate.header
        self.kept.commits[height] = self.ledger.commit(candidate, certificate)
        self.kept.blocks[height] = (header, certificate, digests)
        found = [self.ledger.receipt(id) for id in ids]
        return [json.loads(receipt[1]) for receipt in found if receipt is not None]

    def admit(self, org: str = "A7K2") -> None:
        """An organisation of 130100 with a category and a range of its own; three blocks."""
        key = self.holder(org)
        subject = f"MA.156.130100.{org}"
        entry = operations.prove_possession(key, self.genesis.hash, subject)
        admission = operations.admit_organisation("130100", org, name="照明", quota=5_000, keys=[entry])
        self._committed(self.decide([admission], signer=self.key("130100")))
        category = operations.register_category("130100", org, use="60", class_code="010203", model="1", name="路灯")
        self._committed(self.decide([category], signer=key))
        self._committed(self.decide([operations.allocate_range("130100", org, class_code="010203")], signer=key))

    def register(self, *serials: int, org: str = "A7K2") -> None:
        """Items in one block."""
        items = [operations.Item(serial, {}) for serial in serials]
        made = operations.register_items("130100", org, use="60", class_code="010203", model="1", items=items)
        self._committed(self.decide([made], signer=self.holder(org)))

    def status(self, code: str, version: int, status: Any, *, reason: int = 7, basis: bytes | None = None) -> None:
        """The next version of an item or organisation, with its reason, by its city."""
        made = operations.set_status(code, expected_version=version, status=status)
        because = operations.because(made, reason=reason, basis=basis)
        self._committed(self.decide([because], signer=self.key("130100")))

    @staticmethod
    def _committed(receipts: list[dict[str, Any]]) -> None:
        assert [receipt["status"] for receipt in receipts] == ["committed"] * len(receipts), receipts

    # ------------------------------------------------------------ asking

    def client(self) -> SyncClient:
        """A client of this chain's HTTP interface, in process."""
        return SyncClient(["http://node"], self.trust, transport=self._in_process())

    def _in_process(self) -> "_InProcess":
        if self._transport is None:
            self._transport = _InProcess(self._app())
        return self._transport

    def _app(self) -> Any:
        roles = SimpleNamespace(votes=True, why=None)
        driver = cast("Driver", SimpleNamespace(halted=None, is_informed=True, is_synced=True, roles=roles, members=()))
        face = Face(
            city="130100",
            genesis=self.genesis,
            ledger=self.ledger,
            driver=driver,
            blocks=self.kept,
            post=lambda submitted: None,
            connected=frozenset,
            files=cast("FilesFace", None),  # nothing here asks for files
            certificates=Path(),
            addresses={},
        )
        return create_app(face, limits=Limits(), timeouts=Timeouts(), metrics=Metrics(), log=Log(io.StringIO()))


class _InProcess(httpx.BaseTransport):
    """The ASGI application, a request at a time."""

    def __init__(self, app: Any) -> None:
        self._transport = httpx.ASGITransport(app, raise_app_exceptions=True)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        async def respond() -> httpx.Response:
            response = await self._transport.handle_async_request(request)
            assert isinstance(response.stream, httpx.AsyncByteStream)
            body = b"".join([chunk async for chunk in response.stream])
            return httpx.Response(response.status_code, headers=response.headers, content=body)

        return trio.run(respond)
