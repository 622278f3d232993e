"""Payloads of the frames that cities exchange.

A frame is a kind and a payload; who sent it is known from its connection and never repeated inside. Integers are
big-endian and of fixed width, hashes are 32 bytes. Every decoder checks its bounds before it takes anything apart, and
raises `MalformedInput` for whatever no encoder writes. Consensus messages (`CONSENSUS`) and batches (`BATCH`) are
opaque here: the engine and the ledger parse them.

===========  ==========================================================================================
kind         payload
===========  ==========================================================================================
CONSENSUS    one message of the consensus engine
PROPOSAL     height(8) round(4) valid_round(4, signed) header_length(2) header digests(32 each)
BATCH        the batch
HAVE         digests(32 each) of batches that the sender holds durably
WANT_BATCHES digests(32 each)
STATUS       height(8) value(32) first(8): the newest height that the sender holds durably, its log root, and the
             oldest height whose block it can send
WANT_BLOCKS  first(8) count(2)
BLOCK        height(8), then length(4) and bytes each: header, certificate, digests, body, body, …
COSIGNATURE  height(8) signature(64) over the checkpoint after that height
===========  ==========================================================================================

The payload of HELLO, the first frame of a connection, belongs to `peers`; here it only says that a city is there. What
cities say about files (`EXCHANGE_KINDS`) stands in `exchange/payloads.py`.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from cityid.errors import MalformedInput

HELLO = 1
CONSENSUS = 2
PROPOSAL = 3
BATCH = 4
HAVE = 5
WANT_BATCHES = 6
STATUS = 7
WANT_BLOCKS = 8
BLOCK = 9
COSIGNATURE = 10
WANT_PART = 20
PART = 21
NO_PART = 22
WANT_RECEIPT = 23
RECEIPT = 24
NO_RECEIPT = 25
WANT_SNAPSHOT = 26
SNAPSHOT = 27

EXCHANGE_KINDS = frozenset({WANT_PART, PART, NO_PART, WANT_RECEIPT, RECEIPT, NO_RECEIPT, WANT_SNAPSHOT, SNAPSHOT})
"""What never reaches the driver: files, storage receipts and snapshots (node/exchange, node/snapshots.py)."""

SNAPSHOT_KINDS = frozenset({WANT_SNAPSHOT, SNAPSHOT})

NAMES = {
    HELLO: "hello",
    CONSENSUS: "consensus",
    PROPOSAL: "proposal",
    BATCH: "batch",
    HAVE: "have",
    WANT_BATCHES: "want batches",
    STATUS: "status",
    WANT_BLOCKS: "want blocks",
    BLOCK: "block",
    COSIGNATURE: "cosignature",
    WANT_PART: "want part",
    PART: "part",
    NO_PART: "no part",
    WANT_RECEIPT: "want receipt",
    RECEIPT: "receipt",
    NO_RECEIPT: "no receipt",
    WANT_SNAPSHOT: "want snapshot",
    SNAPSHOT: "snapshot",
}

DIGEST_BYTES = 32
MAX_HEADER_BYTES = 512
MAX_CERTIFICATE_BYTES = 65_536
MAX_DIGESTS = 1_024  # in one frame
MAX_BLOCKS_WANTED = 512  # in one request
MAX_HEIGHT = 2**63 - 1
MAX_ROUND = 2**31 - 1

_PROPOSAL = struct.Struct(">QIiH")
_STATUS = struct.Struct(">Q32sQ")
_WANT_BLOCKS = struct.Struct(">QH")
_COSIGNATURE = struct.Struct(">Q64s")
_HEIGHT = struct.Struct(">Q")
_LENGTH = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Frame:
    """What another city sent: its six digits, the kind, the payload."""

    peer: str
    kind: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Proposal:
    """The header and batch digests that a proposal of the consensus engine stands for.

    `valid_round` is an earlier round with a quorum of prevotes for it, or -1.
    """

    height: int
    round: int
    valid_round: int
    header: bytes
    digests: bytes


@dataclass(frozen=True, slots=True)
class Status:
    """How far a city is: its newest durable height, the log root after it, and from where on it has blocks."""

    height: int
    value: bytes
    first: int = 1


@dataclass(frozen=True, slots=True)
class WantBlocks:
    """A request for `count` blocks from height `first` on."""

    first: int
    count: int


@dataclass(frozen=True, slots=True)
class Block:
    """A decided block with all that is needed to check and execute it."""

    height: int
    header: bytes
    certificate: bytes
    digests: bytes
    bodies: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Cosignature:
    """A city's signature over the checkpoint after `height`."""

    height: int
    signature: bytes


def encode_proposal(proposal: Proposal) -> bytes:
    """The payload of a PROPOSAL frame."""
    head = _PROPOSAL.pack(proposal.height, proposal.round, proposal.valid_round, len(proposal.header))
    return b"".join((head, proposal.header, proposal.digests))


def decode_proposal(payload: bytes) -> Proposal:
    """Read a PROPOSAL frame."""
    if len(payload) < _PROPOSAL.size:
        raise malformed("proposal", f"{len(payload)} bytes are fewer than its fixed fields take")
    height, round_, valid_round, header_length = _PROPOSAL.unpack_from(payload)
    check_height("proposal", height)
    if round_ > MAX_ROUND or valid_round < -1 or valid_round >= round_:
        raise malformed("proposal", f"round {round_} with valid round {valid_round} cannot be")
    end = _PROPOSAL.size + header_length
    if not 0 < header_length <= MAX_HEADER_BYTES or end > len(payload):
        raise malformed("proposal", f"a header of {header_length} bytes does not fit")
    digests = payload[end:]
    _check_digests("proposal", digests)
    return Proposal(height, round_, valid_round, payload[_PROPOSAL.size : end], digests)


