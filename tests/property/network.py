"""A ledger in one process, driven by its binding: operations in JSON in, receipts and every record out.

Keys have names; the same name is the same key in every run. What is committed is kept as the store would keep it, so
that a test sees every record, also those that no code names.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cityid import Genesis, Ledger, Trust, _native
from cityid.genesis import PARAMETERS
from tests.property.oracle import tagged

__all__ = ["CITIES", "Network", "SealedTable", "encode", "possession", "public", "sign"]

CITIES = ("110000", "130100", "330100", "440300")
START_MS = 1_790_000_000_000


@cache
def key(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(sha256(name.encode()).digest())


@cache
def public(name: str) -> bytes:
    return key(name).public_key().public_bytes_raw()


@cache
def sign(name: str, message: bytes) -> bytes:
    return key(name).sign(message)


def genesis(parameters: Mapping[str, int]) -> Genesis:
    cities = [
        {"city": city, "name": f"City {city}", "transaction": [public(f"{city}/transaction").hex()]}
        | {purpose: public(f"{city}/{purpose}").hex() for purpose in ("consensus", "checkpoint", "tls")}
        for city in CITIES
    ]
    fields = {"cityid": "genesis", "name": "model", "prefix": "MA.156", "suite": 1, "test": True}
    return Genesis.from_json(
        json.dumps(
            fields | {"time_ms": str(START_MS), "parameters": dict(PARAMETERS) | dict(parameters), "cities": cities}
        )
    )


@cache
def possession(genesis_hash: bytes, subject: str, purpose: str, name: str) -> str:
    return sign(name, _native.possession_message(genesis_hash, subject, purpose, public(name))).hex()


class Network:
    """One ledger and what it committed."""

    def __init__(self, **parameters: int) -> None:
        self.genesis = genesis(parameters)
        self.ledger = Ledger(self.genesis)
        self.trust = Trust.from_json(self.genesis.to_json())
        self.records: dict[bytes, bytes] = {}
        self.nonce = 0

    def key_entry(self, subject: str, purpose: str, name: str, **validity: int | None) -> dict[str, Any]:
        proof = possession(self.genesis.hash, subject, purpose, name)
        return {"purpose": purpose, "key": public(name).hex(), "possession": proof} | validity

    def block(self, transactions: Sequence[tuple[Sequence[Mapping[str, Any]], Sequence[str]]]) -> list[dict[str, Any]]:
        """One block of these (operations, signers), each in a batch of its own to keep their order; the receipts."""
        ids, digests = [], b""
        for operations, signers in transactions:
            self.nonce += 1
            keys = sorted({public(name): name for name in signers}.items())
            body, identity, message = _native.build_transaction(
                self.genesis.hash,
                self.ledger.height + 5,
                self.nonce.to_bytes(8, "big"),
                [public for public, _ in keys],
                json.dumps(list(operations)),
            )
            signatures = [sign(name, message) for _, name in keys]
            ((admitted, reason, text),) = self.ledger.admit(_native.finish_transaction(body, signatures))
            assert (admitted, reason) == (identity, None), text
            sealed = self.ledger.seal(1, 1 << 20)
            assert sealed is not None
            ids.append(identity)
            digests += sealed[0]
        height = self.ledger.height + 1
        candidate = self.ledger.execute(height, self.ledger.time_ms + 1000, CITIES[1], digests)
        commit = self.ledger.commit(candidate, self._certificate(height, candidate.value))
        self.records.update(_changes(commit.changes))
        found = [self.ledger.receipt(identity) for identity in ids]
        return [json.loads(receipt[1]) for receipt in found if receipt is not None]

    def run(self, operations: Sequence[Mapping[str, Any]], *signers: str) -> dict[str, Any]:
        """One transaction in a block of its own."""
        (receipt,) = self.block([(operations, signers)])
        return receipt

    def views(self) -> dict[bytes, dict[str, Any]]:
        """Every record that was written since the genesis, as JSON."""
        return {key: json.loads(_native.record_json(record)) for key, record in self.records.items()}

    def _certificate(self, height: int, value: bytes) -> bytes:
        # P35: kind, genesis hash, height, round, pol_round, value
        place = height.to_bytes(8, "big") + bytes(4)
        message = b"cityid/1/V" + self.genesis.hash + place + b"\xff" * 4 + value
        signatures = [sign(f"{city}/consensus", message) for city in CITIES[:3]]
        return place + value + (4).to_bytes(2, "big") + b"\xe0" + b"".join(signatures)


def _changes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(key, record) of every version that a height wrote, in order."""
    at = 0
    while at < len(data):
        parts = []
        for width in (2, 4):
            size = int.from_bytes(data[at : at + width], "big")
            parts.append(data[at + width : at + width + size])
            at += width + size
        yield parts[0], parts[1]


# ---------------------------------------------------------------- sealed tables (P41), in the bytes of P1


def encode(value: Any) -> bytes:
    """Deterministic CBOR of numbers, bytes, texts, null, lists and maps with ascending keys (P1)."""
    match value:
        case None:
            return b"\xf6"
        case int():
            return _head(0, value)
        case bytes():
            return _head(2, len(value)) + value
        case str():
            return _head(3, len(value.encode())) + value.encode()
        case dict():
            return _head(5, len(value)) + b"".join(encode(part) for pair in value.items() for part in pair)
        case _:
            return _head(4, len(value)) + b"".join(map(encode, value))


def _head(major: int, argument: int) -> bytes:
    if argument < 24:
        return bytes([major << 5 | argument])
    width = next(width for width in range(4) if argument < 1 << (8 << width))
    return bytes([major << 5 | 24 + width]) + argument.to_bytes(1 << width, "big")


class SealedTable:
    """The table of a thousand range: encoded records by index."""

    DEPTH = 10

    def __init__(self, records: Mapping[int, bytes]) -> None:
        self.records = dict(records)
        self.salts = {index: sha256(record).digest()[:16] for index, record in self.records.items()}
        empty = tagged(b"table-empty")
        level = {
            index: tagged(b"table-leaf", index.to_bytes(4, "big"), self.salts[index], record)
            for index, record in self.records.items()
        }
        self.levels = []
        for _ in range(self.DEPTH):
            self.levels.append(level)
            parents = {index >> 1 for index in level}
            level = {
                parent: tagged(b"table-node", level.get(2 * parent, empty), level.get(2 * parent + 1, empty))
                for parent in parents
            }
            empty = tagged(b"table-node", empty, empty)
        self.root = level.get(0, empty)
        self.digest = sha256(self.root).digest()

    def prove(self, index: int) -> bytes:
        siblings = [level.get(index >> height ^ 1) for height, level in enumerate(self.levels)]
        bitmap = sum(1 << height for height, sibling in enumerate(siblings) if sibling is not None)
        given = b"".join(sibling for sibling in siblings if sibling is not None)
        return encode([self.salts.get(index), self.records.get(index), bitmap, given])
