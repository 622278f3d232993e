"""The past of a live network: `trace`, `resolve --when`, `?at=`, and the folder of an audit that a process without a
network checks. Real nodes, real stores, the commands that people type.
"""

import json
import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.cli.test_cli_verify import GUARD

from cityid import keys
from cityid._native import History, make_item_code
from cityid.audit import verify_audit
from cityid.client import SyncClient, operations
from cityid.errors import ProofInvalid
from cityid.keys import Signer

if TYPE_CHECKING:
    from tests.integration.conftest import LiveNetwork

pytestmark = pytest.mark.processes

CITY, ORG = "130100", "A7K2"
OFFICE = f"MA.156.{CITY}.{ORG}"
LAMP, SECOND = (make_item_code(CITY, ORG, "60", "010203", "1", serial) for serial in (7, 8))
BASIS = bytes(range(32))


class Past:
    """An office with two lamps, of which one has a past; when each of its versions was made."""

    def __init__(self, network: "LiveNetwork", office: Signer) -> None:
        self.network = network
        self.office = office
        self.heights: list[int] = []

    def do(self, operation: operations.Operation, signer: Signer) -> int:
        receipt = self.network.transact(CITY, [operation], signer)
        assert receipt["status"] == "committed", receipt
        return int(receipt["height"])

    def lamps(self) -> None:
        """Registered, updated by its holder, suspended and reactivated by its city."""
        city = self.network.signer(CITY)
        entry = operations.prove_possession(self.office, self.network.genesis.hash, OFFICE)
        self.do(operations.admit_organisation(CITY, ORG, name="照明", quota=5_000, keys=[entry]), city)
        self.do(operations.allocate_range(CITY, ORG, class_code="010203"), self.office)
        lamp: Any = {"use": "60", "class_code": "010203", "model": "1"}
        self.do(operations.register_category(CITY, ORG, name="路灯", **lamp), self.office)
        items = [operations.Item(serial, {}) for serial in (7, 8)]
        self.heights.append(self.do(operations.register_items(CITY, ORG, items=items, **lamp), self.office))
        update = operations.ItemUpdate(7, 1, {"colour": bytes(32)})
        self.heights.append(self.do(operations.update_items(CITY, class_code="010203", updates=[update]), self.office))
        for version, status, reason in ((2, "suspended", 7), (3, "active", 8)):
            change: Any = operations.set_status(LAMP, expected_version=version, status=status)  # type: ignore[arg-type]
            self.heights.append(self.do(operations.because(change, reason=reason, basis=BASIS), city))


@pytest.fixture(scope="module")
def past(live_network: "LiveNetwork", tmp_path_factory: pytest.TempPathFactory) -> Past:
    made = Past(live_network, keys.generate(tmp_path_factory.mktemp("office") / "office.pem"))
    made.lamps()
    live_network.wait_height(made.heights[-1] + 1)
    return made


