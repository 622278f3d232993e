"""Connections between cities, with real TLS: over memory streams and virtual time, and once over loopback TCP."""

import io
import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from cityid import keys
from cityid.errors import InputError
from cityid.node.config import Address, Limits, Timeouts
from cityid.node.frames import GOODBYE, HELLO, Hello, encode_frame, widest_caps
from cityid.node.messages import Frame
from cityid.node.peers import CONNECT_S, Peers
from cityid.node.telemetry import Log, Metrics
from cityid.node.tls import Credentials, TlsStream, load_credentials, make_credentials

LOW, MIDDLE, HIGH, STRANGER = "110000", "330100", "440300", "130100"
GENESIS_HASH = bytes(range(32))
BATCH, VOTE = 4, 2
DEFAULT_LIMITS, DEFAULT_TIMEOUTS = Limits(), Timeouts()


@dataclass
class FakeGenesis:
    """City → TLS key: all of a genesis that pinning looks at."""

    tls: dict[str, bytes]

    @property
    def cities(self) -> list[str]:
        return sorted(self.tls)

    def city(self, city: str) -> dict[str, Any]:
        return {"city": city, "tls": self.tls[city]}


class MemoryListener(trio.abc.Listener[trio.abc.Stream]):
    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[trio.abc.Stream](100)

    def offer(self, stream: trio.abc.Stream) -> None:
        self._send.send_nowait(stream)

    async def accept(self) -> trio.abc.Stream:
        return await self._receive.receive()

    async def aclose(self) -> None:
        await self._receive.aclose()


class MemoryNetwork:
    """A network of memory streams. `unreachable` addresses refuse; `pairs` are all streams ever made, newest last."""

    def __init__(self) -> None:
        self.listeners: dict[Address, MemoryListener] = {}
        self.unreachable: set[Address] = set()
        self.silent = False  # a cut: no reply at all
        self.attempts: list[float] = []
        self.pairs: list[tuple[trio.abc.Stream, trio.abc.Stream]] = []

    async def connect(self, address: Address) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        self.attempts.append(trio.current_time())
        if self.silent:
            await trio.sleep_forever()
        if address in self.unreachable or address not in self.listeners:
            raise OSError("connection refused")
        near, far = trio.testing.memory_stream_pair()
        self.pairs.append((near, far))
        self.listeners[address].offer(far)
        return near

    async def listen(self, address: Address) -> Sequence[trio.abc.Listener[Any]]:
        await trio.lowlevel.checkpoint()
        self.listeners[address] = MemoryListener()
        return [self.listeners[address]]


def address_of(city: str) -> Address:
    return Address(f"city-{city}", 1)


@pytest.fixture(scope="session")
def network_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys and certificates of four cities; the last is no member."""
    root = tmp_path_factory.mktemp("network")
    (root / "certificates").mkdir()
    for city in (LOW, MIDDLE, HIGH, STRANGER):
        (root / city).mkdir()
        signer = keys.generate(root / city / "tls.pem")
        (root / "certificates" / f"{city}.pem").write_bytes(keys.tls_certificate(signer, city))
    return root


def genesis_of(root: Path, cities: Sequence[str] = (LOW, MIDDLE, HIGH)) -> FakeGenesis:
    return FakeGenesis({city: keys.load(root / city / "tls.pem").public_key for city in cities})


def credentials_of(root: Path, city: str, cities: Sequence[str] = (LOW, MIDDLE, HIGH)) -> Credentials:
    return load_credentials(
        city, genesis_of(root, cities), keys_directory=root / city, certificates=root / "certificates"
    )


class City:
    """A node's connections, its inbox and its log, for the tests to look at."""

    def __init__(
        self,
        credentials: Credentials,
        network: MemoryNetwork | None,
        *,
        genesis_hash: bytes = GENESIS_HASH,
        limits: Limits = DEFAULT_LIMITS,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        addresses: Mapping[str, Address] | None = None,
        listen: Address | None = None,
        inbox_size: int = 1_000,
    ) -> None:
        self.city = credentials.city
        self.log = io.StringIO()
        self.peers = Peers(
            credentials=credentials,
            genesis_hash=genesis_hash,
            addresses=addresses or {city: address_of(city) for city in credentials.cities.values()},
            listen=listen or address_of(self.city),
            limits=limits,
            timeouts=timeouts,
            log=Log(self.log, clock=lambda: 0.0),
            tip=lambda: 7,
            network=network,
            jitter=lambda: 1.0,
        )
        self.send_channel, self.inbox = trio.open_memory_channel[list[Frame]](inbox_size)

    def events(self, name: str) -> list[dict[str, Any]]:
        return [event for line in self.log.getvalue().splitlines() if (event := json.loads(line))["event"] == name]

    async def event(self, name: str) -> dict[str, Any]:
        await until(lambda: bool(self.events(name)))
        return self.events(name)[-1]

    async def frames(self, kind: int, count: int = 1) -> list[Frame]:
        """The next `count` frames of a kind; others are thrown away."""
        found: list[Frame] = []
        while len(found) < count:
            found += [frame for frame in await self.inbox.receive() if frame.kind == kind]
        return found


