"""Genesis: the file that all cities of a network agree on before the first block, and the directories that go with it.

A genesis file is the JSON of P4; its hash is over the canonical form that the native `Genesis` makes of it (P5, P6), so
this module writes the file, and reading is left to the native type. Beside `genesis.json` lies `certificates/`, one
self-signed certificate a city: the genesis holds a city's TLS *key*, but a TLS trust store needs the certificate, which
only the key's holder can make. A certificate is believed because its key is the genesis' key, never by itself.

`create_network` makes every city's keys in one place: right for a demonstration or a test network on one machine. In a
real network each city makes its own keys, and only public keys and certificates travel.
"""

import importlib.resources
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from cityid import keys
from cityid._native import Genesis
from cityid.errors import InputError

__all__ = [
    "PARAMETERS",
    "PREFIX",
    "City",
    "GenesisKeys",
    "certificate_file",
    "cities_table",
    "create_network",
    "genesis_json",
    "load",
    "load_certificates",
    "member_names",
    "node_toml",
]

PREFIX: Final = "MA.156"
SUITE: Final = 1
MAX_GENESIS_BYTES: Final = 1_048_576
"""A hundred cities with sixteen transaction keys each need about 200 kB."""

PARAMETERS: Final[Mapping[str, int]] = {  # P6
    "heartbeat_ms": 10_000,
    "window": 2_000,
    "max_transaction_bytes": 65_536,
    "max_operations": 256,
    "max_items": 1_000,
    "max_batch_bytes": 1_048_576,
    "max_batch_transactions": 4_096,
    "max_block_bytes": 8_388_608,
    "max_block_batches": 256,
    "max_services": 8,
    "max_commitments": 32,
    "trust_period_s": 2_592_000,
    "receipts": 2,
    "max_table_bytes": 268_435_456,
    "recovery_delay": 1_000,
    "proposal_window": 10_000,
    "organisation_rate": 65_536,
    "city_rate": 65_536,
}

FIRST_PEER_PORT: Final = 27_100
FIRST_HTTP_PORT: Final = 28_100


@dataclass(frozen=True, slots=True)
class City:
    """A row of the shipped table: code (GB/T 2260, six digits), name, level, province."""

    code: str
    name: str
    level: str
    province: str


class GenesisKeys(Protocol):
    """The part of `Genesis` that pinning needs."""

    @property
    def cities(self) -> list[str]:
        """Member cities, six digits each, ascending."""

    def city(self, city: str) -> dict[str, Any]:
        """One city's entry; `tls` is its TLS key, 32 bytes."""


# ---------------------------------------------------------------- the table of cities


def cities_table() -> tuple[City, ...]:
    """The cities that the package ships (`data/cities.tsv`), by ascending code."""
    text = (importlib.resources.files("cityid") / "data" / "cities.tsv").read_text(encoding="utf-8")
    header, *rows = text.splitlines()
    if header.split("\t") != ["code", "name", "level", "province"]:
        raise InputError("data/cities.tsv has another header than expected; install the package again")
    return tuple(City(*row.split("\t")) for row in rows if row)


def member_names() -> dict[str, str]:
    """City code → name, of the shipped table."""
    return {city.code: city.name for city in cities_table()}


# ---------------------------------------------------------------- reading


