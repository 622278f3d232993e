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
    value, end = item_at(data, 0)
    if end != len(data):
        raise ValueError("trailing bytes")
    return value


def decode_sequence(data: bytes) -> list[Any]:
    """Items one after the other (RFC 8742)."""
    items, at = [], 0
    while at < len(data):
        item, at = item_at(data, at)
        items.append(item)
    return items


def item_at(data: bytes, at: int) -> tuple[Any, int]:
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
        item, at = item_at(data, at)
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


def prefixed(field: str) -> str:
    return chr(len(field)) + field


def split_code(code: str) -> tuple[str, str, str, str, str, str]:
    """City, organisation (or nothing), use, class, model and serial of an item's code."""
    if code[-1] != check_character(code[:-1]):
        raise ValueError("a mistyped code")
    holder, category, serial = code.split("/")
    (_, _, city, *org), (use, class_, model) = holder.split("."), category.split(".")
    return city, "".join(org), use, class_, model, serial[:9]


def map_key(kind: int, code: str) -> bytes:
    """The map key of a record of this kind on the way to an item's code."""
    city, org, use, class_, model, serial = split_code(code)
    fields: dict[int, Callable[[], str]] = {
        1: lambda: "",
        2: lambda: city,
        3: lambda: city + prefixed(org),
        4: lambda: city + prefixed(org) + use + class_ + prefixed(model),
        5: lambda: city + class_,
        6: lambda: city + class_ + serial[:3],
        7: lambda: city + class_ + serial[:6],
        8: lambda: city + class_ + serial,
    }
    return bytes([kind]) + fields[kind]().encode()


# ---------------------------------------------------------------- answers (P38 to P41, P73)


def _uint(value: int) -> bytes:
    if value < 24:
        return bytes([value])
    info, width = next((24 + step, 1 << step) for step in range(4) if value < 1 << (8 << step))
    return bytes([info]) + value.to_bytes(width, "big")


def read_table(data: bytes) -> tuple[dict[int, bytes], bytes, int]:
    """(records by index, seed, depth) of a table file (P43): the runs written out."""
    (_, _, _, city, class_, base, depth, _, _, seed, count, templates), *entries = decode_sequence(data)
    records = dict[int, bytes]()
    for first, *rest in entries:
        if len(rest) == 1:
            records[first] = rest[0]
            continue
        length, step, template, status, height = rest
        org, use, model = templates[template]
        for index in range(first, first + length * step, step):
            holder = f"MA.156.{city}" + (f".{org}" if org else "")
            text = f"{holder}/{use}.{class_}.{model}/{base + index:09d}"
            code = (text + check_character(text)).encode()
            records[index] = b"\xa5\0\x08\1\1\2" + _uint(height) + bytes([4, status, 17, 0x78, len(code)]) + code
    if len(records) != count:
        raise ValueError("another count")
    return records, seed, depth


def proven_table_root(depth: int, index: int, table: Sequence[Any]) -> bytes:
    """P41: the root that a table proof leads to."""
    salt, record, bitmap, siblings = table
    if (salt is None) != (record is None) or bitmap >> depth or len(siblings) != 32 * bitmap.bit_count():
        raise ValueError("not a table proof")
    empty = tagged(b"table-empty")
    node = empty if record is None else tagged(b"table-leaf", index.to_bytes(4, "big"), salt, record)
    for level in range(depth):
        sibling = empty
        if bitmap >> level & 1:
            sibling, siblings = siblings[:32], siblings[32:]
            if sibling == empty:
                raise ValueError("an empty sibling is given")
        pair = (node, sibling) if index >> level & 1 == 0 else (sibling, node)
        node, empty = tagged(b"table-node", *pair), tagged(b"table-node", empty, empty)
    return node


