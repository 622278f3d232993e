"""The Rust core: codes, hashes, signatures, log, state map, ledger, answers, consensus.

For every call. Where a buffer is taken, anything with the buffer protocol will do (bytes, bytearray, memoryview, a
NumPy array of bytes). Hashes and public keys have 32 bytes, signatures 64; another length raises `MalformedInput`.
Heights and indexes count from 0; times are integers in milliseconds since 1970 (UTC) unless the name says otherwise.
Errors are those of `cityid.errors`, raised from Rust. Calls that verify, execute, commit or prove release the
interpreter, and all classes but `Consensus` may be used from several threads at once. `P22` and the like are lines of
docs/protocol.md.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, final, type_check_only

from _typeshed import StrPath
from typing_extensions import Buffer

__all__ = [
    "NEWEST_PROTOCOL",
    "Answer",
    "AuditPage",
    "Auditor",
    "Candidate",
    "Code",
    "Commit",
    "Consensus",
    "Disclosed",
    "Genesis",
    "History",
    "Ledger",
    "Members",
    "Snapshot",
    "SnapshotLoader",
    "SnapshotWriter",
    "StateMap",
    "Table",
    "TableHead",
    "TableWriter",
    "Tables",
    "Told",
    "Trust",
    "Verdict",
    "build_item_transaction",
    "build_transaction",
    "check_uscc",
    "checkpoint_body",
    "checkpoint_note",
    "commitment",
    "cosignature_line",
    "cosignature_message",
    "cosignature_vkey",
    "deciding_record",
    "encode_audit_block",
    "find_version",
    "finish_transaction",
    "header_hash",
    "header_json",
    "is_under",
    "leaf_hash",
    "log_root",
    "make_item_code",
    "make_item_codes",
    "message_height",
    "parse_many",
    "parse_prefix",
    "possession_message",
    "record_json",
    "sha256_many",
    "signature_backend",
    "storage_receipt_message",
    "transaction_json",
    "validator_set",
    "verify",
    "verify_certificate",
    "verify_consistency",
    "verify_disclosure",
    "verify_inclusion",
    "verify_signature",
    "verify_signatures",
    "verify_strict",
]

NEWEST_PROTOCOL: int
"""The newest protocol version whose rules this software knows (P67)."""

# ---------------------------------------------------------------- codes
@final
class Code:
    """A code in its canonical form: who issued it, what for, which one. Immutable, hashable, equal by text."""
    @staticmethod
    def parse(text: str, members: Members | None = None) -> Code:
        """Reads a code: lower case, a trailing `/`, or a code inside a URL are taken too.

        Without `members` every string that fits the grammar is native; with them, one of another city is foreign.
        Look-alike and full-width letters are refused, never folded. Raises `CodeError` when the text fits neither
        form, or when only its check character (ISO/IEC 7064 MOD 37,36) is wrong.
        """
    @staticmethod
    def from_did(did: str) -> Code:
        """Reads `did:cityid:` and a code with `/` written `:`. Raises `CodeError`."""
    text: str
    """The canonical text: upper case, no trailing `/`; of a foreign code the text as it came."""
    kind: Literal["city", "org", "category", "item", "foreign"]
    """What the code names. The fields below are None where a code of its kind has none."""
    city: str | None
    """Six digits (GB/T 2260)."""
    org: str | None
    """The organisation that issued the code: 4 to 8 of A-Z 0-9."""
    use: str | None
    """Two digits: 10 product, 60 asset, 73 person."""
    cls: str | None
    """Six digits."""
    model: str | None
    """1 to 8 of A-Z 0-9; `0` means none."""
    serial: int | None
    """0 to 999,999,999."""
    check: str | None
    """The check character (ISO/IEC 7064 MOD 37,36)."""
    alias: str | None
    """The 21 digits city, class, serial (the widths of CJ/T 553-2024); only of an item."""
    did: str
    """`did:cityid:` and the code with `/` written `:`."""
    path: str
    """The code as the path of a URL, with its leading `/`, escaped where it must be (RFC 3986)."""
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Members:
    """The member cities, six digits each: they decide which codes are native."""
    def __new__(cls, cities: Sequence[str]) -> Members:
        """Raises `CodeError` for a text that is no six digits."""
    def __contains__(self, city: str, /) -> bool: ...
    def __len__(self) -> int: ...

def parse_many(texts: Sequence[str], members: Members | None = None) -> tuple[list[Code | None], list[str | None]]:
    """(codes, errors), a row each: a bad row has None and what is wrong with it, never an exception.

    Raises `MalformedInput` only for more than 4 GiB of text.
    """

def make_item_code(city: str, org: str | None, use: str, cls: str, model: str, serial: int) -> str:
    """The canonical code of an item, its check character included. Raises `CodeError` for a part that breaks the
    grammar.
    """

def make_item_codes(category: str, serials: Sequence[int]) -> list[str]:
    """The same for many items of one category, which is given by its canonical code. Raises `CodeError` or
    `MalformedInput` when that is something else, or a serial is too large.
    """

def check_uscc(text: str) -> None:
    """Checks a unified social credit code (GB 32100-2015). Raises `CodeError` that says what is wrong."""

# ---------------------------------------------------------------- hashes, signatures, log, map
def sha256_many(data: Buffer | Sequence[bytes], offsets: Buffer | None = None) -> bytes:
    """SHA-256 (FIPS 180-4) of n messages: n times 32 bytes, joined.

    The messages are a list of bytes, or one buffer `data` with `offsets`: n + 1 unsigned 32-bit integers in native byte
    order, message i from offset i to offset i + 1. Raises `MalformedInput` for offsets that descend or lie beyond the
    data.
    """

def verify_signature(public_key: Buffer, message: Buffer, signature: Buffer) -> bool:
    """Whether an Ed25519 signature verifies under ZIP-215, the rule of the whole network (P15)."""

def verify_signatures(
    public_keys: Sequence[bytes], messages: Sequence[bytes], signatures: Sequence[bytes]
) -> list[bool]:
    """Verifies n signatures in batches, on all cores: a verdict an item, always that of `verify_signature`.

    Keys seen before are cached. Raises `MalformedInput` when the three lists differ in length.
    """

def verify_strict(public_key: Buffer, message: Buffer, signature: Buffer) -> bool:
    """Whether an Ed25519 signature verifies under strict RFC 8032 (section 5.1.7), as Go's crypto/ed25519 does it."""

