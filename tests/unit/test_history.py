"""The past of a code: over HTTP, through the client, by height and by date; and what is said when it is not at hand."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.unit.past import CITIES, OFFICE, START_MS, STEP_MS, Chain

from cityid._native import History, make_item_code
from cityid.client import operations
from cityid.client.replies import CBOR, JSON
from cityid.errors import CodeError, InputError, ProofInvalid, Unavailable
from cityid.moments import parse_moment

LAMP = make_item_code("130100", "A7K2", "60", "010203", "1", 7)
OTHER = f"{OFFICE}X"
BASIS = bytes(range(32))
ANY = 1e10  # these chains live in a time of their own


def time_of(height: int) -> datetime:
    return datetime.fromtimestamp((START_MS + height * STEP_MS) / 1000, tz=UTC)


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    """Lamp 7: registered at height 4, suspended at 6, active at 8, retired at 9; the tip is 10."""
    chain = Chain(tmp_path / "network")
    chain.admit()
    chain.register(7, 8)
    chain.decide()
    chain.status(LAMP, 1, "suspended", basis=BASIS)
    chain.decide()
    chain.status(LAMP, 2, "active", reason=8)
    chain.status(LAMP, 3, "retired", reason=9)
    chain.decide()
    return chain


def get(chain: Chain, path: str, accept: str = JSON) -> Any:
    with chain.client() as client:
        reply = client.fetch(path, accept=accept)
    return json.loads(reply.body) if accept == JSON else reply.body


# ---------------------------------------------------------------- the client


def test_every_version_with_time_reason_and_basis(chain: Chain) -> None:
    with chain.client() as client:
        traced = client.history(LAMP, max_age=ANY)
    assert traced.told.verdict.verdict == "REGISTERED"
    assert traced.told.complete
    rows = [(version, height, time_ms) for version, height, time_ms, _ in traced.told.versions]
    assert rows == [
        (number, height, START_MS + height * STEP_MS) for number, height in [(4, 9), (3, 8), (2, 6), (1, 4)]
    ]
    records = [json.loads(record) for *_, record in traced.told.versions]
    assert [record["status"] for record in records] == ["retired", "active", "suspended", "active"]
    assert [record.get("reason") for record in records] == [9, 8, 7, None]
    assert records[2]["basis"] == BASIS.hex()
    # What is kept verifies without anybody, and an edit of it does not.
    data = History.join(traced.parts).to_bytes()
    assert History.from_bytes(data).verify(chain.trust, code=LAMP).complete
    assert History.from_json(History.from_bytes(data).to_json()).to_bytes() == data


def test_what_held_at_a_height_and_at_a_time(chain: Chain) -> None:
    with chain.client() as client:
        for height, version, status in [
            (4, 1, "active"),
            (5, 1, "active"),
            (6, 2, "suspended"),
            (8, 3, "active"),
            (10, 4, "retired"),
        ]:
            for at in (height, time_of(height), time_of(height) + timedelta(milliseconds=STEP_MS - 1)):
                if at == 10 or not isinstance(at, datetime) or at <= time_of(10):
                    then = client.resolve(LAMP, at=at)
                    assert (then.verdict, then.version) == ("REGISTERED", version), at
                    assert then.record is not None
                    assert then.record["status"] == status
                    assert then.time_ms == START_MS + (then.height or 0) * STEP_MS
        for at in (3, time_of(4) - timedelta(milliseconds=1)):
            then = client.resolve(LAMP, at=at)
            assert (then.verdict, then.version, then.why) == ("NOT_REGISTERED", None, None)
        never = make_item_code("130100", "A7K2", "60", "010203", "1", 9)
        assert client.resolve(never, at=5).verdict == "NOT_REGISTERED"
        assert client.resolve("MA.156.999999", at=5).verdict == "NOT_OURS"
        other = make_item_code("130100", "B8L3", "60", "010203", "1", 7)
        assert client.resolve(other, at=6).verdict == "MISMATCH"
        with pytest.raises(Unavailable, match="come to"):
            client.resolve(LAMP, at=11)
        with pytest.raises(InputError, match="offset"):
            client.resolve(LAMP, at=datetime(2026, 1, 1))  # noqa: DTZ001 — that is what is refused


def test_records_of_the_genesis_have_a_history_too(chain: Chain) -> None:
    with chain.client() as client:
        traced = client.history("MA.156.130100", max_age=ANY)
        assert [(version, height) for version, height, *_ in traced.told.versions] == [(1, 0)]
        assert traced.told.versions[0][2] == START_MS
        then = client.resolve("MA.156.130100", at=0)
        assert (then.verdict, then.version) == ("REGISTERED", 1)


def test_two_versions_of_one_block_are_both_there(tmp_path: Path) -> None:
    chain = Chain(tmp_path / "network")
    chain.admit()
    chain.register(7)
    steps = [
        operations.set_status(LAMP, expected_version=1, status="suspended"),
        operations.set_status(LAMP, expected_version=2, status="active"),
    ]
    assert chain.decide(steps)[0]["status"] == "committed"
    with chain.client() as client:
        traced = client.history(LAMP, max_age=ANY)
        assert [(version, height) for version, height, *_ in traced.told.versions] == [(3, 5), (2, 5), (1, 4)]
        assert client.resolve(LAMP, at=5).version == 3


def test_a_long_history_comes_in_parts_and_is_joined(chain: Chain) -> None:
    first = get(chain, f"/v1/codes/{LAMP}/history?limit=1", CBOR)
    told = History.from_bytes(first).verify(chain.trust, code=LAMP)
    parts = [History.from_bytes(first)]
    while (missing := told.missing) is not None:
        version, height, hash_ = missing
        path = f"/v1/codes/{LAMP}/history?limit=1&from={height}-{hash_.hex()}-{(told.verdict.height or 0) + 1}"
        part = History.from_bytes(get(chain, path, CBOR))
        told.extend(part)
        parts.append(part)
        assert len(told.versions) == 4 - version + 1
    assert len(parts) == 3
    assert told.complete
    with chain.client() as client:
        assert History.join(parts).to_bytes() == History.join(client.history(LAMP, max_age=ANY).parts).to_bytes()
    with pytest.raises(ProofInvalid, match="not the record whose hash"):
        History.from_bytes(first).verify(chain.trust).extend(parts[2])


def test_what_the_store_lost_is_said_and_never_denied(chain: Chain) -> None:
    chain.kept.lost.add(6)
    with chain.client() as client:
        traced = client.history(LAMP, max_age=ANY)
        assert [version for version, *_ in traced.told.versions] == [4, 3]
        assert not traced.told.complete
        assert traced.told.missing is not None
        assert traced.told.missing[:2] == (2, 6)
        then = client.resolve(LAMP, at=5)
        assert (then.verdict, then.version) == ("UNAVAILABLE", None)
        assert "version 2" in (then.why or "")
        assert client.resolve(LAMP, at=8).version == 3
    with chain.client() as client, pytest.raises(Unavailable):
        client.fetch(f"/v1/codes/{LAMP}?at=5", accept=JSON)


# ---------------------------------------------------------------- the routes


def test_at_in_json_by_height_and_by_date(chain: Chain) -> None:
    for at, height, status in [("6", 6, "suspended"), (time_of(8).isoformat(), 8, "active")]:
        found = get(chain, f"/v1/codes/{LAMP}?at={at.replace('+', '%2B')}")
        assert (found["verdict"], found["status"], found["at"]["height"]) == ("REGISTERED", status, str(height))
        assert found["height"] == "10"
        assert found == get(chain, f"/{LAMP}?at={at.replace('+', '%2B')}")
    history = get(chain, f"/v1/codes/{LAMP}?at=8", CBOR)
    told = History.from_bytes(history).verify(chain.trust, code=LAMP)
    assert told.at(8) == (3, None)
    assert not told.complete, "no more than what shows it"
    assert get(chain, f"/v1/codes/{LAMP}/history?at=8", CBOR) == history


@pytest.mark.parametrize(
    ("at", "kind"),
    [
        ("11", "height 11 is not decided here"),
        ("20260301", "height 20260301 is not decided here"),
        ("2999-01-01", "after the newest block"),
        ("1999-01-01", "before the network began"),
        ("yesterday", "neither a height nor a date"),
        ("-1", "neither a height nor a date"),
        ("2026-13-01", "neither a height nor a date"),
        ("", "neither a height nor a date"),
    ],
)
def test_moments_that_are_none(chain: Chain, at: str, kind: str) -> None:
    with (
        chain.client() as client,
        pytest.raises(InputError, match=kind),
    ):
        client.fetch(f"/v1/codes/{LAMP}?at={at}", accept=JSON)


def test_versions_in_json_page_downwards(chain: Chain) -> None:
    whole = get(chain, f"/v1/codes/{LAMP}/history")
    assert [row["record"]["version"] for row in whole["versions"]] == ["4", "3", "2", "1"]
    assert whole["complete"] is True
    page = get(chain, f"/v1/codes/{LAMP}/history?below=4&limit=2")
    assert [row["record"]["version"] for row in page["versions"]] == ["3", "2"]
    assert page["complete"] is False
    assert page["versions"][0]["time_ms"] == str(START_MS + 8 * STEP_MS)
    proof = get(chain, f"/v1/codes/{LAMP}/history?proof=1")
    assert History.from_json(json.dumps(proof)).verify(chain.trust, code=LAMP).complete
    with chain.client() as client, pytest.raises(CodeError):
        client.fetch("/v1/codes/MA.156.130100.A7K2%2F60.010203.1%2F000000007X/history", accept=JSON)
    for bad in ("limit=0", "limit=4097", "below=0", "from=1-2-3"):
        with chain.client() as client, pytest.raises(InputError):
            client.fetch(f"/v1/codes/{LAMP}/history?{bad}", accept=CBOR)


def test_a_part_of_another_chain_is_refused(chain: Chain) -> None:
    with chain.client() as client, pytest.raises(InputError, match="not of this node's chain"):
        client.fetch(f"/v1/codes/{LAMP}/history?from=6-{'00' * 32}-99", accept=CBOR)


# ---------------------------------------------------------------- lists


def test_codes_are_listed_by_prefix_in_pages(chain: Chain) -> None:
    chain.admit("A7K2X")
    chain.register(1_001, org="A7K2X")
    codes: list[str] = []
    after = ""
    while True:
        page = get(chain, f"/v1/codes?prefix=MA.156&limit=3{after}")
        codes += [row["code"] for row in page["codes"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    cities = [f"MA.156.{city}" for city in sorted(city for city, _ in CITIES)]
    lamps = [make_item_code("130100", "A7K2", "60", "010203", "1", serial) for serial in (7, 8)]
    other = make_item_code("130100", "A7K2X", "60", "010203", "1", 1_001)
    assert codes == [*cities, OFFICE, f"{OFFICE}X", f"{OFFICE}/60.010203.1", f"{OFFICE}X/60.010203.1", *lamps, other]
    listed = {
        prefix: [row["code"] for row in get(chain, f"/v1/codes?prefix={prefix}")["codes"]]
        for prefix in (
            OFFICE,
            f"{OFFICE}/",
            f"{OFFICE}/60",
            f"{OFFICE}/60.010203",
            LAMP,
            "MA.156.110000",
            "ma.156.130100.a7k2x",
        )
    }
    below = [f"{OFFICE}/60.010203.1", *lamps]
    assert listed[OFFICE] == [OFFICE, *below]
    assert listed[f"{OFFICE}/"] == listed[f"{OFFICE}/60"] == listed[f"{OFFICE}/60.010203"] == below
    assert listed[LAMP] == [LAMP]
    assert listed["MA.156.110000"] == ["MA.156.110000"]
    assert listed["ma.156.130100.a7k2x"] == [f"{OFFICE}X", f"{OFFICE}X/60.010203.1", other]
    row = next(row for row in get(chain, f"/v1/codes?prefix={LAMP}")["codes"])
    assert row == {"code": LAMP, "kind": "item", "status": "retired", "version": "4", "height": "9", "holder": None}
    # A page may begin behind any code, or behind a place that is no item.
    assert [row["code"] for row in get(chain, f"/v1/codes?prefix={OFFICE}/&after={LAMP}")["codes"]] == lamps[1:]
    assert [
        row["code"] for row in get(chain, f"/v1/codes?prefix={OFFICE}/&after=130100010203000000003")["codes"]
    ] == lamps


@pytest.mark.parametrize(
    "prefix", ["MA.157", "MA.156.13", "MA.156.130100.A7", "x", "MA.156.130100/60.01", "MA.156.130100 "]
)
def test_what_is_no_prefix_is_refused(chain: Chain, prefix: str) -> None:
    with chain.client() as client, pytest.raises(CodeError, match="no prefix"):
        client.fetch(f"/v1/codes?prefix={prefix}", accept=JSON)


# ---------------------------------------------------------------- moments


def test_moments_as_people_write_them() -> None:
    assert parse_moment("12") == 12
    assert parse_moment("2026-03-01") == datetime(2026, 3, 1, tzinfo=UTC)
    east = datetime(2026, 3, 1, 4, tzinfo=UTC)
    assert parse_moment("2026-03-01T12:00:00+08:00") == parse_moment("2026-03-01T12:00:00 08:00") == east
    local = parse_moment("2026-03-01T12:00", zone=None)
    assert isinstance(local, datetime)
    assert local.utcoffset() is not None
    for text in ("", "x", "1.5", "1969-12-31T00:00:00Z", "2026-03-01T25:00", "9" * 19, "2" * 200):
        with pytest.raises(InputError, match="neither a height nor a date"):
            parse_moment(text)