async def until(condition: Callable[[], bool]) -> None:
    """Waits, in virtual time, until something holds."""
    with trio.fail_after(120):
        while not condition():  # noqa: ASYNC110 (what is waited for has no event)
            await trio.sleep(0.01)


@asynccontextmanager
async def running(*cities: City) -> AsyncIterator[trio.Nursery]:
    async with trio.open_nursery() as nursery:
        for city in cities:
            await nursery.start(city.peers.run, city.send_channel)
        yield nursery
        nursery.cancel_scope.cancel()


# ---------------------------------------------------------------- the normal life


async def test_frames_arrive_in_order_and_from_whom(network_files: Path) -> None:
    network = MemoryNetwork()
    low, high = (City(credentials_of(network_files, city), network) for city in (LOW, HIGH))
    async with running(low, high):
        await until(lambda: HIGH in low.peers.connected and LOW in high.peers.connected)
        hello = (await high.frames(HELLO))[0]
        assert hello.peer == LOW
        assert Hello.parse(hello.payload) == Hello(GENESIS_HASH, LOW, 7)
        # More than one TLS record, and many frames in one buffer.
        payloads = [bytes([index % 256]) * (index * 97 % 50_000) for index in range(200)]
        for payload in payloads:
            assert low.peers.send(HIGH, BATCH, payload, urgent=False)
        assert [frame.payload for frame in await high.frames(BATCH, len(payloads))] == payloads
        assert high.peers.broadcast(VOTE, b"vote", urgent=True) == 1
        assert await low.frames(VOTE) == [Frame(HIGH, VOTE, b"vote")]
        assert not low.peers.send(MIDDLE, VOTE, b"nobody there", urgent=True)
    assert low.peers.stats()["unconnected_frames_total"] == 1
    assert high.peers.stats()["frames_in_total"] == len(payloads)
    assert low.peers.connected == frozenset()


async def test_one_connection_a_pair_and_the_lower_code_dials(network_files: Path) -> None:
    network = MemoryNetwork()
    cities = [City(credentials_of(network_files, city), network) for city in (LOW, MIDDLE, HIGH)]
    async with running(*cities):
        await until(lambda: all(len(city.peers.connected) == 2 for city in cities))
        await trio.sleep(100)  # keep-alives carry idle connections through many idle timeouts
    assert len(network.pairs) == 3
    assert [len(city.events("peer_disconnected")) for city in cities] == [2, 2, 2]  # only when stopped
    assert {event["peer"]: event["dialled"] for event in cities[1].events("peer_connected")} == {
        LOW: False,
        HIGH: True,
    }


