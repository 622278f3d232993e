"""The bugs that are planted, one each: which rule it breaks, what is replaced by what, and which hunt must find it.

Each stands here as the smallest change that an engineer could make by mistake or for speed. The broken functions
reach into the parts that they break, as a patch of the product would; nothing else in this package may.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any, Final, TypeVar

from cityid._native import Candidate, Ledger, Verdict, verify
from cityid.client import plans
from cityid.client.plans import Memory
from cityid.node import driver as driver_module
from cityid.node import messages, wal
from cityid.node.driver import Driver
from cityid.node.heights import Decision, Height
from cityid.node.outbox import Outbox
from cityid.node.pool import Entry, Pool
from cityid.node.ports import Now, PendingProposal, Recovered, TimerKey
from cityid.node.proposals import Proposals
from cityid.node.store import Store
from cityid.node.sync import CatchUp
from cityid.testing import disk_hunts, hunts
from cityid.testing.planting import Hunt, Mutant

Broken = TypeVar("Broken", bound=Callable[..., Any])
MUTANTS: Final[dict[str, Mutant]] = {}
"""Every one by its name, in the order of the table."""

ENGINE_TIMERS: Final = ("propose", "prevote", "precommit", "rebroadcast")


def _in_rust(name: str, breaks: str, *, hunt: Hunt, finds: tuple[str, ...], seeds: int) -> None:
    MUTANTS[name] = Mutant(name, breaks, hunt, finds, seeds)


def _mutant(
    name: str, breaks: str, owner: Any, attribute: str, *, hunt: Hunt, finds: tuple[str, ...], seeds: int
) -> Callable[[Broken], Broken]:
    """The function below, called with the original, returns what takes its place."""

    def add(change: Broken) -> Broken:
        MUTANTS[name] = Mutant(name, breaks, hunt, finds, seeds, owner, attribute, change)
        return change

    return add


# ---------------------------------------------------------------- consensus

_in_rust(
    "lock-rule-missing", "a validator prevotes for a valid proposal although it is locked on another value (P35)",
    hunt=hunts.twin_schedules, finds=("fork",), seeds=1_000,
)  # fmt: skip
_in_rust(
    "quorum-off-by-one", "one vote less than a quorum decides (P36)",
    hunt=hunts.twin_schedules, finds=("fork",), seeds=400,
)  # fmt: skip
_in_rust(
    "duplicate-vote-counted", "one validator's vote counts each time that a certificate holds it (P36)",
    hunt=hunts.stuffed_certificate, finds=("forged",), seeds=4,
)  # fmt: skip
_in_rust(
    "bad-signature-accepted", "consensus takes every signature for good (P35)",
    hunt=hunts.forged_signatures, finds=("forged",), seeds=4,
)  # fmt: skip


@_mutant(
    "vote-before-fsync", "a vote leaves before the log entries that it follows from are durable (P37)",
    Outbox, "close_votes", hunt=hunts.cut_between_effects, finds=("equivocation",), seeds=80,
)  # fmt: skip
def _vote_before_fsync(original: Callable[..., None]) -> Callable[..., None]:
    def close_votes(self: Outbox, height: int) -> None:
        original(self, height)
        while self._held:
            self._effects.append(self._held.popleft()[1])

    return close_votes


@_mutant(
    "signs-again-after-restart", "a restarted node forgets what it voted (P37)",
    Driver, "_on_start", hunt=hunts.trouble, finds=("equivocation",), seeds=20,
)  # fmt: skip
def _signs_again(original: Callable[..., None]) -> Callable[..., None]:
    def _on_start(self: Driver, recovered: Recovered) -> None:
        original(self, replace(recovered, vote_height=0, vote_entries=()))

    return _on_start


@_mutant(
    "votes-without-asking", "a node votes before f + 1 cities have said how far they are: it may be an old copy (P37)",
    Driver, "_start_height", hunt=hunts.restored_copy, finds=("equivocation",), seeds=60,
)  # fmt: skip
def _votes_without_asking(original: Callable[..., bool]) -> Callable[..., bool]:
    def _start_height(self: Driver) -> bool:
        for city in self.sync.committee.cities:
            self.sync._statuses.setdefault(city, messages.Status(0, b""))
        return original(self)

    return _start_height


@_mutant(
    "stale-timer-accepted", "a timer of an earlier height counts for this one",
    Driver, "_on_timer", hunt=hunts.late_timers, finds=("round",), seeds=40,
)  # fmt: skip
def _stale_timer(original: Callable[..., None]) -> Callable[..., None]:
    def _on_timer(self: Driver, key: TimerKey) -> None:
        name, height, round_ = key
        if name in ENGINE_TIMERS and height < self._height.number and self._height.running:
            self._obey(self.engine.timeout(name, round_))
        else:
            original(self, key)

    return _on_timer


@_mutant(
    "future-header-accepted", "a block of a time that has not come is voted for (P34)",
    Proposals, "_is_early", hunt=hunts.fast_clock, finds=("future",), seeds=8,
)  # fmt: skip
def _future_header(original: Callable[..., bool]) -> Callable[..., bool]:
    def _is_early(self: Proposals, height: Height, body: PendingProposal, round_: int, now: Now) -> bool:
        return False

    return _is_early


@_mutant(
    "retired-set-decides", "the first committee goes on deciding when the chain names another (P36, P69)",
    driver_module, "next_height", hunt=hunts.committee_changes, finds=("outsider", "committee", "broke"), seeds=4,
)  # fmt: skip
def _retired_set(original: Callable[[Ledger], Height]) -> Callable[[Ledger], Height]:
    first: dict[bytes, Any] = {}

    def next_height(ledger: Ledger) -> Height:
        height = original(ledger)
        height.committee = first.setdefault(b"", height.committee)
        return height

    return next_height


# ---------------------------------------------------------------- what is durable before what


@_mutant(
    "body-not-durable", "a block is voted for while its header is still being written (P37)",
    Outbox, "write", hunt=hunts.trouble, finds=("unheld",), seeds=4,
)  # fmt: skip
def _body_not_durable(original: Callable[..., None]) -> Callable[..., None]:
    return _reported_at_once(original, "proposals")


@_mutant(
    "batch-announced-too-early", "a batch is announced while it is still being written (P38)",
    Outbox, "write", hunt=hunts.cut_after_acknowledgement, finds=("lost", "stuck"), seeds=60,
)  # fmt: skip
def _batch_announced_early(original: Callable[..., None]) -> Callable[..., None]:
    return _reported_at_once(original, "batches")


@_mutant(
    "height-not-durable", "a height counts as committed while it is still being written",
    Outbox, "write", hunt=hunts.trouble, finds=("unheld",), seeds=4,
)  # fmt: skip
def _height_not_durable(original: Callable[..., None]) -> Callable[..., None]:
    return _reported_at_once(original, "height")


def _reported_at_once(original: Callable[..., None], what: str) -> Callable[..., None]:
    """A write of this sort that reports itself durable when it begins."""

    def write(self: Outbox, then: Callable[[], None], **parts: Any) -> None:
        if not parts.get(what):
            original(self, then, **parts)
            return
        original(self, lambda: None, **parts)
        then()

    return write


@_mutant(
    "checkpoint-cosigned-too-early", "a checkpoint is cosigned before its height is durable",
    Driver, "_write_height", hunt=hunts.trouble, finds=("unheld",), seeds=4,
)  # fmt: skip
def _cosigned_early(original: Callable[..., None]) -> Callable[..., None]:
    def _write_height(
        self: Driver, height: Height, body: PendingProposal, decision: Decision, candidate: Candidate
    ) -> None:
        original(self, height, body, decision, candidate)
        ledger = self.ledger
        if (found := self.checkpoints.sign(height.number, ledger.log_root, time_ms=ledger.time_ms)) is not None:
            self._out.send(None, messages.COSIGNATURE, messages.encode_cosignature(found), urgent=True)

    return _write_height


@_mutant(
    "acknowledged-too-early", "a client is told \"accepted\" when one city has the batch, and not f + 1 (P38)",
    Pool, "_is_safe", hunt=hunts.author_lost, finds=("lost",), seeds=4,
)  # fmt: skip
def _acknowledged_early(original: Callable[..., bool]) -> Callable[..., bool]:
    def _is_safe(self: Pool, entry: Entry) -> bool:
        return entry.durable

    return _is_safe


@_mutant(
    "receipts-not-stored", "a decided height is written without its receipts",
    driver_module, "HeightRecord", hunt=hunts.sent_again, finds=("receipt", "broke"), seeds=4,
)  # fmt: skip
def _receipts_not_stored(original: Callable[..., Any]) -> Callable[..., Any]:
    empty: list[bytes] = []

    def height_record(*fields: Any) -> Any:
        record = original(*fields)
        empty.append(record.receipts)  # the first block of these networks has no transactions
        return replace(record, receipts=min(empty, key=len))

    return height_record


@_mutant(
    "vote-log-not-synced", "the vote log reports an entry that the disk has not synced",
    wal, "_write_all", hunt=disk_hunts.cut_under_the_vote_log, finds=("vote log",), seeds=4,
)  # fmt: skip
def _vote_log_not_synced(original: Callable[..., None]) -> Callable[..., None]:
    late: list[tuple[int, bytes, int]] = []

    def _write_all(descriptor: int, data: bytes, position: int) -> None:
        late.append((descriptor, data, position))
        if len(late) > 1:  # as if the sync had been that of the write before
            original(*late.pop(0))

    return _write_all


@_mutant(
    "damaged-vote-log-accepted", "a vote log with a hole is taken for a shorter one",
    wal, "_count", hunt=disk_hunts.damaged_vote_log, finds=("vote log",), seeds=8,
)  # fmt: skip
def _damaged_log(original: Callable[..., int]) -> Callable[..., int]:
    return lambda found, height: next(sequence for sequence in count() if (height, sequence) not in found)


@_mutant(
    "tip-marker-absent", "the tip marker is not written, so that nobody knows where the store must end",
    Store, "_mark", hunt=disk_hunts.database_put_back, finds=("store",), seeds=4,
)  # fmt: skip
def _no_marker(original: Callable[..., None]) -> Callable[..., None]:
    return lambda self, height, hash_: None


@_mutant(
    "marker-before-database", "the tip marker is written before the height that it names",
    Store, "write", hunt=disk_hunts.cut_under_the_store, finds=("store",), seeds=4,
)  # fmt: skip
def _marker_first(original: Callable[..., None]) -> Callable[..., None]:
    def write(self: Store, writes: Any) -> None:
        for found in writes:
            if found.height is not None:
                self._mark(found.height.height, found.height.header_hash)
        original(self, writes)

    return write


# ---------------------------------------------------------------- what is believed

_in_rust(
    "batch-not-checked", "batches of other cities are taken in with whatever signatures they have (P30)",
    hunt=hunts.forged_batch, finds=("forged",), seeds=4,
)  # fmt: skip
_in_rust(
    "retired-set-accepted", "a client goes on believing the cities that a header replaces (P75)",
    hunt=hunts.retired_committee, finds=("retired",), seeds=4,
)  # fmt: skip
_in_rust(
    "replay-window-forgotten", "after a restart it is forgotten which transactions were included (P19)",
    hunt=hunts.sent_again, finds=("receipt", "stuck", "broke"), seeds=8,
)  # fmt: skip


@_mutant(
    "fetched-block-not-certified", "a block that a peer sent is committed without a look at its certificate (P36)",
    Driver, "_catch_up", hunt=hunts.spoiled_certificates, finds=("certificate",), seeds=4,
)  # fmt: skip
def _not_certified(original: Callable[..., bool]) -> Callable[..., bool]:
    def _catch_up(self: Driver) -> bool:
        height = self._height
        found = self.sync.block_at(height.number)
        if found is None or height.synced or height.committing or not height.running:
            return original(self)
        peer, block = found
        body = height.add_body(block.header, block.digests)
        assert body is not None, "only certificates are spoiled here"
        self.batches.pool.need(peer, messages.decode_digests(block.digests), now_us=self._now.monotonic_us)
        for batch in block.bodies:
            self.batches.on_batch(peer, batch, self._now)
        height.synced = True
        height.decision = Decision(body.value, block.certificate, final=True)
        return True

    return _catch_up


@_mutant(
    "one-claim-is-believed", "one city's word is enough for how far the network is (f + 1 must say so)",
    CatchUp, "credible_height", hunt=hunts.absurd_height, finds=("stuck",), seeds=4,
)  # fmt: skip
def _one_claim(original: Callable[..., int]) -> Callable[..., int]:
    def credible_height(self: CatchUp) -> int:
        return max((status.height for status in self._statuses.values()), default=0)

    return credible_height


@_mutant(
    "old-header-accepted", "a client takes an answer that is older than what it has seen for the present",
    plans, "_verdict", hunt=hunts.stale_gateway, finds=("stale read",), seeds=4,
)  # fmt: skip
def _old_header(original: Callable[..., Verdict]) -> Callable[..., Verdict]:
    def _verdict(
        body: bytes, memory: Memory, code: str, now: float, max_age: float | None, min_height: int | None
    ) -> Verdict:
        return verify(body, memory.trust, code=code, now=now, max_age=max_age, min_height=min_height)

    return _verdict