def encode_digests(digests: Sequence[bytes]) -> bytes:
    """The payload of a HAVE or WANT_BATCHES frame; the caller keeps to MAX_DIGESTS."""
    return b"".join(digests)


def decode_digests(payload: bytes) -> list[bytes]:
    """Read a HAVE or WANT_BATCHES frame, or the digests of a proposal or block."""
    _check_digests("list of digests", payload)
    return [payload[start : start + DIGEST_BYTES] for start in range(0, len(payload), DIGEST_BYTES)]


def encode_status(status: Status) -> bytes:
    """The payload of a STATUS frame."""
    return _STATUS.pack(status.height, status.value, status.first)


def decode_status(payload: bytes) -> Status:
    """Read a STATUS frame."""
    check_size("status", _STATUS, payload)
    height, value, first = _STATUS.unpack(payload)
    check_height("status", height)
    check_height("status", first)
    return Status(height, value, first)


def encode_want_blocks(want: WantBlocks) -> bytes:
    """The payload of a WANT_BLOCKS frame."""
    return _WANT_BLOCKS.pack(want.first, want.count)


def decode_want_blocks(payload: bytes) -> WantBlocks:
    """Read a WANT_BLOCKS frame."""
    check_size("request for blocks", _WANT_BLOCKS, payload)
    first, count = _WANT_BLOCKS.unpack(payload)
    check_height("request for blocks", first)
    if not 1 <= count <= MAX_BLOCKS_WANTED:
        raise malformed("request for blocks", f"{count} blocks were asked for; the bound is {MAX_BLOCKS_WANTED}")
    return WantBlocks(first, count)


def encode_block(block: Block) -> bytes:
    """The payload of a BLOCK frame."""
    parts = [_HEIGHT.pack(block.height)]
    for part in (block.header, block.certificate, block.digests, *block.bodies):
        parts += (_LENGTH.pack(len(part)), part)
    return b"".join(parts)


def decode_block(payload: bytes) -> Block:
    """Read a BLOCK frame; there is one body for each digest, in their order."""
    if len(payload) < _HEIGHT.size:
        raise malformed("block", "it has no height")
    (height,) = _HEIGHT.unpack_from(payload)
    check_height("block", height)
    parts: list[bytes] = []
    position = _HEIGHT.size
    while position < len(payload):
        start = position + _LENGTH.size
        if start > len(payload):
            raise malformed("block", "it ends inside a length")
        position = start + int(_LENGTH.unpack_from(payload, position)[0])
        if position > len(payload):
            raise malformed("block", "it ends inside a part")
        parts.append(payload[start:position])
        if len(parts) > 3 + MAX_DIGESTS:
            raise malformed("block", f"it has more than {MAX_DIGESTS} batches")
    if len(parts) < 3:
        raise malformed("block", "header, certificate and digests are not all there")
    header, certificate, digests, *bodies = parts
    if not 0 < len(header) <= MAX_HEADER_BYTES or not 0 < len(certificate) <= MAX_CERTIFICATE_BYTES:
        raise malformed("block", f"a header of {len(header)} and a certificate of {len(certificate)} bytes cannot be")
    _check_digests("block", digests)
    if len(bodies) * DIGEST_BYTES != len(digests):
        raise malformed("block", f"{len(bodies)} bodies stand for {len(digests) // DIGEST_BYTES} digests")
    return Block(height, header, certificate, digests, tuple(bodies))


def encode_cosignature(cosignature: Cosignature) -> bytes:
    """The payload of a COSIGNATURE frame."""
    return _COSIGNATURE.pack(cosignature.height, cosignature.signature)


def decode_cosignature(payload: bytes) -> Cosignature:
    """Read a COSIGNATURE frame."""
    check_size("cosignature", _COSIGNATURE, payload)
    height, signature = _COSIGNATURE.unpack(payload)
    check_height("cosignature", height)
    return Cosignature(height, signature)


def check_size(what: str, layout: struct.Struct, payload: bytes) -> None:
    """Refuses a payload of fixed width that has another one."""
    if len(payload) != layout.size:
        raise malformed(what, f"it takes {layout.size} bytes, not {len(payload)}")


def check_height(what: str, height: int) -> None:
    """Refuses an integer that P3 forbids."""
    if height > MAX_HEIGHT:
        raise malformed(what, f"height {height} is above 2^63 - 1")


def _check_digests(what: str, digests: bytes) -> None:
    if len(digests) % DIGEST_BYTES:
        raise malformed(what, f"{len(digests)} bytes are no whole number of digests")
    if len(digests) > MAX_DIGESTS * DIGEST_BYTES:
        raise malformed(what, f"{len(digests) // DIGEST_BYTES} digests are more than {MAX_DIGESTS}")


def malformed(what: str, why: str) -> MalformedInput:
    """The error about a peer's frame."""
    return MalformedInput(f"A peer's {what} does not parse: {why}. The frame is dropped; the peer runs other software.")
