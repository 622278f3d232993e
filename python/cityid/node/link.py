"""One connection with one city: how it is greeted, kept, and ended.

`greet` turns a stream into a `Link` or says why not: TLS both ways, the key looked up, then hellos that must name the
same network, the same version, and the city of that key. `converse` runs a link until either end gives up; nothing
that a peer does escapes it as an exception. Which links exist, and what is done with frames, is for node/peers.py.
"""

import contextlib
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import trio

from cityid.errors import MalformedInput
from cityid.node.config import Limits, Timeouts
from cityid.node.frames import (
    GOODBYE,
    HELLO,
    KEEP_ALIVE,
    PROTOCOL_VERSION,
    FrameReader,
    Hello,
    Outbox,
    Overflow,
    encode_frame,
)
from cityid.node.messages import Frame
from cityid.node.tls import Credentials, TlsStream

__all__ = ["Link", "Refused", "Traffic", "converse", "greet"]

GOODBYE_S: Final = 1.0
GOODBYE_CHARACTERS: Final = 200
"""How much of a peer's goodbye reaches the log."""

Deliver = Callable[[list[Frame]], Awaitable[None]]
"""Takes frames of one peer, in order; raises `trio.BrokenResourceError` when nobody wants them any more."""


class Refused(Exception):
    """A stream that did not become a link: a stable reason, words for people, and the city once it is proven."""

    def __init__(self, reason: str, detail: str, city: str | None = None) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail
        self.city = city


@dataclass(slots=True)
class Traffic:
    """What went over all links of a node."""

    frames_in: int = 0
    bytes_in: int = 0
    frames_out: int = 0
    bytes_out: int = 0


@dataclass(slots=True, eq=False)
class Link:
    """A greeted connection. `first` are the frames that came with the hello, which is the first of them."""

    city: str
    key: bytes  # the TLS key that it proved to hold
    hello: Hello
    stream: TlsStream
    reader: FrameReader
    outbox: Outbox
    first: list[Frame]
    reason: str = ""
    detail: str = ""
    sending: bool = False
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    def end(self, reason: str, detail: str = "") -> None:
        """Ends it; the first reason stands."""
        if not self.reason:
            self.reason, self.detail = reason, detail
            self.scope.cancel()


async def greet(
    transport: trio.abc.Stream,
    credentials: Credentials,
    own: Hello,
    *,
    dialled: str | None,
    caps: Mapping[int, int],
    limits: Limits,
) -> Link:
    """Makes a link of a stream: as a client when `dialled` names the city that should answer, else as a server.

    Raises `Refused`. The stream is closed unless a link is returned.
    """
    stream = TlsStream(transport, credentials.client if dialled else credentials.server, server_side=dialled is None)
    try:
        city = await _prove(stream, credentials, dialled)
        try:
            return await _exchange_hellos(stream, city, own, caps, limits)
        except Refused as refusal:
            await _say_goodbye(stream, refusal.detail)
            raise
    except BaseException:
        await stream.aclose()
        raise


async def _prove(stream: TlsStream, credentials: Credentials, dialled: str | None) -> str:
    """The handshake; returns the city whose key the other side holds."""
    try:
        await stream.handshake()
    except ssl.SSLCertVerificationError as error:
        detail = f"{error.verify_message}: not a city of this network, or not the key that the chain names for it"
        raise Refused("certificate", detail) from error
    except ssl.SSLError as error:
        raise Refused("tls", f"no TLS 1.3 handshake: {(error.reason or str(error)).lower()}") from error
    except trio.BrokenResourceError as error:
        raise Refused("closed", f"the other side left during the handshake: {error}") from error
    city = credentials.cities.get(stream.peer_key())
    if city is None:
        # OpenSSL trusts exactly the certificates behind `cities`, so only a bug gets here; closing is still right.
        raise Refused("certificate", "the key is not one that the chain names")
    if dialled is None and city > credentials.city:
        raise Refused("direction", f"{city} dialled {credentials.city}, but the lower code dials", city)
    if dialled is not None and city != dialled:
        raise Refused("wrong_city", f"the address of {dialled} answers as {city}; correct [peers] in node.toml", city)
    return city


