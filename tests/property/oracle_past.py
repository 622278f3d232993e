"""A second reading of what proves the past (P74, P77, P78), beside `oracle.py`: it shares no code with the product."""

from collections.abc import Sequence
from typing import Any

from tests.property import oracle


def root_by(leaf: bytes, index: int, size: int, path: bytes) -> bytes:
    """RFC 9162 section 2.1.3: the log root that an inclusion path of a leaf leads to."""
    hashes = [path[at : at + 32] for at in range(0, len(path), 32)]

    def climb(index: int, size: int) -> bytes:
        if size == 1:
            return leaf
        split = 1 << (size - 1).bit_length() - 1
        sibling = hashes.pop()  # the path is from the leaf up, the descent from the root down
        if index < split:
            return oracle.digest(b"\1", climb(index, split), sibling)
        return oracle.digest(b"\1", sibling, climb(index - split, size - split))

    root = climb(index, size)
    if hashes:
        raise ValueError("a path too long")
    return root


def chain(record: bytes, older: Sequence[bytes]) -> list[Any]:
    """A record and the versions before it, decoded, each named by the one after it (P11)."""
    versions = [oracle.decode(record)]
    for data in older:
        later, earlier = versions[-1], oracle.decode(data)
        named = (later.get(3), later[1], later.get(7), later[0])
        if named != (oracle.tagged(b"record", data), earlier[1] + 1, earlier[2], earlier[0]):
            raise ValueError("not the version before")
        versions.append(earlier)
    return versions


def read_history(
    history: bytes, parts: Sequence[bytes], genesis: bytes, validators: Sequence[bytes]
) -> list[tuple[int, int, int | None]]:
    """(version, height, time) of a history and what continues it, newest first; nothing when no record decides."""
    version, answer, versions, headers = oracle.decode(history)
    if version != 1:
        raise ValueError("not a history of this kind")
    verdict = oracle.verify_item(answer, genesis, validators)
    for part in parts:
        _, none, more, dates = oracle.decode(part)
        if none is not None:
            raise ValueError("a beginning does not continue anything")
        versions, headers = versions + more, headers + dates
    _, _, records, _, _, table, last, path, _ = oracle.decode(answer)
    decided = oracle.decode(last)
    size = decided[2] + 1
    root = oracle.root_of_last(oracle.digest(b"\0", last), [path[at : at + 32] for at in range(0, len(path), 32)])
    times = {decided[2]: decided[3]}
    for header, inclusion in headers:
        fields = oracle.decode(header)
        if root_by(oracle.digest(b"\0", header), fields[2], size, inclusion) != root:
            raise ValueError("a header of another log")
        times[fields[2]] = fields[3]
    if verdict == "NOT_REGISTERED":
        if versions or headers:
            raise ValueError("a past of what is not there")
        return []
    candidates = [oracle.decode(one) | {-1: one} for one in (records[-1][1], table and table[1]) if one]
    newest = max((one for one in candidates if one[0] == 8), key=lambda one: int(one[1]))
    told = chain(newest[-1], versions)
    if set(times) - {record[2] for record in told} - {decided[2]}:
        raise ValueError("a header that dates nothing")
    return [(record[1], record[2], times.get(record[2])) for record in told]


def read_page(page: bytes, genesis: bytes, validators: Sequence[bytes]) -> list[tuple[bytes, list[int]]]:
    """(map key, versions shown) of a page."""
    version, entries, ops, hashes, header_bytes, path, commit = oracle.decode(page)
    header = oracle.decode(header_bytes)
    if version != 1 or header[1] != genesis or [entry[0] for entry in entries] != sorted(entry[0] for entry in entries):
        raise ValueError("not a page of this network")
    leaf = oracle.digest(b"\0", header_bytes)
    value = oracle.root_of_last(leaf, [path[at : at + 32] for at in range(0, len(path), 32)])
    oracle.check_commit(commit, genesis, header[2], value, validators)
    claims = {oracle.path_of(key): oracle.digest(record) for key, record, _ in entries}
    if (ops or hashes) if not claims else oracle.proven_root(claims, ops, hashes) != header[8]:
        raise ValueError("another state root")
    return [(key, [record[1] for record in chain(record, older)]) for key, record, older in entries]


def read_blocks(
    blocks: Sequence[bytes], genesis: bytes, validators: Sequence[bytes], leaves: list[bytes]
) -> list[list[tuple[bytes, int]]]:
    """(id, outcome) of each transaction of consecutive blocks, behind a log of `leaves`, which grows by theirs."""
    told, parent = [], None
    for block in blocks:
        version, header_bytes, certificate, receipts, batches = oracle.decode(block)
        header = oracle.decode(header_bytes)
        leaves.append(oracle.digest(b"\0", header_bytes))
        if version != 1 or header[1] != genesis or header[2] != len(leaves) - 1 or parent not in (None, header[4]):
            raise ValueError("another block is due")
        parent = oracle.tagged(b"header", header_bytes)
        value = oracle.log_root(leaves)
        height, round_, of = certificate[:8], certificate[8:12], int.from_bytes(certificate[44:46], "big")
        if height != header[2].to_bytes(8, "big") or certificate[12:44] != value or of != len(validators):
            raise ValueError("a certificate of another block")
        width = (of + 7) // 8
        commit = [int.from_bytes(round_, "big"), certificate[46 : 46 + width], certificate[46 + width :]]
        oracle.check_commit(commit, genesis, header[2], value, validators)
        receipts = oracle.decode(receipts)
        ids = [id for batch in batches for id in _ids(batch)]
        leaves_of = [oracle.tagged(b"batch", batch) for batch in batches], ids, receipts
        if [_root(leaf) for leaf in leaves_of] != header[5:8]:
            raise ValueError("not what the header commits to")
        outcomes = [oracle.decode(receipt) for receipt in receipts]
        if [outcome[0] for outcome in outcomes] != ids:
            raise ValueError("receipts of other transactions")
        told.append([(outcome[0], outcome[1]) for outcome in outcomes])
    return told


def _ids(batch: bytes) -> list[bytes]:
    """P14: the id of each transaction is over the bytes of its body, which are its first part."""
    transactions = oracle.decode(batch)
    short = batch[0] & 31
    at = 1 if short < 24 else 1 + (1 << (short - 24))
    ids = []
    for _ in transactions:
        _, body_end = oracle.item_at(batch, at + 1)
        ids.append(oracle.tagged(b"transaction", batch[at + 1 : body_end]))
        _, at = oracle.item_at(batch, at)
    return ids


def _root(leaves: Sequence[bytes]) -> bytes:
    return oracle.log_root([oracle.digest(b"\0", leaf) for leaf in leaves])
