"""What a forger would do to a saved answer, written with nothing of the product: an own reader and writer of CBOR.

An answer is `[1, subject, records, ops, hashes, table, header, log path, [round, bitmap, signatures]]` (P38). Every
edit gives well-formed, canonical CBOR again, so that what refuses it is a proof and not the parser.
"""

from typing import Any, Final

__all__ = ["change_proof", "change_record", "strip_signatures"]

HASHES: Final = 4
CERTIFICATE: Final = 8
SIGNATURE_BYTES: Final = 64


def change_record(answer: bytes, known: bytes) -> bytes:
    """One bit of one byte flipped within `known`, a value that stands in a record (a commitment)."""
    place = answer.index(known) + len(known) // 2
    return answer[:place] + bytes([answer[place] ^ 0x01]) + answer[place + 1 :]


def change_proof(answer: bytes) -> bytes:
    """One bit of one byte flipped in the hashes of the state proof."""
    parts = _parts(answer)
    parts[HASHES] = _flipped(parts[HASHES])
    return _encode(parts)


def strip_signatures(answer: bytes, *, keep: int) -> bytes:
    """The answer with the first `keep` of its signatures, as if no more cities had signed."""
    parts = _parts(answer)
    round_number, bitmap, signatures = parts[CERTIFICATE]
    signers = [bit for bit in range(8 * len(bitmap)) if bitmap[bit // 8] & (0x80 >> bit % 8)]
    kept = bytearray(len(bitmap))
    for bit in signers[:keep]:
        kept[bit // 8] |= 0x80 >> bit % 8
    parts[CERTIFICATE] = [round_number, bytes(kept), signatures[: SIGNATURE_BYTES * keep]]
    return _encode(parts)


def _parts(answer: bytes) -> list[Any]:
    parts, end = _decode(answer, 0)
    assert end == len(answer), "an answer that was just verified has no trailing bytes"
    return list(parts)


def _flipped(value: Any) -> Any:
    """A copy with one bit flipped in the first byte string."""
    if isinstance(value, bytes):
        return bytes([value[0] ^ 0x01]) + value[1:]
    return [_flipped(value[0]), *value[1:]]


def _decode(data: bytes, at: int) -> tuple[Any, int]:
    major, short = data[at] >> 5, data[at] & 31
    at += 1
    number = short
    if 24 <= short <= 27:
        width = 1 << (short - 24)
        number, at = int.from_bytes(data[at : at + width], "big"), at + width
    match major:
        case 0:
            return number, at
        case 2:
            return data[at : at + number], at + number
        case 3:
            return data[at : at + number].decode(), at + number
        case 4:
            items = []
            for _ in range(number):
                item, at = _decode(data, at)
                items.append(item)
            return items, at
        case 7 if short == 22:
            return None, at
        case _:
            raise ValueError(f"no answer has a CBOR item of major type {major}")


def _encode(value: Any) -> bytes:
    match value:
        case None:
            return b"\xf6"
        case int():
            return _head(0, value)
        case bytes():
            return _head(2, len(value)) + value
        case str():
            return _head(3, len(value.encode())) + value.encode()
        case _:
            return _head(4, len(value)) + b"".join(_encode(item) for item in value)


def _head(major: int, number: int) -> bytes:
    if number < 24:
        return bytes([major << 5 | number])
    width = next(width for width in (1, 2, 4, 8) if number < 1 << 8 * width)
    return bytes([major << 5 | 24 + width.bit_length() - 1]) + number.to_bytes(width, "big")
