"""Bad input over HTTP at a live node: refused by a stable name, nothing changed, and the next request served.

The control is in `refused`: after every refusal the state roots of all nodes are what they were, and then a valid
transaction of the same kind goes through.
"""

import json
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from cityid import keys
from cityid.client import operations
from cityid.keys import Signer

if TYPE_CHECKING:
    from tests.integration.conftest import LiveNetwork

pytestmark = pytest.mark.processes

PROBLEM = "urn:cityid:problem:"
ORG = "A7K2"
CLASS = "900001"
CBOR = {"Content-Type": "application/cbor"}
SEQUENCE = {"Content-Type": "application/cbor-seq"}


class Desk:
    """One city's node, one office that it admitted with a quota of one range, and an item of that office."""

    def __init__(self, network: "LiveNetwork", office: Signer) -> None:
        self.network = network
        self.city, self.other, *_ = network.cities
        self.office = office
        self.signer = network.signer(self.city)
        self.serial = self.prepare()

    def prepare(self) -> int:
        network, office = self.network, self.office
        entry = operations.prove_possession(office, network.genesis.hash, f"MA.156.{self.city}.{ORG}")
        admit = operations.admit_organisation(self.city, ORG, name="Lighting", quota=1_000, keys=[entry])
        assert network.transact(self.city, [admit], self.signer)["status"] == "committed"
        made = [
            operations.allocate_range(self.city, ORG, class_code=CLASS),
            operations.register_category(self.city, ORG, use="60", class_code=CLASS, model="1", name="Lamp"),
        ]
        receipt = network.transact(self.city, made, office)
        serial = int(receipt["outputs"][0]["base"])
        assert network.transact(self.city, [self.items(serial)], office)["status"] == "committed"
        return serial

    def items(self, serial: int) -> operations.Operation:
        return operations.register_items(
            self.city, ORG, use="60", class_code=CLASS, model="1", items=[operations.Item(serial, {})]
        )

    def transaction(self) -> bytes:
        """A fresh one that would be accepted."""
        _, operation = self.network.category(self.city)
        return self.network.sign([operation], [self.signer])[1]

    def roots(self) -> set[str]:
        return {self.network.root(city) for city in self.network.cities}

    def refused(
        self, data: bytes, status: int, kind: str, *, reason: str | None = None, headers: dict[str, str] = CBOR
    ) -> dict[str, Any]:
        """The problem that a node answers with; nothing changed, and the next one is served."""
        self.network.wait_same_tip()
        before = self.roots()
        reply = self.network.post(self.city, data, headers=headers)
        body = problem(reply, status, kind)
        assert body.get("reason") == reason, body
        # A block of something that changes nothing: had the node kept what it refused, it would be in there.
        self.rejected([self.network.category(self.other)[1]], self.signer, "not_authorised", before=before)
        return body

    def rejected(
        self, made: list[operations.Operation], signer: Signer, reason: str, *, before: set[str] | None = None
    ) -> dict[str, Any]:
        """The receipt of a transaction that is in a block and changed nothing; the next one is served."""
        self.network.wait_same_tip()
        before = before or self.roots()
        receipt = self.network.transact(self.city, made, signer)
        assert (receipt["status"], receipt.get("reason")) == ("rejected", reason), receipt
        self.network.wait_height(int(receipt["height"]))
        assert self.roots() == before
        self.network.assert_serves(self.city)
        return receipt


def problem(reply: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    """RFC 9457, with what is wrong in words."""
    body: dict[str, Any] = reply.json()
    assert (reply.status_code, body["type"]) == (status, PROBLEM + kind), reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    assert len(body["detail"]) > 20, "a person must be able to act on it"
    return body


@pytest.fixture(scope="module")
def desk(live_network: "LiveNetwork") -> Iterator[Desk]:
    (live_network.directory / "office").mkdir(mode=0o700)
    yield Desk(live_network, keys.generate(live_network.directory / "office" / "office.pem"))
    assert not [city for city in live_network.cities if live_network.status(city)["halted"]]
    assert not [city for city in live_network.cities if live_network.events(city, "http_failed")]


# ---------------------------------------------------------------- what does not parse


def longer_head(data: bytes) -> bytes:
    """The version of the body (P14), 01, in two bytes."""
    assert data[:3] == b"\x82\x86\x01"
    return data[:2] + b"\x18\x01" + data[3:]


def indefinite(data: bytes) -> bytes:
    """The outer array without its length, and a break at the end."""
    return b"\x9f" + data[1:] + b"\xff"


def tagged(data: bytes) -> bytes:
    return b"\xd9\xd9\xf7" + data  # "this is CBOR", RFC 8949 section 3.4.6


def deep(data: bytes) -> bytes:
    return b"\x81" * 60_000


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"junk",
        lambda data: b"\xff" * 100,
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: data + b"\x00",
        lambda data: b"\x9b" + b"\xff" * 8,  # an array of 2^64 - 1 items
        lambda data: b"\x5b\x7f" + b"\xff" * 7 + data,  # a text of 2^63 - 1 bytes
        longer_head,
        indefinite,
        tagged,
        deep,
    ],
    ids=[
        "junk", "breaks", "one byte short", "half", "one byte more", "huge array", "huge bytes", "longer head",
        "indefinite length", "tag", "deep",
    ],
)  # fmt: skip
def test_what_is_no_canonical_transaction(desk: Desk, spoil: Callable[[bytes], bytes]) -> None:
    data = spoil(desk.transaction())
    reply = desk.network.post(desk.city, data)
    problem(reply, 400, "malformed")


