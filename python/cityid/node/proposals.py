"""Bodies on their way to the engine: built here or received, made durable, held, executed.

A proposal frame is taken from the proposer of its round (P35), and from any city of the committee in the late rounds in
which the engine lets every one that locked a value repeat it: one a sender and round. So at most one body a round is
executed, besides those that have a quorum of prevotes. Nothing is executed, and the engine hears of nothing, before the
header and all of its batches are durable here (P37).
"""

from collections.abc import Mapping

from cityid._native import Ledger
from cityid.errors import RuleViolation
from cityid.node import messages
from cityid.node.batches import Batches
from cityid.node.heights import Height, Offer, header_fields
from cityid.node.messages import Proposal
from cityid.node.outbox import Outbox
from cityid.node.ports import Now, PendingProposal, Settings

PROPOSE_EMPTY = "propose_empty"
HOLD = "hold"
FREE_RESTREAM_ROUND = 10  # Malachite's HIDDEN_LOCK_ROUND
MAX_ROUNDS_AHEAD = 10


class Proposals:
    """Builds and receives the bodies of the running height."""

    def __init__(
        self,
        ledger: Ledger,
        out: Outbox,
        batches: Batches,
        *,
        city: str,
        parameters: Mapping[str, int],
        settings: Settings,
    ) -> None:
        self._ledger = ledger
        self._out = out
        self._batches = batches
        self._city = city
        self._settings = settings
        self.set_limits(parameters)

    def set_limits(self, parameters: Mapping[str, int]) -> None:
        """From the next height on these hold (P71)."""
        self._heartbeat_ms = parameters["heartbeat_ms"]
        self._max_bytes = parameters["max_block_bytes"]
        self._max_batches = min(parameters["max_block_batches"], messages.MAX_DIGESTS)

    def receive(self, height: Height, peer: str, proposal: Proposal) -> None:
        """A proposal of this height: bind it to its value and make it durable, or drop it."""
        cities = height.committee.cities
        proposer = height.committee.proposer(proposal.height, proposal.round)
        if peer not in cities or (peer != cities[proposer] and proposal.round < FREE_RESTREAM_ROUND):
            return
        if proposal.round > max(0, height.round) + MAX_ROUNDS_AHEAD or (proposal.round, peer) in height.offers:
            return
        if (body := height.add_body(proposal.header, proposal.digests)) is None:
            why = "its digests or its height differ from its header"
            self._out.log("warning", "proposal_dropped", peer=peer, height=proposal.height, why=why)
            return
        height.offers[proposal.round, peer] = Offer(proposal.round, proposal.valid_round, proposer, peer, body.value)
        if body.value not in height.durable:
            self._out.write(lambda: height.durable.add(body.value), proposals=(body,))

    def build(
        self, height: Height, round_: int, *, since_us: int, tip_time_ms: int, now: Now
    ) -> PendingProposal | None:
        """The body to propose, executed; None while waiting for a batch is better than an empty block."""
        # A round that failed because its block took long must not cost another execution: the same batches again.
        joined = height.executed_digests() or self._choose(height, now)
        time_ms = max(tip_time_ms + 1, now.wall_ms)
        patience_us = since_us + self._settings.empty_wait_ms * 1_000 - now.monotonic_us
        if not joined and time_ms < tip_time_ms + self._heartbeat_ms and patience_us > 0:
            self._look_again(height, PROPOSE_EMPTY, round_, after_us=patience_us)
            return None
        height.wish = None
        try:
            candidate = self._ledger.execute(height.number, time_ms, self._city, joined)
        except RuleViolation as error:  # a bug, but the next city's turn comes: nobody should wait for this one
            self._out.log("error", "proposal_failed", height=height.number, round=round_, why=str(error))
            return None
        body = PendingProposal(height.number, candidate.value, candidate.header, joined)
        height.bodies[body.value] = body
        height.verdicts[body.value] = candidate
        return body

    def _choose(self, height: Height, now: Now) -> bytes:
        """The batches of a new block: the oldest, within the network's limits and those of this city."""
        pool = self._batches.pool
        digests = pool.proposable(max_bytes=self._max_bytes, max_batches=self._max_batches)
        while self._batches.tidy(digests, height.number, now):
            digests = pool.proposable(max_bytes=self._max_bytes, max_batches=self._max_batches)
        # A city that is behind may hold batches whose time has not come (P18).
        joined = b"".join([digest for digest in digests if self._ledger.includable(digest, height.number)])
        return joined[: self._ledger.within_items(joined, self._settings.block_items) * messages.DIGEST_BYTES]

    def send(self, body: PendingProposal, round_: int, valid_round: int) -> None:
        """Show a body to the other cities."""
        proposal = Proposal(body.height, round_, valid_round, body.header, body.digests)
        self._out.send(None, messages.PROPOSAL, messages.encode_proposal(proposal), urgent=True)

    def next_ready(self, height: Height, now: Now) -> Offer | None:
        """An offer that may be executed now and that the engine has not heard of."""
        if (synced := height.sync_offer) is not None and not synced.given:
            return synced if self.has_batches(height.bodies[synced.value], synced.sender, now) else None
        for offer in sorted(height.offers.values(), key=lambda offer: (offer.round, offer.sender)):
            if offer.given or offer.value not in height.durable:
                continue
            body = height.bodies[offer.value]
            if self.has_batches(body, offer.sender, now) and not self._is_early(height, body, offer.round, now):
                return offer
        return None

    def has_batches(self, body: PendingProposal, sender: str, now: Now) -> bool:
        """Whether every batch is durable here; asks for those that are not."""
        pool = self._batches.pool
        lacking = [digest for digest in messages.decode_digests(body.digests) if not pool.is_durable(digest)]
        if lacking:
            self._batches.need(sender, [digest for digest in lacking if digest not in pool], now)
        return not lacking

    def _is_early(self, height: Height, body: PendingProposal, round_: int, now: Now) -> bool:
        """Whether the header is from the future; then it is looked at again when its time has come (P34)."""
        ahead_ms = int(header_fields(body.header)["time_ms"]) - now.wall_ms - self._settings.clock_drift_ms
        if ahead_ms > 0:
            self._look_again(height, HOLD, round_, after_us=ahead_ms * 1_000)
        return ahead_ms > 0

    def _look_again(self, height: Height, why: str, round_: int, *, after_us: int) -> None:
        if (why, round_) not in height.timers:
            height.timers.add((why, round_))
            self._out.timer((why, height.number, round_), after_us=after_us)