async def test_reconnects_after_a_restart_and_after_a_silent_loss(network_files: Path) -> None:
    network = MemoryNetwork()
    low = City(credentials_of(network_files, LOW), network)
    first, second = (City(credentials_of(network_files, HIGH), network) for _ in range(2))
    async with running(low):
        async with running(first):
            await until(lambda: HIGH in low.peers.connected)
        await until(lambda: not low.peers.connected)
        assert low.events("peer_disconnected")[-1]["reason"] == "closed"
        async with running(second):
            await until(lambda: HIGH in low.peers.connected)
            # The path dies without a word: only the absence of frames tells.
            near, far = network.pairs[-1]
            assert isinstance(near, trio.StapledStream)
            assert isinstance(far, trio.StapledStream)
            near.receive_stream = far.receive_stream = _Silent()
            await until(lambda: bool(second.events("peer_connected")[1:]))
            assert "idle" in [event["reason"] for event in low.events("peer_disconnected")]
            await until(lambda: HIGH in low.peers.connected)
            assert low.peers.send(HIGH, VOTE, b"again", urgent=True)
            assert (await second.frames(VOTE))[0].payload == b"again"


class _Silent(trio.abc.ReceiveStream):
    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    async def aclose(self) -> None:
        pass


async def test_a_listener_replaces_what_a_restarted_dialler_left_behind(network_files: Path) -> None:
    network = MemoryNetwork()
    high = City(credentials_of(network_files, HIGH), network)
    first, second = (City(credentials_of(network_files, LOW), network) for _ in range(2))
    async with running(high), trio.open_nursery() as nursery:
        await nursery.start(first.peers.run, first.send_channel)
        await until(lambda: LOW in high.peers.connected)
        # The first is not stopped: to its listener it looks alive, as after a power cut.
        await nursery.start(second.peers.run, second.send_channel)
        await until(lambda: len(high.events("peer_connected")) == 2)
        await until(lambda: bool(high.events("peer_disconnected")))
        assert high.events("peer_disconnected")[0]["reason"] == "replaced"
        assert LOW in high.peers.connected
        nursery.cancel_scope.cancel()


async def test_waits_between_attempts_double_up_to_a_bound(network_files: Path) -> None:
    network = MemoryNetwork()
    credentials = credentials_of(network_files, LOW, (LOW, HIGH))
    low = City(credentials, network, timeouts=Timeouts(reconnect_first_ms=100, reconnect_last_ms=1_000))
    async with running(low):
        await until(lambda: len(network.attempts) == 8)
    waits = [round(after - before, 3) for before, after in zip(network.attempts, network.attempts[1:], strict=False)]
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0]
    assert len(low.events("peer_unreachable")) == 1  # an event for the reason, not for each attempt
    assert low.peers.stats()["refused_total:reason"] == {"unreachable": 8}


@pytest.mark.parametrize("cut_s", [0.5, 30.0, 31.7, 33.2])
async def test_a_city_that_was_cut_off_is_found_soon_after_it_is_back(network_files: Path, cut_s: float) -> None:
    """However long the cut was, and whatever the dialler was doing at its end."""
    network = MemoryNetwork()
    network.silent = True
    low, high = (City(credentials_of(network_files, city, (LOW, HIGH)), network) for city in (LOW, HIGH))
    async with running(low, high):
        await trio.sleep(cut_s)
        assert low.peers.connected == frozenset()
        network.silent = False
        back = trio.current_time()
        await until(lambda: HIGH in low.peers.connected)
        assert trio.current_time() - back <= CONNECT_S + Timeouts().reconnect_last_ms / 1_000 + 0.1
    if cut_s > CONNECT_S:
        assert low.events("peer_unreachable")[0]["detail"] == "nobody answers within 2 s"


# ---------------------------------------------------------------- who is refused


