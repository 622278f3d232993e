"""The reader that says whether blocks are whole: it finds each piece that is taken away. No network, no root."""

from collections.abc import Callable
from pathlib import Path

import pytest
from rocksdict import Options, Rdict

from cityid.node.ports import WriteStore
from cityid.node.store import Store
from cityid.testing import Simulation
from tests.chaos.stores import differences, inspect

HEIGHT = 3


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    made = Simulation(cities=4, seed=1, parameters={"heartbeat_ms": 200})
    for number in range(6):
        ids = made.admit_organisation(made.cities[0], f"ORG{number}", name="An office")
        made.run_until(lambda ids=ids: made.is_committed(ids))  # type: ignore[misc]
    return made


@pytest.fixture
def data(simulation: Simulation, tmp_path: Path) -> Path:
    """A city's store, as a node writes it."""
    disk = simulation._nodes[simulation.cities[1]].disk
    Store.create(tmp_path, simulation.genesis.hash)
    store = Store.open(tmp_path, simulation.genesis.hash)
    store.write([WriteStore(0, batches=tuple(disk.batches.items()))])
    store.write([WriteStore(0, height=record) for record in disk.heights])
    store.close()
    return tmp_path


def change(data: Path, what: Callable[[Rdict], None]) -> None:
    database = Rdict(str(data / "db"), Options(raw_mode=True))
    what(database)
    database.close()


def key(kind: bytes, height: int) -> bytes:
    return kind + height.to_bytes(8, "big")


def test_a_whole_store_is_whole(data: Path, simulation: Simulation) -> None:
    held = inspect(data)
    assert held.tip == simulation.height(simulation.cities[1]) > HEIGHT
    assert held.partial == []
    assert sorted(held.blocks) == list(range(1, held.tip + 1))
    assert sorted(inspect(data, first=HEIGHT).blocks) == list(range(HEIGHT, held.tip + 1))


def test_each_missing_piece_is_found(data: Path) -> None:
    digests = next(digests for _, digests in inspect(data).blocks.values() if digests)
    change(data, lambda database: database.delete(b"B" + digests[:32]))
    assert any(f"misses batch {digests[:32].hex()}" in what for what in inspect(data).partial)
    change(data, lambda database: database.delete(key(b"s", HEIGHT)))
    assert f"height {HEIGHT} has no changes" in inspect(data).partial
    change(data, lambda database: database.delete(key(b"b", HEIGHT)))
    assert f"height {HEIGHT} has no block" in inspect(data).partial


def test_what_stands_above_the_tip_is_found(data: Path) -> None:
    held = inspect(data)
    change(data, lambda database: database.put(key(b"s", held.tip + 1), b""))
    assert inspect(data).partial == [f"height {held.tip + 1} is there, above the tip {held.tip}"]


def test_two_stores_that_differ_are_told_apart(data: Path) -> None:
    held, other = inspect(data), inspect(data)
    assert differences({"one": held, "other": other}) == []
    other.blocks[HEIGHT] = (b"another header", b"")
    assert differences({"one": held, "other": other}) == [f"height {HEIGHT} differs between one, other"]
