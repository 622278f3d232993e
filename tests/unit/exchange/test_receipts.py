"""Storage receipts: who is asked, what is checked, and what a client hears."""

import hashlib
from dataclasses import replace

import pytest
import trio

from cityid._native import verify_strict
from cityid.errors import MalformedInput, NotSynced, RuleViolation
from cityid.node.config import Timeouts
from cityid.node.exchange import FileNotHere
from cityid.node.exchange.keeping import rendezvous
from cityid.node.exchange.payloads import Receipt, WantReceipt, decode_receipt, encode_receipt, encode_want_receipt
from cityid.node.exchange.receipts import MAX_WAITING
from cityid.node.messages import PART, RECEIPT, WANT_RECEIPT, Frame

from .conftest import CITIES, City, World, digest_of, table_bytes, until

A = CITIES[0]


def network(world: World, *, version: int = 1, seconds: float = 60.0) -> list[City]:
    """Four cities that know a range at 0 of this version."""
    cities = [world.add(name, timeouts=Timeouts(receipt_ms=int(seconds * 1_000))) for name in CITIES]
    for city in cities:
        city.ledger.ranges[0] = (version, None, None)
    return cities


def order(digest: bytes) -> list[str]:
    """The cities that A asks, in order."""
    return [city for city in rendezvous(digest, CITIES) if city != A]


def test_rendezvous_is_an_order_that_every_city_computes_alike() -> None:
    digest = digest_of(b"a")
    expected = sorted(
        CITIES,
        key=lambda city: hashlib.sha256(b"cityid/1/rendezvous\0\1" + digest + city.encode()).hexdigest(),
        reverse=True,
    )
    assert rendezvous(digest, CITIES) == rendezvous(digest, CITIES[::-1]) == expected
    firsts = {rendezvous(digest_of(bytes([number])), CITIES)[0] for number in range(64)}
    assert firsts == set(CITIES), "every city has its share"
    without = [city for city in CITIES if city != expected[0]]
    assert rendezvous(digest, without) == expected[1:], "who leaves changes nobody else's place"


async def test_two_cities_check_sign_and_keep(world: World) -> None:
    asker, *_ = network(world)
    digest = asker.put(table_bytes(padding=1_000_000))
    async with world.running():
        collected = await asker.exchange.receipts(digest, 1)
    first = order(digest)[0]
    assert [city for city, _ in collected.receipts] == sorted([A, first])
    assert collected.refusals == {}
    table = asker.folder.get(digest)
    assert table is not None
    for city, signature in collected.receipts:
        assert verify_strict(world.members[city], table.statement(1), signature)
        assert world.cities[city].folder.get(digest) is not None
        assert world.cities[city].blobs.is_signed(digest)
    assert [name for name in CITIES if world.cities[name].folder.get(digest)] == sorted([A, first])


async def test_a_city_without_the_file_takes_it_from_the_others_first(world: World) -> None:
    asker, holder, *_ = network(world)
    digest = holder.put(table_bytes())
    async with world.running():
        collected = await asker.exchange.receipts(digest, 1)
    assert len(collected.receipts) == 2


async def test_a_city_that_is_no_member_counts_only_others(world: World) -> None:
    asker, *_ = network(world)
    del world.members[A]
    digest = asker.put(table_bytes())
    async with world.running():
        collected = await asker.exchange.receipts(digest, 1)
    assert [city for city, _ in collected.receipts] == sorted(order(digest)[:2])


async def test_a_city_that_is_out_of_reach_is_followed_by_the_next(world: World) -> None:
    asker, *_ = network(world)
    digest = asker.put(table_bytes())
    first, second, _ = order(digest)
    world.gone.add(first)
    async with world.running():
        collected = await asker.exchange.receipts(digest, 1)
    assert [city for city, _ in collected.receipts] == sorted([A, second])
    assert collected.refusals[first][0] == "unreachable"


async def test_a_city_that_leaves_while_it_checks_is_followed_by_the_next(world: World) -> None:
    asker, *_ = network(world)
    digest = asker.put(table_bytes())
    first, second, _ = order(digest)

    def leave(frame: Frame, to: str) -> list[Frame]:
        if frame.kind == PART and to == first:
            world.gone.add(first)
        return [frame]

    world.tamper = leave
    async with world.running():
        collected = await asker.exchange.receipts(digest, 1)
    assert [city for city, _ in collected.receipts] == sorted([A, second])
    assert collected.refusals[first] == ("unreachable", "the connection to it was lost")


