"""A second reading of the protocol, in plain Python, for comparison: it shares no code with the product.

Slow and short on purpose. Signatures are checked by OpenSSL through `cryptography`; the rest stands on hashlib alone.
Names follow docs/protocol.md.
"""

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

PLACEHOLDER = b"SPARSE_MERKLE_PLACEHOLDER_HASH__"


def digest(*parts: bytes) -> bytes:
    return sha256(b"".join(parts)).digest()


def tagged(tag: bytes, *parts: bytes) -> bytes:
    """P2, suite 1."""
    return digest(b"cityid/1/", tag, b"\0\1", *parts)


# ---------------------------------------------------------------- CBOR (P1)


def decode(data: bytes) -> Any:
    """One item of the subset of P1; ValueError for anything not deterministic."""
    value, end = _item(data, 0)
    if end != len(data):
        raise ValueError("trailing bytes")
    return value


def _item(data: bytes, at: int) -> tuple[Any, int]:
    first = data[at]
    if first == 0xF6:
        return None, at + 1
    major, info, at = first >> 5, first & 31, at + 1
    argument = info
    if info >= 24:
        width = 1 << (info - 24)
        argument = int.from_bytes(data[at : at + width], "big")
        if info > 27 or argument < (24, 1 << 8, 1 << 16, 1 << 32)[info - 24]:
            raise ValueError("not the shortest form")
        at += width
    if major == 0:
        return argument, at
    if major in (2, 3):
        piece = data[at : at + argument]
        if len(piece) != argument:
            raise ValueError("too short")
        return (piece if major == 2 else piece.decode()), at + argument
    if major not in (4, 5):
        raise ValueError("outside the subset")
    items = []
    for _ in range(argument * (major - 3)):
        item, at = _item(data, at)
        items.append(item)
    return (items if major == 4 else dict(zip(items[::2], items[1::2], strict=True))), at


# ---------------------------------------------------------------- trees