def signature_backend() -> str:
    """Which implementation verifies on this machine: `avx512ifma`, `avx2` or `serial`."""

def leaf_hash(data: Buffer) -> bytes:
    """The leaf hash of a log entry: SHA-256 of a zero byte and the entry (RFC 9162 section 2.1.1), 32 bytes."""

def log_root(leaves: Sequence[bytes]) -> bytes:
    """The root over leaf hashes (RFC 9162 section 2.1.1), 32 bytes; of no leaves SHA-256 of nothing."""

def verify_inclusion(leaf_hash: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """That a leaf hash stands at `index` in the log of `size` leaves (RFC 9162 section 2.1.3.2). Raises
    `ProofInvalid`.
    """

def verify_consistency(size1: int, size2: int, proof: Sequence[bytes], root1: bytes, root2: bytes) -> None:
    """That the log of `size2` leaves extends the one of `size1` (RFC 9162 section 2.1.4.2). Raises `ProofInvalid`."""

@final
class StateMap:
    """A map from paths to values with a provable root (P10): the state map of a network, for any use.

    Key = SHA-256(path), value hash = SHA-256(value), hash rules of the `jmt` crate.
    """
    def __new__(cls) -> StateMap:
        """An empty map, in memory."""
    def update(self, items: Sequence[tuple[bytes, bytes | None]]) -> bytes:
        """Puts (path, value) pairs, or removes where the value is None, all at once; the new root.

        Of a path that is given twice the last pair counts; removing what is absent changes nothing.
        """
    def get(self, path: Buffer) -> bytes | None:
        """The value under a path, or None."""
    def prove(self, path: Buffer) -> bytes:
        """A proof that `get(path)` is what the present root commits to, present or absent: canonical CBOR `[ops,
        hashes]` (P40).
        """
    @staticmethod
    def verify(root: bytes, path: Buffer, value: Buffer | None, proof: Buffer) -> None:
        """That under `root` the path has this value, or is absent when `value` is None.

        Raises `ProofInvalid` when the proof leads elsewhere, `MalformedInput` when it does not parse.
        """
    root: bytes
    """The root, 32 bytes."""
    def __len__(self) -> int:
        """How many paths have a value."""

# ---------------------------------------------------------------- genesis, trust, answers
@final
class Genesis:
    """The first state of a network; parsed from its JSON file, hashed in its canonical CBOR form."""
    @staticmethod
    def from_json(text: str) -> Genesis:
        """Reads a genesis file (P4). Raises `MalformedInput`, or `CodeError` for a city that is no six digits."""
    def to_json(self) -> str:
        """The file, with its fields in a fixed order."""
    hash: bytes
    """The genesis hash (P5), 32 bytes: the name of the network in everything that is hashed or signed."""
    name: str
    """The network's name, for people."""
    test: bool
    """Whether it is a TEST network: its registration with the issuing agency is not recorded."""
    time_ms: int
    """Time of block 0, milliseconds since 1970 (UTC)."""
    cities: list[str]
    """The founding cities, six digits each, ascending: the first validators, in order. `Ledger.validators` has those of
    the next height."""
    def parameters(self) -> dict[str, int]:
        """The first limits and intervals by name (P6). `Ledger.parameters` has those that hold."""
    def city(self, city: str) -> dict[str, Any]:
        """A founding city: `city`, `name`, public keys `consensus`, `checkpoint`, `tls`, and the list `transaction`.

        Raises `CodeError` when the genesis has no such city.
        """

@final
class Trust:
    """Genesis hash, validator set, height, time: all that a verifier believes."""
    @staticmethod
    def load(path: StrPath) -> Trust:
        """Reads a trust file or a genesis file, up to 1 MiB. Raises `MalformedInput`, or `OSError` when it cannot be
        read.
        """
    @staticmethod
    def from_genesis(path: StrPath) -> Trust:
        """The same; for code that says what it has."""
    @staticmethod
    def from_json(text: str) -> Trust:
        """Reads the text of a trust file or genesis file. Raises `MalformedInput`."""
    def to_json(self) -> str:
        """A trust file, with its fields in a fixed order."""
    def advance(self, header: bytes, log_path: bytes, certificate: bytes, next_set: bytes | None = None) -> Trust:
        """The trust at a later header that these validators certify (P75).

        `log_path` is the inclusion path of the header in the log that ends with it, 32 bytes a hash. `next_set` is the
        next validator set in its canonical bytes, as `Ledger.set_changes` gives it; only needed where the header names
        another one than trust has. Raises `CertificateInvalid` for another network, a height or time that does not
        rise, a header under another validator set (advance over every change of the set first), a next set that is
        missing or not the one that the header names, or too few signatures.
        """
    words: str
    """Six words for people to compare: 96 bits of the trust's hash as proquints (arXiv:0901.4016)."""
    name: str
    """The network's name."""
    genesis_hash: bytes
    """Which network, 32 bytes."""
    height: int
    """The height that it was advanced to; 0 from a genesis."""
    time_ms: int
    """Time of that height, milliseconds since 1970 (UTC)."""
    validators: list[tuple[str, bytes]]
    """(city, consensus key) of the cities whose certificates count, ascending by city."""
    validator_set: bytes
    """The canonical bytes of its validator set, whose hash headers carry (P31)."""
    test: bool
    """Whether it is a TEST network."""

@final
class Answer:
    """What a gateway returns about a code (P38), self-contained. Nothing in it is believed before `verify`."""
    @staticmethod
    def from_bytes(data: Buffer) -> Answer:
        """Reads canonical CBOR, up to 256 KiB. Raises `MalformedInput` for anything that is not the one encoding."""
    @staticmethod
    def from_json(text: str) -> Answer:
        """Reads the JSON form, up to 384 KiB. Raises `MalformedInput`."""
    def to_bytes(self) -> bytes:
        """Canonical CBOR (RFC 8949 section 4.2.1)."""
    def to_json(self) -> str:
        """The same content as JSON: 64-bit integers as strings, bytes in base64url."""
    code: str
    """The subject that it claims to be about."""
    height: int
    """The height of its header."""
    time_ms: int
    """The time of its header, milliseconds since 1970 (UTC)."""
    records: list[tuple[str, bytes | None]]
    """(kind, encoded record) of what it shows, in its order (P39); None is claimed to be absent. See `record_json`."""
    table: bytes | None
    """Of an item of a sealed range: the table proof of its serial (P41), canonical CBOR; what P47 takes."""

@final
class Verdict:
    """What an answer says under a trust (P42): about registration, never about the thing that carries the code."""

    verdict: Literal["REGISTERED", "NOT_REGISTERED", "MISMATCH", "NOT_OURS", "UNKNOWN", "UNAVAILABLE", "INVALID"]
    """What is proven as of `height`; UNKNOWN when the header is too old or of another validator set."""
    was: str | None
    """Of UNKNOWN: what was proven at `height`, if anything."""
    current: bool
    """Whether it holds now: a time was given, and the header is recent enough for it."""
    status: str | None
    """The effective status (P13) of what is or `was` registered: allocated, active, suspended or retired."""
    as_of: int | None
    """Time of the header, milliseconds since 1970 (UTC); None while its certificate has not been checked."""
    height: int | None
    """Height of the header; None while its certificate has not been checked."""
    signatures: tuple[int, int]
    """(n, of): how many cities signed, and of how many."""
    steps: list[tuple[str, bool, str]]
    """(name, passed, detail) of each check, in order. Of INVALID the last one failed."""
    notes: list[str]
    """What a person should know besides, in English."""
    subject: str | None
    """The canonical subject."""
    code: str | None
    """The code of `record`: of an alias the one it stands for, of MISMATCH the other one."""
    record: str | None
    """The record that decides, as JSON."""
    def to_json(self) -> str:
        """All of it, with stable keys; 64-bit integers as strings, `record` as an object."""

def verify(
    answer: Answer | Buffer,
    trust: Trust,
    *,
    code: str | None = None,
    now: int | float | None = None,
    max_age: int | float | None = None,
    min_height: int | None = None,
) -> Verdict:
    """Checks an answer (or its CBOR) with nothing but a trust: pure, no network, no clock; every input gets a verdict.

    `code`: an answer about another one is INVALID. `now`, in seconds since 1970: without it there is no age check and
    no claim to be current. `max_age`, in seconds: an older header makes UNKNOWN; 80 when left out. `min_height`: a
    lower header makes UNKNOWN. Raises `ValueError` for a negative time, and nothing for what stands in the answer.
    """

# ---------------------------------------------------------------- histories and audits
@final
class History:
    """Every version of a record, and what proves them (P74). Nothing in it is believed before `verify`."""
    @staticmethod
    def join(parts: Sequence[History]) -> History:
        """A history and the parts that continue it, as one. Raises `MalformedInput` over a limit."""
    def __new__(
        cls, answer: Answer | None, versions: Sequence[bytes], headers: Sequence[tuple[bytes, bytes]]
    ) -> History:
        """From an answer, the encoded records before the one that decides, newest first, and (header, inclusion path of
        32 bytes a hash) of the heights at which versions were made, ascending. Without an answer it is a part that
        continues another one. Raises `MalformedInput` over a limit.
        """
    @staticmethod
    def from_bytes(data: Buffer) -> History:
        """Reads canonical CBOR, up to 16 MiB and 4,096 versions. Raises `MalformedInput`."""
    @staticmethod
    def from_json(text: str) -> History:
        """Reads the JSON form, up to 24 MiB. Raises `MalformedInput`."""
    def to_bytes(self) -> bytes:
        """Canonical CBOR."""
    def to_json(self) -> str:
        """The same content as JSON, bytes in base64url."""
    answer: Answer | None
    """The answer; None in a part that continues another one."""
    def verify(
        self,
        trust: Trust,
        *,
        code: str | None = None,
        now: int | float | None = None,
        max_age: int | float | None = None,
        min_height: int | None = None,
    ) -> Told:
        """Checks the answer as `verify` does, then that each version is the one whose hash the later one names, and the
        headers under the answer's log. Pure; every history gets a verdict.
        """

@final
class Told:
    """What a history says under a trust."""

    verdict: Verdict
    """That of the answer, with the step `history`."""
    complete: bool
    """Whether it goes down to version 1."""
    missing: tuple[int, int, bytes] | None
    """(version, height at which it was made, hash) of the version that is missing next; None when nothing is."""
    versions: list[tuple[int, int, int | None, str]]
    """(version, height, time in milliseconds or None, record as JSON), newest first. Empty when nothing counts."""
    def at(self, height: int) -> tuple[int | None, str | None]:
        """Which version held after a height: (version, None); (None, None) before the first; (None, why) when it is not
        known from this history.
        """
    def at_time(self, time_ms: int) -> tuple[int | None, str | None]:
        """The same at a time, milliseconds since 1970 (UTC)."""
    def extend(self, part: History) -> None:
        """Adds a part that continues it. Raises `ProofInvalid` when it does not, and adds nothing then."""
    def to_json(self) -> str:
        """All of it, with stable keys."""

@final
class AuditPage:
    """Up to 64 records of one state, proven together, each with versions before it (P77)."""
    @staticmethod
    def from_bytes(data: Buffer) -> AuditPage:
        """Reads canonical CBOR, up to 16 MiB. Raises `MalformedInput`."""
    def to_bytes(self) -> bytes:
        """Canonical CBOR."""
    def verify(self, trust: Trust) -> tuple[bytes, bytes, list[tuple[bytes, str | None, list[bytes]]]]:
        """(header, root of the log that it ends, entries); an entry is (map key, code or None of a range, encoded
        versions, the present one first).

        Raises `CertificateInvalid` or `ProofInvalid` with what does not hold.
        """

@final
class Auditor:
    """Follows whole blocks from a height on (P78)."""
    def __new__(cls, genesis_hash: bytes, first: int, peaks: bytes, sets: Sequence[bytes], prefix: str) -> Auditor:
        """`peaks`: the complete subtrees of the log below height `first`, 32 bytes a hash, the largest first; `sets`:
        canonical validator sets that headers name. Raises `MalformedInput`, or `CodeError` for the prefix.
        """
    def blocks(self, data: Buffer) -> list[str]:
        """Checks a CBOR sequence of the next blocks: parents, votes, batches, transactions, receipts.

        JSON of each: height, time, votes, and the transactions that concern the prefix. Raises `ProofInvalid`,
        `CertificateInvalid`, `MalformedInput`.
        """
    log: tuple[int, bytes]
    """(size, root) of the log up to the last block: to be compared with a certified header's."""

def deciding_record(answer: Answer) -> tuple[bytes, bytes] | None:
    """(map key, encoded record) of the record that decides in an answer, of which nothing is verified."""

def find_version(changes: Buffer, key: bytes, hash: bytes) -> bytes | None:
    """The record with this tagged hash (P11) that a height wrote under a key; `changes` are those of its `Commit`."""

def encode_audit_block(header: bytes, certificate: bytes, receipts: bytes, batches: Sequence[bytes]) -> bytes:
    """A whole block as auditors get it (P78)."""

def parse_prefix(text: str) -> str:
    """A prefix of codes in upper case: `MA.156`, or further parts of a code. Raises `CodeError`."""

def is_under(prefix: str, code: str) -> bool:
    """Whether a canonical code is under a prefix: equal, or going on at a boundary. Raises `CodeError`."""

@final
class Disclosed:
    """What disclosed attributes are worth under a trust (P76): proven is that a value was committed to, not that it is
    true.
    """

    proven: bool
    """Whether every attribute is proven, of a subject whose verdict is REGISTERED."""
    attributes: list[tuple[str, str, str, Literal["proven", "differs", "not_committed", "not_proven"]]]
    """(attribute, schema, value, result) each, in the order of the disclosure."""
    verdict: Verdict
    """The verdict on the answer."""
    def to_json(self) -> str:
        """All of it, with stable keys; the verdict as `Verdict.to_json` has it."""

def verify_disclosure(
    disclosure: str,
    answer: Answer | Buffer | None,
    trust: Trust,
    *,
    now: int | float | None = None,
    max_age: int | float | None = None,
    min_height: int | None = None,
) -> Disclosed:
    """Checks disclosed attributes (the text of a disclosure file, P76) with nothing but an answer and a trust: pure.

    The answer must be about the code of the disclosure; None takes the one that travels in the disclosure. The other
    arguments are those of `verify`. Raises `MalformedInput` for a text that is no disclosure, bytes that are no answer,
    or when there is no answer at all; `CodeError` for a code that breaks the grammar.
    """

# ---------------------------------------------------------------- transactions
def build_transaction(
    genesis_hash: bytes, valid_until: int, nonce: bytes, signers: Sequence[bytes], operations_json: str
) -> tuple[bytes, bytes, bytes]:
    """(body, id, message to sign) of a transaction (P14, P15).

    `valid_until` is the last height that may include it, `nonce` 8 to 32 fresh bytes, `signers` public keys in any
    order, `operations_json` a JSON list of operations (P22 to P28), up to 16 MiB. Raises `MalformedInput`,
    `CodeError`.
    """

def build_item_transaction(
    genesis_hash: bytes,
    valid_until: int,
    nonce: bytes,
    signers: Sequence[bytes],
    *,
    category: str,
    serials: Sequence[int],
    commitments: Sequence[Sequence[tuple[str, bytes]]],
    namespace: str,
    aliases: Sequence[str | None],
) -> tuple[bytes, bytes, bytes]:
    """The same for many items of one category, given as columns: what `register_items` and `register_aliases` say.

    `category` is the canonical code of the category; a row is a serial, its commitments (name, 32 bytes) and its old
    number in `namespace` or None. A column without any entry may be empty. Raises `MalformedInput`, `CodeError`.
    """

def finish_transaction(body: Buffer, signatures: Sequence[bytes]) -> bytes:
    """A transaction from its body and a signature of each signer, in ascending order of their keys.

    Raises `MalformedInput` when the result does not parse; the signatures are not verified.
    """

def transaction_json(transaction: Buffer) -> str:
    """A transaction as JSON. Raises `MalformedInput`."""

def possession_message(genesis_hash: bytes, subject: str, purpose: str, public_key: bytes) -> bytes:
    """What the holder of a new key signs to show that it has the private half (P16).

    `subject` is the code of a city or organisation, `purpose` is
    `transaction`, `consensus`, `checkpoint`, `tls` or `recovery`.
    Raises `CodeError` or `MalformedInput` when they are something else.
    """

def commitment(code: str, attribute: str, schema: str, salt: bytes, value: str) -> bytes:
    """The salted commitment to one attribute of a subject, 32 bytes.

    The salt has 16 bytes, fresh for every attribute and version. Raises `MalformedInput` for a text that is too long.
    """

def record_json(record: Buffer) -> str:
    """A record as JSON, 64-bit integers as strings. Raises `MalformedInput`."""

def header_json(header: Buffer) -> str:
    """A header as JSON, 64-bit integers as strings, hashes in hexadecimal. Raises `MalformedInput`."""

def header_hash(header: Buffer) -> bytes:
    """The tagged hash of a header (P31), 32 bytes: the `parent` of the next one."""

# ---------------------------------------------------------------- ledger
@final
class Candidate:
    """An executed block that is neither committed nor dropped. Dropping the object frees it."""

    header: bytes
    """The header that follows from the execution (P31), canonical CBOR."""
    value: bytes
    """The log root after this header (P33): what consensus decides on."""
    height: int
    """Its height."""
    transactions: int
    """How many transactions stand in it."""
    state_root: bytes
    """The state root after it."""

@final
class Commit:
    """What one committed height leaves for the store, each as one buffer."""

    height: int
    """The height."""
    changes: bytes
    """Every version written, in order: key length (2 bytes, big-endian), key, record length (4), record."""
    receipts: bytes
    """Canonical CBOR array of the receipts (P32) as byte strings, in block order."""
    transactions: int
    """Transactions in the block."""
    committed: int
    """How many of them took effect."""
    rejected: int
    """How many the rule refused."""
    tables: list[bytes]
    """Digests of the table files that it sealed (P46)."""
    configuration: bool
    """Whether a city, its keys, the committee, a parameter or the schedule of protocols changed at this height."""

@final
class Ledger:
    """Transactions in, blocks executed on the side, one of them committed, answers from what is committed.

    In memory and deterministic: no clock, no randomness that reaches an output, no I/O. Transactions travel as bytes in
    large buffers; no call handles a single one of a block.
    """
    def __new__(cls, genesis: Genesis) -> Ledger:
        """A ledger at height 0."""
    height: int
    """Of the last committed block."""
    time_ms: int
    """Of its header, milliseconds since 1970 (UTC)."""
    header: bytes
    """Its header, canonical CBOR."""
    state_root: bytes
    """Root of the state map after it."""
    log_root: bytes
    """Root of the log of headers that ends with it: at height h the log has h + 1 leaves."""
    records: int
    """How many keys of the state map have a record."""
    # -- governance: what the committed state says, never the genesis
    validators: list[tuple[str, bytes]]
    """(city, consensus key) of who decides the next height, ascending by city."""
    protocol: int
    """Protocol version of the next height (P67). `execute` and `validate` raise `RuleViolation` (`unknown_protocol`)
    when this software does not know it."""
    def protocols(self) -> list[tuple[int, int]]:
        """(version, height) of every protocol version there is or will be: from this height on it holds (P67)."""
    def parameters(self) -> dict[str, int]:
        """Limits and intervals by name (P6) for the next height; they change by governance (P66, P71)."""
    def cities(self) -> list[dict[str, Any]]:
        """Every member city ascending, retired ones too: `city`, `name`, `status`, `committee`, the public keys
        `consensus`, `checkpoint` and `tls`, the list `transaction`, `certificate` (DER of its TLS certificate, None of
        a founding city that never changed it), `services`, `administered_by` and `successor` (codes or None).
        """
    def set_changes(self, from_height: int = 0) -> list[tuple[int, bytes]]:
        """(height, next set) of every header above `from_height` that names another next set: what a trust walks over
        (P75). The set is in its canonical bytes; `validator_set` reads them.
        """
    def validators_at(self, height: int) -> list[tuple[str, bytes]]:
        """(city, consensus key) of who decides or decided a height, up to the next one. Raises `RuleViolation`
        (`unknown_height`) above that.
        """
    # -- transactions in: each signature is verified once, here, in batches
    def admit(self, transactions: Buffer) -> list[tuple[bytes, str | None, str | None]]:
        """A CBOR sequence of transactions (RFC 8742): (id, reason or None, message or None) each; accepted ones wait
        for `seal`.

        What is wrong with one of them is its reason (P18; `overloaded` when what waits fills 128 MiB of memory). One
        that waits or is included already counts as accepted and is not queued twice. A sequence that stops parsing
        raises `MalformedInput`, one of more than 16 MiB `RuleViolation` (`too_large`), with nothing of it admitted.
        """
    def waiting(self) -> tuple[int, int]:
        """(transactions, bytes) admitted and not sealed yet."""
    def seal(self, max_transactions: int, max_bytes: int) -> tuple[bytes, bytes] | None:
        """(digest, batch body) of the oldest waiting transactions (P30), or None; the batch is then in the pool.

        Network limits hold besides the two bounds; a single transaction over `max_bytes` makes a batch of its own.
        """
    def ingest(self, batches: Sequence[bytes]) -> list[tuple[bytes, int, str | None]]:
        """Batches from peers: (digest, transactions, error or None) each. One bad transaction refuses its whole batch.

        What can only be judged at a height (P18, `valid_until`) is judged by `includable` and in a block. A pool of
        more than 512 MiB of memory refuses with an error.
        """
    def missing(self, digests: Buffer) -> list[bytes]:
        """Which of these 32-byte digests are not in the pool."""
    def batch(self, digest: Buffer) -> bytes | None:
        """The body of a batch in the pool."""
    def includable(self, digest: Buffer, height: int) -> bool:
        """Whether every transaction of the batch may still stand in a block of this height."""
    def within_items(self, digests: Buffer, items: int) -> int:
        """How many of the first of these batches (joined 32-byte digests) have at most so many items together; at least
        one, if there is any. An operation on no item counts as one.
        """
    def expired(self, digest: Buffer, height: int) -> bool:
        """Whether a transaction of a batch in the pool can stand in no block of this height or above."""
    def forget(self, digests: Buffer) -> None:
        """Drops batches from the pool, given as joined 32-byte digests."""
    def reclaim(self, digest: Buffer) -> int:
        """Drops a batch and queues those of its transactions anew that are valid and not included; how many."""
    def pool_size(self) -> tuple[int, int]:
        """(batches, bytes)."""
    # -- blocks
    def execute(self, height: int, time_ms: int, proposer: str, digests: Buffer) -> Candidate:
        """Executes the block after the tip, from batches of the pool; changes nothing that anybody sees.

        Raises `RuleViolation`: `missing_batch` when a batch is not in the pool, `invalid_block` when no such block can
        be valid (P34).
        """
    def validate(self, header: Buffer, digests: Buffer) -> Candidate:
        """Executes what a header claims and compares every field; raises as `execute`, and says which field differs."""
    def commit(self, candidate: Candidate, certificate: bytes) -> Commit:
        """Makes a candidate the committed block, publishes it to readers, and drops its batches from the pool.

        The caller has verified the certificate's signatures; raises `CertificateInvalid` when it is for another block
        or counts no quorum, `RuleViolation` when the candidate does not follow the tip or was committed before.
        """
    def replay(
        self, headers: Sequence[bytes], changes: Sequence[bytes], receipts: Sequence[bytes], certificate: bytes
    ) -> None:
        """Restart: consecutive heights from the store, without executing them; roots are compared at the last one.

        `changes` and `receipts` are what `commit` gave, `certificate` is the last height's. Raises `RuleViolation`
        (`invalid_block`) or `CertificateInvalid` when the store is damaged.
        """
    # -- reading: from the last committed snapshot, never blocked by execution
    def snapshot(self) -> Snapshot:
        """The last committed block, to read several things from."""
    def use_tables(self, tables: Tables) -> None:
        """From now on `answer`, `resolve` and `resolve_many`, also of snapshots, prove items of sealed ranges (P41).

        Without its table an item of a sealed range is UNAVAILABLE.
        """
    def resolve(self, code: str) -> str:
        """As `Snapshot.resolve`, from the last committed block."""
    def resolve_many(self, codes: Sequence[str]) -> list[str]:
        """As `Snapshot.resolve_many`, from the last committed block."""
    def answer(self, code: str) -> Answer:
        """As `Snapshot.answer`, from the last committed block."""
    def sealed_tables(self) -> list[tuple[str, str, int, int, bytes]]:
        """(city, class, base, size, digest of the table file) of every sealed range of the last committed block."""
    def receipt(self, id: bytes) -> tuple[int, str] | None:
        """(height, JSON receipt) of an included transaction, within the replay window (P6)."""
    def receipt_proof(self, id: bytes) -> tuple[bytes, int, int, list[bytes]] | None:
        """(receipt, index, size, path) for a proof under the receipts root of its header, within the replay window."""
    def inclusion(self, index: int, size: int) -> bytes:
        """The inclusion path of the header of height `index` in the log of `size` headers (RFC 9162): 32 bytes a hash,
        joined.
        """
    def consistency(self, size1: int, size2: int) -> bytes:
        """The consistency proof between two sizes of the log (RFC 9162): 32 bytes a hash, joined."""
    def log_root_at(self, size: int) -> bytes:
        """The root of the log of the first `size` headers."""
    def write_snapshot(self, walk: Sequence[tuple[bytes, bytes]]) -> SnapshotWriter:
        """Begins a snapshot of the last committed block (P79). `walk`: (header, commit certificate) of every height in
        `set_changes(0)`, ascending. Raises `RuleViolation`: `not_ready` at height 0, `unknown_height`.
        """
    def install(self, snapshot: SnapshotLoader) -> None:
        """Puts a finished snapshot in the place of everything that this ledger holds. Raises `RuleViolation` when it is
        not later (`invalid_block`) or not finished (`spent`); the ledger then stays as it was.
        """
    def genesis_changes(self) -> bytes:
        """The records of block 0 in the form of `Commit.changes`: no store holds them."""
    def log_peaks(self, size: int) -> bytes:
        """The complete subtrees of the log of the first `size` headers, the largest first: 32 bytes a hash, joined."""
    def listing(
        self, snapshot: Snapshot, prefix: str, *, after: str | None = None, limit: int = 1000, ranges: bool = False
    ) -> tuple[list[tuple[bytes, str | None, bytes]], str | None, int]:
        """A page of what a snapshot holds under a prefix of codes: ((map key, code, record) each, where the next page
        begins or None, how many sealed ranges were passed, whose items are in tables).

        Ascending by kind and key; at most 1,000 entries and 200,000 look-ups, so a page that is not the last may be
        empty. Ranges have no code. Raises `CodeError`, `MalformedInput`.
        """
    def counters(self) -> dict[str, int]:
        """Counts since this ledger was made: `verified_signatures`, `batches`, `transactions`, `executions`,
        `committed`, `rejected`.
        """

@final
class SnapshotWriter:
    """A snapshot of one height that is being written while the ledger goes on."""

    height: int
    """The height that is written."""
    def next_chunk(self, ledger: Ledger) -> tuple[bytes, bytes] | None:
        """(SHA-256, bytes) of the next chunk, None after the last. `ledger` is the one that began it."""
    def manifest(self) -> bytes:
        """The manifest (P79) of the chunks that were written: of all after the last."""

@final
class SnapshotLoader:
    """A snapshot that is being read. What it trusts is the genesis alone (P81)."""

    def __new__(cls, genesis: Genesis, manifest: Buffer) -> SnapshotLoader:
        """Checks the header of a manifest by the certificates that lead to it. Raises `MalformedInput`,
        `CertificateInvalid`, `ProofInvalid`, `SignatureInvalid`.
        """
    height: int
    """The height that it is of."""
    size_bytes: int
    """Bytes of all chunks."""
    header: bytes
    """Of that height."""
    header_hash: bytes
    """Its tagged hash (P31)."""
    certificate: bytes
    """The commit certificate of that height (P36)."""
    validators: list[tuple[str, bytes]]
    """(city, consensus key) of who decided it."""
    chunks: list[tuple[bytes, int]]
    """(SHA-256, length) of every chunk, in order."""
    walk: list[tuple[bytes, bytes]]
    """(header, commit certificate) of every set change below the height, ascending."""
    def add(self, chunk: Buffer) -> None:
        """Takes the next chunk. Raises `ProofInvalid` or `MalformedInput` when it is not the one, or not true."""
    def finish(self) -> None:
        """Checks the whole: state root, log, remembered heights (P81, P82). Raises `ProofInvalid`, `MalformedInput`."""

@final
class Snapshot:
    """One committed block to read from, whatever is committed meanwhile. It keeps alive what it shows."""

    height: int
    """Its height."""
    def record(self, key: Buffer) -> bytes | None:
        """The encoded record under a map key (P8)."""
    def sealed_version(self, key: Buffer, hash: bytes) -> bytes | None:
        """The version of an item, by its map key, with this tagged hash: from the table of its range, or from those
        before it, as far as they are at hand (`Ledger.use_tables`).
        """
    def audit_page(self, entries: Sequence[tuple[bytes, Sequence[bytes]]]) -> AuditPage:
        """Records under up to 64 map keys, ascending, proven together, each with the versions given for it. Raises
        `MalformedInput`, or `RuleViolation` (`not_ready`) at height 0.
        """
    def range(self, city: str, cls: str, base: int, size: int) -> str | None:
        """The record of a range as JSON, or None when nobody holds it as one. Raises `MalformedInput` for what is no
        range.
        """
    def resolve(self, code: str) -> str:
        """What this state says of a code, without proof, as JSON: `subject`, `verdict`, `status`, `code`, `record`,
        `as_of`, `height`.

        Raises `CodeError` for a text that is no code, `RuleViolation` (`not_ready`) at height 0.
        """
    def resolve_many(self, codes: Sequence[str]) -> list[str]:
        """The same for many codes, in order; a row that is no code has the verdict INVALID and an `error`."""
    def answer(self, code: str) -> Answer:
        """The answer about a code, with its proof. Raises `CodeError`, or `RuleViolation` (`not_ready`) at height 0
        (P7).
        """
    def proposal(self, number: int) -> str | None:
        """A proposal (P70) as JSON, without proof, its `change` in the form of P61 to P68."""
    def configuration(self) -> str:
        """The record of P70 as JSON, without proof: `parameters` by name, `committee`, `members`, `proposals`,
        `protocol`.
        """

def validator_set(data: Buffer) -> list[tuple[str, bytes]]:
    """(city, consensus key) of a validator set in its canonical bytes. Raises `MalformedInput`."""

# ---------------------------------------------------------------- sealed tables
@final
class TableWriter:
    """Builds a table file (P43) with bounded memory. The file appears at `path` when it is finished.

    Calls come in any order; of one serial there may be one new leaf. A refused call adds nothing, but after a refused
    `add_csv` the table is begun anew.
    """
    def __new__(
        _cls,
        path: StrPath,
        *,
        genesis_hash: Buffer,
        city: str,
        cls: str,
        base: int,
        size: int,
        org: str | None,
        seed: Buffer,
        height: int,
        previous: StrPath | None = None,
    ) -> TableWriter:
        """A table of the range of `size` (1,000 or 1,000,000) serials from `base`.

        `org` is the range's holder (None: the city), `seed` 32 random bytes, fresh for every version, `height` a height
        that was decided, for the new records. `previous` is the file of the version before, whose items stay. Raises
        `MalformedInput`, `CodeError`, or `StorageError` when the disk fails.
        """
    def add_run(self, use_: str, model: str, first: int, last: int, *, step: int = 1, status: str = "active") -> int:
        """Serials from `first` to `last`, both included, `step` apart; how many.

        Raises `MalformedInput` for serials outside the range, `RuleViolation` (`exists`) for one that the table holds
        already.
        """
    def add_list(self, use_: str, model: str, serials: Buffer, *, status: str = "active") -> int:
        """Serials that ascend, 32-bit integers in native byte order (`array("I")`); how many. Raises as `add_run`."""
    def add_csv(self, data: Buffer, *, salts: Buffer | None = None, category: tuple[str, str] | None = None) -> bytes:
        """A piece of a CSV text (RFC 4180, UTF-8); the rows that open its commitments, to keep.

        The header comes first: `code`, or `serial`, `use` and `model`, or `serial` alone when `category` gives use and
        model of every row; `status` if wanted (active or allocated); every
        other column is an attribute, and an empty value is left out. An empty piece ends the text and must come. The
        result is CSV: `code,attribute,schema,salt,value`, its header in the first piece. `salts` is 32 random bytes,
        fresh for each call (drawn here when left out), from which every value's own salt is made. Raises
        `MalformedInput` or `RuleViolation` (`exists`) with the line.
        """
    def add_records(self, records: Sequence[Buffer]) -> int:
        """Item records that the ledger holds: overrides to take up, items registered singly; how many.

        They replace what the previous file holds. Raises `MalformedInput`, or `RuleViolation` (`exists`) for a second
        new leaf of one serial.
        """
    def finish(self) -> Table:
        """Writes the file, synced, and opens it. Raises `MalformedInput`, `StorageError`; no file is left then."""

@final
class TableHead:
    """What the head of a table file says (P43); the rest of the file was not looked at."""
    @staticmethod
    def read(path: StrPath) -> TableHead:
        """Raises `MalformedInput` when it is no head, `StorageError` when it cannot be read."""
    city: str
    """Of the range."""
    cls: str
    """Of the range."""
    base: int
    """First serial of the range."""
    size: int
    """How many serials the range has: 1,000 or 1,000,000."""
    previous: bytes | None
    """Digest of the file of the version before; None for version 1."""

@final
class Table:
    """One table file (P43). About 80 kB of memory for a full million; records stay on disk."""
    @staticmethod
    def open(path: StrPath) -> Table:
        """Reads the whole file once, strictly. Raises `MalformedInput` when it is no table, `StorageError` when it
        cannot be read.
        """
    digest: bytes
    """SHA-256 of the file."""
    root: bytes
    """Root of the table (P41)."""
    depth: int
    """10 or 20."""
    version: int
    """From 1."""
    count: int
    """How many items it holds."""
    city: str
    """Of the range."""
    cls: str
    """Of the range."""
    base: int
    """First serial of the range."""
    size: int
    """How many serials the range has: 1,000 or 1,000,000."""
    previous: bytes | None
    """Digest of the file of the version before."""
    size_bytes: int
    """Length of the file."""
    path: Path
    """Where it was opened."""
    def prove(self, serial: int) -> bytes:
        """The table proof of a serial, present or absent: canonical CBOR (P41).

        Rereads and rehashes the part of the file that it needs. Raises `MalformedInput` for a serial outside the range,
        `StorageError` when the file is damaged.
        """
    def record(self, serial: int) -> bytes | None:
        """The encoded record of a serial, or None. Raises as `prove`."""
    def check(self, snapshot: Snapshot, previous: Table | None) -> None:
        """That this table may succeed what the state and the table before hold (P44).

        `previous` is the table that the state's range has now. Raises `RuleViolation` (`bad_table`) with what is wrong,
        `StorageError` when a file is damaged.
        """
    def statement(self, expected_version: int) -> bytes:
        """What a storage receipt of this table signs for a range whose record has this version (P45)."""

@final
class Tables:
    """A folder of table files named DIGEST.table, each with a small index beside it. For any number of threads."""
    def __new__(cls, directory: StrPath) -> Tables:
        """Opens what is there by the indexes; a table without one is read whole. Raises `StorageError`."""
    def add(self, path: StrPath, *, snapshot: Snapshot | None = None, previous: Table | None = None) -> Table:
        """Reads a file whole and moves it into the folder, which is on the same file system; synced.

        With a snapshot the table is checked in the same reading as `Table.check` does; one that is refused stays where
        it is. Raises `MalformedInput` when it is no table, `RuleViolation` (`bad_table`), `StorageError`.
        """
    def remove(self, digest: Buffer) -> None:
        """Takes a table out of the folder, damaged or not, and its files off the disk. Raises `StorageError`."""
    def get(self, digest: Buffer) -> Table | None:
        """The table with this digest, if it is there."""
    def digests(self) -> list[bytes]:
        """What is there, ascending."""
    def damaged(self) -> list[str]:
        """The files that are left out, and what is wrong with each: found when opened, or when read later."""

def storage_receipt_message(
    genesis_hash: Buffer,
    city: str,
    cls: str,
    base: int,
    size: int,
    expected_version: int,
    root: Buffer,
    digest: Buffer,
    count: int,
) -> bytes:
    """What a city's checkpoint key signs to say that it checked a table for a range whose record has
    `expected_version`, and keeps it (P45).
    """

# ---------------------------------------------------------------- checkpoints
def checkpoint_body(origin: str, size: int, root: bytes) -> bytes:
    """The three lines of a C2SP tlog-checkpoint, without extensions. Raises `MalformedInput` for an unfit origin."""

def cosignature_message(body: bytes, time_s: int) -> bytes:
    """What a cosigner signs (C2SP tlog-cosignature, Ed25519 kind); `time_s` in seconds since 1970."""

def cosignature_line(name: str, public_key: bytes, time_s: int, signature: bytes) -> str:
    """The signature line of a timestamped cosignature (C2SP signed-note). Raises `MalformedInput` for an unfit name."""

def checkpoint_note(body: bytes, lines: Sequence[str]) -> str:
    """A signed note: the body, an empty line, the signature lines. Raises `MalformedInput` for a line that does not
    parse.
    """

def cosignature_vkey(name: str, public_key: bytes) -> str:
    """The verifier key of a cosigner, in the text form that C2SP tools take (signed-note, type 0x04)."""

# ---------------------------------------------------------------- consensus
@type_check_only
class Signer(Protocol):
    """A private consensus key, wherever it lives."""
    def sign(self, message: bytes, /) -> bytes:
        """An Ed25519 signature. An exception stops the engine for good: it must not go on as if it had voted."""

_Effect = tuple[Any, ...]

@final
class Consensus:
    """One city's part in consensus: Malachite behind a seam. docs/architecture.md lists the effects.

    Every call runs one input to its end and returns effects, tuples of a name and its fields, to be obeyed in order.
    Bytes from other cities never raise: what is wrong with them is an effect. `MalformedInput` means a call that makes
    no sense. Use it from one thread at a time.
    """
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
    ) -> Consensus:
        """An engine that has not started.

        `seed` is 32 random bytes, for batch verification only. Timeouts are 1 to 60,000 ms, of round 0; `delta_ms`
        (which may be 0) is added for every failed round.
        """
    def start_height(self, height: int, validators: Sequence[bytes]) -> list[_Effect]:
        """Starts a height, from 1 and only upwards; `validators` are public keys in order of city code."""
    def recover(self, height: int, validators: Sequence[bytes], entries: Sequence[bytes]) -> list[_Effect]:
        """The first start after a restart: the height that was running, with its log entries, oldest first."""
    def receive(self, messages: Sequence[bytes]) -> list[_Effect]:
        """Messages from other cities: one drained inbox, verified together."""
    def propose(self, height: int, round: int, value: bytes) -> list[_Effect]:
        """The value after `get_value`; its block is durable (P37). Too late is no error."""
    def proposed_value(
        self, height: int, round: int, valid_round: int, proposer: int, value: bytes, valid: bool, sync: bool
    ) -> list[_Effect]:
        """The verdict on a block that was executed and is durable (P37).

        `valid_round` is −1 or an earlier round with a quorum of prevotes for it, `proposer` the position of the round's
        proposer, `sync` whether the block came with its certificate.
        """
    def timeout(self, kind: str, round: int) -> list[_Effect]:
        """A timer of this height fired: `propose`, `prevote`, `precommit` or `rebroadcast`."""
    def sync_value(self, certificate: bytes, value: bytes) -> list[_Effect]:
        """A commit certificate of this height, and the value that its block has as this node recomputed it."""
    height: int
    """Present height; 0 before the first."""
    round: int
    """Present round; −1 before the first."""
    step: str
    """`unstarted`, `propose`, `prevote`, `precommit`, `commit`, or `stopped` after a fatal effect."""
    def stats(self) -> dict[str, int]:
        """Counts since the start: inputs, signed, malformed, forged, stale, early, ahead, and the verifier's."""
    def set_timeouts(self, *, propose_ms: int, step_ms: int, precommit_ms: int, delta_ms: int) -> None:
        """Changes the timeouts; timers that run keep theirs."""

def message_height(message: Buffer) -> int:
    """The height of a consensus message, without parsing the rest. Raises `MalformedInput` when it has none."""

def verify_certificate(
    genesis_hash: bytes, validators: Sequence[bytes], certificate: Buffer
) -> tuple[int, int, bytes, int]:
    """(height, round, value, signatures) of a commit certificate (P36) that a quorum of `validators` signed.

    Raises `CertificateInvalid` when it does not count, `MalformedInput` when it does not parse.
    """