async def _exchange_hellos(stream: TlsStream, city: str, own: Hello, caps: Mapping[int, int], limits: Limits) -> Link:
    reader = FrameReader(caps)
    frames: list[tuple[int, bytes]] = []
    try:
        await stream.send_all(encode_frame(HELLO, own.encode()))
        while not frames:
            data = await stream.receive_some()
            if not data:
                raise Refused("closed", "the other side left before its hello", city)
            frames = reader.feed(data)
        kind, payload = frames[0]
        if kind == GOODBYE:
            raise Refused("goodbye", _goodbye_text(payload), city)
        hello = Hello.parse(payload)
    except trio.BrokenResourceError as error:
        # Under TLS 1.3 a client learns only here that the server refuses its certificate.
        raise Refused("closed", f"the other side refused or left before its hello: {error}", city) from error
    except MalformedInput as error:
        raise Refused("malformed", str(error), city) from error
    if hello.version != own.version:
        raise Refused(
            "version", f"peer protocol {hello.version}, here {PROTOCOL_VERSION}; upgrade the older node", city
        )
    if hello.genesis_hash != own.genesis_hash:
        theirs, ours = hello.genesis_hash.hex()[:16], own.genesis_hash.hex()[:16]
        raise Refused("genesis", f"another network: genesis {theirs}… there, {ours}… here; compare genesis.json", city)
    if hello.city != city:
        raise Refused("wrong_city", f"the hello names {hello.city}, the TLS key is that of {city}", city)
    outbox = Outbox(
        urgent_frames=limits.peer_urgent_frames,
        urgent_bytes=limits.peer_urgent_bytes,
        bulk_frames=limits.peer_bulk_frames,
        bulk_bytes=limits.peer_bulk_bytes,
    )
    return Link(
        city, stream.peer_key(), hello, stream, reader, outbox, [Frame(city, kind, payload) for kind, payload in frames]
    )


async def converse(link: Link, deliver: Deliver, traffic: Traffic, timeouts: Timeouts) -> None:
    """Runs a link to its end, which `link.reason` then tells, and closes it."""
    try:
        async with trio.open_nursery() as nursery:
            # Whoever calls `link.end` cancels this scope; it may have been called already.
            cancelled = link.scope.cancel_called
            link.scope = nursery.cancel_scope
            if cancelled:
                link.scope.cancel()
            nursery.start_soon(_send, link, traffic, timeouts)
            nursery.start_soon(_receive, link, deliver, traffic, timeouts)
        # A half-sent record cannot be followed by another, and a peer that left needs no goodbye.
        if not link.sending and link.reason not in ("closed", "goodbye"):
            await _say_goodbye(link.stream, f"{link.reason}: {link.detail}")
    finally:
        await link.stream.aclose()


async def _send(link: Link, traffic: Traffic, timeouts: Timeouts) -> None:
    keep_alive = encode_frame(KEEP_ALIVE, b"")
    while True:
        data, count = keep_alive, 1
        # Three in the other side's idle time, so that one late frame is not the end.
        with trio.move_on_after(timeouts.idle_ms / 3_000):
            try:
                data, count = await link.outbox.take()
            except Overflow:
                return link.end(
                    "overflow", "the queue of urgent frames is full (peer_urgent_frames, peer_urgent_bytes)"
                )
        link.sending = True
        try:
            with trio.fail_after(timeouts.send_ms / 1000):
                await link.stream.send_all(data)
        except trio.TooSlowError:
            return link.end("slow", f"it took nothing for {timeouts.send_ms} ms (send_ms)")
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            return link.end("closed", str(error))
        link.sending = False
        traffic.frames_out += count
        traffic.bytes_out += len(data)


async def _receive(link: Link, deliver: Deliver, traffic: Traffic, timeouts: Timeouts) -> None:
    frames = link.first
    link.first = []
    try:
        while True:
            if frames:
                await deliver(frames)
            try:
                with trio.fail_after(timeouts.idle_ms / 1000):
                    data = await link.stream.receive_some()
            except trio.TooSlowError:
                return link.end("idle", f"nothing came for {timeouts.idle_ms} ms (idle_ms)")
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                return link.end("closed", str(error))
            if not data:
                return link.end("closed", "the other side closed")
            traffic.bytes_in += len(data)
            frames = _accept_frames(link, link.reader.feed(data))
            traffic.frames_in += len(frames)
            if link.reason:
                return None
    except MalformedInput as error:
        return link.end("malformed", str(error))
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return link.end("stopping", "the node no longer reads frames")


def _accept_frames(link: Link, received: list[tuple[int, bytes]]) -> list[Frame]:
    """The frames for the node; those of the connection itself end here."""
    frames = []
    for kind, payload in received:
        if kind == GOODBYE:
            link.end("goodbye", _goodbye_text(payload))
            break
        if kind == HELLO:
            raise MalformedInput("a second hello; a connection has one")
        if kind != KEEP_ALIVE:
            frames.append(Frame(link.city, kind, payload))
    return frames


async def _say_goodbye(stream: TlsStream, text: str) -> None:
    """Tells the other side why, if it still listens."""
    with trio.move_on_after(GOODBYE_S):
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await stream.send_all(encode_frame(GOODBYE, text[:GOODBYE_CHARACTERS].encode()))


def _goodbye_text(payload: bytes) -> str:
    """A peer's words, fit for a log."""
    text = payload.decode(errors="replace")[:GOODBYE_CHARACTERS]
    return "".join(character if character.isprintable() else "?" for character in text)