def bit(key: bytes, depth: int) -> int:
    return key[depth // 8] >> (7 - depth % 8) & 1


def map_root(leaves: Mapping[bytes, bytes], depth: int = 0) -> bytes:
    """P10: the root over path → value hash."""
    if not leaves:
        return PLACEHOLDER
    if len(leaves) == 1:
        ((key, value),) = leaves.items()
        return digest(b"JMT::LeafNode", key, value)
    sides = [{key: leaves[key] for key in leaves if bit(key, depth) == side} for side in (0, 1)]
    return digest(b"JMT::IntrnalNode", *(map_root(side, depth + 1) for side in sides))


def proven_root(claims: Mapping[bytes, bytes | None], ops: bytes, hashes: bytes) -> bytes:
    """P40: the root that a multi-proof leads to."""
    steps = [op >> shift & 3 for op in ops for shift in (6, 4, 2, 0)]
    given = [hashes[at : at + 32] for at in range(0, len(hashes), 32)]

    def descend(keys: Sequence[bytes], depth: int) -> bytes:
        step = steps.pop(0)
        if not keys:
            if step in (1, 2):
                raise ValueError("a sibling is empty or given")
            return PLACEHOLDER if step == 0 else given.pop(0)
        present = [key for key in keys if claims[key] is not None]
        if step == 3:
            sides = [[key for key in keys if bit(key, depth) == side] for side in (0, 1)]
            return digest(b"JMT::IntrnalNode", *(descend(side, depth + 1) for side in sides))
        if step == 1:
            (key,) = present
            return digest(b"JMT::LeafNode", key, claims[key] or b"")
        if present:
            raise ValueError("a present key where the tree has none")
        if step == 0:
            return PLACEHOLDER
        other, value = given.pop(0), given.pop(0)
        if other in keys or any(bit(other, at) != bit(keys[0], at) for at in range(depth)):
            raise ValueError("the other leaf does not belong here")
        return digest(b"JMT::LeafNode", other, value)

    root = descend(sorted(claims), 0)
    if given or any(steps):
        raise ValueError("something is left over")
    return root


def log_root(leaves: Sequence[bytes]) -> bytes:
    """RFC 9162 section 2.1.1, over leaf hashes."""
    if not leaves:
        return digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return digest(b"\1", log_root(leaves[:split]), log_root(leaves[split:]))


def root_of_last(leaf: bytes, path: Sequence[bytes]) -> bytes:
    """The log root when `leaf` is the last one: every sibling stands to its left."""
    for left in path:
        leaf = digest(b"\1", left, leaf)
    return leaf


def table_root(records: Mapping[int, bytes], seed: bytes, depth: int) -> bytes:
    """P41 and P43, over the whole of the tree that is not empty."""
    nothing = tagged(b"table-empty")
    level = dict[int, bytes]()
    for index, record in records.items():
        place = index.to_bytes(4, "big")
        level[index] = tagged(b"table-leaf", place, tagged(b"table-salt", seed, place, record)[:16], record)
    for _ in range(depth):
        pairs = {index // 2: [level.get(index // 2 * 2 + side, nothing) for side in (0, 1)] for index in level}
        level, nothing = (
            {at: tagged(b"table-node", *pair) for at, pair in pairs.items()},
            tagged(b"table-node", nothing, nothing),
        )
    return level.get(0, nothing)


# ---------------------------------------------------------------- codes (P8, P9)


def check_character(text: str) -> str:
    """ISO/IEC 7064 MOD 37,36 over every letter and digit."""
    alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    product = 36
    for character in text:
        if character in alphabet:
            product = ((product + alphabet.index(character)) % 36 or 36) * 2 % 37
    return alphabet[(1 - product) % 36]


def path_of(key: bytes) -> bytes:
    hashed = digest(key)
    return bytes([key[0] << 4 | hashed[0] & 15]) + hashed[1:]


def map_key(kind: int, code: str) -> bytes:
    """The map key of a record of this kind on the way to an item's code."""
    holder, category, serial = code.split("/")
    _, _, city, org = holder.split(".")
    use, class_, model = category.split(".")
    fields: dict[int, Callable[[], str]] = {
        1: lambda: "",
        2: lambda: city,
        3: lambda: city + chr(len(org)) + org,
        4: lambda: city + chr(len(org)) + org + use + class_ + chr(len(model)) + model,
        5: lambda: city + class_,
        6: lambda: city + class_ + serial[:3],
        7: lambda: city + class_ + serial[:6],
        8: lambda: city + class_ + serial[:9],
    }
    return bytes([kind]) + fields[kind]().encode()


# ---------------------------------------------------------------- answers (P38 to P41)


def verify_item(answer: bytes, genesis_hash: bytes, validators: Sequence[bytes]) -> str:
    """REGISTERED, NOT_REGISTERED or MISMATCH for an item's code outside sealed ranges; ValueError when refused."""
    version, code, records, ops, hashes, table, header_bytes, log_path, commit = decode(answer)
    if version != 1 or table is not None:
        raise ValueError("not an answer of this kind")
    if code[-1] != check_character(code[:-1]):
        raise ValueError("a mistyped code")
    header = decode(header_bytes)
    if header[1] != genesis_hash:
        raise ValueError("another network")
    leaf = digest(b"\0", header_bytes)
    value = root_of_last(leaf, [log_path[at : at + 32] for at in range(0, len(log_path), 32)])
    _check_commit(commit, genesis_hash, header[2], value, validators)
    item = next((decode(record) for kind, record in records if kind == 8 and record is not None), None)
    place_of = code if item is None else item[17]  # of a MISMATCH the way to the other code is shown
    claims = {path_of(map_key(kind, place_of)): None if record is None else digest(record) for kind, record in records}
    if proven_root(claims, ops, hashes) != header[8]:
        raise ValueError("another state root")
    found = {kind: None if record is None else decode(record) for kind, record in records}
    if not all(record is None or record[0] == kind for kind, record in found.items()):
        raise ValueError("a record of another kind")
    if item is not None:
        if map_key(8, item[17]) != map_key(8, code):
            raise ValueError("another serial")
        return "REGISTERED" if item[17] == code else "MISMATCH"
    missing = [kind for kind, record in found.items() if record is None]
    parent = {5: 2, 6: 5, 7: 6, 8: 7 if 7 in found else 6}[missing[0]] if len(missing) == 1 else 0
    place = {5: 1, 6: 1, 7: 1, 8: 2}
    above = found.get(parent)
    if above is None or above[6] != place[missing[0]]:
        raise ValueError("no ancestor says where the missing record would live")
    return "NOT_REGISTERED"


def _check_commit(
    commit: list[Any], genesis_hash: bytes, height: int, value: bytes, validators: Sequence[bytes]
) -> None:
    round_, bitmap, signatures = commit
    message = b"cityid/1/V" + genesis_hash + height.to_bytes(8, "big") + round_.to_bytes(4, "big") + b"\xff" * 4 + value
    if int.from_bytes(bitmap, "big") % (1 << 8 * len(bitmap) - len(validators)):
        raise ValueError("signers beyond the set")
    signers = [key for index, key in enumerate(validators) if bitmap[index // 8] & 0x80 >> index % 8]
    if isinstance(signatures, bytes):
        signatures = [signatures[at : at + 64] for at in range(0, len(signatures), 64)]
    if len(signers) * 3 <= len(validators) * 2 or len(signers) != len(signatures):
        raise ValueError("not enough signatures")
    for key, signature in zip(signers, signatures, strict=True):
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
        except InvalidSignature:
            raise ValueError("a signature does not verify") from None