async def test_a_stranger_is_refused_with_one_event(network_files: Path) -> None:
    """A valid certificate of a key that the genesis does not hold. The control is every test above."""
    network = MemoryNetwork()
    # The stranger's own genesis lists itself, so it believes that it belongs.
    stranger = City(credentials_of(network_files, STRANGER, (STRANGER, HIGH)), network)
    high = City(credentials_of(network_files, HIGH), network)
    async with running(high, stranger):
        refused = await high.event("peer_refused")
        assert refused["reason"] == "certificate"
        assert "not a city of this network" in refused["detail"]
        unreachable = await stranger.event("peer_unreachable")
        assert unreachable["reason"] == "closed"
        assert "unknown ca" in unreachable["detail"]
        assert high.peers.connected == stranger.peers.connected == frozenset()
        # A member is served next.
        low = City(credentials_of(network_files, LOW), network)
        async with running(low):
            await until(lambda: LOW in high.peers.connected)


async def test_a_city_with_another_key_is_refused_on_both_sides(network_files: Path, tmp_path: Path) -> None:
    """A forged certificate that bears a member's name."""
    (tmp_path / "keys").mkdir()
    (tmp_path / "certificates").mkdir()
    forged = keys.generate(tmp_path / "keys" / "tls.pem")
    for city in (MIDDLE, HIGH):
        pem = (network_files / "certificates" / f"{city}.pem").read_bytes()
        (tmp_path / "certificates" / f"{city}.pem").write_bytes(pem)
    (tmp_path / "certificates" / f"{LOW}.pem").write_bytes(keys.tls_certificate(forged, LOW))
    tls = genesis_of(network_files).tls | {LOW: forged.public_key}
    network = MemoryNetwork()
    credentials = load_credentials(
        LOW, FakeGenesis(tls), keys_directory=tmp_path / "keys", certificates=tmp_path / "certificates"
    )
    pretender = City(credentials, network)
    high = City(credentials_of(network_files, HIGH), network)
    async with running(high, pretender):
        assert (await high.event("peer_refused"))["reason"] == "certificate"
        assert (await pretender.event("peer_unreachable"))["reason"] == "closed"


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        ({"genesis_hash": bytes(32)}, "genesis", "compare genesis.json"),
        ({"version": 2}, "version", "upgrade the older node"),
        ({"city": MIDDLE}, "wrong_city", f"the TLS key is that of {LOW}"),
    ],
)
async def test_a_wrong_hello_is_refused_and_told_so(
    network_files: Path, change: dict[str, Any], reason: str, words: str
) -> None:
    network = MemoryNetwork()
    high = City(credentials_of(network_files, HIGH), network)
    async with running(high):
        hello = replace(Hello(GENESIS_HASH, LOW, 1), **change)
        stream = await dial(network, network_files, LOW, HIGH)
        await stream.send_all(encode_frame(HELLO, hello.encode()))
        refused = await high.event("peer_refused")
        assert (refused["reason"], refused["peer"]) == (reason, LOW)
        assert words in refused["detail"]
        received = b""
        while data := await stream.receive_some():
            received += data
        assert bytes([GOODBYE]) + refused["detail"][:50].encode() in received
        assert high.peers.stats()["refused_total:reason"] == {reason: 1}


async def dial(network: MemoryNetwork, files: Path, city: str, to: str) -> TlsStream:
    """A TLS connection by hand, for a peer that misbehaves."""
    transport = await network.connect(address_of(to))
    stream = TlsStream(transport, credentials_of(files, city).client, server_side=False)
    await stream.handshake()
    return stream


async def test_the_wrong_direction_and_the_wrong_address(network_files: Path) -> None:
    network = MemoryNetwork()
    low, high = (City(credentials_of(network_files, city), network) for city in (LOW, HIGH))
    # LOW's entry for MIDDLE leads to HIGH.
    network.listeners[address_of(MIDDLE)] = MemoryListener()
    async with running(low, high):
        network.listeners[address_of(MIDDLE)] = network.listeners[address_of(HIGH)]
        await until(lambda: "wrong_city" in low.peers.stats()["refused_total:reason"])
        assert "correct [peers]" in low.events("peer_unreachable")[-1]["detail"]
        stream = await dial(network, network_files, HIGH, LOW)
        await stream.send_all(encode_frame(HELLO, Hello(GENESIS_HASH, HIGH, 1).encode()))
        await until(lambda: "direction" in low.peers.stats()["refused_total:reason"])


