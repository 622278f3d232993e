"""The Rust core. Buffers: anything with the buffer protocol is accepted where bytes are (`Buffer`)."""

from collections.abc import Sequence
from typing import Any, Literal, Protocol, final, type_check_only

from typing_extensions import Buffer

__all__ = [
    "Answer",
    "Candidate",
    "Code",
    "Commit",
    "Consensus",
    "Genesis",
    "Ledger",
    "Members",
    "Snapshot",
    "StateMap",
    "Trust",
    "Verdict",
    "build_transaction",
    "check_uscc",
    "checkpoint_body",
    "checkpoint_note",
    "commitment",
    "cosignature_line",
    "cosignature_message",
    "cosignature_vkey",
    "finish_transaction",
    "header_hash",
    "header_json",
    "leaf_hash",
    "log_root",
    "make_item_code",
    "message_height",
    "parse_many",
    "possession_message",
    "record_json",
    "sha256_many",
    "signature_backend",
    "transaction_json",
    "verify",
    "verify_certificate",
    "verify_consistency",
    "verify_inclusion",
    "verify_signature",
    "verify_signatures",
    "verify_strict",
]

# ---------------------------------------------------------------- codes
@final
class Code:
    @staticmethod
    def parse(text: str, members: Members | None = None) -> Code: ...
    @staticmethod
    def from_did(did: str) -> Code: ...
    text: str
    kind: Literal["city", "org", "category", "item", "foreign"]
    city: str | None
    org: str | None
    use: str | None
    cls: str | None
    model: str | None
    serial: int | None
    check: str | None
    alias: str | None
    did: str
    path: str
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Members:
    """The member cities, six digits each."""
    def __new__(cls, cities: Sequence[str]) -> Members: ...
    def __contains__(self, city: str, /) -> bool: ...
    def __len__(self) -> int: ...

def parse_many(texts: Sequence[str], members: Members | None = None) -> tuple[list[Code | None], list[str | None]]: ...
def make_item_code(city: str, org: str | None, use: str, cls: str, model: str, serial: int) -> str: ...
def check_uscc(text: str) -> None: ...

