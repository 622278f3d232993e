"""Roots and proofs of the map and the log, against the ten-line reading of the protocol in oracle.py."""

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cityid import StateMap, leaf_hash, log_root, verify_consistency, verify_inclusion
from cityid.errors import InputError, ProofInvalid
from tests.property import oracle

paths = st.binary(min_size=0, max_size=8)
batches = st.lists(st.lists(st.tuples(paths, st.none() | st.binary(max_size=16)), max_size=24), max_size=5)


@settings(max_examples=60, deadline=None)
@given(batches)
def test_the_map_has_the_root_of_the_ten_lines_after_every_batch(steps: list[list[tuple[bytes, bytes | None]]]) -> None:
    made, expected = StateMap(), dict[bytes, bytes]()
    for step in steps:
        root = made.update(step)
        for path, value in step:
            if value is None:
                expected.pop(path, None)
            else:
                expected[path] = value
        leaves = {oracle.digest(path): oracle.digest(value) for path, value in expected.items()}
        assert root == made.root == oracle.map_root(leaves)
        assert len(made) == len(expected)
        assert all(made.get(path) == value for path, value in expected.items())


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(paths, st.binary(max_size=16), max_size=40), paths, st.data())
def test_a_proof_says_what_is_there_and_nothing_else(
    values: dict[bytes, bytes], path: bytes, data: st.DataObject
) -> None:
    made = StateMap()
    made.update(list(values.items()))
    proof = made.prove(path)
    ops, hashes = oracle.decode(proof)
    value = values.get(path)
    claim = {oracle.digest(path): None if value is None else oracle.digest(value)}
    assert oracle.proven_root(claim, ops, hashes) == made.root
    StateMap.verify(made.root, path, value, proof)
    wrong = data.draw(st.none() | st.binary(max_size=16)) if value is not None else data.draw(st.binary(max_size=16))
    if wrong != value:
        with pytest.raises(ProofInvalid):
            StateMap.verify(made.root, path, wrong, proof)
    position = data.draw(st.integers(0, 8 * len(proof) - 1))
    flipped = bytearray(proof)
    flipped[position // 8] ^= 1 << position % 8
    with pytest.raises((ProofInvalid, InputError)):
        StateMap.verify(made.root, path, value, flipped)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=8), max_size=40))
def test_the_log_has_the_root_of_rfc_9162(entries: list[bytes]) -> None:
    leaves = [leaf_hash(entry) for entry in entries]
    assert leaves == [sha256(b"\0" + entry).digest() for entry in entries]
    assert log_root(leaves) == oracle.log_root(leaves)


def path_of_leaf(leaves: list[bytes], index: int) -> list[bytes]:
    """RFC 9162 section 2.1.3.1."""
    if len(leaves) <= 1:
        return []
    split = 1 << (len(leaves) - 1).bit_length() - 1
    if index < split:
        return [*path_of_leaf(leaves[:split], index), oracle.log_root(leaves[split:])]
    return [*path_of_leaf(leaves[split:], index - split), oracle.log_root(leaves[:split])]


def consistency(leaves: list[bytes], size: int, *, whole: bool = True) -> list[bytes]:
    """RFC 9162 section 2.1.4.1."""
    if size == len(leaves):
        return [] if whole else [oracle.log_root(leaves)]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    if size <= split:
        return [*consistency(leaves[:split], size, whole=whole), oracle.log_root(leaves[split:])]
    return [*consistency(leaves[split:], size - split, whole=False), oracle.log_root(leaves[:split])]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13, 21])
def test_log_proofs_of_the_standard_are_accepted_and_their_edits_are_not(size: int) -> None:
    leaves = [leaf_hash(bytes([number])) for number in range(size)]
    root = oracle.log_root(leaves)
    for index in range(size):
        proof = path_of_leaf(leaves, index)
        verify_inclusion(leaves[index], index, size, proof, root)
        with pytest.raises((ProofInvalid, InputError)):
            verify_inclusion(leaves[index], index, size, [*proof, bytes(32)], root)
        with pytest.raises((ProofInvalid, InputError)):
            verify_inclusion(bytes(32), index, size, proof, root)
    for earlier in range(1, size):
        proof = consistency(leaves, earlier)
        verify_consistency(earlier, size, proof, oracle.log_root(leaves[:earlier]), root)
        with pytest.raises((ProofInvalid, InputError)):
            verify_consistency(earlier, size, proof, bytes(32), root)
