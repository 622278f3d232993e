"""Connections to the other cities: one for each pair, made again for ever, each end proven by its TLS key.

Rules. Of two cities the one with the lower code dials and the other listens, so a pair never has two connections that
compete. The dialler dials only when it has none; therefore a new connection from a city replaces the one that its
listener still holds (the other end restarted, or the old path died in silence). Waits between attempts double up to a
bound, with jitter, and start over once a connection has held.

Who the other cities are, under which keys and where, changes while the node runs (`reconfigure`): a link whose key no
city has any more ends, a new city is dialled, frames have other caps.

A stranger costs one handshake: strangers in handshakes are bounded, and the oldest gives way to the newest, so that
idle ones cannot keep cities out. A peer that sends garbage, an oversize frame, or nothing for too long is
disconnected, counted, and named in an event. How one connection lives stands in node/link.py, what happens when its
queues are full in node/frames.py. A full inbox stops reading from sockets, so TCP slows the senders down.

What frames mean is not known here. The inbox receives, for each peer, first its hello frame (parse it with `Hello`).
"""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import trio

from cityid.errors import InputError
from cityid.node.config import Address, Limits, Timeouts
from cityid.node.frames import CAPS, GOODBYE, HELLO, KEEP_ALIVE, Hello, encode_frame
from cityid.node.link import Link, Refused, Traffic, converse, greet
from cityid.node.messages import Frame
from cityid.node.telemetry import Log
from cityid.node.tls import Credentials

__all__ = ["Network", "Peers", "TcpNetwork"]

OWN_KINDS: Final = frozenset({KEEP_ALIVE, HELLO, GOODBYE})
CONNECT_S: Final = 2.0
"""For TCP's first reply. TCP repeats its first packet after 1, 3, 7 seconds: a longer attempt would sleep in there when
the other city is back. The rest of a handshake has `handshake_ms`."""


class Network(Protocol):
    """Where streams come from; the tests have one of their own."""

    async def connect(self, address: Address) -> trio.abc.Stream:
        """Raises `OSError` when nobody answers."""

    async def listen(self, address: Address) -> Sequence[trio.abc.Listener[Any]]:
        """Raises `OSError` when the address is taken or not ours."""


class TcpNetwork:
    """TCP, with Trio's defaults: no Nagle delay, all addresses of a name tried."""

    async def connect(self, address: Address) -> trio.abc.Stream:
        """A connection to an address."""
        return await trio.open_tcp_stream(address.host, address.port)

    async def listen(self, address: Address) -> Sequence[trio.abc.Listener[Any]]:
        """Listeners on an address."""
        return await trio.open_tcp_listeners(address.port, host=address.host)


