"""The driver: everything a city's node decides, and nothing that waits.

`step(event, now)` takes one event and returns effects (`ports`); it never sleeps, sends, writes or reads a clock, so
the real node and the simulation run this very code. It owns the consensus engine and the ledger. Its rules:

- What a vote follows from is durable before the vote leaves (P37): the header and every batch of a proposal before the
  engine hears of it, the vote log before a message (`outbox`).
- A proposal is executed before it is voted on. Re-proposals keep their bytes. A header from the future is held (P34).
- A height starts when a batch can be proposed, when others are there, or after the heartbeat; not before the one below
  is durable, and not twice within the block interval.
- A node that is behind proposes nothing. A block from a peer goes through the engine like any decision: by its
  certificate. A decided value that turns out invalid halts the node.
- Who is too far behind for blocks takes a snapshot (`FetchSnapshot`), and goes on above it. Where this city may have
  voted and does not know what, it never votes again: below what its vote log holds, and up to `silent_until`.
- Who decides a height, under which limits, follows from the committed state below it (P69, P71), and is looked at once,
  between two heights (`roles`). A city that is not in the committee follows: the same engine, and no signature.
"""

from collections.abc import Iterable, Sequence
from typing import Any, assert_never

from cityid._native import (
    NEWEST_PROTOCOL,
    Candidate,
    Genesis,
    Ledger,
    SnapshotLoader,
    header_hash,
    message_height,
    verify_certificate,
)
from cityid.errors import CertificateInvalid, MalformedInput, RuleViolation
from cityid.node import messages
from cityid.node.batches import FETCH, SEAL, Batches
from cityid.node.checkpoints import Checkpoints
from cityid.node.early import Early
from cityid.node.heights import Decision, Height, Invalid, Offer, next_height
from cityid.node.messages import Frame, Proposal, Status
from cityid.node.outbox import Outbox
from cityid.node.ports import (
    Committed,
    Durable,
    Effect,
    Event,
    Failed,
    FetchSnapshot,
    FramesReceived,
    Halt,
    HeightRecord,
    Kept,
    Keyring,
    Now,
    PendingProposal,
    Recovered,
    Refused,
    ServeBatches,
    ServeBlocks,
    Settings,
    SnapshotBase,
    SnapshotFetched,
    SnapshotMissing,
    Start,
    Submitted,
    TimerFired,
    TimerKey,
    Verified,
)
from cityid.node.proposals import HOLD, PROPOSE_EMPTY, Proposals
from cityid.node.roles import Roles, unknown_protocol, upcoming_protocols
from cityid.node.sync import CatchUp

TICK: TimerKey = ("tick", 0, 0)
START = "start"

OVERDUE_HEARTBEATS = 2
NEAR_HEIGHTS = 64
GOING_ON_US = 2_000_000
"""Under load a node is a few short heights behind for a moment. As long as it commits new ones it need not refuse."""


