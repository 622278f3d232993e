"""Bad input at the peer port of live nodes: from strangers, and from a city that has the right key and lies.

The liar is 北京 (110000): it has the lowest code, so it dials everybody, and its real node is stopped while the tests
speak in its name, with its own key files. The other three must name what they drop and go on.
"""

import contextlib
import json
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cityid import keys
from cityid._native import Ledger, header_hash, header_json, leaf_hash, log_root
from cityid.genesis import certificate_file
from cityid.node import messages
from cityid.node.config import load, parse_address
from cityid.node.frames import GOODBYE, HELLO, Hello, encode_frame
from cityid.node.tls import load_credentials

if TYPE_CHECKING:
    from tests.integration.conftest import LiveNetwork

pytestmark = pytest.mark.processes

LIAR = "110000"
TURNS = 4


@pytest.fixture(scope="module")
def network(live_network: "LiveNetwork") -> Iterator["LiveNetwork"]:
    """Three honest nodes that run, and the liar's files."""
    assert live_network.stop(LIAR) == 0
    yield live_network
    assert not [city for city in others(live_network) if live_network.status(city)["halted"]]
    live_network.start(LIAR)  # the honest node of that city is welcome again
    live_network.wait_ready(LIAR)
    live_network.assert_serves(LIAR)
    live_network.wait_same_tip()


def others(network: "LiveNetwork") -> list[str]:
    return [city for city in network.cities if city != LIAR]


def figure(network: "LiveNetwork", city: str, name: str, label: str = "") -> float:
    """One of a node's figures (/metrics), 0 when it is not there yet."""
    text = network.clients[city].get("/metrics").text
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and (not label or label in sample.labels.values()):
                return sample.value
    return 0.0


@contextmanager
def connection(network: "LiveNetwork", city: str) -> Iterator[socket.socket]:
    """TCP to a node's peer port."""
    address = parse_address(str(load(network.directory / city / "node.toml").listen_peers))
    with socket.create_connection((address.host, address.port), timeout=5) as raw:
        yield raw


def wait_refused(network: "LiveNetwork", city: str, reason: str, before: float) -> None:
    network.until(
        lambda: figure(network, city, "cityid_peers_refused_total", reason) > before, f"{city} counts {reason}"
    )


# ---------------------------------------------------------------- strangers


def stranger_context(directory: Path, name: str) -> ssl.SSLContext:
    """A certificate that says it is this city, with a key that is not that of the genesis."""
    directory.mkdir(mode=0o700)
    signer = keys.generate(directory / "tls.pem")
    (directory / "certificate.pem").write_bytes(keys.tls_certificate(signer, name))
    return client_context(directory / "certificate.pem", directory / "tls.pem")