async def test_a_silent_city_is_followed_by_the_next(world: World) -> None:
    asker, *_ = network(world, seconds=20)
    digest = asker.put(table_bytes())
    first, second, _ = order(digest)
    world.tamper = lambda frame, to: [] if frame.kind == RECEIPT and frame.peer == first else [frame]
    async with world.running():
        collected = await asker.exchange.receipts(digest, 1)
        assert trio.current_time() < 21
    assert [city for city, _ in collected.receipts] == sorted([A, second])
    assert collected.refusals[first][0] == "slow"


async def test_silence_of_all_ends_within_receipt_ms_and_names_each(world: World) -> None:
    asker, *_ = network(world, seconds=20)
    digest = asker.put(table_bytes())
    world.tamper = lambda frame, to: [] if frame.kind == RECEIPT else [frame]
    async with world.running():
        began = trio.current_time()
        collected = await asker.exchange.receipts(digest, 1)
        assert trio.current_time() - began <= 21
    assert [city for city, _ in collected.receipts] == [A]
    assert (collected.needed, set(collected.refusals)) == (2, set(order(digest)[:2]))


async def test_a_signature_that_does_not_verify_does_not_count(world: World) -> None:
    asker, *_ = network(world)
    digest = asker.put(table_bytes())
    first, second, _ = order(digest)

    def forge(frame: Frame, to: str) -> list[Frame]:
        if frame.kind == RECEIPT and frame.peer == first:
            receipt = decode_receipt(frame.payload)
            return [replace(frame, payload=encode_receipt(replace(receipt, signature=bytes(64))))]
        return [frame]

    world.tamper = forge
    async with world.running():
        collected = await asker.exchange.receipts(digest, 1)
    assert [city for city, _ in collected.receipts] == sorted([A, second])
    assert collected.refusals[first][0] == "bad_receipt"
    assert asker.events("receipt_wrong")[0]["peer"] == first


async def test_receipts_that_nobody_asked_for_are_dropped(world: World) -> None:
    asker, *_ = network(world)
    async with world.running():
        asker.exchange.deliver(Frame(CITIES[1], RECEIPT, encode_receipt(Receipt(bytes(32), 1, bytes(64)))))
        digest = asker.put(table_bytes())
        assert len((await asker.exchange.receipts(digest, 1)).receipts) == 2


@pytest.mark.parametrize(
    ("version", "reason"), [(2, "stale_version"), (None, "not_in_range")], ids=["another version", "no range"]
)
async def test_what_the_state_forbids_here_is_the_answer(world: World, version: int | None, reason: str) -> None:
    asker, *_ = network(world)
    for city in world.cities.values():
        if version is None:
            city.ledger.ranges.clear()
        else:
            city.ledger.ranges[0] = (version, None, None)
    digest = asker.put(table_bytes())
    async with world.running():
        with pytest.raises(RuleViolation) as caught:
            await asker.exchange.receipts(digest, 1)
    assert caught.value.reason == reason
    assert not asker.blobs.is_signed(digest)


async def test_a_table_that_does_not_succeed_is_refused_everywhere(world: World) -> None:
    asker, *_others = network(world)
    digest = asker.put(table_bytes(fault="it removes an item"))
    async with world.running():
        with pytest.raises(RuleViolation) as caught:
            await asker.exchange.receipts(digest, 1)
        await trio.sleep(60)
    assert caught.value.reason == "bad_table"
    assert not any(city.blobs.is_signed(digest) for city in world.cities.values())
    assert asker.folder.get(digest) is None, "it is no table to answer from"
    assert asker.read(digest) is not None, "and stays a file"


async def test_another_city_that_says_no_is_named_with_its_reason(world: World) -> None:
    asker, *others = network(world)
    for city in others:
        city.ledger.ranges[0] = (7, None, None)
    digest = asker.put(table_bytes())
    async with world.running():
        collected = await asker.exchange.receipts(digest, 1)
    assert [city for city, _ in collected.receipts] == [A]
    assert {city: reason for city, (reason, _) in collected.refusals.items()} == dict.fromkeys(
        order(digest), "stale_version"
    )