def load(path: Path) -> Genesis:
    """Reads a genesis file. Raises `InputError` when it cannot be read or breaks P4."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_GENESIS_BYTES + 1)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; copy the network's genesis.json there") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; check its owner and mode") from error
    if len(data) > MAX_GENESIS_BYTES:
        raise InputError(f"{path} is larger than {MAX_GENESIS_BYTES} bytes, so it is no genesis file; check the path")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8, so it is no genesis file; check the path") from None
    return Genesis.from_json(text)


def certificate_file(directory: Path, city: str) -> Path:
    """Where the certificate of a city lies in a directory of certificates."""
    return directory / f"{city}.pem"


def load_certificates(directory: Path, genesis: GenesisKeys) -> dict[str, keys.Certificate]:
    """Every member city's certificate, each proven to belong to the key that the genesis holds for that city.

    Raises `InputError` that names the city when a certificate is missing, damaged, another city's, or of another key.
    """
    certificates = {}
    for city in genesis.cities:
        path = certificate_file(directory, city)
        try:
            with path.open("rb") as file:
                data = file.read(keys.MAX_FILE_BYTES + 1)
        except OSError as error:
            raise InputError(
                f"the TLS certificate of city {city} cannot be read from {path}: {error.strerror}; "
                f"it comes with the genesis file: copy the whole certificates directory"
            ) from error
        try:
            certificate = keys.parse_certificate(data)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        if certificate.city != city:
            raise InputError(f"{path} is the certificate of {certificate.city!r}, not of {city}; exchange the files")
        if certificate.public_key != genesis.city(city)["tls"]:
            raise InputError(
                f"{path} is for another key than the genesis holds for city {city}; "
                f"it may be from another network, or forged: ask the city for the right one"
            )
        certificates[city] = certificate
    return certificates


# ---------------------------------------------------------------- writing


def genesis_json(
    cities: Sequence[Mapping[str, Any]], *, name: str, test: bool, time_ms: int, parameters: Mapping[str, int] | None
) -> str:
    """The JSON text of P4.

    `cities` are mappings of `city`, `name`, `consensus`, `checkpoint`, `tls` (32 bytes each) and `transaction` (a list
    of them), in any order.
    """
    unknown = sorted(set(parameters or {}) - set(PARAMETERS))
    if unknown:
        raise InputError(f"unknown parameters: {', '.join(unknown)}; P6 has {', '.join(PARAMETERS)}")
    document = {
        "cityid": "genesis",
        "name": name,
        "prefix": PREFIX,
        "suite": SUITE,
        "test": test,
        "time_ms": str(time_ms),
        "parameters": dict(PARAMETERS) | dict(parameters or {}),
        "cities": [
            {
                "city": city["city"],
                "name": city["name"],
                "consensus": city["consensus"].hex(),
                "checkpoint": city["checkpoint"].hex(),
                "tls": city["tls"].hex(),
                "transaction": [key.hex() for key in city["transaction"]],
            }
            for city in sorted(cities, key=lambda city: str(city["city"]))
        ],
    }
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def create_network(
    directory: Path,
    cities: Sequence[tuple[str, str]],
    *,
    name: str,
    test: bool = True,
    time_ms: int,
    parameters: Mapping[str, int] | None = None,
    addresses: Mapping[str, tuple[str, str]] | None = None,
    passphrase: bytes | None = None,
) -> Genesis:
    """Makes a whole network: `genesis.json`, `certificates/`, and a directory for each city, ready to run.

    `cities` are (code, name) pairs, 4 to 100 of them. `addresses` gives each city's peer and HTTP address
    ("host:port"); left out, they are loopback ports from 27100 and 28100 up. A city's directory holds `node.toml`,
    `genesis.json`, `certificates/` and `keys/`; directories have mode 0700. `directory` must be new or empty: the
    network appears there whole or not at all.

    Raises `InputError` when something is in the way or the cities or parameters break P4.
    """
    codes = [code for code, _ in cities]
    repeated = sorted({code for code in codes if codes.count(code) > 1})
    if repeated:
        raise InputError(f"named twice: {', '.join(repeated)}; each city stands once in a genesis")
    for code in codes:
        # Codes become directory names below, so they are checked before anything is written.
        if not (len(code) == 6 and code.isascii() and code.isdigit()):
            raise InputError(f"{code!r} is no city code; it is six digits (GB/T 2260), for example 130100")
    if addresses is None:
        addresses = {
            code: (f"127.0.0.1:{FIRST_PEER_PORT + index}", f"127.0.0.1:{FIRST_HTTP_PORT + index}")
            for index, code in enumerate(sorted(codes))
        }
    elif missing := sorted(set(codes) - set(addresses)):
        raise InputError(f"no address is given for {', '.join(missing)}; each city needs a peer and an HTTP address")
    if directory.exists() and not (directory.is_dir() and not any(directory.iterdir())):
        raise InputError(f"{directory} exists and is not empty, and nothing is overwritten; choose another directory")

    parent = directory.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=parent))  # mode 0700
    try:
        genesis = _write_network(
            building, sorted(cities), name=name, test=test, time_ms=time_ms, parameters=parameters,
            addresses=addresses, passphrase=passphrase,
        )  # fmt: skip
        try:
            os.rename(building, directory)  # replaces an empty directory, and nothing else
        except OSError as error:
            raise InputError(f"{directory} cannot be created: {error.strerror}; choose another directory") from error
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return genesis


def _write_network(
    root: Path,
    cities: Sequence[tuple[str, str]],
    *,
    name: str,
    test: bool,
    time_ms: int,
    parameters: Mapping[str, int] | None,
    addresses: Mapping[str, tuple[str, str]],
    passphrase: bytes | None,
) -> Genesis:
    """Fills an empty directory; the caller moves it into place or removes it."""
    entries, certificates = [], {}
    for code, city_name in cities:
        key_directory = root / code / "keys"
        (root / code).mkdir(mode=0o700)
        key_directory.mkdir(mode=0o700)
        made = {
            purpose: keys.generate(keys.key_path(key_directory, purpose), passphrase=passphrase)
            for purpose in keys.PURPOSES
        }
        public = {purpose: signer.public_key for purpose, signer in made.items()}
        entries.append({"city": code, "name": city_name, **public, "transaction": [public["transaction"]]})
        certificates[code] = keys.tls_certificate(made["tls"], code)
    text = genesis_json(entries, name=name, test=test, time_ms=time_ms, parameters=parameters)
    genesis = Genesis.from_json(text)  # the one judge of P4; refuses before anything is in place

    for place in (root, *(root / code for code, _ in cities)):
        (place / "genesis.json").write_text(text, encoding="utf-8")
        (place / "certificates").mkdir(mode=0o700)
        for code, pem in certificates.items():
            certificate_file(place / "certificates", code).write_bytes(pem)
    for code, _ in cities:
        peers, http = addresses[code]
        toml = node_toml(
            code,
            peers=peers,
            http=http,
            others={other: address for other, (address, _) in addresses.items()},
            passphrase_file=None if passphrase is None else "passphrase",
        )
        (root / code / "node.toml").write_text(toml, encoding="utf-8")
    return genesis


def node_toml(
    city: str,
    *,
    peers: str,
    http: str,
    others: Mapping[str, str],
    joins: bool = False,
    passphrase_file: str | None = None,
) -> str:
    """The text of a city's node.toml: where things are and who the others are; every limit keeps its default.

    `peers` and `http` are where this node listens, `others` where the other cities do ("host:port"). A city that
    `joins` need not stand in the genesis.
    """
    lines = [
        "# One node of a cityid network. Paths are relative to this file. docs/operating.md has every setting.",
        f"city = {_quoted(city)}",
        *(["joins = true  # its keys are those that the chain names; the genesis need not know them"] if joins else []),
        'genesis = "genesis.json"',
        'certificates = "certificates"',
        'keys = "keys"',
        'data = "data"',
        *([] if passphrase_file is None else [f"passphrase_file = {_quoted(passphrase_file)}  # mode 0600, one line"]),
        "",
        "[listen]",
        f"peers = {_quoted(peers)}",
        f"http = {_quoted(http)}",
        "",
        "[peers]",
        *(f"{other} = {_quoted(address)}" for other, address in sorted(others.items()) if other != city),
    ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    # JSON's escapes are those of a basic string of TOML, but for DEL, which TOML wants escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
