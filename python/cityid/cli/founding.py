"""`cityid init` and `genesis`: how a network of several operators begins.

A ceremony in three steps, and no private key ever leaves its machine. Each city runs `init`, which makes its keys and a
public entry; the entries are exchanged. Each city runs `genesis` over all entries, and people compare its six words.
Each city runs `init --network`, which checks that the genesis holds its own keys, and makes what `run` needs: the
configuration and an empty data folder. Only `init` makes a data folder: a node that made one by itself would forget
its votes and vote twice. Nothing that exists is overwritten. How a city joins later stands in joining.py.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from cityid._native import Genesis, Trust
from cityid.cli.common import At, Json, PassphraseFile, gateways, passphrase, read_bounded
from cityid.cli.messages import choose
from cityid.cli.output import say, show
from cityid.errors import InputError, MalformedInput

__all__ = ["add_commands"]

ENTRY_BYTES: Final = 64 * 1024
KEYS: Final = ("consensus", "checkpoint", "tls", "transaction")
PEER_ADDRESS: Final = "127.0.0.1:27100"
HTTP_ADDRESS: Final = "127.0.0.1:28100"


def add_commands(app: typer.Typer) -> None:
    """Adds `init` and `genesis`."""
    app.command()(init)
    app.command()(genesis)


def init(
    city: Annotated[str, typer.Argument(metavar="CITY", help="Six digits, for example 130100.")],
    directory: Annotated[
        Path, typer.Option("--dir", metavar="DIR", help="The node's directory; made if it is not there.")
    ],
    network: Annotated[
        Path | None,
        typer.Option(
            "--network", metavar="DIR", help="What `cityid genesis` made: make the node of CITY ready to run."
        ),
    ] = None,
    join: Annotated[
        Path | None,
        typer.Option(
            "--join",
            metavar="GENESIS",
            help="The genesis file of a running network: make the node of CITY ready for it.",
        ),
    ] = None,
    at: At = None,
    name: Annotated[str | None, typer.Option(help="The city's name; from the shipped table when left out.")] = None,
    peers: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help=f"Where other cities reach this node ({PEER_ADDRESS}).")
    ] = None,
    http: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help=f"Where people reach it ({HTTP_ADDRESS}).")
    ] = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Make one city's keys and its public entry; with --network or --join, what its node needs to run.

    Private keys stay in DIR/keys. Run it twice: first without either, and again when the genesis is made, or with
    --join GENESIS --at URL for a network that runs already.
    """
    if join is not None:
        if not (network is None and name is None and peers is None and http is None):
            raise InputError("--join goes with --at and --passphrase-file only: the entry in DIR holds the rest.")
        from cityid.cli import joining

        joining.join(city, directory, join, gateways(at), passphrase_file, as_json=as_json)
        return
    if network is None:
        _make_entry(city, directory, name, peers, http, passphrase_file, as_json=as_json)
        return
    if not (name is None and peers is None and http is None):
        raise InputError(
            "--name, --peers and --http belong to the entry, which the genesis holds now. Next: leave them out, and "
            "correct addresses in node.toml afterwards."
        )
    _join(city, directory, network, passphrase_file, as_json=as_json)


