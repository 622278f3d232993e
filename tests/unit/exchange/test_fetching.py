"""Fetching files from cities that help, leave, stall and lie."""

from dataclasses import replace

import pytest
import trio

from cityid.errors import PeerUnreachable
from cityid.node.config import Limits, Timeouts
from cityid.node.exchange.fetching import PART_BYTES, WINDOW
from cityid.node.exchange.payloads import (
    NoPart,
    Part,
    WantPart,
    decode_part,
    decode_want_part,
    encode_no_part,
    encode_part,
    encode_want_part,
)
from cityid.node.exchange.serving import MAX_WAITING
from cityid.node.messages import NO_PART, PART, WANT_PART, Frame

from .conftest import CITIES, City, MiB, World, digest_of, until

A, B, C, D = CITIES
DATA = bytes(range(256)) * (5 * PART_BYTES // 256) + b"the end"


async def fetch(city: City, digest: bytes, *sources: str) -> None:
    await city.exchange.fetcher.fetch(digest, sources, limit_bytes=16 * MiB)


async def test_a_file_arrives_whole_and_once(world: World) -> None:
    asker, holder = world.add(A), world.add(B)
    digest = holder.put(DATA)
    async with world.running():
        await fetch(asker, digest, B)
        assert asker.read(digest) == DATA
        assert asker.figure("bytes_in_total") == holder.figure("bytes_out_total") == len(DATA)
        await fetch(asker, digest, B)
    assert asker.figure("files_in_total") == 1
    assert asker.figure("unasked_frames_total") == 0


async def test_a_file_of_one_byte_arrives(world: World) -> None:
    asker, holder = world.add(A), world.add(B)
    digest = holder.put(b"x")
    async with world.running():
        await fetch(asker, digest, B)
    assert asker.read(digest) == b"x"


async def test_no_more_than_a_window_of_parts_is_on_the_way(world: World) -> None:
    asker, holder = world.add(A), world.add(B)
    digest = holder.put(DATA)
    open_parts, most = 0, 0

    def watch(frame: Frame, to: str) -> list[Frame]:
        nonlocal open_parts, most
        open_parts += {WANT_PART: 1, PART: -1}.get(frame.kind, 0)
        most = max(most, open_parts)
        return [frame]

    world.tamper = watch
    async with world.running():
        await fetch(asker, digest, B)
    assert (open_parts, most) == (0, WINDOW)


async def test_a_lost_city_is_followed_by_the_next_which_goes_on(world: World) -> None:
    asker, first, second = world.add(A), world.add(B), world.add(C)
    digest = first.put(DATA)
    second.put(DATA)
    parts = 0

    def lose(frame: Frame, to: str) -> list[Frame]:
        nonlocal parts
        parts += frame.kind == PART
        if frame.kind == PART and parts == 3:
            world.gone.add(B)
        return [frame]

    world.tamper = lose
    async with world.running():
        began = trio.current_time()
        await fetch(asker, digest, B, C)
        assert trio.current_time() - began < 5, "a lost connection is noticed before the timeout"
    assert asker.read(digest) == DATA
    assert second.figure("bytes_out_total") in (len(DATA) - PART_BYTES, len(DATA) - 2 * PART_BYTES), (
        "all was sent again"
    )


async def test_a_part_that_was_kept_over_a_restart_is_gone_on_with(world: World) -> None:
    asker, holder = world.add(A), world.add(B)
    digest = holder.put(DATA)
    (asker.directory / "blobs" / f"{digest.hex()}.part").write_bytes(DATA[: 4 * PART_BYTES])
    asker.open()
    async with world.running():
        await fetch(asker, digest, B)
    assert asker.read(digest) == DATA
    assert holder.figure("bytes_out_total") == len(DATA) - 4 * PART_BYTES


@pytest.mark.parametrize("kept", [b"wrong" + DATA[5:PART_BYTES], DATA + b"more", bytes(9 * PART_BYTES)])
async def test_a_wrong_part_on_disk_is_not_blamed_on_the_city(world: World, kept: bytes) -> None:
    asker, holder = world.add(A), world.add(B)
    digest = holder.put(DATA)
    (asker.directory / "blobs" / f"{digest.hex()}.part").write_bytes(kept)
    asker.open()
    async with world.running():
        await fetch(asker, digest, B)
    assert asker.read(digest) == DATA
    assert asker.events("file_refused") == []


async def test_a_city_that_sends_other_bytes_is_named_and_passed_over(world: World) -> None:
    asker, liar, honest = world.add(A), world.add(B), world.add(C)
    digest = honest.put(DATA)
    liar.put(DATA)

    def lie(frame: Frame, to: str) -> list[Frame]:
        if frame.kind == PART and frame.peer == B:
            part = decode_part(frame.payload)
            if part.offset == 2 * PART_BYTES:
                part = replace(part, data=bytes(len(part.data)))
            return [replace(frame, payload=encode_part(part))]
        return [frame]

    world.tamper = lie
    async with world.running():
        await fetch(asker, digest, B, C)
    assert asker.read(digest) == DATA
    assert [event["peer"] for event in asker.events("file_refused")] == [B]
    assert asker.figure("failures_total:reason")["wrong_bytes"] == 1


async def test_half_a_file_of_a_liar_does_not_hurt_the_honest_one(world: World) -> None:
    asker, liar, honest = world.add(A), world.add(B), world.add(C)
    digest = honest.put(DATA)
    liar.put(DATA)
    parts = 0

    def lie_and_leave(frame: Frame, to: str) -> list[Frame]:
        nonlocal parts
        if frame.kind != PART or frame.peer != B:
            return [frame]
        parts += 1
        if parts == 3:
            world.gone.add(B)
        part = decode_part(frame.payload)
        return [replace(frame, payload=encode_part(replace(part, data=bytes(len(part.data)))))]

    world.tamper = lie_and_leave
    async with world.running():
        await fetch(asker, digest, B, C)
    assert asker.read(digest) == DATA
    assert asker.events("file_refused") == [], "nobody can tell whose bytes were wrong"


def change(part: Part, how: str) -> list[Part]:
    match how:
        case "another size later":
            return [replace(part, size=part.size + (1 if part.offset else 0))]
        case "shorter than asked":
            return [replace(part, data=part.data[:-1])]
        case "longer than asked":
            return [replace(part, data=part.data + bytes(PART_BYTES), size=part.size + PART_BYTES)]
        case "larger than any file":
            return [replace(part, size=2**40)]
        case "another offset":
            return [replace(part, offset=part.offset + 1, size=part.size + 1)]
        case _:
            raise AssertionError(how)


@pytest.mark.parametrize(
    "how",
    ["another size later", "shorter than asked", "longer than asked", "larger than any file", "another offset"],
)
async def test_parts_that_do_not_fit_end_the_transfer_and_the_next_city_is_asked(world: World, how: str) -> None:
    asker, liar, honest = world.add(A), world.add(B), world.add(C)
    digest = honest.put(DATA)
    liar.put(DATA)

    def lie(frame: Frame, to: str) -> list[Frame]:
        if frame.kind != PART or frame.peer != B:
            return [frame]
        return [replace(frame, payload=encode_part(part)) for part in change(decode_part(frame.payload), how)]

    world.tamper = lie
    async with world.running():
        await fetch(asker, digest, B, C)
    assert asker.read(digest) == DATA
    assert asker.blobs.budget.used_bytes < len(DATA) + MiB, "nothing that did not fit stays on disk"


async def test_parts_that_nobody_asked_for_are_dropped(world: World) -> None:
    asker, holder = world.add(A), world.add(B)
    digest = holder.put(DATA)

    def flood(frame: Frame, to: str) -> list[Frame]:
        if frame.kind != PART:
            return [frame]
        part = decode_part(frame.payload)
        other = replace(part, digest=bytes(32))
        return [frame, frame, *(replace(frame, payload=encode_part(one)) for one in [other] * 50)]

    world.tamper = flood
    async with world.running():
        await fetch(asker, digest, B)
        await trio.sleep(1)
    assert asker.read(digest) == DATA
    parts = -(-len(DATA) // PART_BYTES)
    assert asker.figure("unasked_frames_total") == 51 * parts
    assert asker.figure("transfers") == 0


async def test_a_silent_city_is_given_up_after_part_ms(world: World) -> None:
    asker = world.add(A, timeouts=Timeouts(part_ms=3_000))
    silent, helper = world.add(B), world.add(C)
    digest = helper.put(DATA)
    silent.put(DATA)
    world.tamper = lambda frame, to: [] if frame.kind == PART and frame.peer == B else [frame]
    async with world.running():
        began = trio.current_time()
        await fetch(asker, digest, B, C)
        assert 3 <= trio.current_time() - began < 6
    assert asker.read(digest) == DATA


async def test_a_city_that_drips_is_given_up_and_what_it_sent_stands(world: World) -> None:
    asker = world.add(A, timeouts=Timeouts(part_ms=1_000))
    slow, helper = world.add(B), world.add(C)
    data = DATA * 4
    digest = helper.put(data)
    slow.put(data)
    held: list[Frame] = []

    def drip(frame: Frame, to: str) -> list[Frame]:
        if frame.kind == PART and frame.peer == B:
            held.append(frame)
            return []
        return [frame]

    world.tamper = drip

    async def release() -> None:
        while True:
            await trio.sleep(0.9)
            if held:
                asker.exchange.deliver(held.pop(0))

    async with world.running(), trio.open_nursery() as nursery:
        nursery.start_soon(release)
        began = trio.current_time()
        await fetch(asker, digest, B, C)
        assert trio.current_time() - began < 10
        nursery.cancel_scope.cancel()
    assert asker.read(digest) == data
    assert helper.figure("bytes_out_total") < len(data)


async def test_who_does_not_have_it_is_passed_over_and_named(world: World) -> None:
    asker, other, third = world.add(A), world.add(B), world.add(C)
    digest = digest_of(b"nowhere")
    async with world.running():
        with pytest.raises(PeerUnreachable) as caught:
            await fetch(asker, digest, B, C, D)
    said = str(caught.value)
    assert f"{B}: it does not have the file" in said
    assert f"{C}: it does not have the file" in said
    assert f"{D}: it is not connected" in said
    assert asker.read(digest) is None
    assert not other.events("file_unreadable")
    assert not third.events("file_unreadable")


async def test_two_files_at_once_and_one_file_once_for_two_who_wait(world: World) -> None:
    asker = world.add(A, limits=Limits(table_transfers=2))
    first, second = world.add(B), world.add(C)
    one, other = first.put(DATA), second.put(DATA + b"!")
    most = 0

    def watch(frame: Frame, to: str) -> list[Frame]:
        nonlocal most
        most = max(most, asker.figure("transfers"))
        return [frame]

    world.tamper = watch
    async with world.running(), trio.open_nursery() as nursery:
        nursery.start_soon(fetch, asker, one, B)
        nursery.start_soon(fetch, asker, one, B)
        nursery.start_soon(fetch, asker, other, C)
    assert most == 2
    assert (asker.read(one), asker.read(other)) == (DATA, DATA + b"!")
    assert first.figure("bytes_out_total") == len(DATA)


async def test_more_transfers_than_the_bound_wait(world: World) -> None:
    asker, holder = world.add(A, limits=Limits(table_transfers=1)), world.add(B)
    digests = [holder.put(DATA + bytes([number])) for number in range(3)]
    open_digests: set[bytes] = set()
    most = 0

    def watch(frame: Frame, to: str) -> list[Frame]:
        nonlocal most
        if frame.kind == WANT_PART:
            want = decode_want_part(frame.payload)
            open_digests.add(want.digest)
            open_now = [one for one in open_digests if asker.blobs.path(one) is None]
            most = max(most, len(open_now))
        return [frame]

    world.tamper = watch
    async with world.running(), trio.open_nursery() as nursery:
        for digest in digests:
            nursery.start_soon(fetch, asker, digest, B)
    assert most == 1
    assert all(asker.read(digest) is not None for digest in digests)


async def test_a_city_that_asks_without_end_hears_that_this_node_is_busy(world: World) -> None:
    greedy, holder, other = world.add(A), world.add(B), world.add(C)
    digest = holder.put(DATA)
    asked = 10 * MAX_WAITING
    heard: list[int] = []

    def hear(frame: Frame, to: str) -> list[Frame]:
        if to == A and frame.kind in (PART, NO_PART):
            heard.append(frame.kind)
        return [frame]

    world.tamper = hear
    async with world.running():
        for _ in range(asked):
            holder.exchange.deliver(Frame(A, WANT_PART, encode_want_part(WantPart(digest, 0, PART_BYTES))))
        await fetch(other, digest, B)
        await until(lambda: len(heard) == asked)
    assert heard.count(PART) == MAX_WAITING
    assert holder.figure("refused_parts_total") == asked - MAX_WAITING
    assert greedy.figure("unasked_frames_total") == asked


async def test_frames_that_do_not_parse_are_counted_and_dropped(world: World) -> None:
    city = world.add(A)
    good = encode_want_part(WantPart(bytes(32), 0, 1))
    for kind, payload in [
        (WANT_PART, good[:-1]),
        (WANT_PART, encode_want_part(WantPart(bytes(32), 0, 0))),
        (WANT_PART, encode_want_part(WantPart(bytes(32), 0, MiB + 1))),
        (PART, encode_part(Part(bytes(32), 0, 5, b""))),
        (PART, encode_part(Part(bytes(32), 3, 5, b"abc"))),
        (NO_PART, encode_no_part(NoPart(bytes(32), 0, 3))),
        (NO_PART, b""),
    ]:
        city.exchange.deliver(Frame(B, kind, payload))
    assert city.figure("malformed_frames_total") == 7
    assert {event["peer"] for event in city.events("frame_dropped")} == {B}