class Peers:
    """The other cities, as far as this node reaches them.

    `addresses` says where each lower-coded city finds the higher; it is looked up at each attempt, and a city without
    one is waited for. `tip` is asked for the height that a hello states.
    """

    def __init__(
        self,
        *,
        credentials: Credentials,
        genesis_hash: bytes,
        addresses: Mapping[str, Address],
        listen: Address,
        limits: Limits,
        timeouts: Timeouts,
        log: Log,
        tip: Callable[[], int] = lambda: 0,
        caps: Mapping[int, int] = CAPS,
        network: Network | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._city = credentials.city
        self._credentials = credentials
        self._genesis_hash = genesis_hash
        self._dialled = _higher(credentials)
        self._dialling: set[str] = set()
        self._reconfigured = trio.Event()
        self._addresses = addresses
        self._listen = listen
        self._limits = limits
        self._timeouts = timeouts
        self._log = log
        self._tip = tip
        self._caps = dict(caps)  # links look into this very dictionary
        self._network: Network = network or TcpNetwork()
        self._jitter = jitter
        self._links: dict[str, Link] = {}
        self._handshakes: dict[object, trio.CancelScope] = {}  # of accepted strangers, oldest first
        self._traffic = Traffic()
        self._connects = 0
        self._dropped = 0  # the queue was full
        self._unconnected = 0  # nobody to send to
        self._evicted = 0
        self._disconnects: Counter[str] = Counter()
        self._refusals: Counter[str] = Counter()

    # ------------------------------------------------------------ for the node

    @property
    def connected(self) -> frozenset[str]:
        """The cities that a frame can be sent to now."""
        return frozenset(self._links)

    def send(self, peer: str, kind: int, payload: bytes, *, urgent: bool) -> bool:
        """Queues a frame and never waits; False when the peer is not connected or the frame was dropped (counted).

        Raises `InputError` when the frame is one that no peer would accept.
        """
        return self._put(peer, self._encode(kind, payload), urgent=urgent)

    def broadcast(self, kind: int, payload: bytes, *, urgent: bool) -> int:
        """Queues a frame for every connected peer; how many took it."""
        frame = self._encode(kind, payload)
        return sum(self._put(peer, frame, urgent=urgent) for peer in list(self._links))

    def disconnect(self, peer: str, reason: str, detail: str = "") -> None:
        """Ends a connection because of what its frames said; `reason` is a stable word for the figures."""
        if (link := self._links.get(peer)) is not None:
            link.end(reason, detail)

    def reconfigure(
        self, credentials: Credentials, addresses: Mapping[str, Address], caps: Mapping[int, int] = CAPS
    ) -> None:
        """Go on with these keys, addresses and frame caps; ends the links that rest on others."""
        renewed = credentials.public_key != self._credentials.public_key
        self._credentials = credentials
        self._addresses = addresses
        self._dialled = _higher(credentials)
        self._caps.clear()
        self._caps.update(caps)
        for link in list(self._links.values()):
            if renewed:
                link.end("key_replaced", f"{self._city} has another TLS key now")
            else:
                self._end_if_strange(link)
        changed, self._reconfigured = self._reconfigured, trio.Event()
        changed.set()

    def _end_if_strange(self, link: Link) -> None:
        """A link whose key is not the city's any more, or whose city is no member any more."""
        if self._credentials.cities.get(link.key) != link.city:
            link.end("not_member", f"the chain names no city {link.city} with this TLS key")

    def stats(self) -> dict[str, Any]:
        """Figures for `Metrics.watch`."""
        traffic = self._traffic
        return {
            "connected": len(self._links),
            "waiting_bytes:peer": {city: one.outbox.waiting_bytes for city, one in self._links.items()},
            "handshakes": len(self._handshakes),
            "frames_in_total": traffic.frames_in,
            "bytes_in_total": traffic.bytes_in,
            "frames_out_total": traffic.frames_out,
            "bytes_out_total": traffic.bytes_out,
            "dropped_frames_total": self._dropped,
            "unconnected_frames_total": self._unconnected,
            "connects_total": self._connects,
            "evicted_handshakes_total": self._evicted,
            "disconnects_total:reason": dict(self._disconnects),
            "refused_total:reason": dict(self._refusals),
        }

    async def run(
        self,
        inbox: trio.MemorySendChannel[list[Frame]],
        *,
        task_status: trio.TaskStatus[list[Address]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listens, dials and feeds the inbox until cancelled; starts with the addresses it listens on.

        Raises `InputError` when it cannot listen. Of each peer frames arrive in order, in lists as they came.
        """
        try:
            listeners = await self._network.listen(self._listen)
        except OSError as error:
            raise InputError(
                f"cannot listen for peers on {self._listen}: {error.strerror or error}; "
                f"is another node running, or listen.peers not an address of this machine?"
            ) from error

        async def accept(stream: trio.abc.Stream) -> None:
            await self._accept(stream, inbox)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._dial_all, inbox)
            addresses = [address for listener in listeners if (address := _local_address(listener))]
            self._log.info("peers_listening", addresses=[str(address) for address in addresses], dials=self._dialled)
            task_status.started(addresses)
            await trio.serve_listeners(accept, list(listeners))

    def _encode(self, kind: int, payload: bytes) -> bytes:
        if kind in OWN_KINDS:
            raise InputError(f"frame kind {kind} belongs to the connection; use a kind of node/messages.py")
        return encode_frame(kind, payload, self._caps)

    def _put(self, peer: str, frame: bytes, *, urgent: bool) -> bool:
        link = self._links.get(peer)
        if link is None:
            self._unconnected += 1
            return False
        if not link.outbox.put(frame, urgent=urgent):
            self._dropped += 1
            return False
        return True

    # ------------------------------------------------------------ links

    async def _dial_all(self, inbox: trio.MemorySendChannel[list[Frame]]) -> None:
        """One task for each city that is to be dialled, for as long as it is."""
        async with trio.open_nursery() as nursery:
            while True:
                reconfigured = self._reconfigured
                for city in self._dialled:
                    if city not in self._dialling:
                        self._dialling.add(city)
                        nursery.start_soon(self._dial_while_member, city, inbox)
                await reconfigured.wait()

    async def _dial_while_member(self, city: str, inbox: trio.MemorySendChannel[list[Frame]]) -> None:
        try:
            await self._dial_again_and_again(city, inbox)
        finally:
            self._dialling.discard(city)

    async def _dial_again_and_again(self, city: str, inbox: trio.MemorySendChannel[list[Frame]]) -> None:
        first_s = self._timeouts.reconnect_first_ms / 1000
        last_s = self._timeouts.reconnect_last_ms / 1000
        wait_s = first_s
        told = ""
        while city in self._dialled:
            try:
                link = await self._dial(city)
            except Refused as refusal:
                self._refusals[refusal.reason] += 1
                if told != refusal.reason:  # an event for each new reason, not for each attempt
                    told = refusal.reason
                    self._log.warning(
                        "peer_unreachable", peer=city, address=str(self._addresses.get(city)),
                        reason=refusal.reason, detail=refusal.detail,
                    )  # fmt: skip
            else:
                told = ""
                began = trio.current_time()
                await self._hold(link, inbox, dialled=True)
                if trio.current_time() - began > last_s:
                    wait_s = first_s
            # Between half and all of the wait, so that cities that lost the same peer do not return as one.
            await trio.sleep(wait_s * (0.5 + 0.5 * self._jitter()))
            wait_s = min(2 * wait_s, last_s)

    async def _dial(self, city: str) -> Link:
        if (address := self._addresses.get(city)) is None:
            raise Refused("no_address", "neither [peers] in node.toml nor a service of its record says where it is")
        try:
            with trio.fail_after(self._timeouts.handshake_ms / 1000):
                try:
                    with trio.fail_after(CONNECT_S):
                        transport = await self._network.connect(address)
                except trio.TooSlowError:
                    raise Refused("unreachable", f"nobody answers within {CONNECT_S:g} s") from None
                except OSError as error:
                    raise Refused("unreachable", f"nobody answers: {error.strerror or error}") from error
                return await self._greet(transport, city)
        except trio.TooSlowError:
            raise Refused("slow", f"no hello within {self._timeouts.handshake_ms} ms (handshake_ms)") from None

    async def _accept(self, transport: trio.abc.Stream, inbox: trio.MemorySendChannel[list[Frame]]) -> None:
        """A stranger, until its key says which city it is."""
        if len(self._handshakes) >= self._limits.peer_handshakes:
            oldest = next(iter(self._handshakes))
            self._handshakes.pop(oldest).cancel()
            self._evicted += 1
        link: Link | None = None
        refusal: Refused | None = None
        remote = _remote_address(transport)
        key = object()
        with trio.move_on_after(self._timeouts.handshake_ms / 1000) as scope:
            self._handshakes[key] = scope
            try:
                link = await self._greet(transport, None)
            except Refused as error:
                refusal = error
            finally:
                self._handshakes.pop(key, None)
        if link is not None:
            await self._hold(link, inbox, dialled=False)
            return
        if refusal is None:
            waited = (
                f"{self._timeouts.handshake_ms} ms (handshake_ms), or newer ones needed the place (peer_handshakes)"
            )
            refusal = Refused("slow", f"no hello within {waited}")
        self._refusals[refusal.reason] += 1
        self._log.limited(
            "warning", "peer_refused", peer=refusal.city, address=remote, reason=refusal.reason, detail=refusal.detail
        )

    async def _greet(self, transport: trio.abc.Stream, dialled: str | None) -> Link:
        own = Hello(self._genesis_hash, self._city, self._tip())
        return await greet(transport, self._credentials, own, dialled=dialled, caps=self._caps, limits=self._limits)

    async def _hold(self, link: Link, inbox: trio.MemorySendChannel[list[Frame]], *, dialled: bool) -> None:
        """Keeps a link among the connected ones for as long as it lives."""
        city = link.city
        if (old := self._links.get(city)) is not None:
            old.end("replaced", "the same city connected again")
        self._links[city] = link
        self._end_if_strange(link)  # it may have become so during the handshake
        self._connects += 1
        self._log.info("peer_connected", peer=city, dialled=dialled, tip=link.hello.tip)
        began = trio.current_time()
        try:
            await converse(link, inbox.send, self._traffic, self._timeouts)
        finally:
            if self._links.get(city) is link:
                del self._links[city]
            reason = link.reason or "stopping"
            self._disconnects[reason] += 1
            self._log.info(
                "peer_disconnected", peer=city, reason=reason, detail=link.detail,
                seconds=round(trio.current_time() - began, 3),
            )  # fmt: skip


def _higher(credentials: Credentials) -> list[str]:
    """The cities that this one dials."""
    return sorted({city for city in credentials.cities.values() if city > credentials.city})


def _local_address(listener: trio.abc.Listener[Any]) -> Address | None:
    """Where a TCP listener listens; None for other kinds."""
    if not isinstance(listener, trio.SocketListener):
        return None
    host, port, *_ = listener.socket.getsockname()
    return Address(host, port)


def _remote_address(stream: trio.abc.Stream) -> str | None:
    """Whose TCP stream this is; None for other kinds, and for one that is gone already."""
    if not isinstance(stream, trio.SocketStream):
        return None
    try:
        host, port, *_ = stream.socket.getpeername()
    except OSError:
        return None
    return str(Address(host, port))