def test_a_malformed_transaction_changes_nothing(desk: Desk) -> None:
    desk.refused(longer_head(desk.transaction()), 400, "malformed")


def test_nothing_of_a_sequence_that_stops_parsing_is_taken(desk: Desk) -> None:
    code, operation = desk.network.category(desk.city)
    _, good = desk.network.sign([operation], [desk.signer])
    desk.refused(good + b"\xff", 400, "malformed", headers=SEQUENCE)
    assert desk.network.verdicts(desk.city, [code]) == ["NOT_REGISTERED"]


def test_an_empty_body_and_another_media_type(desk: Desk) -> None:
    problem(desk.network.post(desk.city, b""), 400, "malformed")
    problem(desk.network.post(desk.city, b"{}", headers={"Content-Type": "application/json"}), 415, "media-type")


# ---------------------------------------------------------------- what is too much


def test_an_oversize_transaction(desk: Desk) -> None:
    items = [operations.Item(desk.serial + 1 + index, {"name": bytes(32)}) for index in range(999)]
    made = [
        operations.register_items(desk.city, ORG, use="60", class_code=CLASS, model="1", items=items),
        operations.register_items(desk.city, ORG, use="60", class_code=CLASS, model="1", items=items),
    ]
    _, data = desk.network.sign(made, [desk.office])
    assert len(data) > 65_536
    body = desk.refused(data, 413, "too-large", reason="too_large")
    assert "65536" in body["detail"]


def test_an_oversize_body(desk: Desk) -> None:
    limit = 4_194_304
    body = desk.refused(bytes(limit + 1), 413, "too-large")
    assert (body["limit"], body["value"]) == ("http_body_bytes", limit)


def test_too_many_codes_in_one_question(desk: Desk) -> None:
    reply = desk.network.clients[desk.city].post("/v1/resolve", json={"codes": ["MA.156.130100"] * 1_001})
    assert problem(reply, 413, "too-large")["value"] == 1_000


# ---------------------------------------------------------------- what is outside its time, network or signatures


def test_an_expired_transaction_and_one_that_is_too_far_ahead(desk: Desk) -> None:
    _, operation = desk.network.category(desk.city)
    height = desk.network.height(desk.city)
    _, expired = desk.network.sign([operation], [desk.signer], valid_until=height)
    desk.refused(expired, 409, "rule", reason="expired")
    _, far = desk.network.sign([operation], [desk.signer], valid_until=height + 3_000)
    desk.refused(far, 409, "rule", reason="too_far")


def test_a_transaction_for_another_network(desk: Desk) -> None:
    _, operation = desk.network.category(desk.city)
    _, data = desk.network.sign([operation], [desk.signer], genesis_hash=bytes(32))
    desk.refused(data, 409, "rule", reason="wrong_network")


def test_a_wrong_signature(desk: Desk) -> None:
    data = bytearray(desk.transaction())
    data[-1] ^= 1
    desk.refused(bytes(data), 403, "rule", reason="bad_signature")


def test_a_changed_body_under_the_old_signature(desk: Desk) -> None:
    data = desk.transaction()
    assert data.count(b"Lamp") == 1
    desk.refused(data.replace(b"Lamp", b"Lamb"), 403, "rule", reason="bad_signature")


def test_one_bad_transaction_of_many_costs_itself_only(desk: Desk) -> None:
    code, operation = desk.network.category(desk.city)
    _, good = desk.network.sign([operation], [desk.signer])
    bad = bytearray(desk.transaction())
    bad[-1] ^= 1
    reply = desk.network.post(desk.city, good + bytes(bad), headers=SEQUENCE)
    first, second = reply.json()["transactions"]
    assert (reply.status_code, first["status"]) == (200, "committed")
    assert (second["status"], second["reason"]) == ("refused", "bad_signature")
    assert desk.network.verdicts(desk.city, [code]) == ["REGISTERED"]