async def test_idle_strangers_give_way_to_cities(network_files: Path) -> None:
    network = MemoryNetwork()
    high = City(credentials_of(network_files, HIGH), network, limits=Limits(peer_handshakes=4))
    low = City(credentials_of(network_files, LOW), network)
    async with running(high):
        for _ in range(20):
            await network.connect(address_of(HIGH))  # and not a byte more
        await trio.testing.wait_all_tasks_blocked()
        assert high.peers.stats()["handshakes"] == 4
        began = trio.current_time()
        async with running(low):
            await until(lambda: LOW in high.peers.connected)
        assert trio.current_time() - began < 1
        await until(lambda: high.peers.stats()["handshakes"] == 0)
        assert high.peers.stats()["refused_total:reason"]["slow"] == 20
        assert len(high.events("peer_refused")) <= 20


async def test_plain_text_is_no_handshake(network_files: Path) -> None:
    network = MemoryNetwork()
    high = City(credentials_of(network_files, HIGH), network)
    async with running(high):
        stream = await network.connect(address_of(HIGH))
        await stream.send_all(b"GET / HTTP/1.1\r\n\r\n")
        assert (await high.event("peer_refused"))["reason"] == "tls"


async def test_tls_1_2_is_refused(network_files: Path) -> None:
    network = MemoryNetwork()
    high = City(credentials_of(network_files, HIGH), network)
    old = credentials_of(network_files, LOW)
    old.client.minimum_version = old.client.maximum_version = ssl.TLSVersion.TLSv1_2
    async with running(high):
        transport = await network.connect(address_of(HIGH))
        with pytest.raises(ssl.SSLError, match=r"(?i)protocol version"):
            await TlsStream(transport, old.client, server_side=False).handshake()
        assert (await high.event("peer_refused"))["reason"] == "tls"


# ---------------------------------------------------------------- peers that misbehave


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"\xff" * 5, "over its cap of 1024 bytes"),  # a goodbye of 4 GB
        (b"\x00\x00\x00\x02\x63!", "frame kind 99 is unknown"),
        (b"\x00\x00\x00\x00\x02", "over its cap"),  # shorter than its own kind
        (b"\x00\x01\x00\x02\x02", "a frame of kind 2 with 65537 bytes is over its cap of 65536"),
        (encode_frame(HELLO, Hello(GENESIS_HASH, LOW, 1).encode()), "a second hello"),
    ],
)
async def test_garbage_ends_the_connection_and_harms_nobody_else(network_files: Path, sent: bytes, words: str) -> None:
    network = MemoryNetwork()
    high, middle = (City(credentials_of(network_files, city), network) for city in (HIGH, MIDDLE))
    async with running(high, middle):
        await until(lambda: MIDDLE in high.peers.connected)
        stream = await dial(network, network_files, LOW, HIGH)
        await stream.send_all(encode_frame(HELLO, Hello(GENESIS_HASH, LOW, 1).encode()))
        await until(lambda: LOW in high.peers.connected)
        await stream.send_all(encode_frame(VOTE, b"fine") + sent)
        ended = await high.event("peer_disconnected")
        assert (ended["peer"], ended["reason"]) == (LOW, "malformed")
        assert words in ended["detail"]
        assert high.peers.stats()["disconnects_total:reason"] == {"malformed": 1}
        assert middle.peers.send(HIGH, VOTE, b"next", urgent=True)
        assert (await high.frames(VOTE))[-1].payload == b"next"


async def test_a_peer_that_reads_nothing_is_given_up_when_votes_pile_up(network_files: Path) -> None:
    network = MemoryNetwork()
    low = City(credentials_of(network_files, LOW), network, limits=Limits(peer_urgent_frames=100))
    high = City(credentials_of(network_files, HIGH), network)
    async with running(low, high):
        await until(lambda: HIGH in low.peers.connected)
        taken = 0
        while low.peers.send(HIGH, VOTE, b"vote", urgent=True):  # without a pause: nothing is sent meanwhile
            taken += 1
        assert taken == 100
        ended = await low.event("peer_disconnected")
        assert ended["reason"] == "overflow"
        assert "peer_urgent_frames" in ended["detail"]
        await until(lambda: HIGH in low.peers.connected)  # and comes back


