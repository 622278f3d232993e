"""Who the other cities are for a connection: which TLS keys are theirs, and where they listen.

The committed state decides (P61, P64): a city that is not retired is a peer, under the TLS key of its record. The
certificate of that key stands in the record, or, of a founding city that never changed it, in the folder of
certificates that came with the genesis. Its address is that of `[peers]` in node.toml, else its service of type `peer`.

A node that is behind cannot know who the others are by now: until it has caught up once, certificates of the folder
count besides, whatever the state says. What they let in is a connection and no vote: blocks count by commit
certificates alone.
"""

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cityid import keys
from cityid.errors import InputError
from cityid.genesis import certificate_file
from cityid.node.config import Address, parse_address

__all__ = ["PEER_SERVICE", "Roster", "certificate_of", "peer_address", "read_roster"]

PEER_SERVICE: Final = "peer"
_SCHEME: Final = "tls://"
_MAX_FOLDER: Final = 1_000
"""Files of a folder of certificates that are looked at: ten times as many as a committee has cities."""


@dataclass(frozen=True, slots=True)
class Roster:
    """`certificates` are of all other cities, two of one that changes its key; `troubles` are for the log."""

    certificates: Sequence[keys.Certificate]
    addresses: Mapping[str, Address]
    own_tls: bytes | None
    """The TLS key under which the others know this city; None of one that is no member here."""
    own_certificate: bytes | None
    troubles: Sequence[str]


def read_roster(
    cities: Sequence[Mapping[str, Any]], *, city: str, folder: Path, settings: Mapping[str, Address], behind: bool
) -> Roster:
    """`cities` are those of `Ledger.cities`, `settings` the `[peers]` of node.toml, `folder` has certificates."""
    members = {str(entry["city"]): entry for entry in cities if entry["status"] != "retired"}
    certificates: dict[bytes, keys.Certificate] = {}
    troubles: list[str] = []
    addresses: dict[str, Address] = {}
    for code, entry in members.items():
        if code == city:
            continue
        try:
            found = certificate_of(entry, folder)
            certificates[found.public_key] = found
        except InputError as error:
            troubles.append(str(error))
        if (address := settings.get(code) or peer_address(entry)) is not None:
            addresses[code] = address
    if behind:
        for extra in _folder_certificates(folder):
            if extra.city != city:
                certificates.setdefault(extra.public_key, extra)
                if extra.city in settings:
                    addresses.setdefault(extra.city, settings[extra.city])
    own = members.get(city)
    return Roster(
        certificates=list(certificates.values()),
        addresses=addresses,
        own_tls=None if own is None else own["tls"],
        own_certificate=None if own is None else own["certificate"],
        troubles=troubles,
    )


def peer_address(entry: Mapping[str, Any]) -> Address | None:
    """Where a city's record says that its node listens; None when it does not say, or not in a form to connect to."""
    for kind, uri in entry["services"]:
        if kind == PEER_SERVICE and uri.startswith(_SCHEME):
            try:
                address = parse_address(uri.removeprefix(_SCHEME).rstrip("/"))
            except InputError:
                continue
            if address.port:
                return address
    return None


def certificate_of(entry: Mapping[str, Any], folder: Path) -> keys.Certificate:
    """The certificate of a city's present TLS key. Raises `InputError` that names the city."""
    code = str(entry["city"])
    if entry["certificate"] is not None:
        found = keys.parse_certificate(entry["certificate"])
        place = f"the record of {code}"
    else:
        path = certificate_file(folder, code)
        place = str(path)
        try:
            with path.open("rb") as file:
                found = keys.parse_certificate(file.read(keys.MAX_FILE_BYTES + 1))
        except OSError as error:
            raise InputError(
                f"the TLS certificate of city {code} cannot be read from {path}: {error.strerror}; it comes with the "
                "genesis file, and every gateway has it under /v1/cities"
            ) from None
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
    if (found.city, found.public_key) != (code, entry["tls"]):
        raise InputError(f"{place} holds no certificate of {code} with the TLS key that the chain names; ask the city")
    try:
        # One that OpenSSL does not take would keep all the others out of a trust store.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=found.der)
    except ssl.SSLError as error:
        raise InputError(f"{place} holds a certificate of {code} that OpenSSL refuses: {error}; ask the city") from None
    return found


def _folder_certificates(folder: Path) -> list[keys.Certificate]:
    """Every certificate of the folder that reads; what does not read lets nobody in."""
    found = []
    for path in sorted(folder.glob("*.pem"))[:_MAX_FOLDER]:
        try:
            with path.open("rb") as file:
                found.append(keys.parse_certificate(file.read(keys.MAX_FILE_BYTES + 1)))
        except (OSError, InputError):
            continue
    return found