# ---------------------------------------------------------------- what the rule forbids


def test_another_city_cannot_sign_for_a_prefix(desk: Desk) -> None:
    code, operation = desk.network.category(desk.city)
    desk.rejected([operation], desk.network.signer(desk.other), "not_authorised")
    assert desk.network.verdicts(desk.city, [code]) == ["NOT_REGISTERED"]


def test_more_than_the_quota(desk: Desk) -> None:
    desk.rejected([operations.allocate_range(desk.city, ORG, class_code=CLASS)], desk.office, "over_quota")


def test_an_item_outside_the_ranges_of_its_office(desk: Desk) -> None:
    desk.rejected([desk.items(desk.serial + 1_000)], desk.office, "not_in_range")


def test_a_second_registration_of_one_serial(desk: Desk) -> None:
    desk.rejected([desk.items(desk.serial)], desk.office, "exists")


def test_a_stale_version(desk: Desk) -> None:
    update = operations.ItemUpdate(desk.serial, 7, {"name": bytes(32)})
    desk.rejected(
        [operations.update_items(desk.city, class_code=CLASS, updates=[update])], desk.office, "stale_version"
    )


def test_an_operation_that_fails_undoes_those_before_it(desk: Desk) -> None:
    code, operation = desk.network.category(desk.city)
    receipt = desk.rejected([operation, operation], desk.signer, "exists")
    assert receipt["operation"] == 1
    assert desk.network.verdicts(desk.city, [code]) == ["NOT_REGISTERED"]


# ---------------------------------------------------------------- what was sent before


def test_the_same_bytes_again_have_one_effect(desk: Desk) -> None:
    """At the same node, at another one, in one request twice: one block holds it, and every reply says the same."""
    network = desk.network
    item = desk.serial + 1
    id, data = network.sign([desk.items(item)], [desk.office])
    first = network.post(desk.city, data).json()["transactions"][0]
    assert first["status"] == "committed"
    network.wait_height(int(first["height"]))
    before = desk.roots()
    replies = [
        network.post(desk.city, data).json()["transactions"][0],
        network.post(desk.other, data).json()["transactions"][0],
        *network.post(desk.city, data + data, headers=SEQUENCE).json()["transactions"],
        network.clients[desk.other].get(f"/v1/transactions/{id.hex()}").json(),
    ]
    assert [reply["status"] for reply in replies] == ["committed"] * 5
    assert {reply["height"] for reply in replies} == {first["height"]}
    desk.rejected([network.category(desk.other)[1]], desk.signer, "not_authorised", before=before)


def test_the_same_bytes_to_every_node_at_once_have_one_effect(desk: Desk) -> None:
    network = desk.network
    code, operation = network.category(desk.city)
    _, data = network.sign([operation], [desk.signer])
    for city in network.cities:
        assert network.post(city, data, wait=False).status_code == 202
    rows = [network.post(city, data).json()["transactions"][0] for city in network.cities]
    assert {(row["status"], row["height"]) for row in rows} == {("committed", rows[0]["height"])}
    record = json.loads(network.clients[desk.city].get("/" + code).text)["record"]
    assert int(record["version"]) == 1


# ---------------------------------------------------------------- other paths


@pytest.mark.parametrize(
    ("path", "status", "kind"),
    [
        ("/v1/codes/nonsense", 400, "code"),
        ("/MA.156.130100.A7K2/60.010203.1/000012345A", 400, "code"),
        ("/v1/blocks/999999999", 404, "unknown-block"),
        ("/v1/blocks/-1", 400, "malformed"),
        ("/v1/transactions/" + "0" * 64, 404, "unknown-transaction"),
        ("/v1/transactions/xyz", 400, "malformed"),
        ("/v1/trust?from=999999999", 400, "malformed"),
        ("/etc/passwd", 404, "not-found"),
    ],
)
def test_questions_that_have_no_answer(desk: Desk, path: str, status: int, kind: str) -> None:
    problem(desk.network.clients[desk.city].get(path), status, kind)


def test_garbage_on_the_http_port_harms_nobody(desk: Desk) -> None:
    url = httpx.URL(desk.network.local.urls[desk.city])
    for sent in (b"\x16\x03\x01" + b"\xff" * 500, b"GET / HTTP/9.9\r\n\r\n", b"A" * 200_000, b"\x00"):
        with socket.create_connection((url.host, url.port or 0), timeout=5) as connection:
            try:
                connection.sendall(sent)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(4_096):
                    pass
            except OSError:
                pass  # it hung up on us, which is an answer
    desk.network.assert_serves(desk.city)
