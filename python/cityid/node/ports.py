"""What goes into the driver, what comes out of it, and what it stands on.

`Driver.step(event, now)` takes one event and returns effects. Whoever hosts the driver (the real node, the simulation)
obeys them and feeds back what they lead to. No effect waits for another one: a `Send` that must follow a write is only
returned after the host has reported that write as `Durable`. So a host may write, send and verify concurrently; it has
to keep the order of writes within one lane, and nothing else.

Two lanes of writes exist, each first in, first out: the vote log (`AppendVotes`) and the store (`WriteStore`). A host
makes as many waiting writes of a lane durable at once as it likes: that is the group commit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from cityid._native import SnapshotLoader
from cityid.node.messages import Frame

TimerKey: TypeAlias = tuple[str, int, int]  # name, height, round
AdmitRow: TypeAlias = tuple[bytes, str | None, str | None]  # id, reason or None, message or None


@dataclass(frozen=True, slots=True)
class Now:
    """Two clocks: one that never goes back, for waiting; one that people set, for headers."""

    monotonic_us: int
    wall_ms: int


@dataclass(frozen=True, slots=True)
class PendingProposal:
    """A header with its batch digests that was made durable before its height was decided."""

    height: int
    value: bytes
    header: bytes
    digests: bytes


@dataclass(frozen=True, slots=True)
class Recovered:
    """What the disk still knew: the vote log, proposals of the undecided height, batches without a block.

    The decided heights are not here: they are replayed into the ledger before the driver exists.
    """

    vote_height: int = 0
    vote_entries: tuple[bytes, ...] = ()
    proposals: tuple[PendingProposal, ...] = ()
    batches: tuple[bytes, ...] = ()
    recent: tuple[bytes, ...] = ()  # digests of the batches of the last blocks
    silent_until: int = 0  # this city may have voted up to here and does not know what: it votes above only
    first: int = 1  # the oldest height whose block the store has whole


# ---------------------------------------------------------------- events: into the driver


@dataclass(frozen=True, slots=True)
class Start:
    """The first event of a driver's life."""

    recovered: Recovered


@dataclass(frozen=True, slots=True)
class FramesReceived:
    """Everything that waited in the inbox, from all peers."""

    frames: Sequence[Frame]


@dataclass(frozen=True, slots=True)
class TimerFired:
    """A timer that `SetTimer` asked for."""

    key: TimerKey


@dataclass(frozen=True, slots=True)
class Durable:
    """This write survives a power cut. Every token is reported, in the order of its lane."""

    token: int


@dataclass(frozen=True, slots=True)
class Verified:
    """`Ledger.ingest` looked at these batches: (digest, transactions, what is wrong or None)."""

    results: Sequence[tuple[bytes, int, str | None]]


@dataclass(frozen=True, slots=True)
class Submitted:
    """A client's transactions, a CBOR sequence; `ticket` is the host's name for this request."""

    ticket: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Failed:
    """The host cannot go on as promised, for example because its disk fails: the driver halts."""

    reason: str


@dataclass(frozen=True, slots=True)
class SnapshotFetched:
    """A snapshot that is whole and proven is here, in answer to `FetchSnapshot`; its files are durable."""

    snapshot: SnapshotLoader


@dataclass(frozen=True, slots=True)
class SnapshotMissing:
    """No city brings a snapshot now."""

    reason: str


@dataclass(frozen=True, slots=True)
class Kept:
    """The store has whole blocks from this height on, and no older ones."""

    first: int


Event: TypeAlias = (
    Start
    | FramesReceived
    | TimerFired
    | Durable
    | Verified
    | Submitted
    | Failed
    | SnapshotFetched
    | SnapshotMissing
    | Kept
)

# ---------------------------------------------------------------- effects: out of the driver


@dataclass(frozen=True, slots=True)
class AppendVotes:
    """Append to the vote log of this height; the first entries of a height replace those of the one before."""

    token: int
    height: int
    entries: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class HeightRecord:
    """One decided height, written in one atomic step."""

    height: int
    header: bytes
    header_hash: bytes
    certificate: bytes
    digests: bytes
    changes: bytes
    receipts: bytes
    evidence: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class SnapshotBase:
    """A height that a snapshot brought instead of blocks: from here on the store goes on."""

    height: int
    header: bytes
    header_hash: bytes
    certificate: bytes
    walk: tuple[tuple[bytes, bytes], ...]  # header and certificate of every set change below


@dataclass(frozen=True, slots=True)
class WriteStore:
    """One atomic write to the store."""

    token: int
    batches: tuple[tuple[bytes, bytes], ...] = ()  # digest, body
    proposals: tuple[PendingProposal, ...] = ()
    forget: tuple[bytes, ...] = ()  # batches that will never be in a block
    height: HeightRecord | None = None
    base: SnapshotBase | None = None


