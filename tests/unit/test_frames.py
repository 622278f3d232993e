"""Frames and queues, without I/O."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cityid.errors import InputError, MalformedInput
from cityid.node.frames import CAPS, GOODBYE, HELLO, FrameReader, Hello, encode_frame, frame_caps

GREETING = encode_frame(HELLO, b"")
frames_of_the_node = st.lists(
    st.tuples(st.sampled_from([kind for kind in CAPS if 1 < kind < 255]), st.binary(max_size=300)), max_size=20
)


@given(frames_of_the_node, st.lists(st.integers(0, 5_000), max_size=20))
def test_any_cut_of_the_stream_yields_the_same_frames(frames: list[tuple[int, bytes]], cuts: list[int]) -> None:
    stream = GREETING + b"".join(encode_frame(kind, payload) for kind, payload in frames)
    reader = FrameReader()
    received = []
    bounds = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    for start, end in pairwise(bounds):
        received += reader.feed(stream[start:end])
    assert received == [(HELLO, b""), *frames]


@given(st.binary(max_size=200))
def test_garbage_is_refused_or_waited_for(data: bytes) -> None:
    reader = FrameReader()
    try:
        frames = reader.feed(data)
    except MalformedInput:
        return
    assert all(len(payload) <= CAPS[kind] for kind, payload in frames)
    assert not frames or frames[0][0] in (HELLO, GOODBYE)


@pytest.mark.parametrize("kind", sorted(CAPS))
def test_a_cap_is_checked_on_the_first_five_bytes(kind: int) -> None:
    def header(size: int) -> bytes:
        return (size + 1).to_bytes(4, "big") + bytes([kind])

    reader = FrameReader()
    reader.feed(GREETING)
    assert reader.feed(header(CAPS[kind])) == ([] if CAPS[kind] else [(kind, b"")])
    reader = FrameReader()
    reader.feed(GREETING)
    with pytest.raises(MalformedInput, match=f"kind {kind} with {CAPS[kind] + 1} bytes is over its cap"):
        reader.feed(header(CAPS[kind] + 1))
    with pytest.raises(InputError, match="over its cap"):
        encode_frame(kind, bytes(CAPS[kind] + 1))


def test_the_first_frame_is_a_hello_or_a_goodbye() -> None:
    with pytest.raises(MalformedInput, match="a connection starts with a hello"):
        FrameReader().feed(encode_frame(2, b"vote"))
    assert FrameReader().feed(encode_frame(GOODBYE, b"why")) == [(GOODBYE, b"why")]


def test_caps_follow_the_parameters_of_the_genesis() -> None:
    caps = frame_caps({"max_batch_bytes": 2_000_000, "max_block_bytes": 20_000_000})
    assert caps[4] > 2_000_000
    assert caps[9] == 40_000_000
    assert frame_caps({"max_batch_bytes": 1_048_576, "max_block_bytes": 8_388_608}) == CAPS


@given(st.binary(min_size=32, max_size=32), st.from_regex(r"\A[0-9]{6}\Z"), st.integers(0, 2**63 - 1))
def test_hello_round_trip(genesis_hash: bytes, city: str, tip: int) -> None:
    hello = Hello(genesis_hash, city, tip)
    assert Hello.parse(hello.encode()) == hello


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b"", "empty"),
        (b"\x00\x01", "has 2 bytes"),
        (Hello(bytes(32), "130100", 0).encode() + b"x", "has 49 bytes"),
        (Hello(bytes(32), "13x100", 0).encode(), "no city"),
    ],
)
def test_a_hello_that_is_none(payload: bytes, words: str) -> None:
    with pytest.raises(MalformedInput, match=words):
        Hello.parse(payload)


def test_of_another_version_only_the_version_is_read() -> None:
    assert Hello.parse(b"\x00\x09" + b"whatever it will be").version == 9