def _make_entry(
    city: str,
    directory: Path,
    name: str | None,
    peers: str | None,
    http: str | None,
    passphrase_file: Path | None,
    *,
    as_json: bool,
) -> None:
    from cityid import genesis as geneses
    from cityid import keys

    name = name or geneses.member_names().get(city)
    if name is None:
        raise InputError(f"{city} is not in the shipped table of cities. Next: give its name with --name.")
    entry_file = directory / "entry.json"
    if entry_file.exists():
        raise InputError(
            f"{directory} is a node's directory already, and nothing is overwritten. Next: choose another one, or say "
            "--network DIR when the genesis is made."
        )
    (directory / "keys").mkdir(mode=0o700, parents=True, exist_ok=True)
    secret = passphrase(passphrase_file)
    signers = {
        purpose: keys.generate(keys.key_path(directory / "keys", purpose), passphrase=secret) for purpose in KEYS
    }
    certificate = keys.tls_certificate(signers["tls"], city).decode()
    entry = {"city": city, "name": name, **{purpose: signers[purpose].public_key.hex() for purpose in KEYS}}
    entry |= {"peers": peers or PEER_ADDRESS, "http": http or HTTP_ADDRESS, "certificate": certificate}
    entry_file.write_text(json.dumps(entry, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    show(
        {"entry": str(entry_file), "city": city, "name": name},
        choose(
            f"{entry_file}：交给其他城市（只含公钥）；随后：cityid genesis 各城 entry.json",
            f"{entry_file}: hand it to the other cities (public keys only); then run cityid genesis",
        ),
        as_json=as_json,
    )


def _join(city: str, directory: Path, network: Path, passphrase_file: Path | None, *, as_json: bool) -> None:
    """Everything is checked before anything is written; the data folder comes last, so a second try is possible."""
    from cityid import genesis as geneses
    from cityid.node import config as configs
    from cityid.node import node

    made = geneses.load(network / "genesis.json")
    _check_keys(city, directory, made, passphrase_file)
    geneses.load_certificates(network / "certificates", made)
    own_genesis = directory / "genesis.json"
    if own_genesis.exists() and geneses.load(own_genesis).hash != made.hash:
        raise InputError(f"{own_genesis} is the genesis of another network. Next: choose another directory.")
    text = (network / f"{city}.node.toml").read_text(encoding="utf-8")
    if passphrase_file is not None:
        path = json.dumps(str(passphrase_file.absolute()), ensure_ascii=False)
        text = text.replace("\n[listen]", f"passphrase_file = {path}\n\n[listen]", 1)

    own_genesis.write_bytes((network / "genesis.json").read_bytes())
    (directory / "certificates").mkdir(mode=0o700, exist_ok=True)
    for member in made.cities:
        own = geneses.certificate_file(directory / "certificates", member)
        own.write_bytes(geneses.certificate_file(network / "certificates", member).read_bytes())
    node_file = directory / "node.toml"
    if not node_file.exists():  # an operator may have corrected addresses in it before
        node_file.write_text(text, encoding="utf-8")
    config = configs.load(node_file)
    if config.data.exists():
        raise InputError(
            f"{config.data} exists already; this city may have voted from it, and nothing is overwritten. Next: start "
            f"the node with: cityid run {node_file}"
        )
    node.prepare(config)
    words = Trust.load(str(own_genesis)).words
    show(
        {"config": str(node_file), "data": str(config.data), "city": city, "words": words},
        words,
        as_json=as_json,
    )
    say(
        choose(
            f"再次核对六个词；然后：cityid run {node_file}",
            f"Compare the six words once more; then: cityid run {node_file}",
        )
    )


def _check_keys(city: str, directory: Path, made: Genesis, passphrase_file: Path | None) -> None:
    from cityid import keys

    if city not in made.cities:
        raise InputError(f"{city} is not in this genesis, which has {', '.join(made.cities)}. Next: check both.")
    entry = made.city(city)
    secret = passphrase(passphrase_file)
    for purpose in KEYS:
        path = keys.key_path(directory / "keys", purpose)
        held = keys.load(path, passphrase=secret).public_key
        if held not in (entry["transaction"] if purpose == "transaction" else [entry[purpose]]):
            raise InputError(
                f"{path} is not the {purpose} key that the genesis holds for {city}: somebody used another entry. "
                "Next: compare the entries, and make the genesis again from the right one."
            )


def genesis(
    entries: Annotated[list[Path], typer.Argument(metavar="ENTRY...", help="The entry.json of every city, 4 to 100.")],
    name: Annotated[str, typer.Option(help="The network's name.")],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Gets genesis.json, certificates/ and a node.toml a city.")
    ],
    time_ms: Annotated[
        int, typer.Option(min=1, help="The genesis time: the same everywhere, milliseconds since 1970.")
    ],
    test: Annotated[bool, typer.Option("--test/--in-service", help="A TEST network says so everywhere.")] = True,
    as_json: Json = False,
) -> None:
    """Put the cities' entries together. Every city runs this and must get the same six words."""
    from cityid import genesis as geneses

    read = sorted((_entry(path) for path in entries), key=lambda entry: str(entry["city"]))
    cities = [
        {"city": entry["city"], "name": entry["name"]}
        | {purpose: bytes.fromhex(entry[purpose]) for purpose in KEYS if purpose != "transaction"}
        | {"transaction": [bytes.fromhex(entry["transaction"])]}
        for entry in read
    ]
    text = geneses.genesis_json(cities, name=name, test=test, time_ms=time_ms, parameters=None)
    made = Genesis.from_json(text)
    certificates = out / "certificates"
    certificates.mkdir(parents=True, exist_ok=False)
    (out / "genesis.json").write_text(text, encoding="utf-8")
    listening = {entry["city"]: entry["peers"] for entry in read}
    for entry in read:
        geneses.certificate_file(certificates, entry["city"]).write_text(entry["certificate"], encoding="ascii")
        toml = geneses.node_toml(entry["city"], peers=entry["peers"], http=entry["http"], others=listening)
        (out / f"{entry['city']}.node.toml").write_text(toml, encoding="utf-8")
    words = Trust.load(str(out / "genesis.json")).words
    show(
        {"genesis": str(out / "genesis.json"), "hash": made.hash.hex(), "words": words, "cities": made.cities},
        words,
        as_json=as_json,
    )
    say(
        choose(
            f"请逐城核对六个词；然后各城：cityid init 城市码 --dir 节点目录 --network {out}",
            f"Compare the six words, city by city; then each runs: cityid init CITY --dir DIR --network {out}",
        )
    )


def _entry(path: Path) -> dict[str, str]:
    """An entry whose certificate is of its own city and TLS key."""
    from cityid import keys

    try:
        entry: dict[str, Any] = json.loads(read_bounded(path, ENTRY_BYTES))
        for field in ("city", "name", *KEYS, "peers", "http", "certificate"):
            if not isinstance(entry[field], str):
                raise TypeError(f"{field} is no text")
        for purpose in KEYS:
            bytes.fromhex(entry[purpose])
        certificate = keys.parse_certificate(entry["certificate"].encode())
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise MalformedInput(
            f"{path} is no entry of a city ({error}). Next: ask the city for its entry.json."
        ) from None
    if (certificate.city, certificate.public_key.hex()) != (entry["city"], entry["tls"]):
        raise InputError(
            f"The certificate in {path} is not of its city and TLS key. Next: ask the city for its entry.json again."
        )
    return {key: str(value) for key, value in entry.items()}
