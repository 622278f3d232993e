"""What the demo plays on: four cities, their processes, a client at each, and the cables that can be cut.

Everything lies in one directory. Some of the cables between cities are relays of ours; which city calls which is the
nodes' own rule (the lower code dials), so a relay stands in the dialler's configuration in place of the other address.
At the end the configuration is put straight, so that `cityid up --dir` runs the same network without us.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from cityid import keys
from cityid._native import Trust
from cityid.cli.demo.relay import Relay
from cityid.cli.local import FIRST_CITIES, LocalNetwork, create, free_ports
from cityid.client import Client
from cityid.keys import Signer

__all__ = ["BEIJING", "HANGZHOU", "MARK", "SHENZHEN", "SHIJIAZHUANG", "DemoFailure", "Stage", "open_stage", "require"]

SHIJIAZHUANG, BEIJING, SHENZHEN, HANGZHOU = FIRST_CITIES
MARK: Final = ".cityid-demo"
"""Says that a demo made this directory, so that the next one may clear it."""
CABLES: Final = (
    (BEIJING, HANGZHOU),
    (SHIJIAZHUANG, HANGZHOU),
    (HANGZHOU, SHENZHEN),
    (SHIJIAZHUANG, SHENZHEN),
)
"""(dialler, listener) of the cables that the demo holds in its hands."""


class DemoFailure(Exception):
    """Something in the story is not as it must be."""


@dataclass(frozen=True, slots=True)
class Stage:
    """The cities by code: clients to ask, signers of their transaction keys, cables between some of them."""

    directory: Path
    network: LocalNetwork
    trust: Trust
    clients: dict[str, Client]
    cables: dict[tuple[str, str], Relay]

    def signer(self, city: str) -> Signer:
        """A city's transaction key."""
        return keys.load(keys.key_path(self.directory / city / "keys", "transaction"))

    def cables_of(self, city: str) -> list[Relay]:
        """The cables that end at a city."""
        return [relay for ends, relay in self.cables.items() if city in ends]


@asynccontextmanager
async def open_stage(directory: Path) -> AsyncIterator[Stage]:
    """Makes the network, starts the relays and the four processes; when it is left, all of them are gone."""
    ports = iter(free_ports(2 * len(FIRST_CITIES) + len(CABLES)))
    listens = {city: (next(ports), next(ports)) for city in FIRST_CITIES}
    addresses = {city: (f"127.0.0.1:{peer}", f"127.0.0.1:{http}") for city, (peer, http) in listens.items()}
    network, _ = create(directory, FIRST_CITIES, name="cityid demo", addresses=addresses)
    (directory / MARK).touch()
    cables = {(dialler, listener): Relay(listens[listener][0], next(ports)) for dialler, listener in CABLES}
    straight = {city: (directory / city / "node.toml").read_text(encoding="utf-8") for city in FIRST_CITIES}
    trust = Trust.load(str(directory / "genesis.json"))
    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(trio.open_nursery())
        stack.callback(nursery.cancel_scope.cancel)
        for (dialler, listener), relay in cables.items():
            _redirect(directory / dialler / "node.toml", addresses[listener][0], f"127.0.0.1:{relay.port}")
            await nursery.start(relay.run)
        stack.enter_context(network.running())
        for city in FIRST_CITIES:
            network.start(city)
        clients = {city: await stack.enter_async_context(Client(network.urls[city], trust)) for city in FIRST_CITIES}
        for city in FIRST_CITIES:
            await network.wait_connected(city)
        yield Stage(directory, network, trust, clients, cables)
    for city, text in straight.items():
        (directory / city / "node.toml").write_text(text, encoding="utf-8")


def require(condition: bool, otherwise: str) -> None:
    """The story goes on only if this holds."""
    if not condition:
        raise DemoFailure(otherwise)


def _redirect(config: Path, address: str, relay: str) -> None:
    """Lets a node call a relay where it would call another node."""
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace(f'"{address}"', f'"{relay}"'), encoding="utf-8")
