"""Signatures: single and batch agree on every input; with OpenSSL and libsodium on honest and plainly wrong ones."""

import nacl.exceptions
import nacl.signing
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from cityid import sha256_many, verify_signature, verify_signatures
from tests.property import oracle

Triple = tuple[bytes, bytes, bytes]
seeds = st.binary(min_size=32, max_size=32)


def signed(seed: bytes, message: bytes) -> Triple:
    key = Ed25519PrivateKey.from_private_bytes(seed)
    return key.public_key().public_bytes_raw(), message, key.sign(message)


def spoiled(triple: Triple, what: int, position: int) -> Triple:
    parts = [bytearray(part) for part in triple]
    if parts[what]:
        parts[what][position % len(parts[what])] ^= 1 << position % 8
    return bytes(parts[0]), bytes(parts[1]), bytes(parts[2])


honest = st.builds(signed, seeds, st.binary(max_size=80))
wrong = st.builds(spoiled, honest, st.integers(0, 2), st.integers(0, 500))
noise = st.tuples(seeds, st.binary(max_size=20), st.binary(min_size=64, max_size=64))


def openssl(key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def sodium(key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        nacl.signing.VerifyKey(key).verify(message, signature)
    except (nacl.exceptions.BadSignatureError, ValueError):
        return False
    return True


@settings(max_examples=60, deadline=None)
@given(st.lists(honest | wrong | noise, max_size=40))
def test_a_batch_says_what_each_says_alone(triples: list[Triple]) -> None:
    alone = [verify_signature(*triple) for triple in triples]
    keys, messages, signatures = ([triple[part] for triple in triples] for part in range(3))
    assert verify_signatures(keys, messages, signatures) == alone


@settings(max_examples=60, deadline=None)
@given(honest | wrong)
def test_what_people_sign_is_judged_as_elsewhere(triple: Triple) -> None:
    """Not noise: on points of small order ZIP-215, OpenSSL and libsodium differ by design."""
    assert verify_signature(*triple) == openssl(*triple) == sodium(*triple)


@given(st.lists(st.binary(max_size=70), max_size=20))
def test_hashing_many_is_hashing_each(messages: list[bytes]) -> None:
    each = b"".join(oracle.digest(message) for message in messages)
    offsets = [0]
    for message in messages:
        offsets.append(offsets[-1] + len(message))
    packed = b"".join(offset.to_bytes(4, "little") for offset in offsets)
    assert sha256_many(messages) == sha256_many(b"".join(messages), packed) == each