@dataclass(frozen=True, slots=True)
class Send:
    """One frame, to one city or (None) to all others. May be lost."""

    peer: str | None
    kind: int
    payload: bytes
    urgent: bool


@dataclass(frozen=True, slots=True)
class ServeBatches:
    """A peer asks for batches: send those that the store has."""

    peer: str
    digests: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ServeBlocks:
    """A peer asks for decided blocks: send those that the store has, up to `max_bytes`."""

    peer: str
    first: int
    count: int
    max_bytes: int


@dataclass(frozen=True, slots=True)
class FetchSnapshot:
    """Bring a snapshot of a height above this one; report `SnapshotFetched` or `SnapshotMissing`. One at a time."""

    above: int


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Replaces an earlier timer of the same key."""

    key: TimerKey
    after_us: int


@dataclass(frozen=True, slots=True)
class CancelTimer:
    """A timer that no longer matters; a host that fires it anyway does no harm."""

    key: TimerKey


@dataclass(frozen=True, slots=True)
class Verify:
    """Give these batches to `Ledger.ingest`, in a thread if that takes long, and report `Verified`."""

    bodies: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Admitted:
    """Each transaction of a request: accepted, or refused with a reason."""

    ticket: int
    rows: Sequence[AdmitRow]


@dataclass(frozen=True, slots=True)
class Refused:
    """A whole request is refused: `kind` is `malformed`, `overloaded`, `not_synced` or `storage`."""

    ticket: int
    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Every accepted transaction of this request is held durably by f + 1 validators."""

    ticket: int


@dataclass(frozen=True, slots=True)
class Committed:
    """A height is decided and durable."""

    height: int
    time_ms: int
    transactions: int
    committed: int
    rejected: int
    tables: tuple[bytes, ...] = ()  # digests of those that it sealed
    configuration: bool = False  # cities, keys, the committee or parameters are others from now on


@dataclass(frozen=True, slots=True)
class Log:
    """One event for the log."""

    level: Literal["debug", "info", "warning", "error"]
    event: str
    fields: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Halt:
    """The driver stops for good: it neither votes nor commits until an operator has looked. Reads go on."""

    reason: str


Effect: TypeAlias = (
    AppendVotes
    | WriteStore
    | Send
    | ServeBatches
    | ServeBlocks
    | FetchSnapshot
    | SetTimer
    | CancelTimer
    | Verify
    | Admitted
    | Refused
    | Acknowledged
    | Committed
    | Log
    | Halt
)

# ---------------------------------------------------------------- what the driver and its hosts stand on


class Signer(Protocol):
    """A private key of this city; where it lives is not the driver's business."""

    @property
    def public_key(self) -> bytes:
        """The Ed25519 public key, 32 bytes."""

    def sign(self, message: bytes, /) -> bytes:
        """An Ed25519 signature, 64 bytes."""


class Keyring(Protocol):
    """The private keys of this city: what it signs with, and what it will sign with once the chain says so."""

    def find(self, purpose: str, public_key: bytes) -> Signer | None:
        """The key of this purpose with this public half, if this city holds it now."""


class BlockSource(Protocol):
    """What serving other cities needs from a store."""

    def batch(self, digest: bytes) -> bytes | None:
        """The body of a batch, decided or not."""

    def block(self, height: int) -> tuple[bytes, bytes, bytes] | None:
        """Header, certificate and digests of a decided height whose batches are here, too."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Bounds and times of a driver; the defaults fit cities on one continent."""

    propose_ms: int = 500
    step_ms: int = 300
    precommit_ms: int = 100
    delta_ms: int = 200  # added to each of them for every failed round of a height
    block_interval_ms: int = 25
    block_items: int = 40_000  # of a block that this city proposes: a fifth of propose_ms, whatever bytes they take
    empty_wait_ms: int = 125  # how long a proposer waits for a batch before it proposes an empty block
    clock_drift_ms: int = 500  # P34
    seal_after_ms: int = 5
    seal_at_transactions: int = 500
    tick_ms: int = 1_000
    sync_patience_ms: int = 300  # one height behind for so long: ask for the block
    fetch_patience_ms: int = 250  # a batch heard of, but not seen for so long: ask for it
    sync_window: int = 64  # blocks in one request
    sync_max_bytes: int = 16 * 1024 * 1024
    snapshot_lag: int = 10_000  # so many heights behind: a snapshot instead of blocks; 0: only where nobody has blocks
    snapshot_again_ms: int = 5_000  # after one did not come; twice as long each time, up to:
    snapshot_last_ms: int = 60_000
    max_author_bytes: int = 32 * 1024 * 1024  # batches of one city without a block
    max_verifying_bytes: int = 64 * 1024 * 1024
    max_early_messages: int = 4_096  # consensus messages for the height after the running one