def command(network: "LiveNetwork", *arguments: object, status: int = 0, guard: bool = False, at: str = CITY) -> Any:
    """The JSON that a command prints, in a process of its own; with `guard` one that has no network."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CITYID_", "LC_"))}
    environment |= {"CITYID_TRUST": str(network.directory / "genesis.json"), "LANG": "en_US.UTF-8"}
    if not guard:
        environment["CITYID_AT"] = network.local.urls[at]
    program = ["-c", GUARD] if guard else ["-m", "cityid"]
    done = subprocess.run(
        [sys.executable, *program, *map(str, arguments), "--json"],
        capture_output=True, text=True, timeout=120, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == status, (arguments, done.stdout, done.stderr)
    return json.loads(done.stdout)


# ---------------------------------------------------------------- one code


def test_trace_tells_every_version_with_time_reason_and_basis(past: Past, tmp_path: Path) -> None:
    file = tmp_path / "lamp.history"
    found = command(past.network, "trace", LAMP, "--out", file, at="440300")
    assert (found["verdict"]["verdict"], found["complete"]) == ("REGISTERED", True)
    rows = found["versions"]
    assert [(int(row["version"]), int(row["height"]), row["status"]) for row in rows] == list(
        zip((4, 3, 2, 1), reversed(past.heights), ("active", "suspended", "active", "active"), strict=True)
    )
    assert [row["record"].get("reason") for row in rows] == [8, 7, None, None]
    assert rows[0]["record"]["basis"] == BASIS.hex()
    times = [int(row["time_ms"]) for row in rows]
    assert times == sorted(times, reverse=True)
    # The kept file needs nobody: not the node, not a network.
    offline = command(past.network, "verify", file, "--max-age", "any", "--code", LAMP, guard=True)
    assert offline["versions"] == rows
    data = bytearray(file.read_bytes())
    data[len(data) - 400] ^= 1
    file.write_bytes(data)
    spoilt = command(past.network, "verify", file, "--max-age", "any", status=1, guard=True)
    verdict = spoilt["verdict"]
    assert (verdict if isinstance(verdict, str) else verdict["verdict"]) == "INVALID"


def test_trace_speaks_to_people_time_first(past: Past) -> None:
    environment = os.environ | {"CITYID_AT": past.network.local.urls[CITY], "LC_ALL": "en_US.UTF-8"}
    done = subprocess.run(
        [sys.executable, "-m", "cityid", "trace", LAMP, "--trust", str(past.network.directory / "genesis.json")],
        capture_output=True, text=True, timeout=60, check=True, env=environment,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    (line,) = [line for line in lines if "version 3" in line]
    datetime.strptime(line.split(" (height")[0], "%Y-%m-%d %H:%M:%S %z")
    assert f"(height {past.heights[2]}) version 3: suspended" in line
    assert "    status: active → suspended" in lines
    assert f"    basis {BASIS.hex()}" in lines


def test_what_held_by_height_and_by_date_at_every_city(past: Past) -> None:
    expected = {past.heights[0] - 1: "NOT_REGISTERED", past.heights[0]: 1, past.heights[2]: 3, past.heights[3]: 4}
    for city in past.network.cities:
        past.network.wait_height(past.heights[-1] + 1, city)
        for height, version in expected.items():
            reply = past.network.clients[city].get(f"/v1/codes/{LAMP}", params={"at": str(height)})
            found = reply.json()
            if isinstance(version, str):
                assert (reply.status_code, found["verdict"]) == (404, version)
            else:
                assert (reply.status_code, found["record"]["version"]) == (200, str(version))
            time_ms = int(found["at"]["time_ms"])
            date = datetime.fromtimestamp(time_ms / 1000, tz=UTC).isoformat()
            by_date = past.network.clients[city].get(f"/v1/codes/{LAMP}", params={"at": date}).json()
            assert by_date["at"] == found["at"]
            assert by_date["record"] == found["record"]
            if city != CITY:
                continue
            then = command(
                past.network, "resolve", LAMP, "--when", height, at=city, status=4 if version == "NOT_REGISTERED" else 0
            )
            assert then["version"] == (None if isinstance(version, str) else version)
            with SyncClient([past.network.local.urls[city]], past.network.trust) as client:
                proven = client.resolve(LAMP, at=datetime.fromtimestamp(time_ms / 1000, tz=UTC))
            assert proven.version == then["version"]
    reply = past.network.clients[CITY].get(f"/v1/codes/{LAMP}", params={"at": "999999999"})
    assert (reply.status_code, reply.json()["type"]) == (404, "urn:cityid:problem:unknown-block")


def test_a_node_that_was_killed_still_has_the_past(past: Past) -> None:
    network, city = past.network, "330100"
    network.kill(city)
    network.start(city)
    network.wait_ready(city)
    assert command(network, "trace", LAMP, at=city)["complete"] is True
    reply = network.clients[city].get("/v1/codes", params={"prefix": OFFICE})
    assert [row["code"] for row in reply.json()["codes"]] == [OFFICE, f"{OFFICE}/60.010203.1", LAMP, SECOND]


# ---------------------------------------------------------------- audits


def test_an_audit_is_checked_without_a_network_and_goes_on_from_the_last(past: Past, tmp_path: Path) -> None:
    network = past.network
    first, second = tmp_path / "first", tmp_path / "second"
    middle = past.heights[1]
    made = command(network, "audit", "export", "--prefix", OFFICE, "--from", 1, "--to", middle, "--out", first)
    assert made["to"]["height"] == str(middle)
    done = command(network, "verify", first, guard=True)
    assert [step["name"] for step in done["steps"]] == [
        "files",
        "network",
        "records",
        "blocks",
        "completeness",
        "tables",
    ]
    made = command(
        network,
        "audit",
        "export",
        "--prefix",
        OFFICE,
        "--from",
        middle + 1,
        "--out",
        second,
        "--since",
        first,
        at="110000",
    )
    assert made["since"]["records"] == len(json.loads((first / "seen.json").read_text())["records"])
    done = command(network, "verify", second, "--since", first, guard=True)
    assert [step["name"] for step in done["steps"]][-2:] == ["visit", "tables"]
    history = (second / "history.csv").read_text(encoding="utf-8").splitlines()
    assert [line.split(",")[1:4] for line in history[1:]] == [
        [str(past.heights[2]), LAMP, "3"],
        [str(past.heights[3]), LAMP, "4"],
    ]
    # One byte of any file; by the command, of one.
    for path in sorted(path for path in second.rglob("*") if path.is_file()):
        kept = path.read_bytes()
        spoilt = bytearray(kept)
        spoilt[len(kept) // 2] ^= 1
        path.write_bytes(spoilt)
        with pytest.raises(ProofInvalid, match=re.escape(path.relative_to(second).as_posix())):
            verify_audit(second, network.trust)
        if path.parent.name == "blocks":
            said = command(network, "audit", "verify", second, status=1, guard=True)
            assert f"blocks/{path.name}" in said["error"]["message"]
        path.write_bytes(kept)
    command(network, "audit", "verify", second, guard=True)


def test_a_day_of_the_chain_by_dates(past: Past, tmp_path: Path) -> None:
    folder = tmp_path / "day"
    day = time.strftime("%Y-%m-%d", time.localtime(past.network.trust.time_ms / 1000))
    made = command(past.network, "audit", "export", "--prefix", "MA.156", "--from", day, "--out", folder)
    assert made["from"]["height"] == "1"
    assert int(made["to"]["height"]) >= past.heights[-1]
    command(past.network, "verify", folder, guard=True)
    command(past.network, "audit", "export", "--prefix", "MA.156", "--from", day, "--out", folder, status=2)
    history = command(past.network, "trace", f"MA.156.{CITY}")
    assert history["versions"][-1]["height"] == "0"
    assert (
        History.from_bytes(
            past.network.clients[CITY].get(f"/v1/codes/{LAMP}/history", headers={"Accept": "application/cbor"}).content
        )
        .verify(past.network.trust, code=LAMP)
        .complete
    )
