"""Sealed tables with four real processes: upload, receipts, seal, answers everywhere; nodes that miss a table."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cityid import keys
from cityid._native import Table, TableWriter, make_item_code
from cityid.client import SyncClient, operations
from cityid.keys import Signer

from .conftest import LiveNetwork, running_network

CITY, ORG, USE, CLASS, MODEL = "130100", "A7K2", "60", "010203", "1"


class Office:
    """An organisation with a range, which it seals."""

    def __init__(self, network: LiveNetwork, directory: Path) -> None:
        self.network = network
        self.directory = directory
        self.signer: Signer = keys.generate(directory / "office.pem")
        self.base = 0
        self.tables: list[Table] = []
        entry = operations.prove_possession(self.signer, network.genesis.hash, f"MA.156.{CITY}.{ORG}")
        admission = operations.admit_organisation(CITY, ORG, name="Lighting", quota=5_000, keys=[entry])
        assert self._committed([admission], network.signer(CITY))
        category = operations.register_category(CITY, ORG, use=USE, class_code=CLASS, model=MODEL, name="lamp")
        receipt = self._committed([category, operations.allocate_range(CITY, ORG, class_code=CLASS)], self.signer)
        self.base = int(receipt["outputs"][1]["base"])

    def _committed(self, made: list[Any], signer: Signer) -> dict[str, Any]:
        receipt = self.network.transact(CITY, made, signer)
        assert receipt["status"] == "committed", receipt
        return receipt

    def code(self, index: int) -> str:
        return make_item_code(CITY, ORG, USE, CLASS, MODEL, self.base + index)

    def build(self, first: int, last: int) -> Table:
        """The next version of the table, with the serials from first to last more."""
        path = self.directory / f"table{len(self.tables) + 1}"
        writer = TableWriter(
            path, genesis_hash=self.network.genesis.hash, city=CITY, cls=CLASS, base=self.base, size=1_000, org=ORG,
            seed=os.urandom(32), height=self.network.height(CITY),
            previous=self.tables[-1].path if self.tables else None,
        )  # fmt: skip
        writer.add_run(USE, MODEL, self.base + first, self.base + last)
        self.tables.append(writer.finish())
        return self.tables[-1]

    def seal(self, table: Table, at: str) -> list[str]:
        """Uploads, collects and seals at one city; who signed."""
        version = len(self.tables)
        with SyncClient(self.network.local.urls[at], self.network.trust) as client:
            digest = client.upload(table.path)
            assert digest == table.digest
            receipts = client.storage_receipts(digest, version)
        sealed = {
            "op": "seal_range",
            "range": {"city": CITY, "class": CLASS, "base": self.base, "size": 1_000},
            "expected_version": version,
            "table": {"root": table.root.hex(), "digest": digest.hex(), "count": table.count},
            "receipts": receipts,
        }
        self._committed([sealed], self.signer)
        return [receipt["city"] for receipt in receipts]

    def expect(self, city: str, index: int, verdict: str) -> None:
        """The city answers so, and the proof says so to whoever has the trust file."""
        network = self.network
        network.until(lambda: network.verdicts(city, [self.code(index)]) == [verdict], f"{verdict} at {city}")
        with SyncClient(network.local.urls[city], network.trust) as client:
            found = client.resolve(self.code(index), max_age=3_600)
            assert (found.verdict.verdict, found.gateway) == (verdict, network.local.urls[city])


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    directory = tmp_path_factory.mktemp("tables")
    with running_network(directory / "live") as network:
        yield Office(network, directory)


def kept_path(network: LiveNetwork, city: str, table: Table) -> Path:
    return network.directory / city / "data" / "tables" / f"{table.digest.hex()}.table"


def test_a_sealed_range_answers_everywhere_and_heals_what_a_node_misses(office: Office) -> None:
    network = office.network
    first, *_, last = network.cities

    # One upload, two cities that check, one transaction; then every city brings the table by itself.
    table = office.build(0, 499)
    signed = office.seal(table, first)
    assert len(signed) == 2
    assert first in signed
    for city in network.cities:
        office.expect(city, 0, "REGISTERED")
        office.expect(city, 499, "REGISTERED")
        office.expect(city, 500, "NOT_REGISTERED")
        reply = network.clients[city].get(f"/v1/blobs/{table.digest.hex()}")
        assert reply.content == table.path.read_bytes()

    # A city that was off while a version was sealed fetches it when it is back.
    network.kill(last)
    later = office.build(500, 600)
    assert last not in office.seal(later, first)
    network.start(last)
    network.wait_ready(last)
    office.expect(last, 600, "REGISTERED")
    office.expect(last, 601, "NOT_REGISTERED")
    assert any(event["digest"] == later.digest.hex() for event in network.events(last, "table_kept"))
    assert kept_path(network, last, table).exists(), "the version before is history"

    # One byte of its file changes, and every other city has a wrong one, too: the city does not know, and says so.
    assert network.stop(last) == 0
    good = later.path.read_bytes()
    wrong = bytearray(good)
    wrong[-1] ^= 1
    for city in network.cities:
        kept_path(network, city, later).write_bytes(wrong)
    network.start(last)
    network.wait_ready(last)
    network.until(lambda: bool(network.events(last, "file_refused")), "liars are found out")
    assert network.events(last, "table_damaged")[-1]["digest"] == later.digest.hex()
    reply = network.clients[last].get(f"/{office.code(600)}")
    assert (reply.status_code, reply.json()["verdict"]) == (503, "UNAVAILABLE")
    assert reply.headers["retry-after"]
    assert network.clients[last].get(f"/{office.code(700)}").json()["verdict"] == "UNAVAILABLE", "never absent"
    metrics = network.clients[last].get("/metrics").text
    assert "cityid_exchange_tables_missing 1.0" in metrics

    # As soon as one city has the right bytes again, it heals.
    kept_path(network, first, later).write_bytes(good)
    network.until(lambda: network.verdicts(last, [office.code(600)]) == ["REGISTERED"], "it heals", seconds=70)
    office.expect(last, 700, "NOT_REGISTERED")
    assert kept_path(network, last, later).read_bytes() == good
    for city in network.cities:
        kept_path(network, city, later).write_bytes(good)


def test_what_does_not_succeed_is_refused_with_its_reason_and_nothing_is_sealed(office: Office) -> None:
    network = office.network
    at = network.cities[1]
    version = len(office.tables) + 1
    before = network.root(at)
    with SyncClient(network.local.urls[at], network.trust) as client:
        path = office.directory / "foreign"
        writer = TableWriter(
            path, genesis_hash=network.genesis.hash, city=CITY, cls=CLASS, base=office.base, size=1_000, org=ORG,
            seed=os.urandom(32), height=network.height(CITY),
        )  # fmt: skip
        writer.add_run(USE, MODEL, office.base, office.base + 3)  # and all others are gone
        digest = client.upload(writer.finish().path)
        reply = network.clients[at].post(f"/v1/tables/{digest.hex()}/receipts", json={"expected_version": version})
        assert (reply.status_code, reply.json()["reason"]) == (409, "bad_table"), reply.text
        reply = network.clients[at].post(f"/v1/tables/{digest.hex()}/receipts", json={"expected_version": 99})
        assert (reply.status_code, reply.json()["reason"]) == (409, "stale_version"), reply.text
        (office.directory / "text").write_text("no table")
        digest = client.upload(office.directory / "text")
        reply = network.clients[at].post(f"/v1/tables/{digest.hex()}/receipts", json={"expected_version": version})
        assert reply.status_code == 400, reply.text
        reply = network.clients[at].post(f"/v1/tables/{'00' * 32}/receipts", json={"expected_version": version})
        assert reply.status_code == 404, reply.text
    assert network.root(at) == before
    network.assert_serves(at)
