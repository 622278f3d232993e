"""Payloads of the frames by which cities exchange files, storage receipts and snapshots.

Form and bounds as in `node/messages.py`. A request names what its answer repeats, so an answer finds whoever waits for
it without any state of the connection.

=============  ========================================================================================
WANT_PART      digest(32) offset(8) length(4)
PART           digest(32) offset(8) size(8) of the whole file, and the bytes
NO_PART        digest(32) offset(8) reason(1): 0 not here, 1 too busy, 2 the file ends before
WANT_RECEIPT   digest(32) version(8) of the range height(8) of the sender
RECEIPT        digest(32) version(8) signature(64)
NO_RECEIPT     digest(32) version(8) reason_length(1) reason message
WANT_SNAPSHOT  height(8): one above this height
SNAPSHOT       height(8) manifest(32) content(32) size(8): digests of its manifest (a file) and of its list of chunks,
               and their bytes; height 0 and zeros for none
=============  ========================================================================================
"""

import struct
from dataclasses import dataclass
from typing import Final

from cityid.node.messages import MAX_HEIGHT, check_height, check_size, malformed

MAX_PART_BYTES: Final = 1_048_576
MAX_REASON_BYTES: Final = 64
MAX_MESSAGE_BYTES: Final = 1_000
NOT_HERE: Final = 0
BUSY: Final = 1
ENDS_BEFORE: Final = 2
_REASON_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_")

_WANT_PART = struct.Struct(">32sQI")
_PART = struct.Struct(">32sQQ")
_NO_PART = struct.Struct(">32sQB")
_WANT_RECEIPT = struct.Struct(">32sQQ")
_RECEIPT = struct.Struct(">32sQ64s")
_NO_RECEIPT = struct.Struct(">32sQB")
_WANT_SNAPSHOT = struct.Struct(">Q")
_SNAPSHOT = struct.Struct(">Q32s32sQ")


