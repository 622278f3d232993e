"""Four nodes of the product as four processes on loopback, for the benches that go the whole way."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cityid.cli import local


@asynccontextmanager
async def running(place: Path) -> AsyncIterator[local.LocalNetwork]:
    """A fresh network under `place`, every node at the tip; stopped at the end."""
    ports = local.free_ports(2 * len(local.FIRST_CITIES))
    addresses = {
        city: (f"127.0.0.1:{ports[2 * index]}", f"127.0.0.1:{ports[2 * index + 1]}")
        for index, city in enumerate(local.FIRST_CITIES)
    }
    network, _ = local.create(place / "network", local.FIRST_CITIES, name="bench", addresses=addresses)
    with network.running():
        for city in local.FIRST_CITIES:
            network.start(city)
        for city in local.FIRST_CITIES:
            await network.wait_ready(city)
        yield network