# ---------------------------------------------------------------- hashes, signatures, log, map
def sha256_many(data: Buffer | Sequence[bytes], offsets: Buffer | None = None) -> bytes: ...
def verify_signature(public_key: Buffer, message: Buffer, signature: Buffer) -> bool: ...
def verify_signatures(
    public_keys: Sequence[bytes], messages: Sequence[bytes], signatures: Sequence[bytes]
) -> list[bool]: ...
def verify_strict(public_key: Buffer, message: Buffer, signature: Buffer) -> bool: ...
def signature_backend() -> str: ...
def leaf_hash(data: Buffer) -> bytes: ...
def log_root(leaves: Sequence[bytes]) -> bytes: ...
def verify_inclusion(leaf_hash: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None: ...
def verify_consistency(size1: int, size2: int, proof: Sequence[bytes], root1: bytes, root2: bytes) -> None: ...

@final
class StateMap:
    """Path → value; key = SHA-256(path), value hash = SHA-256(value), jmt hash rules."""
    def __new__(cls) -> StateMap: ...
    def update(self, items: Sequence[tuple[bytes, bytes | None]]) -> bytes: ...
    def get(self, path: Buffer) -> bytes | None: ...
    def prove(self, path: Buffer) -> bytes: ...
    @staticmethod
    def verify(root: bytes, path: Buffer, value: Buffer | None, proof: Buffer) -> None: ...
    root: bytes
    def __len__(self) -> int: ...

# ---------------------------------------------------------------- genesis, trust, answers
@final
class Genesis:
    """The first state of a network; parsed from its JSON file, hashed in its canonical CBOR form."""
    @staticmethod
    def from_json(text: str) -> Genesis: ...
    def to_json(self) -> str: ...
    hash: bytes
    name: str
    test: bool
    time_ms: int
    cities: list[str]  # six digits each, ascending: the validators, in order
    def parameters(self) -> dict[str, int]: ...
    def city(
        self, city: str
    ) -> dict[
        str, Any
    ]: ...  # {"city", "name", "consensus", "checkpoint", "tls": 32 bytes each, "transaction": [32 bytes, …]}

@final
class Trust:
    """Genesis hash, validator set, height, time: all that a verifier believes."""
    @staticmethod
    def load(path: str) -> Trust: ...  # a trust file or a genesis file
    @staticmethod
    def from_genesis(path: str) -> Trust: ...
    @staticmethod
    def from_json(text: str) -> Trust: ...
    def to_json(self) -> str: ...
    def advance(
        self, header: bytes, log_path: bytes, certificate: bytes
    ) -> Trust: ...  # under an unchanged validator set; CertificateInvalid otherwise
    words: str
    name: str
    genesis_hash: bytes
    height: int
    time_ms: int
    validators: list[tuple[str, bytes]]
    test: bool

@final
class Answer:
    @staticmethod
    def from_bytes(data: Buffer) -> Answer: ...
    @staticmethod
    def from_json(text: str) -> Answer: ...
    def to_bytes(self) -> bytes: ...
    def to_json(self) -> str: ...
    code: str
    height: int
    time_ms: int

@final
class Verdict:
    verdict: Literal["REGISTERED", "NOT_REGISTERED", "MISMATCH", "NOT_OURS", "UNKNOWN", "UNAVAILABLE", "INVALID"]
    was: str | None
    current: bool
    status: str | None
    as_of: int | None  # header time, milliseconds since 1970 (UTC)
    height: int | None
    signatures: tuple[int, int]  # (n, of)
    steps: list[tuple[str, bool, str]]  # name, passed, detail; the last one failed when INVALID
    notes: list[str]
    subject: str | None  # the canonical subject
    code: str | None  # the code of the record: of an alias what it stands for, of a MISMATCH the other one
    record: str | None  # JSON of the record that decides
    def to_json(self) -> str: ...

def verify(
    answer: Answer | Buffer,
    trust: Trust,
    *,
    code: str | None = None,
    now: int | float | None = None,
    max_age: int | float | None = None,
    min_height: int | None = None,
) -> Verdict: ...  # now in seconds since 1970, max_age in seconds

# ---------------------------------------------------------------- transactions
def build_transaction(
    genesis_hash: bytes, valid_until: int, nonce: bytes, signers: Sequence[bytes], operations_json: str
) -> tuple[bytes, bytes, bytes]:
    """(body, id, message to sign). `operations_json` is a JSON list of operations, docs/protocol.md."""

def finish_transaction(body: Buffer, signatures: Sequence[bytes]) -> bytes: ...
def transaction_json(transaction: Buffer) -> str: ...
def possession_message(genesis_hash: bytes, subject: str, purpose: str, public_key: bytes) -> bytes: ...
def commitment(code: str, attribute: str, schema: str, salt: bytes, value: str) -> bytes: ...
def record_json(record: Buffer) -> str: ...
def header_json(header: Buffer) -> str: ...
def header_hash(header: Buffer) -> bytes: ...

# ---------------------------------------------------------------- ledger
@final
class Candidate:
    """An executed block that is neither committed nor dropped. Dropping the object frees it."""

    header: bytes
    value: bytes  # log root after this header: what consensus decides on
    height: int
    transactions: int
    state_root: bytes

@final
class Commit:
    """What one committed height leaves for the store, each as one buffer."""

    height: int
    changes: bytes  # every changed record: u16 key length, key, u32 record length, record
    receipts: bytes  # canonical CBOR array of receipts, in block order
    transactions: int
    committed: int
    rejected: int

@final
class Ledger:
    def __new__(cls, genesis: Genesis) -> Ledger: ...
    height: int
    time_ms: int
    header: bytes
    state_root: bytes
    log_root: bytes
    records: int
    # -- transactions in: each signature is verified once, here, in batches
    def admit(self, transactions: Buffer) -> list[tuple[bytes, str | None, str | None]]:
        """A CBOR sequence of transactions: (id, reason or None, message or None) each; accepted ones wait for `seal`.

        A sequence that stops parsing raises MalformedInput, with nothing of it admitted.
        """
    def waiting(self) -> tuple[int, int]:
        """(transactions, bytes) admitted and not sealed yet."""
    def seal(self, max_transactions: int, max_bytes: int) -> tuple[bytes, bytes] | None:
        """(digest, batch body) of waiting transactions; the batch is then in the pool."""
    def ingest(self, batches: Sequence[bytes]) -> list[tuple[bytes, int, str | None]]:
        """Batches from peers: (digest, transactions, error or None). One bad transaction refuses its whole batch."""
    def missing(self, digests: Buffer) -> list[bytes]:
        """Which of these 32-byte digests are not in the pool."""
    def batch(self, digest: Buffer) -> bytes | None: ...
    def includable(self, digest: Buffer, height: int) -> bool:
        """Whether every transaction of the batch may still stand in a block of this height."""
    def forget(self, digests: Buffer) -> None: ...
    def reclaim(self, digest: Buffer) -> int:
        """Drops a batch and queues those of its transactions anew that are valid and not included; how many."""
    def pool_size(self) -> tuple[int, int]:
        """(batches, bytes)."""
    # -- blocks
    def execute(self, height: int, time_ms: int, proposer: str, digests: Buffer) -> Candidate: ...
    def validate(self, header: Buffer, digests: Buffer) -> Candidate:
        """Executes and compares every field. RuleViolation (reason `invalid_block`) says which differs."""
    def commit(self, candidate: Candidate, certificate: bytes) -> Commit: ...
    def replay(
        self, headers: Sequence[bytes], changes: Sequence[bytes], receipts: Sequence[bytes], certificate: bytes
    ) -> None:
        """Restart: consecutive heights from the store; the last state root is compared with what the records give.

        `certificate` is the last height's. RuleViolation (`invalid_block`) when the store is damaged.
        """
    # -- reading: from the last committed snapshot, never blocked by execution
    def snapshot(self) -> Snapshot: ...
    def resolve(self, code: str) -> str: ...  # JSON {"verdict", "status", "record", "as_of", "height", …}
    def resolve_many(self, codes: Sequence[str]) -> list[str]: ...
    def answer(self, code: str) -> Answer: ...
    def receipt(self, id: bytes) -> tuple[int, str] | None:
        """(height, JSON receipt) within the replay window."""
    def receipt_proof(self, id: bytes) -> tuple[bytes, int, int, list[bytes]] | None:
        """(receipt, index, size, path) for a proof under the receipts root of its header, within the replay window."""
    def inclusion(self, index: int, size: int) -> bytes: ...
    def consistency(self, size1: int, size2: int) -> bytes: ...
    def log_root_at(self, size: int) -> bytes: ...
    def counters(self) -> dict[str, int]: ...  # verified_signatures, batches, transactions, …

@final
class Snapshot:
    height: int
    def resolve(self, code: str) -> str: ...
    def resolve_many(self, codes: Sequence[str]) -> list[str]: ...
    def answer(self, code: str) -> Answer: ...

# ---------------------------------------------------------------- checkpoints
def checkpoint_body(origin: str, size: int, root: bytes) -> bytes: ...
def cosignature_message(body: bytes, time_s: int) -> bytes: ...
def cosignature_line(name: str, public_key: bytes, time_s: int, signature: bytes) -> str: ...
def checkpoint_note(body: bytes, lines: Sequence[str]) -> str: ...
def cosignature_vkey(name: str, public_key: bytes) -> str: ...

# ---------------------------------------------------------------- consensus
@type_check_only
class Signer(Protocol):
    def sign(self, message: bytes, /) -> bytes: ...

_Effect = tuple[Any, ...]

@final
class Consensus:
    """Malachite behind a seam; see docs/architecture.md for the effects."""
    def __new__(
        cls,
        public_key: bytes,
        signer: Signer,
        genesis_hash: bytes,
        seed: bytes,
        *,
        propose_ms: int = 500,
        step_ms: int = 300,
        precommit_ms: int = 100,
        delta_ms: int = 200,
    ) -> Consensus: ...
    def start_height(self, height: int, validators: Sequence[bytes]) -> list[_Effect]: ...
    def recover(self, height: int, validators: Sequence[bytes], entries: Sequence[bytes]) -> list[_Effect]: ...
    def receive(self, messages: Sequence[bytes]) -> list[_Effect]: ...
    def propose(self, height: int, round: int, value: bytes) -> list[_Effect]: ...
    def proposed_value(
        self, height: int, round: int, valid_round: int, proposer: int, value: bytes, valid: bool, sync: bool
    ) -> list[_Effect]: ...
    def timeout(self, kind: str, round: int) -> list[_Effect]: ...
    def sync_value(self, certificate: bytes, value: bytes) -> list[_Effect]: ...
    height: int
    round: int
    step: str
    def stats(self) -> dict[str, int]: ...
    def set_timeouts(self, *, propose_ms: int, step_ms: int, precommit_ms: int, delta_ms: int) -> None: ...

def message_height(message: Buffer) -> int: ...
def verify_certificate(
    genesis_hash: bytes, validators: Sequence[bytes], certificate: Buffer
) -> tuple[int, int, bytes, int]:
    """(height, round, value, signatures); CertificateInvalid otherwise."""