async def test_a_city_that_is_behind_signs_nothing(world: World) -> None:
    asker, *others = network(world)
    for city in others:
        city.synced = False
    digest = asker.put(table_bytes())
    async with world.running():
        collected = await asker.exchange.receipts(digest, 1)
    assert {reason for reason, _ in collected.refusals.values()} == {"not_synced"}


async def test_a_city_one_height_below_waits_for_it(world: World) -> None:
    asker, *others = network(world)
    for city in others:
        city.ledger.height = 9
        city.ledger.ranges.clear()
    digest = asker.put(table_bytes())

    async def commit() -> None:
        await trio.sleep(2)
        for city in others:
            city.ledger.height = 10
            city.ledger.ranges[0] = (1, None, None)
            city.exchange.on_committed([])

    async with world.running(), trio.open_nursery() as nursery:
        nursery.start_soon(commit)
        collected = await asker.exchange.receipts(digest, 1)
    assert len(collected.receipts) == 2


async def test_an_own_node_that_is_behind_asks_two_others(world: World) -> None:
    asker, *_ = network(world)
    asker.synced = False
    digest = asker.put(table_bytes())
    async with world.running():
        collected = await asker.exchange.receipts(digest, 1)
    assert [city for city, _ in collected.receipts] == sorted(order(digest)[:2])
    assert collected.refusals[A][0] == "not_synced"


async def test_a_later_version_needs_the_one_before_and_gets_it(world: World) -> None:
    asker, *_ = network(world, version=2)
    old = table_bytes()
    before = asker.put(old)
    for city in world.cities.values():
        city.put(old)
    digest = asker.put(table_bytes(previous=before, seed=1))
    for city in world.cities.values():
        city.ledger.ranges[0] = (2, before, digest_of(b"root" + old))
    async with world.running():
        await until(lambda: all(city.folder.get(before) for city in world.cities.values()))
        collected = await asker.exchange.receipts(digest, 2)
    assert len(collected.receipts) == 2


async def test_without_the_version_before_there_is_no_receipt(world: World) -> None:
    asker, *_ = network(world, version=2)
    digest = asker.put(table_bytes(previous=digest_of(b"gone"), seed=1))
    async with world.running():
        collected = await asker.exchange.receipts(digest, 2)
    assert collected.receipts == []
    assert {reason for reason, _ in collected.refusals.values()} == {"unavailable"}


async def test_what_is_no_table_is_refused_and_stays_a_file(world: World) -> None:
    asker, *_ = network(world)
    digest = asker.put(b"a JSON Schema, perhaps")
    async with world.running():
        with pytest.raises(MalformedInput, match="no table"):
            await asker.exchange.receipts(digest, 1)
    assert asker.read(digest) is not None


async def test_a_file_that_nobody_has_is_not_here(world: World) -> None:
    asker, *_ = network(world)
    async with world.running():
        with pytest.raises(FileNotHere):
            await asker.exchange.receipts(digest_of(b"nowhere"), 1)
        world.gone.update(CITIES[1:])
        with pytest.raises(FileNotHere):
            await asker.exchange.receipts(digest_of(b"nowhere"), 1)


async def test_a_city_that_asks_for_receipts_without_end_hears_that_this_node_is_busy(world: World) -> None:
    _, other, *_ = network(world)
    want = WantReceipt(digest_of(b"nowhere"), 1, 10)
    async with world.running():
        for _ in range(100):
            other.exchange.deliver(Frame(A, WANT_RECEIPT, encode_want_receipt(want)))
        assert other.figure("receipts_refused_total:reason") == {"overloaded": 100 - MAX_WAITING}
        await until(lambda: sum(other.figure("receipts_refused_total:reason").values()) == 100)
        other.exchange.deliver(Frame(A, WANT_RECEIPT, encode_want_receipt(want)))
        assert other.figure("receipts_refused_total:reason")["overloaded"] == 100 - MAX_WAITING, "its turn came again"


def test_errors_have_the_reasons_that_clients_are_told() -> None:
    from cityid.node.exchange.receipts import reason_of

    assert reason_of(NotSynced("")) == "not_synced"
    assert reason_of(RuleViolation("stale_version", "")) == "stale_version"
