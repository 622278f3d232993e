"""`cityid init --join`: what the node of a city needs that joins a running network, or comes back to it with nothing.

Genesis, keys and data folder are those of this city; from a gateway come only the TLS certificates of the other cities
and where they listen. Nothing of that is believed about blocks: the node starts from the genesis and checks every
commit certificate up to the present. Nothing that exists is overwritten.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from cityid._native import Trust
from cityid.cli.common import read_bounded
from cityid.cli.messages import choose
from cityid.cli.output import say, show
from cityid.errors import CityIDError, InputError, MalformedInput, PeerUnreachable

__all__ = ["join"]

ENTRY_BYTES: Final = 64 * 1024


def join(
    city: str, directory: Path, genesis_file: Path, at: Sequence[str], passphrase_file: Path | None, *, as_json: bool
) -> None:
    """Makes DIR ready to run; everything is checked before anything is written."""
    from cityid import genesis as geneses
    from cityid.node import config as configs
    from cityid.node import node

    entry = _entry(city, directory)
    made = geneses.load(genesis_file)
    own_genesis = directory / "genesis.json"
    if own_genesis.exists() and geneses.load(own_genesis).hash != made.hash:
        raise InputError(f"{own_genesis} is the genesis of another network. Next: choose another directory.")
    members = [row for row in _members(at, made.hash) if row["city"] != city]
    certificates = {row["city"]: _certificate(row) for row in members if row["certificate"] is not None}
    if not certificates:
        raise InputError("The gateway knows the TLS certificate of no city. Next: name another gateway with --at.")

    if not own_genesis.exists():
        own_genesis.write_bytes(genesis_file.read_bytes())
    (directory / "certificates").mkdir(mode=0o700, exist_ok=True)
    for code, pem in certificates.items():
        geneses.certificate_file(directory / "certificates", code).write_text(pem, encoding="ascii")
    node_file = directory / "node.toml"
    if not node_file.exists():  # an operator may have corrected addresses in it before
        toml = geneses.node_toml(
            entry["city"],
            peers=entry["peers"],
            http=entry["http"],
            others={row["city"]: row["peers"] for row in members if row["peers"] is not None},
            joins=True,
            passphrase_file=None if passphrase_file is None else str(passphrase_file.absolute()),
        )
        node_file.write_text(toml, encoding="utf-8")
    config = configs.load(node_file)
    if config.data.exists():
        raise InputError(
            f"{config.data} exists already; this city may have voted from it, and nothing is overwritten. Next: start "
            f"the node with: cityid run {node_file}"
        )
    node.prepare(config)
    words = Trust.load(str(own_genesis)).words
    show(
        {
            "config": str(node_file),
            "data": str(config.data),
            "city": city,
            "words": words,
            "cities": sorted(certificates),
        },
        words,
        as_json=as_json,
    )
    say(
        choose(
            f"与成员城市核对六个词；获准加入后：cityid run {node_file}",
            f"Compare the six words with a member city; once this city is admitted: cityid run {node_file}",
        )
    )


def _entry(city: str, directory: Path) -> dict[str, str]:
    path = directory / "entry.json"
    if not path.exists():
        raise InputError(f"{directory} holds no keys of a city yet. Next: cityid init {city} --dir {directory}")
    try:
        entry = json.loads(read_bounded(path, ENTRY_BYTES))
        found = {name: str(entry[name]) for name in ("city", "peers", "http")}
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise MalformedInput(f"{path} is no entry of a city ({error!r}). Next: choose another directory.") from None
    if found["city"] != city:
        raise InputError(f"{path} is the entry of {found['city']}, not of {city}. Next: choose another directory.")
    return found


def _members(at: Sequence[str], genesis_hash: bytes) -> list[dict[str, Any]]:
    """The cities that a gateway of this network lists; the first gateway that answers."""
    from cityid.client.strangers import read_cities

    said: list[str] = []
    for url in at:
        try:
            found, rows = read_cities(url)
        except CityIDError as error:
            said.append(f"{url}: {error}")
            continue
        if found != genesis_hash.hex():
            raise InputError(f"{url} is a gateway of another network. Next: name one of the network of the genesis.")
        return rows
    raise PeerUnreachable(f"No gateway says who the cities are ({'; '.join(said)}). Next: name another one with --at.")


def _certificate(row: dict[str, Any]) -> str:
    """The PEM text of a city's certificate."""
    import ssl

    from cityid import keys

    try:
        der = bytes.fromhex(row["certificate"])
    except ValueError:
        raise MalformedInput(f"The gateway's certificate of {row['city']} is no hexadecimal text.") from None
    certificate = keys.parse_certificate(der)
    if (certificate.city, certificate.public_key.hex()) != (row["city"], row["tls"]):
        raise InputError(
            f"The gateway's certificate of {row['city']} is of another city or key. Next: ask another one."
        )
    return ssl.DER_cert_to_PEM_cert(certificate.der)
