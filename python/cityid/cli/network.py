"""`cityid init`, `genesis`, `run`, `up`, `status`: the life of a network and of a node.

A network begins with a ceremony: each city runs `init`, which makes its keys and a public entry; the entries are
exchanged; `genesis` puts them together; people compare its six words; each city runs its node with `run`. `up` does all
of that for a test network on one machine.
"""

import json
import time
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


def add_commands(app: typer.Typer) -> None:
    """Adds `init`, `genesis`, `run`, `up` and `status`."""
    app.command()(init)
    app.command()(genesis)
    app.command()(run)
    app.command()(up)
    app.command()(status)


def init(
    city: Annotated[str, typer.Argument(metavar="CITY", help="Six digits, for example 130100.")],
    directory: Annotated[
        Path, typer.Option("--dir", metavar="DIR", help="The node's directory; made if it is not there.")
    ],
    name: Annotated[str | None, typer.Option(help="The city's name; from the shipped table when left out.")] = None,
    peers: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where other cities reach this node.")
    ] = "127.0.0.1:27100",
    http: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where people reach it.")] = "127.0.0.1:28100",
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Make one city's keys, and the public entry that the genesis needs. Private keys stay in DIR/keys."""
    from cityid import genesis as geneses
    from cityid import keys

    name = name or geneses.member_names().get(city)
    if name is None:
        raise InputError(f"{city} is not in the shipped table of cities. Next: give its name with --name.")
    entry_file = directory / "entry.json"
    if entry_file.exists():
        raise InputError(
            f"{directory} is a node's directory already, and nothing is overwritten. Next: choose another one."
        )
    (directory / "keys").mkdir(mode=0o700, parents=True, exist_ok=True)
    secret = passphrase(passphrase_file)
    signers = {
        purpose: keys.generate(keys.key_path(directory / "keys", purpose), passphrase=secret) for purpose in KEYS
    }
    certificate = keys.tls_certificate(signers["tls"], city).decode()
    entry = {"city": city, "name": name, **{purpose: signers[purpose].public_key.hex() for purpose in KEYS}}
    entry |= {"peers": peers, "http": http, "certificate": certificate}
    entry_file.write_text(json.dumps(entry, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    show(
        {"entry": str(entry_file), "city": city, "name": name},
        choose(
            f"{entry_file}：交给其他城市（只含公钥）；随后：cityid genesis 各城 entry.json",
            f"{entry_file}: hand it to the other cities (public keys only); then run cityid genesis",
        ),
        as_json=as_json,
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
    for entry in read:
        geneses.certificate_file(certificates, entry["city"]).write_text(entry["certificate"], encoding="ascii")
        (out / f"{entry['city']}.node.toml").write_text(_node_toml(entry, read), encoding="utf-8")
    geneses.load_certificates(certificates, made)
    words = Trust.load(str(out / "genesis.json")).words
    show(
        {"genesis": str(out / "genesis.json"), "hash": made.hash.hex(), "words": words, "cities": made.cities},
        words,
        as_json=as_json,
    )
    say(
        choose(
            "请逐城核对六个词；然后各城把 genesis.json、certificates/ 和自己的 node.toml 放进节点目录",
            "Compare the six words, city by city; then each copies genesis.json, certificates/ and its node.toml",
        )
    )


def run(
    config: Annotated[Path, typer.Argument(metavar="FILE", help="The node's TOML file.")] = Path("node.toml"),
    first: Annotated[
        bool,
        typer.Option("--first", help="Make the data directory of a new city. Never for one that has voted before."),
    ] = False,
) -> None:
    """Run one node until it is asked to stop (Ctrl-C or SIGTERM)."""
    import trio

    from cityid.node import config as configs
    from cityid.node import node

    loaded = configs.load(config)
    if first:
        node.prepare(loaded)
    trio.run(node.run, loaded)


def up(
    cities: Annotated[int, typer.Option("--cities", min=4, max=100, help="How many.")] = 4,
    directory: Annotated[Path, typer.Option("--dir", metavar="DIR", help="Made at first, used again later.")] = Path(
        "cityid-network"
    ),
    as_json: Json = False,
) -> None:
    """Run a local test network until Ctrl-C. DIR keeps it: the next `up` goes on with the same codes."""
    import trio

    from cityid.cli.local import FIRST_CITIES, LocalNetwork, create, free_ports
    from cityid.genesis import cities_table
    from cityid.node import config as configs

    directory = directory.absolute()  # each node runs in a directory of its own
    if (directory / "genesis.json").exists():
        made = Genesis.from_json((directory / "genesis.json").read_text(encoding="utf-8"))
        urls = {city: f"http://{configs.load(directory / city / 'node.toml').listen_http}" for city in made.cities}
        network = LocalNetwork(directory, urls)
    else:
        table = [
            city.code for city in cities_table() if city.level != "county-level-city" and city.code not in FIRST_CITIES
        ]
        codes = [*FIRST_CITIES, *table][:cities]
        ports = free_ports(2 * len(codes))
        addresses = {
            code: (f"127.0.0.1:{ports[2 * index]}", f"127.0.0.1:{ports[2 * index + 1]}")
            for index, code in enumerate(codes)
        }
        network, made = create(directory, codes, name="cityid up", addresses=addresses)
    trust = Trust.load(str(directory / "genesis.json"))

    async def serve() -> None:
        for city in network.urls:
            network.start(city)
        for city in network.urls:
            await network.wait_connected(city)
        value = {
            "directory": str(directory),
            "genesis": str(directory / "genesis.json"),
            "words": trust.words,
            "urls": dict(network.urls),
        }
        lines = [f"{city} {made.city(city)['name']} {url}" for city, url in network.urls.items()]
        show(value, "\n".join([trust.words, *lines]), as_json=as_json)
        say(choose("Ctrl-C 停止全部节点", "Ctrl-C stops every node"))
        told: set[str] = set()
        while True:
            await trio.sleep(1)
            for city in set(network.ended()) - told:
                told.add(city)
                say(
                    choose(
                        f"{city} 的节点已退出：{network.log_end(city)}",
                        f"the node of {city} has ended: {network.log_end(city)}",
                    )
                )

    with network.running():
        run_until_stopped(serve)


def status(at: At = None, as_json: Json = False) -> None:
    """Ask gateways how they are: height, root, peers, age of the newest block. Unverified: it is what they say."""
    from cityid.client import read_status

    found = [(url, read_status(url)) for url in gateways(at)]
    lines = []
    for url, one in found:
        if "error" in one:
            lines.append(f"{url}: {one['error']}")
            continue
        age_s = max(0.0, time.time() - int(one.get("time_ms", 0)) / 1000)
        root = str(one.get("state_root"))[:16]
        chinese = f"高度 {one.get('height')}，{age_s:.0f} 秒前，状态根 {root}，已连 {_peers(one)} 城"
        english = f"height {one.get('height')}, {age_s:.0f} s ago, root {root}, {_peers(one)} peers"
        lines.append(f"{url}: {one.get('city')} {choose(chinese, english)}")
    show({"gateways": [{"url": url, **one} for url, one in found]}, "\n".join(lines), as_json=as_json)
    if all("error" in one for _, one in found):
        raise typer.Exit(3)


def run_until_stopped(main: Any) -> None:
    """Runs an async function until it ends or SIGINT, SIGTERM or SIGHUP asks it to; both are a good end."""
    import signal

    import trio

    async def watch(scope: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            task_status.started()
            async for _ in signals:
                scope.cancel()

    async def supervise() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(watch, nursery.cancel_scope)
            await main()
            nursery.cancel_scope.cancel()

    trio.run(supervise)


def _peers(status: dict[str, Any]) -> str:
    peers = status.get("peers")
    return str(len(peers)) if isinstance(peers, list | dict) else "?"


def _entry(path: Path) -> dict[str, str]:
    try:
        entry = json.loads(read_bounded(path, ENTRY_BYTES))
        for field in ("city", "name", *KEYS, "peers", "http", "certificate"):
            if not isinstance(entry[field], str):
                raise TypeError(f"{field} is no text")
        for purpose in KEYS:
            bytes.fromhex(entry[purpose])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise MalformedInput(
            f"{path} is no entry of a city ({error}). Next: ask the city for its entry.json."
        ) from None
    return {key: str(value) for key, value in entry.items()}


def _node_toml(entry: dict[str, str], entries: list[dict[str, str]]) -> str:
    lines = [
        "# One node of a cityid network. Paths are relative to this file. docs/operating.md has every setting.",
        f'city = "{entry["city"]}"',
        'genesis = "genesis.json"',
        'certificates = "certificates"',
        'keys = "keys"',
        'data = "data"',
        "",
        "[listen]",
        f"peers = {json.dumps(entry['peers'])}",
        f"http = {json.dumps(entry['http'])}",
        "",
        "[peers]",
        *(f"{other['city']} = {json.dumps(other['peers'])}" for other in entries if other is not entry),
    ]
    return "\n".join(lines) + "\n"
