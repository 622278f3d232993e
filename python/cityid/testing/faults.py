"""A network that loses, delays, repeats and splits; a disk that forgets what was not synced.

All randomness comes from generators that the caller seeds. Times are microseconds of virtual time.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

from cityid.node.ports import AppendVotes, HeightRecord, PendingProposal, Recovered, WriteStore

RECENT_HEIGHTS = 64


@dataclass(slots=True)
class NetworkFaults:
    """How bad the network is; may be changed at any moment."""

    loss: float = 0.0
    duplication: float = 0.0
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

    def split(self, groups: Sequence[Iterable[str]]) -> None:
        """Only cities of one group reach each other; a city in no group reaches nobody."""
        self._group = {city: number for number, group in enumerate(groups) for city in group}

    def heal(self) -> None:
        """Everybody reaches everybody."""
        self._group = {}

    def arrivals_us(self, sender: str, receiver: str) -> list[int]:
        """After how long copies of a frame arrive: none when it is lost, two when it is repeated."""
        if self._group and self._group.get(sender, -1) != self._group.get(receiver, -2):
            return []
        if self.faults.loss and self._random.random() < self.faults.loss:
            return []
        copies = 2 if self.faults.duplication and self._random.random() < self.faults.duplication else 1
        return [self._random.randint(*self.faults.latency_ms) * 1_000 for _ in range(copies)]


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
    waiting_votes: list[AppendVotes] = field(default_factory=list)
    waiting_writes: list[WriteStore] = field(default_factory=list)

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
        """A power cut: of what no sync has reached, some oldest part survives; a torn record is as good as none."""
        self.sync_votes(0 if lose_everything else random.randint(0, len(self.waiting_votes)))
        self.sync_store(0 if lose_everything else random.randint(0, len(self.waiting_writes)))
        self.waiting_votes.clear()
        self.waiting_writes.clear()
        if lose_votes and found:
            self.lose_votes()
        elif lose_votes:
            self.vote_height, self.vote_entries = 0, []

    def lose_store(self) -> None:
        """The store is damaged and made anew; the vote log stays (node/recovery.py)."""
        self.batches, self.undecided, self.proposals, self.heights = {}, {}, {}, []

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
