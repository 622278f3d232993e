"""The tables that a node keeps: brought when missing, mended when hurt, dropped when nobody needs them."""

import pytest
import trio

from cityid.errors import Overloaded
from cityid.node.messages import WANT_PART

from .conftest import CITIES, City, MiB, World, digest_of, table_bytes, until

A, B, C, D = CITIES


def seal(world: World, base: int, data: bytes, *, version: int = 2) -> bytes:
    """Every city's state names this table."""
    digest = digest_of(data)
    for city in world.cities.values():
        city.ledger.ranges[base] = (version, digest, digest_of(b"root" + data))
    return digest


def hold(city: City, data: bytes) -> bytes:
    """A table that lies in a city's folder since before its start."""
    digest = digest_of(data)
    (city.directory / "tables" / f"{digest.hex()}.table").write_bytes(data)
    city.open()
    return digest


async def test_a_sealed_table_is_brought_to_every_city(world: World) -> None:
    cities = [world.add(name) for name in CITIES]
    data = table_bytes(padding=3 * MiB)
    async with world.running():
        digest = cities[0].put(data)
        seal(world, 0, data)
        for city in cities:
            city.exchange.on_committed([digest])
        assert cities[1].figure("tables_missing") == 1
        await until(lambda: all(city.folder.get(digest) for city in cities))
    assert all(city.figure("tables_missing") == 0 for city in cities)
    assert all(city.read(digest) == data for city in cities)
    assert cities[1].events("table_kept")[0]["digest"] == digest.hex()


async def test_what_was_sealed_while_a_node_was_off_is_brought_at_its_start(world: World) -> None:
    one, other = world.add(A), world.add(B)
    data = table_bytes()
    digest = hold(other, data)
    seal(world, 0, data)
    async with world.running():
        assert one.events("tables_opened")[0]["missing"] == 1
        await until(lambda: one.folder.get(digest) is not None)


async def test_a_table_that_nobody_has_is_asked_for_less_and_less_often_and_then_comes(world: World) -> None:
    one, other = world.add(A), world.add(B)
    data = table_bytes()
    digest = seal(world, 0, data)
    async with world.running():
        await trio.sleep(600)
        asked = len([kind for sender, _, kind, _ in world.sent if sender == A and kind == WANT_PART])
        assert 8 <= asked <= 20, "1, 2, 4 … 60 seconds"
        other.put(data)
        await until(lambda: one.folder.get(digest) is not None, seconds=61)


@pytest.mark.parametrize("found", ["at the start", "by reading"])
async def test_a_damaged_table_is_fetched_again(world: World, found: str) -> None:
    one, other = world.add(A), world.add(B)
    data = table_bytes(padding=1_000)
    digest = hold(other, data)
    hold(one, data)
    seal(world, 0, data)
    path = one.directory / "tables" / f"{digest.hex()}.table"
    if found == "at the start":
        path.write_bytes(data[:-1] + b"!")
    async with world.running():
        if found == "by reading":
            await trio.sleep(1)
            path.write_bytes(data[:-1] + b"!")
            one.folder.find_damage(digest)
        await until(lambda: one.figure("tables_fetched_total") == 1)
    assert path.read_bytes() == data
    assert one.events("table_damaged")


async def test_keep_own_brings_only_what_this_city_signed_for(world: World) -> None:
    one, other = world.add(A, keep="own"), world.add(B)
    mine, foreign = table_bytes(base=0), table_bytes(base=1_000)
    for data in (mine, foreign):
        hold(other, data)
    one.blobs.mark_signed(digest_of(mine))
    one.open()
    seal(world, 0, mine)
    seal(world, 1_000, foreign)
    async with world.running():
        await until(lambda: one.folder.get(digest_of(mine)) is not None)
        await trio.sleep(120)
        assert one.folder.get(digest_of(foreign)) is None
        assert one.figure("tables_missing") == 0


async def test_the_versions_before_are_kept_and_brought_too(world: World) -> None:
    one, other = world.add(A), world.add(B)
    first = table_bytes()
    second = table_bytes(previous=digest_of(first), seed=1)
    third = table_bytes(previous=digest_of(second), seed=2)
    for data in (first, second, third):
        hold(other, data)
    seal(world, 0, third, version=4)
    async with world.running():
        await until(lambda: len(one.folder.digests()) == 3)
        assert other.figure("spare_bytes") == 0, "what a range named before counts nowhere"


async def test_a_table_that_no_range_names_gives_way_and_a_sealed_one_does_not(world: World) -> None:
    one = world.add(A, bound_bytes=3 * MiB)
    sealed, spare = table_bytes(padding=MiB), table_bytes(base=1_000, padding=MiB)
    hold(one, sealed)
    hold(one, spare)
    seal(world, 0, sealed)
    async with world.running():
        one.put(bytes(MiB))
        assert len(one.folder.digests()) == 2
        one.put(bytes(2 * MiB - 10_000))
        assert one.folder.digests() == [digest_of(sealed)]
        assert one.figure("spare_dropped_total") == 1
        with pytest.raises(Overloaded, match="blob_bytes"):
            one.put(bytes(4 * MiB))
    assert one.read(digest_of(sealed)) == sealed


async def test_a_root_that_is_not_the_records_is_an_alarm(world: World) -> None:
    one, other = world.add(A), world.add(B)
    data = table_bytes()
    digest = hold(other, data)
    for city in world.cities.values():
        city.ledger.ranges[0] = (2, digest, bytes(32))
    async with world.running():
        await until(lambda: bool(one.events("table_does_not_fit")))
        assert one.events("table_does_not_fit")[0]["level"] == "error"


async def test_a_sealed_file_that_is_no_table_is_an_alarm_and_no_loop(world: World) -> None:
    one, other = world.add(A), world.add(B)
    digest = other.put(b"no table")
    seal(world, 0, b"no table")
    async with world.running():
        await until(lambda: bool(one.events("table_missing")))
        await trio.sleep(100)
    assert one.events("table_missing")[0]["level"] == "error"
    assert len(one.events("table_missing")) <= 3
    assert one.figure("tables_missing") == 1
    assert one.blobs.path(digest) is not None