async def test_bulk_frames_are_dropped_and_counted_and_votes_overtake_them(network_files: Path) -> None:
    network = MemoryNetwork()
    limits = Limits(peer_bulk_bytes=16_777_216)
    low = City(credentials_of(network_files, LOW), network, limits=limits)
    high = City(credentials_of(network_files, HIGH), network)
    async with running(low, high):
        await until(lambda: HIGH in low.peers.connected)
        taken = 0
        while low.peers.send(HIGH, BATCH, bytes(1_000_000), urgent=False):
            taken += 1
        assert taken == 16  # of 1,000,005 bytes each
        assert low.peers.stats()["dropped_frames_total"] == 1
        assert low.peers.send(HIGH, VOTE, b"vote", urgent=True)
        kinds: list[int] = []
        while len(kinds) < taken + 1:
            kinds += [frame.kind for frame in await high.inbox.receive() if frame.kind != HELLO]
        assert kinds[0] == VOTE
        assert HIGH in low.peers.connected


async def test_a_silent_peer_is_disconnected(network_files: Path) -> None:
    network = MemoryNetwork()
    high = City(credentials_of(network_files, HIGH), network, timeouts=Timeouts(idle_ms=2_000))
    async with running(high):
        stream = await dial(network, network_files, LOW, HIGH)
        await stream.send_all(encode_frame(HELLO, Hello(GENESIS_HASH, LOW, 1).encode()))
        ended = await high.event("peer_disconnected")
        assert ended["reason"] == "idle"
        assert ended["seconds"] == pytest.approx(2, abs=0.1)


async def test_a_full_inbox_stops_reading_and_loses_nothing(network_files: Path) -> None:
    network = MemoryNetwork()
    low = City(credentials_of(network_files, LOW), network)
    high = City(credentials_of(network_files, HIGH), network, inbox_size=0)
    async with running(low, high):
        await until(lambda: HIGH in low.peers.connected)
        for index in range(50):
            low.peers.send(HIGH, BATCH, index.to_bytes(4, "big") * 50_000, urgent=False)
        await trio.sleep(5)
        received = await high.frames(BATCH, 50)
        assert [int.from_bytes(frame.payload[:4], "big") for frame in received] == list(range(50))


def test_frames_that_no_peer_would_take_are_never_sent(network_files: Path) -> None:
    low = City(credentials_of(network_files, LOW), MemoryNetwork())
    with pytest.raises(InputError, match="over its cap of 65536"):
        low.peers.broadcast(VOTE, bytes(65_537), urgent=True)
    with pytest.raises(InputError, match="there is no frame kind 77"):
        low.peers.send(HIGH, 77, b"", urgent=True)
    with pytest.raises(InputError, match="belongs to the connection"):
        low.peers.send(HIGH, HELLO, b"", urgent=True)


# ---------------------------------------------------------------- members and keys that change


def replaced_credentials(root: Path, tmp_path: Path, city: str, new_tls_of: str) -> tuple[Credentials, keys.FileSigner]:
    """What `city` shows and believes once `new_tls_of` has another TLS key; `tmp_path` keeps that key between calls."""
    key_file = tmp_path / "tls.pem"
    signer = keys.load(key_file) if key_file.exists() else keys.generate(key_file)
    renewed = keys.parse_certificate(keys.tls_certificate(signer, new_tls_of))
    known = {code: keys.parse_certificate((root / "certificates" / f"{code}.pem").read_bytes()) for code in
             (LOW, MIDDLE, HIGH)} | {new_tls_of: renewed}  # fmt: skip
    others = [certificate for code, certificate in known.items() if code != city]
    own_file = key_file if city == new_tls_of else root / city / "tls.pem"
    return make_credentials(known[city], key_file=own_file, others=others), signer