@dataclass(frozen=True, slots=True)
class WantPart:
    """A request for `length` bytes of a file from `offset` on; fewer when the file ends there."""

    digest: bytes
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of a file of `size` bytes, from `offset` on."""

    digest: bytes
    offset: int
    size: int
    data: bytes


@dataclass(frozen=True, slots=True)
class NoPart:
    """Why a part does not come: `NOT_HERE`, `BUSY` or `ENDS_BEFORE`."""

    digest: bytes
    offset: int
    reason: int


@dataclass(frozen=True, slots=True)
class WantReceipt:
    """A request to fetch a table, check it and sign for it (P45), should the range have the version `version`.

    The sender stands at `height`: whoever is below it waits before it says that the range is another one.
    """

    digest: bytes
    version: int
    height: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """The signature that was asked for."""

    digest: bytes
    version: int
    signature: bytes


@dataclass(frozen=True, slots=True)
class NoReceipt:
    """Why there is none: a stable reason and words for people."""

    digest: bytes
    version: int
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Offer:
    """A snapshot that a city has (P79): its manifest is a file. Snapshots that hold the same have one `content`."""

    height: int
    manifest: bytes
    content: bytes
    size: int


NO_OFFER: Final = Offer(0, bytes(32), bytes(32), 0)


def encode_want_snapshot(above: int) -> bytes:
    """The payload of a WANT_SNAPSHOT frame."""
    return _WANT_SNAPSHOT.pack(above)


def decode_want_snapshot(payload: bytes) -> int:
    """Read a WANT_SNAPSHOT frame."""
    check_size("request for a snapshot", _WANT_SNAPSHOT, payload)
    (above,) = _WANT_SNAPSHOT.unpack(payload)
    check_height("request for a snapshot", above)
    return int(above)


def encode_snapshot(offer: Offer) -> bytes:
    """The payload of a SNAPSHOT frame."""
    return _SNAPSHOT.pack(offer.height, offer.manifest, offer.content, offer.size)


def decode_snapshot(payload: bytes) -> Offer:
    """Read a SNAPSHOT frame."""
    check_size("snapshot", _SNAPSHOT, payload)
    height, manifest, content, size = _SNAPSHOT.unpack(payload)
    check_height("snapshot", height)
    check_height("snapshot", size)
    return Offer(height, manifest, content, size)


def encode_want_part(want: WantPart) -> bytes:
    """The payload of a WANT_PART frame."""
    return _WANT_PART.pack(want.digest, want.offset, want.length)


def decode_want_part(payload: bytes) -> WantPart:
    """Read a WANT_PART frame."""
    check_size("request for a part", _WANT_PART, payload)
    digest, offset, length = _WANT_PART.unpack(payload)
    check_height("request for a part", offset)
    if not 1 <= length <= MAX_PART_BYTES:
        raise malformed("request for a part", f"{length} bytes were asked for; the bound is {MAX_PART_BYTES}")
    return WantPart(digest, offset, length)


def encode_part(part: Part) -> bytes:
    """The payload of a PART frame."""
    return _PART.pack(part.digest, part.offset, part.size) + part.data


def decode_part(payload: bytes) -> Part:
    """Read a PART frame."""
    if not _PART.size < len(payload) <= _PART.size + MAX_PART_BYTES:
        raise malformed("part", f"{len(payload)} bytes are no part; it has 1 to {MAX_PART_BYTES} bytes of a file")
    digest, offset, size = _PART.unpack_from(payload)
    if size > MAX_HEIGHT or offset + len(payload) - _PART.size > size:
        raise malformed("part", f"it reaches beyond the file of {size} bytes that it is of")
    return Part(digest, offset, size, payload[_PART.size :])


def encode_no_part(refusal: NoPart) -> bytes:
    """The payload of a NO_PART frame."""
    return _NO_PART.pack(refusal.digest, refusal.offset, refusal.reason)


def decode_no_part(payload: bytes) -> NoPart:
    """Read a NO_PART frame."""
    check_size("refusal of a part", _NO_PART, payload)
    digest, offset, reason = _NO_PART.unpack(payload)
    if reason > ENDS_BEFORE:
        raise malformed("refusal of a part", f"there is no reason {reason}")
    return NoPart(digest, offset, reason)


def encode_want_receipt(want: WantReceipt) -> bytes:
    """The payload of a WANT_RECEIPT frame."""
    return _WANT_RECEIPT.pack(want.digest, want.version, want.height)


def decode_want_receipt(payload: bytes) -> WantReceipt:
    """Read a WANT_RECEIPT frame."""
    check_size("request for a receipt", _WANT_RECEIPT, payload)
    digest, version, height = _WANT_RECEIPT.unpack(payload)
    check_height("request for a receipt", version)
    check_height("request for a receipt", height)
    return WantReceipt(digest, version, height)


def encode_receipt(receipt: Receipt) -> bytes:
    """The payload of a RECEIPT frame."""
    return _RECEIPT.pack(receipt.digest, receipt.version, receipt.signature)


def decode_receipt(payload: bytes) -> Receipt:
    """Read a RECEIPT frame."""
    check_size("receipt", _RECEIPT, payload)
    digest, version, signature = _RECEIPT.unpack(payload)
    check_height("receipt", version)
    return Receipt(digest, version, signature)


def encode_no_receipt(refusal: NoReceipt) -> bytes:
    """The payload of a NO_RECEIPT frame; a message is cut to its bound."""
    reason = refusal.reason.encode()[:MAX_REASON_BYTES]
    message = refusal.message.encode()[:MAX_MESSAGE_BYTES]
    return _NO_RECEIPT.pack(refusal.digest, refusal.version, len(reason)) + reason + message


def decode_no_receipt(payload: bytes) -> NoReceipt:
    """Read a NO_RECEIPT frame. What stands in it is the peer's word: text fit for a log and no more."""
    if len(payload) < _NO_RECEIPT.size:
        raise malformed("refusal of a receipt", f"{len(payload)} bytes are fewer than its fixed fields take")
    digest, version, length = _NO_RECEIPT.unpack_from(payload)
    check_height("refusal of a receipt", version)
    rest = payload[_NO_RECEIPT.size :]
    if not 1 <= length <= MAX_REASON_BYTES or not length <= len(rest) <= length + MAX_MESSAGE_BYTES:
        raise malformed("refusal of a receipt", "its reason or its message is not within its bound")
    reason = rest[:length].decode("ascii", errors="replace")
    if not all(character in _REASON_CHARACTERS for character in reason):
        raise malformed("refusal of a receipt", "its reason is no word of a-z, 0-9 and _")
    text = rest[length:].decode(errors="replace")
    message = "".join(character if character.isprintable() else "?" for character in text)
    return NoReceipt(digest, version, reason, message)
