"""Checking a table against a real state (P44) while it is read: what is refused stays out, and damage is no verdict."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from cityid._native import Snapshot, Table, TableHead, Tables, TableWriter
from cityid.errors import MalformedInput, RuleViolation, StorageError
from cityid.testing import Simulation

CITY, ORG, USE, CLASS, MODEL = "130100", "A7K2", "60", "010203", "1"
SIZE = 1_000
ROWS = 300


@dataclass(frozen=True)
class World:
    """A state in which the organisation holds the first thousand serials, and a folder."""

    simulation: Simulation
    directory: Path
    tables: Tables

    @property
    def snapshot(self) -> Snapshot:
        return self.simulation.ledger(CITY).snapshot()

    def write(self, name: str, *, model: str = MODEL, height: int | None = None) -> Path:
        """A table of rows with an attribute each, the last of them of a model."""
        path = self.directory / name
        writer = TableWriter(
            path, genesis_hash=self.simulation.genesis.hash, city=CITY, cls=CLASS, base=0, size=SIZE, org=ORG,
            seed=bytes(32), height=self.simulation.height(CITY) if height is None else height,
        )  # fmt: skip
        rows = [f"{serial},{USE},{MODEL},P-{serial}\n" for serial in range(ROWS)]
        rows.append(f"{ROWS},{USE},{model},P\n")
        writer.add_csv(("serial,use,model,pole\n" + "".join(rows)).encode())
        writer.add_csv(b"")
        writer.finish()
        return path


@pytest.fixture
def world(tmp_path: Path) -> World:
    simulation = Simulation(cities=4, seed=1)
    office = simulation.organisation_signer(CITY, ORG)
    ids = simulation.admit_organisation(CITY, ORG, name="Lighting")
    holder = {"city": CITY, "org": ORG, "class": CLASS}
    for operation in (
        {"op": "register_category", **holder, "use": USE, "model": MODEL, "name": "lamp"},
        {"op": "allocate_range", **holder, "size": SIZE},
    ):
        ids += simulation.submit(CITY, [operation], signers=[office])
    simulation.run_until(lambda: simulation.is_committed(ids), limit_ms=5_000)
    (tmp_path / "tables").mkdir()
    return World(simulation, tmp_path, Tables(tmp_path / "tables"))


def test_a_table_is_checked_in_the_reading_that_takes_it_in(world: World) -> None:
    path = world.write("good")
    head = TableHead.read(path)
    assert (head.city, head.cls, head.base, head.size, head.previous) == (CITY, CLASS, 0, SIZE, None)
    table = world.tables.add(path, snapshot=world.snapshot)
    assert (table.count, world.tables.digests()) == (ROWS + 1, [table.digest])
    assert not path.exists()
    table.check(world.snapshot, None)


def test_a_table_that_is_refused_stays_where_it_is(world: World) -> None:
    for path, why in (
        (world.write("foreign", model="9"), f"serial {ROWS:09}: its category"),
        (world.write("early", height=1_000_000), "serial 000000000: its record is of height 1000000"),
    ):
        with pytest.raises(RuleViolation, match=why) as refused:
            world.tables.add(path, snapshot=world.snapshot)
        assert refused.value.reason == "bad_table"
        assert path.exists()
        assert world.tables.digests() == []
        # The control: without the check it is a table like any other.
        table = world.tables.add(path)
        assert table.count == ROWS + 1
        with pytest.raises(RuleViolation, match=why):
            table.check(world.snapshot, None)
        world.tables.remove(table.digest)
    assert world.tables.add(world.write("good"), snapshot=world.snapshot).count == ROWS + 1


def test_damage_is_no_verdict_on_a_table(world: World) -> None:
    table = world.tables.add(world.write("good"))
    data = bytearray(table.path.read_bytes())
    for at in range(0, len(data), 997):
        hurt = data.copy()
        hurt[at] ^= 1
        table.path.write_bytes(hurt)
        with pytest.raises(StorageError, match="is not now"):
            table.check(world.snapshot, None)
    table.path.write_bytes(data)
    table.check(world.snapshot, None)


def test_what_is_no_table_has_no_head(world: World) -> None:
    (world.directory / "text").write_bytes(b"not a table")
    with pytest.raises(MalformedInput):
        TableHead.read(world.directory / "text")
    with pytest.raises(MalformedInput):
        world.tables.add(world.directory / "text", snapshot=world.snapshot)
    with pytest.raises(StorageError, match="opening"):
        TableHead.read(world.directory / "nowhere")
    assert isinstance(world.tables.add(world.write("good"), snapshot=world.snapshot), Table)