async def test_the_link_of_a_removed_city_ends_and_it_does_not_come_back(network_files: Path) -> None:
    network = MemoryNetwork()
    low, middle, high = (City(credentials_of(network_files, city), network) for city in (LOW, MIDDLE, HIGH))
    async with running(low, middle, high):
        await until(lambda: low.peers.connected == {MIDDLE, HIGH} and HIGH in middle.peers.connected)
        for city in (low, middle):
            without = credentials_of(network_files, city.city, (LOW, MIDDLE))
            city.peers.reconfigure(without, {MIDDLE: address_of(MIDDLE)})
        await until(lambda: low.peers.connected == {MIDDLE} and middle.peers.connected == {LOW})
        assert (await low.event("peer_disconnected"))["reason"] == "not_member"
        attempts = len(network.attempts)
        await trio.sleep(60)
        assert len(network.attempts) == attempts  # nobody dials it any more
        assert not high.peers.connected


async def test_a_city_that_is_admitted_is_dialled(network_files: Path) -> None:
    network = MemoryNetwork()
    low = City(credentials_of(network_files, LOW, (LOW, MIDDLE)), network)
    high = City(credentials_of(network_files, HIGH), network)
    async with running(low, high):
        await trio.sleep(10)
        assert not low.peers.connected
        low.peers.reconfigure(credentials_of(network_files, LOW), {HIGH: address_of(HIGH)})
        await until(lambda: HIGH in low.peers.connected and LOW in high.peers.connected)


async def test_a_city_without_an_address_is_waited_for(network_files: Path) -> None:
    network = MemoryNetwork()
    low = City(credentials_of(network_files, LOW), network, addresses={MIDDLE: address_of(MIDDLE)})
    high = City(credentials_of(network_files, HIGH), network)
    async with running(low, high):
        await until(lambda: any(event["reason"] == "no_address" for event in low.events("peer_unreachable")))
        low.peers.reconfigure(credentials_of(network_files, LOW), {HIGH: address_of(HIGH)})
        await until(lambda: HIGH in low.peers.connected)


@pytest.mark.parametrize("renews", [LOW, HIGH])
async def test_a_replaced_tls_key_ends_the_old_link_and_makes_a_new_one(
    network_files: Path, tmp_path: Path, renews: str
) -> None:
    network = MemoryNetwork()
    low, high = (City(credentials_of(network_files, city), network) for city in (LOW, HIGH))
    addresses = {city: address_of(city) for city in (MIDDLE, HIGH)}
    async with running(low, high):
        await until(lambda: HIGH in low.peers.connected and LOW in high.peers.connected)
        other = high if renews == LOW else low
        credentials, _ = replaced_credentials(network_files, tmp_path, other.city, renews)
        other.peers.reconfigure(credentials, addresses)
        assert (await other.event("peer_disconnected"))["reason"] == "not_member"
        # The old key is refused from now on, however often it comes.
        await until(lambda: bool(other.events("peer_refused") or other.events("peer_unreachable")))
        assert not other.peers.connected
        renewing = low if renews == LOW else high
        credentials, _ = replaced_credentials(network_files, tmp_path, renews, renews)
        renewing.peers.reconfigure(credentials, addresses)
        await until(lambda: HIGH in low.peers.connected and LOW in high.peers.connected)


async def test_caps_change_for_links_that_are_there(network_files: Path) -> None:
    network = MemoryNetwork()
    low, high = (City(credentials_of(network_files, city), network) for city in (LOW, HIGH))
    addresses = {city: address_of(city) for city in (MIDDLE, HIGH)}
    large = bytes(2_000_000)
    async with running(low, high):
        await until(lambda: HIGH in low.peers.connected and LOW in high.peers.connected)
        with pytest.raises(InputError, match="over its cap"):
            low.peers.send(HIGH, BATCH, large, urgent=False)
        for city in (low, high):
            city.peers.reconfigure(credentials_of(network_files, city.city), addresses, widest_caps())
        assert low.peers.send(HIGH, BATCH, large, urgent=False)
        assert await high.frames(BATCH) == [Frame(LOW, BATCH, large)]
        assert not high.events("peer_disconnected")


