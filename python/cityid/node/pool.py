"""Which batches exist, who holds them durably, and which may be proposed.

Bodies live in the ledger and in the store; this file keeps one small entry a batch and never looks inside one. Rules:

- A batch may be proposed when it is durable here and f + 1 cities of the committee hold it: then at least one honest
  city can always serve it. A client's request is acknowledged under the same condition. Followers hold batches too,
  and count for nothing.
- A batch has no owner. `author` is only the city that sent it first, and bounds how much memory that city may use.
- A digest that was heard of but not seen is fetched from whoever announced it; a batch that a signed proposal needs is
  asked for at once, then from everybody in turn.
- Every table here is bounded; what does not fit is dropped, and heard of again at the next announcement. A city that
  announces what nobody has uses up its own share of the table and no other's, and for no longer than `MAX_ASKS`.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

MAX_HEARD = 4_096
MAX_GONE = 65_536
ASK_AGAIN_US = 1_000_000
MAX_ASKS = 8  # then a batch that was only heard of is forgotten, until somebody announces it again


@dataclass(slots=True)
class Entry:
    """One batch without a block."""

    size_bytes: int
    transactions: int
    author: str
    since_us: int
    durable: bool = False
    holders: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Heard:
    """A batch that others hold and this node lacks."""

    first: str  # who announced it first, and whose share it counts in
    since_us: int
    needed: bool  # by a signed proposal
    holders: list[str] = field(default_factory=list)
    asked: int = 0
    asked_us: int = 0


class Pool:
    """The batches that wait for a block, in order of arrival. At first everybody is in the committee."""

    def __init__(self, city: str, peers: Sequence[str], *, max_author_bytes: int) -> None:
        self._city = city
        self.change(peers=peers, committee=[city, *peers])
        self._max_author_bytes = max_author_bytes
        self._entries: dict[bytes, Entry] = {}
        self._heard: dict[bytes, Heard] = {}
        self._heard_from: dict[str, int] = {}
        self._gone: OrderedDict[bytes, None] = OrderedDict()
        self._bytes_of: dict[str, int] = {}
        self._tickets: dict[int, set[bytes]] = {}

    def change(self, *, peers: Sequence[str], committee: Collection[str]) -> None:
        """From now on these are the others that may be asked, and these the cities that count."""
        self._peers = list(peers)
        self._committee = frozenset(committee)
        self._enough = (len(self._committee) - 1) // 3 + 1  # f + 1

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._entries

    @property
    def size_bytes(self) -> int:
        """Bytes of all batches that wait."""
        return sum(self._bytes_of.values())

    # ------------------------------------------------------------ arrival

    def has_room(self, author: str, size_bytes: int) -> bool:
        """Whether this city may add so many bytes."""
        return self._bytes_of.get(author, 0) + size_bytes <= self._max_author_bytes

    def is_news(self, digest: bytes) -> bool:
        """Whether the batch is neither here nor in a block already."""
        return digest not in self._entries and digest not in self._gone

    def is_gone(self, digest: bytes) -> bool:
        """Whether the batch is in a block already, or will never be in one."""
        return digest in self._gone

    def is_needed(self, digest: bytes) -> bool:
        """Whether a signed proposal waits for it: then no quota holds it back."""
        heard = self._heard.get(digest)
        return heard is not None and heard.needed

    def add(self, digest: bytes, *, size_bytes: int, transactions: int, author: str, now_us: int) -> None:
        """A verified batch; not durable yet."""
        if digest in self._entries:
            return
        entry = Entry(size_bytes, transactions, author, now_us)
        self._entries[digest] = entry
        self._bytes_of[author] = self._bytes_of.get(author, 0) + size_bytes
        # Whoever sent it is a holder only once it says so: it sends a batch while it still makes it durable.
        if (heard := self._forget(digest)) is not None:
            entry.holders.update(heard.holders)

    def make_durable(self, digest: bytes) -> None:
        """The batch survives a power cut here."""
        if (entry := self._entries.get(digest)) is not None:
            entry.durable = True
            entry.holders.add(self._city)

    def announce(self, peer: str, digests: Iterable[bytes], *, now_us: int) -> None:
        """A peer says that it holds these durably."""
        for digest in digests:
            if (entry := self._entries.get(digest)) is not None:
                entry.holders.add(peer)
            elif digest not in self._gone:
                self._hear(digest, peer, now_us=now_us, needed=False)

    def need(self, peer: str, digests: Iterable[bytes], *, now_us: int) -> None:
        """A signed proposal of this peer names batches that are not here."""
        for digest in digests:
            if digest not in self._entries:
                self._hear(digest, peer, now_us=now_us, needed=True)

    def _hear(self, digest: bytes, peer: str, *, now_us: int, needed: bool) -> None:
        heard = self._heard.get(digest)
        if heard is None:
            count = self._heard_from.get(peer, 0)
            if count >= MAX_HEARD // max(1, len(self._peers)) and not needed:
                return
            self._heard_from[peer] = count + 1
            heard = self._heard[digest] = Heard(peer, now_us, needed)
        heard.needed = heard.needed or needed
        if peer != self._city and peer not in heard.holders:
            heard.holders.append(peer)

    def _forget(self, digest: bytes) -> Heard | None:
        if (heard := self._heard.pop(digest, None)) is not None:
            self._heard_from[heard.first] -= 1
        return heard

    def fetches(self, *, now_us: int, patience_us: int, limit: int) -> dict[str, list[bytes]]:
        """What to ask from whom now; each digest from one city at a time."""
        asks: dict[str, list[bytes]] = {}
        in_vain: list[bytes] = []
        for digest, heard in self._heard.items():
            ready = heard.needed or now_us - heard.since_us >= patience_us
            if not ready or (heard.asked and now_us - heard.asked_us < ASK_AGAIN_US):
                continue
            if heard.asked >= MAX_ASKS and not heard.needed:
                in_vain.append(digest)
                continue
            candidates = heard.holders + [peer for peer in self._peers if heard.needed and peer not in heard.holders]
            if not candidates:
                continue
            peer = candidates[heard.asked % len(candidates)]
            if len(wanted := asks.setdefault(peer, [])) < limit:
                wanted.append(digest)
                heard.asked += 1
                heard.asked_us = now_us
        for digest in in_vain:
            self._forget(digest)
        return asks

    @property
    def is_fetching(self) -> bool:
        """Whether something was heard of and not seen."""
        return bool(self._heard)

    # ------------------------------------------------------------ proposals

    def is_durable(self, digest: bytes) -> bool:
        """Whether the batch may stand under a vote of this node."""
        entry = self._entries.get(digest)
        return entry is not None and entry.durable

    def proposable(self, *, max_bytes: int, max_batches: int) -> list[bytes]:
        """The oldest batches that f + 1 of the committee hold, within the bounds of a block."""
        chosen: list[bytes] = []
        room = max_bytes
        for digest, entry in self._entries.items():
            if len(chosen) >= max_batches:
                break
            if self._is_safe(entry) and entry.size_bytes <= room:
                chosen.append(digest)
                room -= entry.size_bytes
        return chosen

    def has_proposable(self) -> bool:
        """Whether a block would not be empty."""
        return any(self._is_safe(entry) for entry in self._entries.values())

    def _is_safe(self, entry: Entry) -> bool:
        return entry.durable and len(entry.holders & self._committee) >= self._enough

    def durable_since(self, before_us: int, *, limit: int) -> list[bytes]:
        """Durable batches older than this moment, oldest first: worth announcing again."""
        found: list[bytes] = []
        for digest, entry in self._entries.items():
            if len(found) >= limit or entry.since_us > before_us:
                break
            if entry.durable:
                found.append(digest)
        return found

    def digests(self) -> list[bytes]:
        """All that wait, oldest first."""
        return list(self._entries)

    # ------------------------------------------------------------ departure

    def remove(self, digests: Iterable[bytes]) -> None:
        """These are in a block now, or will never be in one."""
        for digest in digests:
            if (entry := self._entries.pop(digest, None)) is not None:
                self._bytes_of[entry.author] -= entry.size_bytes
            self._forget(digest)
            self._gone[digest] = None
            self._gone.move_to_end(digest)
        while len(self._gone) > MAX_GONE:
            self._gone.popitem(last=False)

    def forget_needs(self) -> None:
        """A height is over: what only its proposals needed is not needed any more."""
        for digest in [digest for digest, heard in self._heard.items() if heard.needed]:
            self._forget(digest)

    # ------------------------------------------------------------ clients

    def expect(self, ticket: int, digests: Iterable[bytes]) -> None:
        """A client waits until these batches are safe."""
        self._tickets[ticket] = set(digests)

    def replace(self, old: bytes, new: Sequence[bytes]) -> None:
        """The transactions of a batch moved to others: so do the clients that wait for them."""
        for waiting in self._tickets.values():
            if old in waiting:
                waiting.discard(old)
                waiting.update(new)

    def acknowledged(self) -> list[int]:
        """The clients whose wait is over; each is returned once."""
        done = [ticket for ticket, waiting in self._tickets.items() if all(map(self._is_kept, waiting))]
        for ticket in done:
            del self._tickets[ticket]
        return done

    def _is_kept(self, digest: bytes) -> bool:
        entry = self._entries.get(digest)
        return self._is_safe(entry) if entry is not None else digest in self._gone