class Chain:
    """The records that an answer shows, taken one by one from the network down, with the paths that they claim."""

    def __init__(self, records: Sequence[Sequence[Any]], table: Sequence[Any] | None) -> None:
        self.rest = list(records)
        self.table = table
        self.claims: dict[bytes, bytes | None] = {}

    def next_kind(self) -> int:
        return int(self.rest[0][0]) if self.rest else 0

    def take(self, kind: int, key: str) -> Any:
        shown, record = self.rest.pop(0)
        path = path_of(bytes([kind]) + key.encode())
        if shown != kind or path in self.claims:
            raise ValueError("another record belongs here")
        self.claims[path] = None if record is None else digest(record)
        found = None if record is None else decode(record)
        if found is not None and found[0] != kind:
            raise ValueError("a record of another kind")
        return found

    def present(self, kind: int, key: str, children: Sequence[int | None]) -> Any:
        found = self.take(kind, key)
        if found is None or found.get(6) not in children:
            raise ValueError("no record that says where what is below it would live")
        return found

    def subject(self, subject: str) -> str:
        self.present(1, "", [1])
        if subject.startswith("alias:"):
            namespace, alias = subject.removeprefix("alias:").split(":", 1)
            return self.alias(namespace[:6], namespace, alias) if self.city(namespace[:6]) else "NOT_OURS"
        if len(subject) != 21 or not subject.isdigit():
            city, _, _, class_, _, serial = split_code(subject)
            return self.item(subject, city, class_, serial) if self.city(city) else "NOT_OURS"
        if self.city(subject[:6]):
            return self.item(None, subject[:6], subject[6:12], subject[12:])
        district = self.take(14, subject[:6])
        if district is None:
            return "NOT_OURS"
        if not self.city(district[10]):
            raise ValueError("a district of no city")
        return self.alias(district[10], district[10], subject)

    def city(self, city: str) -> bool:
        found = self.take(2, city)
        if found is not None and found[6] != 1:
            raise ValueError("a city without children in the map")
        return found is not None

    def alias(self, city: str, namespace: str, alias: str) -> str:
        found = self.take(9, prefixed(namespace) + alias)
        if found is None:
            return "NOT_REGISTERED"
        of, _, _, class_, _, serial = split_code(found[17])
        if of != city:
            raise ValueError("an alias of another city's item")
        return self.item(found[17], city, class_, serial)

    def item(self, asked: str | None, city: str, class_: str, serial: str) -> str:
        """What a code, or only a place, is (P39); of leaf and item record the higher version counts (P41)."""
        place = city + class_
        own = decode(self.rest[-1][1]) if self.rest and self.rest[-1][0] == 8 and self.rest[-1][1] else None
        leaf = decode(self.table[1]) if self.table is not None and self.table[1] is not None else None
        item = leaf if leaf is not None and (own is None or leaf[1] > own[1]) else own
        if item is None and self.next_kind() == 5:
            if (space := self.take(5, place)) is not None:
                if space[6] != 1:
                    raise ValueError("a class without children in the map")
                self.absent(6, place + serial[:3])
            return "NOT_REGISTERED"
        if item is not None:
            at = split_code(item[17])
            if (at[0], at[3], at[5]) != (city, class_, serial) or item[0] != 8:
                raise ValueError("an item of another place")
            if at[1]:
                self.present(3, city + prefixed(at[1]), [1, None])
        kind, digits = (6, 3) if self.next_kind() == 6 else (7, 6)
        range_ = self.present(kind, place + serial[:digits], [1, 2, 3])
        if range_[6] == 1:
            if item is not None or kind == 7:
                raise ValueError("a million that is divided holds no item")
            self.absent(7, place + serial[:6])
            return "NOT_REGISTERED"
        if range_[6] == 2 or range_[16][4]:
            self.take(8, place + serial)
        if range_[6] == 3:
            root, depth, _, height = range_[16][:4]
            if self.table is None:
                if item is None or item[2] <= height:
                    return "UNAVAILABLE"
            elif proven_table_root(depth, int(serial[digits:]), self.table) != root:
                raise ValueError("another table")
        elif self.table is not None:
            raise ValueError("a table where none is")
        if item is None:
            return "NOT_REGISTERED"
        return "REGISTERED" if asked in (None, item[17]) else "MISMATCH"

    def absent(self, kind: int, key: str) -> None:
        if self.take(kind, key) is not None:
            raise ValueError("it is there")


def verify_item(answer: bytes, genesis_hash: bytes, validators: Sequence[bytes]) -> str:
    """The verdict about an item by its code, 21 digits, named alias or old number; ValueError when refused."""
    version, subject, records, ops, hashes, table, header_bytes, log_path, commit = decode(answer)
    if version != 1:
        raise ValueError("not an answer of this kind")
    header = decode(header_bytes)
    if header[1] != genesis_hash:
        raise ValueError("another network")
    leaf = digest(b"\0", header_bytes)
    value = root_of_last(leaf, [log_path[at : at + 32] for at in range(0, len(log_path), 32)])
    check_commit(commit, genesis_hash, header[2], value, validators)
    chain = Chain(records, table)
    verdict = chain.subject(subject)
    if chain.rest:
        raise ValueError("a record too many")
    if proven_root(chain.claims, ops, hashes) != header[8]:
        raise ValueError("another state root")
    return verdict


def check_commit(
    commit: list[Any], genesis_hash: bytes, height: int, value: bytes, validators: Sequence[bytes]
) -> None:
    """P35 and P36: more than two thirds of the validators signed for a value at a height."""
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