def client_context(certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """A client that believes everybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context


def assert_handshake_fails(network: "LiveNetwork", city: str, context: ssl.SSLContext) -> None:
    """Under TLS 1.3 a client learns by its first read that the server does not want it."""
    heard = b""
    with (
        contextlib.suppress(ssl.SSLError, ConnectionError),
        connection(network, city) as raw,
        context.wrap_socket(raw) as stream,
    ):
        heard = stream.recv(1)
    assert heard == b"", "a stranger got a hello"


@pytest.mark.parametrize(
    ("who", "reason"),
    [("unknown city", "certificate"), ("right name, wrong key", "certificate"), ("no certificate", "tls")],
)
def test_a_stranger_gets_no_connection(network: "LiveNetwork", tmp_path: Path, who: str, reason: str) -> None:
    city = others(network)[0]
    before = figure(network, city, "cityid_peers_refused_total", reason)
    context = (
        client_context(None, None)
        if who == "no certificate"
        else stranger_context(tmp_path / "stranger", "999999" if who == "unknown city" else LIAR)
    )
    assert_handshake_fails(network, city, context)
    wait_refused(network, city, reason, before)
    event = network.events(city, "peer_refused")[-1]
    assert event["reason"] == reason
    assert event["detail"]
    assert event["peer"] is None
    network.assert_serves(city)


def test_the_certificate_of_a_city_without_its_key_is_of_no_use(network: "LiveNetwork", tmp_path: Path) -> None:
    """Certificates are public: OpenSSL does not even load one with another key."""
    stranger_context(tmp_path / "stranger", LIAR)
    certificate = certificate_file(network.directory / "certificates", LIAR)
    with pytest.raises(ssl.SSLError, match=r"(?i)mismatch"):
        client_context(certificate, tmp_path / "stranger" / "tls.pem")


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"\xff" * 70_000, b"\x00"])
def test_garbage_instead_of_a_handshake(network: "LiveNetwork", sent: bytes) -> None:
    city = others(network)[0]
    before = sum(figure(network, city, "cityid_peers_refused_total", reason) for reason in ("tls", "closed"))
    with connection(network, city) as raw, contextlib.suppress(ConnectionError):
        raw.sendall(sent)
        raw.shutdown(socket.SHUT_WR)
        while raw.recv(4_096):
            pass
    network.until(
        lambda: (
            sum(figure(network, city, "cityid_peers_refused_total", reason) for reason in ("tls", "closed")) > before
        ),
        "the stranger is counted",
    )
    network.assert_serves(city)


# ---------------------------------------------------------------- a city that lies


class Liar:
    """One connection in the name of the liar, with its own key."""

    def __init__(self, network: "LiveNetwork", stream: ssl.SSLSocket) -> None:
        self.network = network
        self.stream = stream

    def say(self, kind: int, payload: bytes) -> None:
        self.stream.sendall(encode_frame(kind, payload))

    def hear(self) -> bytes:
        """Everything until the other side closes."""
        received = b""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while data := self.stream.recv(65_536):
                received += data
        return received


@contextmanager
def greeted(network: "LiveNetwork", city: str) -> Iterator[Liar]:
    """A connection that the node takes for that of the liar's city."""
    place = network.directory / LIAR
    credentials = load_credentials(
        LIAR, network.genesis, keys_directory=place / "keys", certificates=place / "certificates"
    )
    with connection(network, city) as raw, credentials.client.wrap_socket(raw) as stream:
        stream.sendall(encode_frame(HELLO, Hello(network.genesis.hash, LIAR, 1).encode()))
        network.until(lambda: LIAR in network.status(city)["peers"], f"{city} greets {LIAR}")
        yield Liar(network, stream)
    network.until(lambda: LIAR not in network.status(city)["peers"], f"{city} misses {LIAR}")


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"\xff" * 5, "over its cap"),  # four gigabytes
        ((16_777_216 + 2).to_bytes(4, "big") + bytes([messages.BLOCK]), "over its cap"),
        ((2_000_000).to_bytes(4, "big") + bytes([messages.BATCH]), "over its cap"),
        (b"\x00\x00\x00\x02\x63!", "unknown"),
        (b"\x00\x00\x00\x00\x02", "over its cap"),
    ],
)
def test_garbage_frames_end_the_connection(network: "LiveNetwork", sent: bytes, words: str) -> None:
    city = others(network)[0]
    with greeted(network, city) as liar:
        liar.stream.sendall(sent)
        goodbye = liar.hear()
    assert bytes([GOODBYE]) in goodbye
    ended = [event for event in network.events(city, "peer_disconnected") if event["peer"] == LIAR][-1]
    assert ended["reason"] == "malformed"
    assert words in ended["detail"]
    network.assert_serves(city)


def test_another_network_in_the_hello(network: "LiveNetwork") -> None:
    city = others(network)[0]
    place = network.directory / LIAR
    credentials = load_credentials(
        LIAR, network.genesis, keys_directory=place / "keys", certificates=place / "certificates"
    )
    before = figure(network, city, "cityid_peers_refused_total", "genesis")
    with connection(network, city) as raw, credentials.client.wrap_socket(raw) as stream:
        stream.sendall(encode_frame(HELLO, Hello(bytes(32), LIAR, 1).encode()))
        assert b"another network" in Liar(network, stream).hear()
    wait_refused(network, city, "genesis", before)


