"""TLS 1.3 between cities (RFC 8446), without any certificate authority.

Each city has one self-signed Ed25519 certificate. A node's trust store holds exactly the other cities' certificates,
both ends must show one (`CERT_REQUIRED`, never `CERT_NONE`), and after the handshake the peer's key is looked up
among the keys of the member cities: the certificate proves possession, the key says which city it is. Session tickets
are off, so that every connection proves the key anew. Who the members are changes; `roster` says so, and credentials
are made again.

`TlsStream` drives OpenSSL over memory buffers: one socket read yields every record it brought, and one send carries
every record it needs, where `trio.SSLStream` returns to Python for each record of 16 kB.
"""

import ssl
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from cityid import keys
from cityid.errors import InputError
from cityid.genesis import GenesisKeys, load_certificates

__all__ = ["Credentials", "TlsStream", "load_credentials", "make_credentials"]

READ_BYTES: Final = 262_144
RECORD_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True, eq=False)
class Credentials:
    """What a node shows and believes in handshakes: two contexts, and which TLS key is which city."""

    city: str
    public_key: bytes
    server: ssl.SSLContext
    client: ssl.SSLContext
    cities: Mapping[bytes, str]


def load_credentials(
    city: str, genesis: GenesisKeys, *, keys_directory: Path, certificates: Path, passphrase: bytes | None = None
) -> Credentials:
    """Opens a city's TLS key and every city's certificate, and checks them against the genesis: how a founder starts.

    Raises `InputError` when the city is no member, its key is not the one of the genesis, or a certificate is wrong.
    """
    if city not in genesis.cities:
        raise InputError(f"city {city} is not in this genesis; check `city` and `genesis` in node.toml")
    key_file = keys.key_path(keys_directory, "tls")
    signer = keys.load(key_file, passphrase=passphrase)
    if signer.public_key != genesis.city(city)["tls"]:
        raise InputError(f"{key_file} is not the TLS key that the genesis holds for city {city}; restore the right one")
    pinned = load_certificates(certificates, genesis)
    others = [certificate for code, certificate in pinned.items() if code != city]
    return make_credentials(pinned[city], key_file=key_file, others=others, passphrase=passphrase)


def make_credentials(
    own: keys.Certificate, *, key_file: Path, others: Sequence[keys.Certificate], passphrase: bytes | None = None
) -> Credentials:
    """What a city shows (its certificate, with the key in `key_file`) and whom it believes. Raises `InputError`."""
    cities = {certificate.public_key: certificate.city for certificate in others}
    trusted = b"".join(certificate.der for certificate in others)

    def context(protocol: int) -> ssl.SSLContext:
        made = ssl.SSLContext(protocol)
        made.minimum_version = ssl.TLSVersion.TLSv1_3
        made.check_hostname = False  # a city is known by its key; its address may change
        made.verify_mode = ssl.CERT_REQUIRED
        # OpenSSL reads the key file itself; the empty password keeps it from ever asking on the terminal.
        made.load_cert_chain(certificate.name, key_file, password=passphrase or b"")
        if trusted:  # an empty trust store lets nobody in
            made.load_verify_locations(cadata=trusted)
        return made

    try:
        # OpenSSL takes certificates of this side from a file only.
        with tempfile.NamedTemporaryFile(suffix=".pem") as certificate:
            certificate.write(ssl.DER_cert_to_PEM_cert(own.der).encode("ascii"))
            certificate.flush()
            server, client = context(ssl.PROTOCOL_TLS_SERVER), context(ssl.PROTOCOL_TLS_CLIENT)
    except (ssl.SSLError, OSError) as error:
        raise InputError(f"OpenSSL refuses the TLS key or certificates of city {own.city}: {error}") from None
    server.num_tickets = 0
    return Credentials(own.city, own.public_key, server, client, cities)


class TlsStream:
    """A TLS connection over a Trio stream. One task reads, one sends; closing is for whoever owns it."""

    __slots__ = ("_incoming", "_outgoing", "_send_lock", "_tls", "_transport")

    def __init__(self, transport: trio.abc.Stream, context: ssl.SSLContext, *, server_side: bool) -> None:
        self._transport = transport
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side)
        self._send_lock = trio.Lock()

    async def handshake(self) -> None:
        """Raises `ssl.SSLError` when either side refuses, `trio.BrokenResourceError` when the connection ends."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                data = await self._transport.receive_some(READ_BYTES)
                if not data:
                    raise trio.BrokenResourceError("the connection ended in the handshake") from None
                self._incoming.write(data)
            except ssl.SSLError:
                await self._flush()  # the alert tells the other side why
                raise
            else:
                await self._flush()
                return

    def peer_key(self) -> bytes:
        """The public key that the other side proved to hold, after the handshake."""
        der = self._tls.getpeercert(binary_form=True)
        assert der is not None, "CERT_REQUIRED lets no connection pass without a certificate"
        return keys.parse_certificate(der).public_key

    async def receive_some(self) -> bytes:
        """All that has arrived, at least one byte; empty at the end. Raises `trio.BrokenResourceError`."""
        while True:
            records = []
            ended = False
            try:
                while record := self._tls.read(RECORD_BYTES):
                    records.append(record)
                ended = True
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLZeroReturnError:
                ended = True
            except ssl.SSLError as error:
                await self._flush()
                raise trio.BrokenResourceError(_reason(error)) from error
            if self._outgoing.pending:
                await self._flush()  # an answer to a key update
            if records or ended:
                return b"".join(records)
            data = await self._transport.receive_some(READ_BYTES)
            if not data:
                return b""  # without close_notify: frames have lengths, so nothing cut short is taken for whole
            self._incoming.write(data)

    async def send_all(self, data: bytes) -> None:
        """Raises `trio.BrokenResourceError` when the connection is lost."""
        try:
            # A memory buffer takes everything at once; the return value is checked all the same.
            written = self._tls.write(data)
        except ssl.SSLError as error:
            raise trio.BrokenResourceError(_reason(error)) from error
        assert written == len(data), "a memory buffer takes everything"
        await self._flush()

    async def aclose(self) -> None:
        """Closes at once; a half-sent record is the other side's cue that nobody said goodbye."""
        await trio.aclose_forcefully(self._transport)

    async def _flush(self) -> None:
        # The lock keeps records in the order in which OpenSSL numbered them.
        async with self._send_lock:
            if self._outgoing.pending:
                await self._transport.send_all(self._outgoing.read())


def _reason(error: ssl.SSLError) -> str:
    """OpenSSL's own short reason, for people."""
    return (error.reason or str(error)).lower().replace("_", " ")
