"""`cityid run`, `up`, `status`: the life of a node, and of a test network on one machine.

How a network of several operators begins stands in `founding`; `up` does all of that at once.
"""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from cityid._native import Genesis, Trust
from cityid.cli.common import At, Json, gateways
from cityid.cli.messages import choose
from cityid.cli.output import say, show

__all__ = ["add_commands"]


def add_commands(app: typer.Typer) -> None:
    """Adds `run`, `up` and `status`."""
    app.command()(run)
    app.command()(up)
    app.command()(status)


def run(
    config: Annotated[Path, typer.Argument(metavar="FILE", help="The node's TOML file.")] = Path("node.toml"),
) -> None:
    """Run one node until it is asked to stop (Ctrl-C or SIGTERM)."""
    import trio

    from cityid.node import config as configs
    from cityid.node import node

    use_all_descriptors()
    trio.run(node.run, configs.load(config))


def use_all_descriptors() -> None:
    """As many open files as the system lets this process have: each idle connection of a client holds one, and a node
    that can open none for its store stops.
    """
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


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
    from cityid.genesis import cities_table, member_names
    from cityid.node import config as configs

    directory = directory.absolute()  # each node runs in a directory of its own
    if (directory / "genesis.json").exists():
        made = Genesis.from_json((directory / "genesis.json").read_text(encoding="utf-8"))
        joined = sorted(
            path.parent.name for path in directory.glob("*/node.toml") if path.parent.name not in made.cities
        )
        urls = {
            city: f"http://{configs.load(directory / city / 'node.toml').listen_http}"
            for city in [*made.cities, *joined]
        }
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
        names = member_names()
        lines = [f"{city} {names.get(city, '')} {url}" for city, url in network.urls.items()]
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
        lines += [f"  {line}" for line in _remarks(one)]
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


def _remarks(status: dict[str, Any]) -> list[str]:
    """What an operator should know besides: a follower and why, an upgrade that is due, a node that halted."""
    remarks = []
    if status.get("role") == "follower":
        if status.get("role_reason") == "key_missing":
            remarks.append(
                choose(
                    "密钥文件缺失，仅跟随（key_missing）",
                    "a key that the chain names is not here: it follows (key_missing)",
                )
            )
        else:
            remarks.append(choose("不在共识委员会，跟随", "not in the committee: it follows"))
    found = status.get("protocol")
    protocol: dict[str, Any] = found if isinstance(found, dict) else {}
    known = protocol.get("newest_known")
    for row in (protocol.get("scheduled") or [])[:16]:
        version, height = row.get("version"), row.get("height")
        remarks.append(choose(f"高度 {height} 起启用协议版本 {version}", f"protocol {version} from height {height} on"))
        if isinstance(version, int) and isinstance(known, int) and version > known:
            remarks.append(choose(f"请在高度 {height} 之前升级本软件", f"UPGRADE this software before height {height}"))
    if status.get("halted"):
        remarks.append(choose(f"已停止：{status['halted']}", f"HALTED: {status['halted']}"))
    return remarks


def _peers(status: dict[str, Any]) -> str:
    peers = status.get("peers")
    return str(len(peers)) if isinstance(peers, list | dict) else "?"