class Driver:
    """One city's node, without its clock, its network and its disk."""

    def __init__(
        self,
        *,
        genesis: Genesis,
        ledger: Ledger,
        city: str,
        keyring: Keyring,
        seed: bytes,
        settings: Settings | None = None,
        newest_protocol: int = NEWEST_PROTOCOL,
    ) -> None:
        self.settings = settings = settings or Settings()
        self.ledger = ledger
        self.city = city
        self.halted: str | None = None
        self._genesis_hash = genesis.hash
        self._out = Outbox()
        self._height = next_height(ledger)
        self.roles = Roles(genesis.hash, city, keyring, self._out, seed=seed, settings=settings)
        self.engine = self.roles.engine_for(self._height.number, self._height.committee)
        parameters = ledger.parameters()
        self._heartbeat_ms = parameters["heartbeat_ms"]
        self.batches = Batches(ledger, self._out, city=city, peers=[], settings=settings, parameters=parameters)
        self.proposals = Proposals(ledger, self._out, self.batches, city=city, parameters=parameters, settings=settings)
        self.checkpoints = Checkpoints(genesis, city)
        self.sync = CatchUp(
            self._height.committee,
            window=settings.sync_window,
            patience_us=settings.sync_patience_ms * 1_000,
            max_bytes=settings.sync_max_bytes,
        )
        self._tip_time_ms = ledger.time_ms
        self._tip_value = ledger.log_root
        self._started_us = -settings.block_interval_ms * 1_000
        self._committed_us = -GOING_ON_US
        self._early = Early()
        self._start_due_us: int | None = None
        self._now = Now(0, 0)
        self._members: frozenset[str] = frozenset()
        self._newest_protocol = newest_protocol
        self._checkpoint_keys: dict[str, bytes] = {}  # of the committee
        self._announced: set[tuple[int, int]] = set()
        self._first = 1  # the oldest height whose block others may ask this node for
        self._logged: tuple[int, tuple[bytes, ...]] = (0, ())  # a vote log of a height above the store
        self._fetching = False
        self._fetch_again_us = 0
        self._fetch_wait_ms = settings.snapshot_again_ms
        self._snapshot: SnapshotLoader | None = None

    @property
    def is_informed(self) -> bool:
        """Whether f + 1 of the committee have said since the start how far they are: before, this may be far behind."""
        return self.sync.is_informed

    @property
    def members(self) -> frozenset[str]:
        """The member cities of the committed state, this one included if it is one."""
        return self._members

    @property
    def is_synced(self) -> bool:
        """Whether this node keeps up with what f + 1 cities know: at most one height behind, or near and going on."""
        behind = self.sync.credible_height() - self.ledger.height
        stalled_us = self._now.monotonic_us - self._committed_us
        return behind <= 1 or (behind <= NEAR_HEIGHTS and stalled_us < GOING_ON_US)

    @property
    def _may_be_behind(self) -> bool:
        """Whether blocks are overdue: this node may be cut off, and not know yet how far the others are."""
        return self._now.wall_ms - self._tip_time_ms > OVERDUE_HEARTBEATS * self._heartbeat_ms

    def step(self, event: Event, now: Now) -> list[Effect]:
        """Take one event; returns what to do about it."""
        self._now = now
        if self.halted is not None:
            if isinstance(event, Submitted):
                self._out.add(
                    Refused(event.ticket, "storage", f"This node halted: {self.halted}. Send to another city.")
                )
            return self._out.drain()
        match event:
            case FramesReceived(frames):
                self._on_frames(frames)
            case TimerFired(key):
                self._on_timer(key)
            case Durable(token):
                self._out.on_durable(token)
            case Verified(results):
                self._on_verified(results)
            case Submitted(ticket, data):
                self._on_submitted(ticket, data)
            case Start(recovered):
                self._on_start(recovered)
            case Failed(reason):
                self._halt(reason)
            case SnapshotFetched(snapshot):
                self._fetching, self._snapshot = False, snapshot
            case SnapshotMissing(reason):
                self._fetching = False
                self._fetch_again_us = now.monotonic_us + self._fetch_wait_ms * 1_000
                self._fetch_wait_ms = min(2 * self._fetch_wait_ms, self.settings.snapshot_last_ms)
                self._out.log("warning", "snapshot_missing", why=reason)
            case Kept(first):
                self._first = first
            case _:
                assert_never(event)
        while self._advance():
            pass
        self.batches.flush()
        self._out.close_votes(self._height.number)
        return self._out.drain()

    # ------------------------------------------------------------ events

    def _on_start(self, recovered: Recovered) -> None:
        self._first = recovered.first
        self.roles.silent_until = recovered.silent_until
        if recovered.vote_height > self._height.number:
            # The store lost something and comes anew from the others. What the log holds counts at its own height.
            self._logged = recovered.vote_height, recovered.vote_entries
            self.roles.silent_until = max(self.roles.silent_until, recovered.vote_height - 1)
            self._out.log("error", "store_behind_votes", height=self.ledger.height, votes=recovered.vote_height)
        # Who this city is at its height was asked before anybody knew where it has to be silent.
        self.roles.look_again()
        self.engine = self.roles.engine_for(self._height.number, self._height.committee)
        self._configure()
        self._check_protocol()
        if self.halted is not None:
            return
        self._out.timer(TICK, after_us=0)
        self.batches.pool.remove(recovered.recent)
        if recovered.batches:
            self.batches.recover(self.ledger.ingest(recovered.batches), recovered.batches, self._now)
        for proposal in recovered.proposals:
            if proposal.height == self._height.number:
                self._height.bodies[proposal.value] = proposal
                self._height.durable.add(proposal.value)
        if recovered.vote_height == self._height.number and recovered.vote_entries:
            self._recover_votes(recovered.vote_entries)

    def _recover_votes(self, entries: Sequence[bytes]) -> None:
        height = self._height
        height.running = True
        try:
            effects = self.engine.recover(height.number, height.committee.keys, entries)
        except MalformedInput as error:
            self._halt(f"the vote log of height {height.number} cannot be replayed: {error}")
            return
        self._obey(effects)

    def _on_frames(self, frames: Sequence[Frame]) -> None:
        inbox: list[bytes] = []
        for frame in frames:
            try:
                if frame.kind == messages.CONSENSUS:
                    self._on_consensus(frame.peer, frame.payload, inbox)
                else:
                    self._on_frame(frame)
            except MalformedInput as error:
                kind = messages.NAMES.get(frame.kind, str(frame.kind))
                self._out.log("warning", "frame_dropped", peer=frame.peer, kind=kind, why=str(error))
        if inbox:
            self._obey(self.engine.receive(inbox))

    def _on_consensus(self, peer: str, payload: bytes, inbox: list[bytes]) -> None:
        height = message_height(payload)
        if height == self._height.number and self._height.running:
            inbox.append(payload)
        elif self._height.number <= height <= self._height.number + 1:
            self._early.keep_message(height, peer, payload)

    def _on_frame(self, frame: Frame) -> None:
        peer, payload = frame.peer, frame.payload
        match frame.kind:
            case messages.HELLO:
                self._send_status(peer)
                self.batches.announce_to(peer)
            case messages.PROPOSAL:
                self._on_proposal(peer, messages.decode_proposal(payload))
            case messages.BATCH:
                self.batches.on_batch(peer, payload, self._now)
            case messages.HAVE:
                self.batches.on_have(peer, messages.decode_digests(payload), self._now)
            case messages.WANT_BATCHES:
                self._out.add(ServeBatches(peer, tuple(messages.decode_digests(payload))))
            case messages.STATUS:
                self.sync.on_status(peer, messages.decode_status(payload))
            case messages.WANT_BLOCKS:
                want = messages.decode_want_blocks(payload)
                self._out.add(ServeBlocks(peer, want.first, want.count, self.settings.sync_max_bytes))
            case messages.BLOCK:
                self.sync.on_block(peer, messages.decode_block(payload), now_us=self._now.monotonic_us)
            case messages.COSIGNATURE:
                cosignature = messages.decode_cosignature(payload)
                self.checkpoints.add(peer, cosignature)
                self.sync.on_height(peer, cosignature.height)
            case other:
                raise MalformedInput(f"A peer's frame has the unknown kind {other}; its software is newer or broken.")

    def _on_proposal(self, peer: str, proposal: Proposal) -> None:
        if proposal.height == self._height.number:
            self.proposals.receive(self._height, peer, proposal)
        elif proposal.height == self._height.number + 1:
            self._early.keep_proposal(peer, proposal)

    def _on_timer(self, key: TimerKey) -> None:
        name, height, round_ = key
        if key == SEAL:
            self.batches.seal(self._now)
        elif key == FETCH:
            self.batches.fetch(self._now)
        elif key == TICK:
            self._out.timer(TICK, after_us=self.settings.tick_ms * 1_000)
            self._send_status(None)
            if self.roles.lacks_keys:
                self.roles.look_again()
                self._set_checkpoint_keys()
            self.batches.announce_again(self._now)
            if not self._height.committing:
                self.batches.tidy(self.batches.pool.digests(), self._height.number, self._now)
        elif name == START:
            self._start_due_us = None
        elif (name, round_) in self._height.timers and height == self._height.number:
            self._height.timers.discard((name, round_))
            if name not in (PROPOSE_EMPTY, HOLD):
                self._obey(self.engine.timeout(name, round_))

    def _send_status(self, peer: str | None) -> None:
        status = Status(self._height.number - 1, self._tip_value, self._first)
        self._out.send(peer, messages.STATUS, messages.encode_status(status))

    def _on_verified(self, results: Sequence[tuple[bytes, int, str | None]]) -> None:
        for peer, digest, error in self.batches.on_verified(results, self._now):
            found = self.sync.block_at(self._height.number)
            if found is not None and self._height.synced and digest in messages.decode_digests(found[1].digests):
                self._halt(
                    f"a batch of the decided height {self._height.number} is invalid here: {error} (from {peer})"
                )

    def _on_submitted(self, ticket: int, data: bytes) -> None:
        if self.is_synced:
            self.batches.submit(ticket, data, self._now, may_be_behind=self._may_be_behind)
        else:
            behind = self.sync.credible_height() - self.ledger.height
            self._out.add(
                Refused(ticket, "not_synced", f"This node is {behind} heights behind. Send to another city, or wait.")
            )

    # ------------------------------------------------------------ the engine's effects

    def _obey(self, effects: Iterable[tuple[Any, ...]]) -> None:
        height = self._height
        for effect in effects:
            match effect:
                case ("wal", _, entry):
                    # Below the height of the vote log nothing is signed, and nothing may take the log's place.
                    if height.number >= self._logged[0]:
                        self._out.log_vote(entry)
                case ("publish", message):
                    self._out.publish(message)
                case ("timer", kind, round_, duration_us):
                    height.timers.add((kind, round_))
                    self._out.timer((kind, height.number, round_), after_us=duration_us)
                case ("cancel", kind, round_):
                    self._cancel(kind, round_)
                case ("cancel_all",):
                    for kind, round_ in sorted(height.timers):
                        self._cancel(kind, round_)
                case ("start_round", _, round_, *_):
                    height.round = round_
                    height.wish = None
                    if round_ > 0:
                        self._out.log("info", "round_started", height=height.number, round=round_)
                case ("get_value", _, round_):
                    height.wish = (round_, self._now.monotonic_us)
                case ("restream", _, round_, valid_round, value):
                    if (body := height.bodies.get(value)) is not None and self.roles.votes:
                        self.proposals.send(body, round_, valid_round)
                case ("decide", _, _, value, certificate):
                    height.decision = Decision(value, certificate)
                case ("finalize", _, certificate, evidence):
                    self._on_finalize(certificate, evidence)
                case ("sync_verified", _, round_, value, proposer):
                    found = self.sync.block_at(height.number)
                    sender = self.city if found is None else found[0]
                    height.sync_offer = Offer(round_, -1, proposer, sender, value)
                case ("sync_rejected", _, reason):
                    if (found := self.sync.block_at(height.number)) is not None:
                        self._distrust(found[0], str(reason))
                case ("error", *what):
                    self._out.log("warning", "engine_refused", why=str(what[0]))
                case ("fatal", *what):
                    self._halt(f"the consensus engine stopped: {what[0]}. Restart this node: it recovers from its log")
                case _:
                    self._halt(f"the consensus engine asks for something unknown: {effect[0]!r}")

    def _on_finalize(self, certificate: bytes, evidence: Any) -> None:
        if (decision := self._height.decision) is None:
            return
        decision.certificate = certificate
        decision.final = True
        if evidence:
            decision.evidence = tuple(message for _, first, second in evidence for message in (first, second))
            self._out.log("error", "equivocation", height=self._height.number, messages=len(decision.evidence))

    def _cancel(self, kind: str, round_: int) -> None:
        if (kind, round_) in self._height.timers:
            self._height.timers.discard((kind, round_))
            self._out.cancel((kind, self._height.number, round_))

    # ------------------------------------------------------------ what may have become possible

    def _advance(self) -> bool:
        """Do one thing that became possible; False when there is none."""
        if self.halted is not None:
            return False
        return (
            self._install()
            or self._commit()
            or self._catch_up()
            or self._consider()
            or self._propose()
            or self._start_height()
        )

    def _start_height(self) -> bool:
        """Start the next height, or set a timer for when it is due."""
        height = self._height
        if height.running or height.committing:
            return False
        self.engine = self.roles.engine_for(height.number, height.committee)
        if self.roles.votes and not self.sync.is_informed:
            return False  # a city restored from an old copy must not vote where it has voted before: it asks first
        now_us = self._now.monotonic_us
        if self.sync.block_at(height.number) is None:
            due_us = now_us + max(0, self._tip_time_ms + self._heartbeat_ms - self._now.wall_ms) * 1_000
            interval_us = self.settings.block_interval_ms * 1_000
            if height.number == 1 and self.sync.heard_from + 1 >= height.committee.quorum:
                due_us = now_us  # a quorum is there: the first answers need not wait for a heartbeat
            if self.batches.pool.has_proposable():
                due_us = min(due_us, self._started_us + interval_us)
            if bool(height.offers) or self._early.has(height.number):
                due_us = min(due_us, self._started_us + interval_us // 2)  # others are there: join them
            if due_us > now_us:
                if self._start_due_us is None or due_us < self._start_due_us:
                    self._start_due_us = due_us
                    self._out.timer((START, 0, 0), after_us=due_us - now_us)
                return False
        self._started_us = now_us
        if self._logged[0] == height.number:
            self.roles.renew()
            self.engine = self.roles.engine_for(height.number, height.committee)
            self._recover_votes(self._logged[1])
        else:
            height.running = True
            self._obey(self.engine.start_height(height.number, height.committee.keys))
        early = self._early.take_messages(height.number)
        if early:
            self._obey(self.engine.receive(early))
        return True

    def _propose(self) -> bool:
        """Build the block that the engine waits for."""
        height = self._height
        if height.wish is None or height.decision is not None or self.sync.credible_height() >= height.number:
            return False
        round_, since_us = height.wish
        body = self.proposals.build(height, round_, since_us=since_us, tip_time_ms=self._tip_time_ms, now=self._now)
        if body is None:
            return False
        # Nothing signed is in it, so the others may begin with it while it is being written here.
        self.proposals.send(body, round_, -1)
        self._out.write(lambda: self._own_is_durable(height, body, round_), proposals=(body,))
        return True

    def _own_is_durable(self, height: Height, body: PendingProposal, round_: int) -> None:
        height.durable.add(body.value)
        if height is self._height and height.decision is None and height.round == round_:
            self._obey(self.engine.propose(height.number, round_, body.value))

    def _consider(self) -> bool:
        """Execute an offered body and tell the engine."""
        height = self._height
        if not height.running or height.decision is not None:
            return False
        if (offer := self.proposals.next_ready(height, self._now)) is None:
            return False
        offer.given = True
        is_sync = offer is height.sync_offer
        verdict = height.judge(self.ledger, height.bodies[offer.value])
        if isinstance(verdict, Invalid):
            if is_sync:
                self._halt(f"the decided block of height {height.number} is invalid here: {verdict.reason}")
                return False
            self._out.log("warning", "proposal_invalid", height=height.number, round=offer.round, why=verdict.reason)
        valid = not isinstance(verdict, Invalid)
        self._obey(
            self.engine.proposed_value(
                height.number, offer.round, offer.valid_round, offer.proposer, offer.value, valid, is_sync
            )
        )
        return True

    def _catch_up(self) -> bool:
        """Ask for blocks, and put the next one through the engine by its certificate."""
        height = self._height
        if height.committing or self._wait_for_snapshot():
            return False
        if (ask := self.sync.next_request(self.ledger.height, now_us=self._now.monotonic_us)) is not None:
            peer, want = ask
            self._out.send(peer, messages.WANT_BLOCKS, messages.encode_want_blocks(want), urgent=True)
        found = self.sync.block_at(height.number)
        if found is None or height.synced or not height.running:
            return False
        peer, block = found
        try:
            keys = height.committee.keys  # P36
            at, _, value, _ = verify_certificate(self._genesis_hash, keys, block.certificate)
        except (CertificateInvalid, MalformedInput) as error:
            self._distrust(peer, str(error))
            return True
        body = height.add_body(block.header, block.digests)
        if at != height.number or body is None or body.value != value:
            self._distrust(peer, "the certificate is for another block")
            return True
        self.batches.pool.need(peer, messages.decode_digests(block.digests), now_us=self._now.monotonic_us)
        for bytes_of_batch in block.bodies:
            self.batches.on_batch(peer, bytes_of_batch, self._now)
        height.synced = True
        if height.decision is None:
            self._obey(self.engine.sync_value(block.certificate, value))
        return True

    def _wait_for_snapshot(self) -> bool:
        """Ask for a snapshot where blocks will not do; whether one is on its way."""
        may_ask = not self._fetching and self._now.monotonic_us >= self._fetch_again_us
        if may_ask and self.sync.needs_snapshot(self.ledger.height, lag=self.settings.snapshot_lag):
            self._fetching = True
            self._out.log("info", "snapshot_wanted", height=self.ledger.height, known=self.sync.credible_height())
            self._out.add(FetchSnapshot(self.ledger.height))
        return self._fetching

    def _install(self) -> bool:
        """Go on above a snapshot that was fetched."""
        if self._snapshot is None or self._height.committing:
            return False
        snapshot, self._snapshot = self._snapshot, None
        try:
            self.ledger.install(snapshot)
        except RuleViolation as error:
            self._out.log("info", "snapshot_passed_over", height=snapshot.height, why=str(error))
            return True
        height = self._height
        height.committing = True
        self._out.close_votes(height.number)
        for kind, round_ in sorted(height.timers):
            self._out.cancel((kind, height.number, round_))
        self._first = snapshot.height + 1
        self._fetch_wait_ms = self.settings.snapshot_again_ms
        base = SnapshotBase(
            snapshot.height, snapshot.header, snapshot.header_hash, snapshot.certificate, tuple(snapshot.walk)
        )
        tables = tuple({digest: None for *_, digest in self.ledger.sealed_tables()})
        done = Committed(snapshot.height, self.ledger.time_ms, 0, 0, 0, tables, True)
        self._out.log("info", "snapshot_installed", height=snapshot.height, records=self.ledger.records)
        self._out.write(lambda: self._height_is_durable(height, done), base=base)
        return True

    def _distrust(self, peer: str, reason: str) -> None:
        self._out.log("warning", "peer_left_aside", peer=peer, why=reason)
        self.sync.leave_aside(peer, now_us=self._now.monotonic_us)

    # ------------------------------------------------------------ the end of a height

    def _commit(self) -> bool:
        """Commit what is decided, as soon as its body and batches are here."""
        height = self._height
        decision = height.decision
        if decision is None or not decision.final or height.committing:
            return False
        if (body := height.bodies.get(decision.value)) is None:
            return False  # it comes with the block, from a city that has it
        if not self.proposals.has_batches(body, self.city, self._now):
            return False
        verdict = height.judge(self.ledger, body)
        if isinstance(verdict, Invalid):
            self._halt(f"the decided block of height {height.number} is invalid here: {verdict.reason}")
            return False
        self._write_height(height, body, decision, verdict)
        return True

    def _write_height(self, height: Height, body: PendingProposal, decision: Decision, candidate: Candidate) -> None:
        height.committing = True
        self._out.close_votes(height.number)
        commit = self.ledger.commit(candidate, decision.certificate)
        self.batches.on_committed(
            messages.decode_digests(body.digests)
        )  # the ledger has dropped them: nothing may take them for stale
        record = HeightRecord(
            height.number, body.header, header_hash(body.header), decision.certificate, body.digests, commit.changes,
            commit.receipts, decision.evidence,
        )  # fmt: skip
        done = Committed(
            height.number, self.ledger.time_ms, commit.transactions, commit.committed, commit.rejected,
            tuple(commit.tables), commit.configuration,
        )  # fmt: skip
        self._out.write(lambda: self._height_is_durable(height, done), height=record)

    def _height_is_durable(self, height: Height, done: Committed) -> None:
        for kind, round_ in sorted(height.timers):
            self._out.cancel((kind, height.number, round_))
        self._tip_time_ms = self.ledger.time_ms
        self._tip_value = self.ledger.log_root
        self._committed_us = self._now.monotonic_us
        self._height = next_height(self.ledger)
        self._early.forget_below(self._height.number)
        self.sync.on_progress()
        if done.configuration:
            self._configure()
        cosignature = self.checkpoints.sign(done.height, self.ledger.log_root, time_ms=done.time_ms)
        if cosignature is not None:
            self._out.send(None, messages.COSIGNATURE, messages.encode_cosignature(cosignature), urgent=True)
        self._out.add(done)
        self._check_protocol()
        for peer, proposal in self._early.take_proposals(self._height.number):
            self.proposals.receive(self._height, peer, proposal)

    def _configure(self) -> None:
        """Take over what the committed state says: cities, committee, keys, limits, protocol (P58 to P71)."""
        committee, parameters = self._height.committee, self.ledger.parameters()
        cities = {found["city"]: found for found in self.ledger.cities() if found["status"] != "retired"}
        for gone in self._members - cities.keys():
            self.sync.forget(gone)
            self._out.log("warning" if gone == self.city else "info", "city_removed", city=gone)
        self._members = frozenset(cities)
        self._heartbeat_ms = parameters["heartbeat_ms"]
        self._early.max_messages = max(1, self.settings.max_early_messages // len(cities))
        self.sync.committee = committee
        self.proposals.set_limits(parameters)
        self._checkpoint_keys = {city: cities[city]["checkpoint"] for city in committee.cities}
        self._set_checkpoint_keys()
        peers = sorted(self._members - {self.city})
        self.batches.change(
            peers=peers, committee=committee.cities, parameters=parameters, height=self._height.number, now=self._now
        )
        for version, at in upcoming_protocols(self.ledger):
            if (version, at) not in self._announced:
                self._announced.add((version, at))
                known = version <= self._newest_protocol
                self._out.log(
                    "info" if known else "warning", "protocol_scheduled", version=version, height=at, known=known
                )

    def _set_checkpoint_keys(self) -> None:
        signer = self.roles.checkpoint_signer(self._checkpoint_keys.get(self.city))
        self.checkpoints.change(self._checkpoint_keys, signer)

    def _check_protocol(self) -> None:
        if (why := unknown_protocol(self.ledger, self._newest_protocol)) is not None:
            self._halt(why)

    def _halt(self, reason: str) -> None:
        self.halted = reason
        self._out.log("error", "halted", why=reason)
        self._out.add(Halt(reason))