def junk(network: "LiveNetwork") -> list[tuple[int, bytes, str]]:
    """(kind, payload, the event that names it): what no honest node sends."""
    city = others(network)[0]
    _, good = network.sign([network.category(city)[1]], [network.signer(city)])
    bad = good[:-1] + bytes([good[-1] ^ 1])
    tip = network.clients[city].get(f"/v1/blocks/{network.height(city)}").json()
    header, certificate = bytes.fromhex(tip["header_bytes"]), bytes.fromhex(tip["certificate"])
    height = int(tip["header"]["height"])
    proposal = messages.Proposal(height + 1, 0, -1, header, bytes(32))
    block = messages.Block(height + 1, header, certificate, b"", ())
    return [
        (messages.BATCH, b"junk", "batch_refused"),
        (messages.BATCH, b"\x82" + good + bad, "batch_refused"),
        (messages.BATCH, b"\x81" + bad, "batch_refused"),
        (messages.BATCH, b"\x80", ""),
        (messages.PROPOSAL, b"junk", "frame_dropped"),
        (messages.PROPOSAL, messages.encode_proposal(proposal), ""),  # its round's proposer or not, it fits nothing
        (messages.BLOCK, b"junk", "frame_dropped"),
        (messages.BLOCK, messages.encode_block(block), ""),  # nobody asked for it
        (messages.HAVE, bytes(33), "frame_dropped"),
        (messages.HAVE, bytes(32 * 1_000), ""),
        (messages.WANT_BATCHES, bytes(32 * 1_000), ""),
        (messages.WANT_BLOCKS, b"\xff" * 10, "frame_dropped"),
        (messages.WANT_BLOCKS, messages.encode_want_blocks(messages.WantBlocks(10**12, 512)), ""),
        (messages.STATUS, b"\xff" * 40, "frame_dropped"),
        (messages.STATUS, messages.encode_status(messages.Status(10**12, bytes(32))), ""),
        (messages.COSIGNATURE, messages.encode_cosignature(messages.Cosignature(10**12, bytes(64))), ""),
        (messages.CONSENSUS, b"", "frame_dropped"),
        (messages.CONSENSUS, b"V" + (height + 1).to_bytes(8, "big") + b"\xff" * 200, ""),
        (messages.CONSENSUS, b"?" + (height + 1).to_bytes(8, "big") + bytes(120), ""),
    ]


def test_a_city_that_sends_junk_is_named_and_the_others_go_on(network: "LiveNetwork") -> None:
    network.wait_same_tip(*others(network))
    before = {network.root(city) for city in others(network)}
    said = junk(network)
    with contextlib.ExitStack() as stack:
        liars = [stack.enter_context(greeted(network, city)) for city in others(network)]
        for liar in liars:
            for kind, payload, _ in said:
                liar.say(kind, payload)
        network.wait_height(network.height(others(network)[0]) + 2, *others(network))
        for city in others(network):
            assert LIAR in network.status(city)["peers"], "it ended the connection over something that may be a race"
            for name in {name for _, _, name in said if name}:
                named = [event for event in network.events(city, name) if event["peer"] == LIAR]
                assert named, f"{city} does not say {name}"
                assert all(event["why"] for event in named)
        assert {network.root(city) for city in others(network)} == before
    for city in others(network):
        network.assert_serves(city)


def test_a_flood_of_junk_does_not_fill_the_log(network: "LiveNetwork") -> None:
    city = others(network)[0]
    log = network.directory / city / "node.log"
    before = log.stat().st_size
    with greeted(network, city) as liar:
        for number in range(2_000):
            liar.say(messages.BATCH, b"junk %d" % number)
        for _ in range(2_000):
            liar.say(messages.STATUS, b"junk")
        network.until(lambda: len(network.events(city, "frame_dropped")) >= 10, "the node reads")
        network.assert_serves(city)
    assert log.stat().st_size - before < 200_000
    network.wait_same_tip(*others(network))


# ---------------------------------------------------------------- a proposer that lies


def cbor(value: Any) -> bytes:
    """Deterministic CBOR of what a header holds."""
    match value:
        case int():
            return cbor_head(0, value)
        case bytes():
            return cbor_head(2, len(value)) + value
        case str():
            return cbor_head(3, len(value)) + value.encode()
        case _:
            return cbor_head(4, len(value)) + b"".join(map(cbor, value))


def cbor_head(major: int, number: int) -> bytes:
    if number < 24:
        return bytes([major << 5 | number])
    width = next(width for width in (1, 2, 4, 8) if number < 1 << 8 * width)
    return bytes([major << 5 | 24 + width.bit_length() - 1]) + number.to_bytes(width, "big")


