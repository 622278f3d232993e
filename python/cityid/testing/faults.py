"""A network that loses, delays, reorders, repeats and splits; a disk that loses what was not synced, fills up, fails.

All randomness comes from generators that the caller seeds. Times are microseconds of virtual time. What happens when,
is not known here: `schedule` says it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

from cityid.node.ports import AppendVotes, HeightRecord, PendingProposal, Recovered, WriteStore

RECENT_HEIGHTS = 64
STRAGGLERS = 20
FULL = "No space left on device"
BROKEN = "Input/output error"


@dataclass(slots=True)
class NetworkFaults:
    """How bad the network is; may be changed at any moment."""

    loss: float = 0.0
    duplication: float = 0.0
    straggling: float = 0.0  # this share takes up to `STRAGGLERS` times as long, and others overtake it
    latency_ms: tuple[int, int] = (1, 4)


@dataclass(slots=True)
class DiskFaults:
    """How bad the disks are. All but the first break a promise that safety rests on: they exist to be found out."""

    sync_ms: tuple[int, int] = (1, 3)
    vote_log_lies: bool = False  # says durable at once, and is so much later
    store_lies: bool = False  # the same for batches and proposals
    vote_log_is_lost: bool = False  # at every crash
    loss_is_found: bool = False  # and the start finds out: the city is silent where it may have voted
    lie_ms: int = 400


class Network:
    """Who reaches whom, and when."""

    def __init__(self, faults: NetworkFaults, random: Random) -> None:
        self.faults = faults
        self._random = random
        self._group: dict[str, int] = {}
        self._blocked: frozenset[tuple[str, str]] = frozenset()

    def split(self, groups: Sequence[Iterable[str]]) -> None:
        """Only cities of one group reach each other; a city in no group reaches nobody."""
        self._group = {city: number for number, group in enumerate(groups) for city in group}

    def block(self, pairs: Iterable[tuple[str, str]]) -> None:
        """What the first of a pair sends does not reach the second, until the next call; not so the other way."""
        self._blocked = frozenset(pairs)

    def heal(self) -> None:
        """Everybody reaches everybody."""
        self._group = {}
        self._blocked = frozenset()

    def reaches(self, sender: str, receiver: str) -> bool:
        """Whether anything gets through this way."""
        if (sender, receiver) in self._blocked:
            return False
        return not self._group or self._group.get(sender, -1) == self._group.get(receiver, -2)

    def arrivals_us(self, sender: str, receiver: str) -> list[int]:
        """After how long copies of a frame arrive: none when it is lost, two when it is repeated."""
        if not self.reaches(sender, receiver):
            return []
        faults, random = self.faults, self._random
        if faults.loss and random.random() < faults.loss:
            return []
        copies = 2 if faults.duplication and random.random() < faults.duplication else 1
        arrivals = [random.randint(*faults.latency_ms) * 1_000 for _ in range(copies)]
        if faults.straggling and random.random() < faults.straggling:
            arrivals[0] *= random.randint(2, STRAGGLERS)
        return arrivals


@dataclass(slots=True)
class Disk:
    """The vote log and the store of one city, with the writes that no sync has reached yet."""

    vote_height: int = 0
    vote_entries: list[bytes] = field(default_factory=list)
    batches: dict[bytes, bytes] = field(default_factory=dict)
    undecided: dict[bytes, None] = field(default_factory=dict)  # digests of batches in no block, in order
    proposals: dict[tuple[int, bytes], PendingProposal] = field(default_factory=dict)
    heights: list[HeightRecord] = field(default_factory=list)  # position 0 holds height 1
    silent_until: int = 0  # a vote log was lost and found to be: nothing is signed up to here
    repeats_until: int = 0  # the store was lost: votes up to here are known from the vote log alone
    waiting_votes: list[AppendVotes] = field(default_factory=list)
    waiting_writes: list[WriteStore] = field(default_factory=list)
    failure: str | None = None
    """Why every sync fails, until somebody has looked after the disk: `FULL` or `BROKEN`."""

    def sync_votes(self, count: int) -> None:
        """The oldest waiting entries reach the platter."""
        for append in self.waiting_votes[:count]:
            assert append.height >= self.vote_height, "the log of a height is replaced by that of a later one only"
            if append.height != self.vote_height:
                self.vote_height, self.vote_entries = append.height, []
            self.vote_entries += append.entries
        del self.waiting_votes[:count]

    def sync_store(self, count: int) -> None:
        """The oldest waiting writes reach the platter."""
        for write in self.waiting_writes[:count]:
            for digest, body in write.batches:
                self.batches[digest] = body
                self.undecided[digest] = None
            for proposal in write.proposals:
                self.proposals[proposal.height, proposal.value] = proposal
            for digest in write.forget:
                self.batches.pop(digest, None)
                self.undecided.pop(digest, None)
            if (record := write.height) is not None:
                self.heights.append(record)
                for start in range(0, len(record.digests), 32):
                    self.undecided.pop(record.digests[start : start + 32], None)
                self.proposals = {key: found for key, found in self.proposals.items() if key[0] > record.height}
        del self.waiting_writes[:count]

    def crash(self, random: Random, *, lose_everything: bool, lose_votes: bool, found: bool = False) -> None:
        """A power cut: of what no sync has reached, some oldest part survives; a torn record is as good as none.

        A full disk took none of it. After a failed sync nobody knows how much the disk took: again, some oldest part.
        """
        lose_everything = lose_everything or self.failure == FULL
        self.sync_votes(0 if lose_everything else random.randint(0, len(self.waiting_votes)))
        self.sync_store(0 if lose_everything else random.randint(0, len(self.waiting_writes)))
        self.waiting_votes.clear()
        self.waiting_writes.clear()
        if lose_votes and found:
            self.lose_votes()
        elif lose_votes:
            self.vote_height, self.vote_entries = 0, []

    def holds(self, height: int, value: bytes) -> bool:
        """Whether the block of this value is here, whole and durable: proposed, or decided."""
        if height <= len(self.heights):
            return self.holds_decided(height)
        proposal = self.proposals.get((height, value))
        return proposal is not None and self._has_all(proposal.digests)

    def holds_decided(self, height: int) -> bool:
        """Whether the decided block of this height is here with every batch."""
        return height <= len(self.heights) and self._has_all(self.heights[height - 1].digests)

    def _has_all(self, digests: bytes) -> bool:
        return all(digests[start : start + 32] in self.batches for start in range(0, len(digests), 32))

    def lose_store(self) -> None:
        """The store is damaged and made anew; the vote log stays (node/recovery.py)."""
        self.batches, self.undecided, self.proposals, self.heights = {}, {}, {}, []
        self.repeats_until = self.vote_height

    def lose_votes(self) -> None:
        """The vote log is damaged and made anew, and knows it."""
        self.vote_height, self.vote_entries, self.silent_until = 0, [], len(self.heights) + 1

    def recovered(self) -> Recovered:
        """What a restarting node finds."""
        recent = self.heights[-RECENT_HEIGHTS:]
        digests = [record.digests[at : at + 32] for record in recent for at in range(0, len(record.digests), 32)]
        current = self.vote_height > len(self.heights)
        return Recovered(
            vote_height=self.vote_height if current else 0,
            vote_entries=tuple(self.vote_entries) if current else (),
            proposals=tuple(self.proposals.values()),
            batches=tuple(self.batches[digest] for digest in self.undecided),
            recent=tuple(digests),
            silent_until=self.silent_until,
        )

    # ------------------------------------------------------------ as a source of blocks (ports.BlockSource)

    def batch(self, digest: bytes) -> bytes | None:
        """The body of a batch."""
        return self.batches.get(digest)

    def block(self, height: int) -> tuple[bytes, bytes, bytes] | None:
        """Header, certificate and digests of a decided height."""
        if not 0 < height <= len(self.heights):
            return None
        record = self.heights[height - 1]
        return record.header, record.certificate, record.digests

    def certified(self, height: int) -> tuple[bytes, bytes] | None:
        """Header and certificate of a decided height; none is pruned here."""
        found = self.block(height)
        return None if found is None else found[:2]

    def check_kept(self, height: int) -> None:
        """Every height is kept."""
