"""Payloads of frames: what comes back, and what is refused."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cityid.errors import MalformedInput
from cityid.node import messages
from cityid.node.messages import Block, Cosignature, Proposal, Status, WantBlocks

heights = st.integers(0, messages.MAX_HEIGHT)
hashes = st.binary(min_size=32, max_size=32)
digest_lists = st.lists(hashes, max_size=5)

PROPOSAL = Proposal(7, 3, 1, b"header", b"d" * 64)
BLOCK = Block(9, b"header", b"certificate", b"d" * 64, (b"one", b""))


@given(heights, st.integers(0, messages.MAX_ROUND), st.data(), st.binary(min_size=1, max_size=512), digest_lists)
def test_proposals_come_back(
    height: int, round_: int, data: st.DataObject, header: bytes, digests: list[bytes]
) -> None:
    valid_round = data.draw(st.integers(-1, round_ - 1))
    proposal = Proposal(height, round_, valid_round, header, b"".join(digests))
    assert messages.decode_proposal(messages.encode_proposal(proposal)) == proposal


@given(heights, st.lists(st.binary(max_size=50), max_size=5))
def test_blocks_come_back(height: int, bodies: list[bytes]) -> None:
    block = Block(height, b"h", b"c", b"x" * 32 * len(bodies), tuple(bodies))
    assert messages.decode_block(messages.encode_block(block)) == block


def test_small_messages_come_back() -> None:
    status = Status(5, b"v" * 32)
    assert messages.decode_status(messages.encode_status(status)) == status
    want = WantBlocks(1, messages.MAX_BLOCKS_WANTED)
    assert messages.decode_want_blocks(messages.encode_want_blocks(want)) == want
    cosignature = Cosignature(3, b"s" * 64)
    assert messages.decode_cosignature(messages.encode_cosignature(cosignature)) == cosignature
    assert messages.decode_digests(messages.encode_digests([b"a" * 32, b"b" * 32])) == [b"a" * 32, b"b" * 32]


@pytest.mark.parametrize(
    ("decode", "payload"),
    [
        (messages.decode_proposal, messages.encode_proposal(PROPOSAL)),
        (messages.decode_status, messages.encode_status(Status(5, b"v" * 32))),
        (messages.decode_want_blocks, messages.encode_want_blocks(WantBlocks(1, 2))),
        (messages.decode_cosignature, messages.encode_cosignature(Cosignature(3, b"s" * 64))),
        (messages.decode_block, messages.encode_block(BLOCK)),
    ],
)
def test_every_shortening_is_refused(decode: Callable[[bytes], object], payload: bytes) -> None:
    decode(payload)
    for length in range(len(payload)):
        shorter = payload[:length]
        if decode is messages.decode_proposal and length in (len(payload) - 64, len(payload) - 32):
            continue  # a proposal of fewer batches
        with pytest.raises(MalformedInput):
            decode(shorter)


@pytest.mark.parametrize(
    ("decode", "payload", "why"),
    [
        (messages.decode_status, messages.encode_status(Status(2**63, b"v" * 32)), "above"),
        (messages.decode_want_blocks, messages.encode_want_blocks(WantBlocks(1, 0)), "bound"),
        (messages.decode_want_blocks, messages.encode_want_blocks(WantBlocks(1, 513)), "bound"),
        (messages.decode_digests, b"x" * 33, "whole number"),
        (messages.decode_digests, b"x" * 32 * (messages.MAX_DIGESTS + 1), "more than"),
        (messages.decode_proposal, messages.encode_proposal(Proposal(1, 0, 0, b"h", b"")), "cannot be"),
        (messages.decode_proposal, messages.encode_proposal(Proposal(1, 0, -2, b"h", b"")), "cannot be"),
        (messages.decode_proposal, messages.encode_proposal(Proposal(1, 0, -1, b"h" * 513, b"")), "does not fit"),
        (messages.decode_proposal, messages.encode_proposal(Proposal(1, 0, -1, b"", b"")), "does not fit"),
        (messages.decode_block, messages.encode_block(Block(1, b"h", b"c", b"d" * 32, ())), "stand for"),
        (messages.decode_block, messages.encode_block(Block(1, b"h", b"", b"", ())), "cannot be"),
    ],
)
def test_what_no_encoder_writes_is_refused(decode: Callable[[bytes], object], payload: bytes, why: str) -> None:
    with pytest.raises(MalformedInput, match=why):
        decode(payload)