# ---------------------------------------------------------------- set-up errors


def test_credentials_are_compared_with_the_genesis(network_files: Path, tmp_path: Path) -> None:
    certificates = network_files / "certificates"
    genesis = genesis_of(network_files)
    with pytest.raises(InputError, match="is not in this genesis"):
        load_credentials(STRANGER, genesis, keys_directory=network_files / STRANGER, certificates=certificates)
    with pytest.raises(InputError, match="is not the TLS key that the genesis holds for city 440300"):
        load_credentials(HIGH, genesis, keys_directory=network_files / LOW, certificates=certificates)
    with pytest.raises(InputError, match="the TLS certificate of city 110000 cannot be read"):
        load_credentials(HIGH, genesis, keys_directory=network_files / HIGH, certificates=tmp_path)


def test_an_encrypted_tls_key_works(network_files: Path, tmp_path: Path) -> None:
    signer = keys.generate(tmp_path / "tls.pem", passphrase=b"correct horse")
    tls = genesis_of(network_files).tls | {LOW: signer.public_key}
    for city in (MIDDLE, HIGH):
        (tmp_path / f"{city}.pem").write_bytes((network_files / "certificates" / f"{city}.pem").read_bytes())
    (tmp_path / f"{LOW}.pem").write_bytes(keys.tls_certificate(signer, LOW))
    made = load_credentials(
        LOW, FakeGenesis(tls), keys_directory=tmp_path, certificates=tmp_path, passphrase=b"correct horse"
    )
    assert set(made.cities.values()) == {MIDDLE, HIGH}
    with pytest.raises(InputError, match="is encrypted"):
        load_credentials(LOW, FakeGenesis(tls), keys_directory=tmp_path, certificates=tmp_path)


# ---------------------------------------------------------------- loopback


def test_over_loopback_tcp(network_files: Path) -> None:
    """Three cities on real sockets, one of which restarts on its port; no clock but that of events."""

    async def test() -> None:
        any_port = Address("127.0.0.1", 0)
        table: dict[str, Address] = {MIDDLE: any_port, HIGH: any_port}
        fast = Timeouts(reconnect_first_ms=10, reconnect_last_ms=100)

        def city(code: str, listen: Address = any_port) -> City:
            credentials = credentials_of(network_files, code)
            return City(credentials, None, addresses=table, listen=listen, timeouts=fast)

        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                high = city(HIGH)
                async with trio.open_nursery() as first_life:
                    [table[HIGH]] = await first_life.start(high.peers.run, high.send_channel)
                    middle, low = city(MIDDLE), city(LOW)
                    [table[MIDDLE]] = await nursery.start(middle.peers.run, middle.send_channel)
                    await nursery.start(low.peers.run, low.send_channel)
                    for one in (low, middle, high):
                        assert len({frame.peer for frame in await one.frames(HELLO, 2)}) == 2
                    batch = bytes(1_048_576)
                    assert low.peers.broadcast(BATCH, batch, urgent=False) == 2
                    for one in (middle, high):
                        assert await one.frames(BATCH) == [Frame(LOW, BATCH, batch)]
                    with pytest.raises(InputError, match="cannot listen for peers"):
                        await city(HIGH, table[HIGH]).peers.run(high.send_channel)
                    first_life.cancel_scope.cancel()
                again = city(HIGH, table[HIGH])
                await nursery.start(again.peers.run, again.send_channel)
                assert {frame.peer for frame in await again.frames(HELLO, 2)} == {LOW, MIDDLE}
                assert [frame.peer for frame in await low.frames(HELLO)] == [HIGH]
                metrics = Metrics()
                metrics.watch("peers", low.peers.stats)
                assert "cityid_peers_connected 2.0" in metrics.text().decode()
                assert 'cityid_peers_disconnects_total{reason="closed"} 1.0' in metrics.text().decode()
                nursery.cancel_scope.cancel()

    trio.run(test)