def header_after(header: bytes, **changed: Any) -> bytes:
    """An empty block on top of this one (P31), with some fields changed."""
    assert header[-41:-39] == b"\x58\x20", "the header ends in two hashes and a city"
    fields = json.loads(header_json(header))
    nothing = sha256(b"").digest()
    made = {
        "version": 1,
        "genesis": bytes.fromhex(fields["genesis"]),
        "height": int(fields["height"]) + 1,
        "time_ms": max(time.time_ns() // 1_000_000, int(fields["time_ms"]) + 1),
        "parent": header_hash(header),
        "batches_root": nothing,
        "transactions_root": nothing,
        "receipts_root": nothing,
        "state_root": bytes.fromhex(fields["state_root"]),
        "validators_hash": header[-73:-41],  # before the six digits of the proposer, each with a head of two bytes
        "next_validators_hash": header[-39:-7],
        "proposer": LIAR,
    }
    assert made.keys() >= changed.keys()
    return cbor(list((made | changed).values()))


def headers(network: "LiveNetwork", city: str, tip: int) -> list[bytes]:
    found = [Ledger(network.genesis).header]
    for height in range(1, tip + 1):
        found.append(bytes.fromhex(network.clients[city].get(f"/v1/blocks/{height}").json()["header_bytes"]))
    return found


def signed_proposal(network: "LiveNetwork", height: int, value: bytes) -> bytes:
    """A proposal of round 0 as the consensus engine encodes it, signed by the liar (P35)."""
    signer = network.signer(LIAR, "consensus")
    place = height.to_bytes(8, "big") + bytes(4)
    no_round = b"\xff" * 4
    signature = signer.sign(b"cityid/1/P" + network.genesis.hash + place + no_round + value)
    return b"P" + place + no_round + value + sha256(signer.public_key).digest()[:20] + signature


def propose(network: "LiveNetwork", liars: Sequence[Liar], **changed: Any) -> int:
    """As the proposer of the next height that is its turn, proposes an empty block; the height, now decided."""
    city = others(network)[0]
    turn = network.genesis.cities.index(LIAR)
    known = headers(network, city, network.height(city))
    network.until(lambda: network.height(city) % 4 == (turn - 1) % 4, "its turn")
    tip = network.height(city)
    known += [
        bytes.fromhex(network.clients[city].get(f"/v1/blocks/{height}").json()["header_bytes"])
        for height in range(len(known), tip + 1)
    ]
    header = header_after(known[-1], **changed)
    value = log_root([leaf_hash(one) for one in [*known, header]])
    proposal = messages.encode_proposal(messages.Proposal(tip + 1, 0, -1, header, b""))
    for liar in liars:
        liar.say(messages.PROPOSAL, proposal)
        liar.say(messages.CONSENSUS, signed_proposal(network, tip + 1, value))
    network.wait_height(tip + 1, *others(network))
    return tip + 1


def proposer_of(network: "LiveNetwork", height: int) -> str:
    return str(network.clients[others(network)[0]].get(f"/v1/blocks/{height}").json()["header"]["proposer"])


def test_a_signed_proposal_of_an_invalid_block_is_not_voted_for(network: "LiveNetwork") -> None:
    def invalid(height: int) -> list[dict[str, Any]]:
        logged = [event for city in others(network) for event in network.events(city, "proposal_invalid")]
        return [event for event in logged if (event["height"], event["round"]) == (height, 0)]

    with contextlib.ExitStack() as stack:
        liars = [stack.enter_context(greeted(network, city)) for city in others(network)]
        # On a busy machine its turn may be over before it has spoken: then it waits for the next one.
        for _ in range(TURNS):
            height = propose(network, liars, state_root=bytes(32))
            assert proposer_of(network, height) != LIAR
            if named := invalid(height):
                break
        assert named
        assert all("state" in event["why"] for event in named)

        # The control: the same words about a valid block do make a block.
        assert any(proposer_of(network, propose(network, liars)) == LIAR for _ in range(TURNS))
    network.wait_same_tip(*others(network))
    network.assert_serves(others(network)[0])
