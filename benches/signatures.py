"""Ed25519 verification beside PyNaCl (libsodium) and ed25519-zebra, on one core.

All three verify the same signatures over 250-byte messages. "distinct" has 4,096 signers and "keys256" 256, all seen
before, so that ours finds their keys in its cache; "first" shows 4,096 keys for the first time. Ours goes through the
Python binding, zebra's batch does not. PyNaCl has no batch: its figure is that of a loop.
"""

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError

import cityid
from benches import peers, rows, timing
from benches.machine import cpu_flags
from benches.rows import Peer, Row
from cityid._native import signature_backend

MESSAGE_BYTES: Final = 250
BATCH: Final = 4096
SINGLE: Final = 512
REPETITIONS: Final = 7
PYNACL: Final = "PyNaCl single"
ZEBRA: Final = "ed25519-zebra 5 batch"
ZEBRA_SINGLE: Final = "ed25519-zebra 5 single"


class WrongBackend(Exception):
    """The processor has a faster backend than the one that ran: no figure would mean what it says."""


@dataclass(frozen=True, slots=True)
class Signed:
    """Many signatures, column by column."""

    keys: list[bytes]
    messages: list[bytes]
    signatures: list[bytes]

    def write(self, path: Path) -> None:
        """For the Rust peer: key, signature, message of each."""
        path.write_bytes(b"".join(map(b"".join, zip(self.keys, self.signatures, self.messages, strict=True))))


def run(names: Sequence[str], place: Path) -> Iterator[Row]:
    """The rows of these names."""
    timing.on_one_core()
    _check_backend()
    for name in names:
        match name:
            case "signature.single":
                yield from _single(name, place)
            case "signature.batch.bad1in1000":
                yield from _with_bad(name)
            case "signature.batch.4096.first":
                # As many sets as rounds: a key of a set that ran before would be in the cache.
                yield from _batch(name, place, [_sign(BATCH, keys=BATCH, seed=seed) for seed in range(REPETITIONS + 1)])
            case _:
                keys = 256 if name.endswith("keys256") else BATCH
                yield from _batch(name, place, [_sign(BATCH, keys=keys, seed=1)] * (REPETITIONS + 1))


def _check_backend() -> None:
    flags = cpu_flags()
    expected = "avx512ifma" if {"avx512ifma", "avx512vl"} <= flags else "avx2" if "avx2" in flags else "serial"
    if signature_backend() != expected:
        raise WrongBackend(
            f"this processor can verify with {expected}, and {signature_backend()} was built in. "
            "Next: unset RUSTFLAGS, build from inside the repository (make setup), see .cargo/config.toml"
        )


def _sign(count: int, *, keys: int, seed: int) -> Signed:
    draw = random.Random(seed)
    signers = [Ed25519PrivateKey.from_private_bytes(draw.randbytes(32)) for _ in range(keys)]
    public = [signer.public_key().public_bytes_raw() for signer in signers]
    messages = [draw.randbytes(MESSAGE_BYTES) for _ in range(count)]
    signatures = [signers[index % keys].sign(message) for index, message in enumerate(messages)]
    return Signed([public[index % keys] for index in range(count)], messages, signatures)


def _pynacl(signed: Signed) -> list[bool]:
    verdicts = []
    for key, message, signature in zip(signed.keys, signed.messages, signed.signatures, strict=True):
        try:
            crypto_sign_open(signature + message, key)
            verdicts.append(True)
        except BadSignatureError:
            verdicts.append(False)
    return verdicts


def _all_good(verdicts: Sequence[bool]) -> None:
    if not all(verdicts):
        raise AssertionError("a good signature was refused")


def _single(name: str, place: Path) -> Iterator[Row]:
    signed = _sign(SINGLE, keys=SINGLE, seed=1)
    signed.write(file := place / "signatures")
    columns = list(zip(signed.keys, signed.messages, signed.signatures, strict=True))
    contestants = {
        "ours": timing.clocked(lambda: _all_good([cityid.verify_signature(*column) for column in columns])),
        PYNACL: timing.clocked(lambda: _all_good(_pynacl(signed))),
    }
    with peers.rust_peer("signature_peer", ["single", file, MESSAGE_BYTES]) as zebra:
        taken = timing.alternate(contestants | {ZEBRA_SINGLE: zebra}, repetitions=REPETITIONS)
    yield from _rows(name, taken, SINGLE)


def _batch(name: str, place: Path, sets: Sequence[Signed]) -> Iterator[Row]:
    """One set for each round of ours; the peers take the first one every time, for they keep nothing."""
    sets[0].write(file := place / "signatures")
    fresh = iter(sets)

    def ours() -> float:
        one = next(fresh)
        return timing.clocked(lambda: _all_good(cityid.verify_signatures(one.keys, one.messages, one.signatures)))()

    contestants = {"ours": ours, PYNACL: timing.clocked(lambda: _all_good(_pynacl(sets[0])))}
    with peers.rust_peer("signature_peer", ["batch", file, MESSAGE_BYTES]) as zebra:
        taken = timing.alternate(contestants | {ZEBRA: zebra}, repetitions=REPETITIONS)
    yield from _rows(name, taken, BATCH)


def _with_bad(name: str) -> Iterator[Row]:
    """zebra only says that a batch has a bad signature somewhere, so it has no figure here."""
    signed = _sign(BATCH, keys=256, seed=1)
    bad = {position for position in range(BATCH) if position % 1000 == 13}
    for position in bad:
        signed.messages[position] = hashlib.sha512(signed.messages[position]).digest().ljust(MESSAGE_BYTES, b"x")
    expected = [position not in bad for position in range(BATCH)]

    def ours() -> None:
        if cityid.verify_signatures(signed.keys, signed.messages, signed.signatures) != expected:
            raise AssertionError("wrong verdicts")

    def theirs() -> None:
        if _pynacl(signed) != expected:
            raise AssertionError("wrong verdicts of PyNaCl")

    contestants = {"ours": timing.clocked(ours), PYNACL: timing.clocked(theirs)}
    yield from _rows(name, timing.alternate(contestants, repetitions=REPETITIONS), BATCH)


def _rows(name: str, taken: dict[str, list[float]], operations: int) -> Iterator[Row]:
    ours = timing.per_us(taken.pop("ours"), operations)
    for peer, theirs in taken.items():
        yield rows.make(
            name,
            ours,
            "us per signature",
            better="lower",
            peer=Peer(peer, timing.per_us(theirs, operations)),
            cpu_us_per_op=median(ours),
        )
