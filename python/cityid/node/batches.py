"""The life of a batch in this node: sealed or received, verified once, made durable, announced, proposed, gone.

Order that matters: a batch is announced (`HAVE`) only after it is durable here, and a client is told "accepted" only
when f + 1 cities of the committee said so. Transactions whose batch can no longer stand in a block whole are sealed
anew, and the old batch is forgotten in the same write that keeps the new one. No Python runs per transaction.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from hashlib import sha256

from cityid._native import Ledger
from cityid.errors import MalformedInput
from cityid.node.messages import BATCH, HAVE, MAX_DIGESTS, WANT_BATCHES, encode_digests
from cityid.node.outbox import Outbox
from cityid.node.pool import Pool
from cityid.node.ports import Acknowledged, Admitted, Now, Refused, Settings, Verify

SEAL: tuple[str, int, int] = ("seal", 0, 0)
FETCH: tuple[str, int, int] = ("fetch", 0, 0)
BEHIND = "This node has had no block for a while and may be behind. Send the same bytes to another city, or wait."
_BATCH_PREFIX = sha256(b"cityid/1/batch\x00\x01")


class Batches:
    """Moves batches between clients, peers, the ledger and the store."""

    def __init__(self, ledger: Ledger, out: Outbox, *, city: str, peers: Sequence[str], settings: Settings,
                 parameters: Mapping[str, int]) -> None:  # fmt: skip
        self.pool = Pool(city, peers, max_author_bytes=settings.max_author_bytes)
        self._ledger = ledger
        self._out = out
        self._city = city
        self._settings = settings
        self._set_limits(parameters)
        self._verifying: dict[bytes, tuple[str, bytes, int]] = {}
        self._epoch = 0  # counts changes of limits: what was refused under other ones is looked at again
        self._verifying_bytes = 0
        self._verifying_of: Counter[str] = Counter()  # the same, by the city that sent them
        self._to_verify: list[bytes] = []
        self._unsealed: list[int] = []
        self._seal_set = self._fetch_set = False

    def change(
        self, *, peers: Sequence[str], committee: Collection[str], parameters: Mapping[str, int], height: int, now: Now
    ) -> None:
        """Go on with other cities, another committee or other limits; what no block may hold now is sealed anew."""
        self.pool.change(peers=peers, committee=committee)
        self._set_limits(parameters)
        self._epoch += 1
        self.tidy(self.pool.digests(), height, now)
        self._acknowledge()

    def _set_limits(self, parameters: Mapping[str, int]) -> None:
        self._max_transactions = parameters["max_batch_transactions"]
        self._max_bytes = parameters["max_batch_bytes"]

    def recover(self, results: Sequence[tuple[bytes, int, str | None]], bodies: Sequence[bytes], now: Now) -> None:
        """Batches that were durable before a restart, and what `Ledger.ingest` said about them."""
        spoiled: list[bytes] = []
        for (digest, transactions, error), body in zip(results, bodies, strict=True):
            if error is None and self.pool.is_news(digest):
                self._add(digest, body, transactions, self._city, now)
                self.pool.make_durable(digest)
            else:
                spoiled.append(digest)
        if spoiled:
            self._out.write(_nothing, forget=tuple(spoiled))

    # ------------------------------------------------------------ from clients

    def submit(self, ticket: int, data: bytes, now: Now, *, may_be_behind: bool = False) -> None:
        """Admit a client's transactions; the ticket is acknowledged when they are safe.

        A node that `may_be_behind` refuses nothing for good because of its own height.
        """
        if not self.pool.has_room(self._city, self._ledger.waiting()[1] + len(data)):
            bound = self._settings.max_author_bytes
            why = f"This node's batches that wait for a block reach the limit pool_city_bytes, which is {bound}"
            self._out.add(Refused(ticket, "overloaded", f"{why}. Send again in a moment, or to another city."))
            return
        try:
            rows = self._ledger.admit(data)
        except MalformedInput as error:
            self._out.add(Refused(ticket, "malformed", str(error)))
            return
        if may_be_behind:
            rows = [(id, "not_ready", BEHIND) if reason == "too_far" else (id, reason, why) for id, reason, why in rows]
        self._out.add(Admitted(ticket, rows))
        self._unsealed.append(ticket)
        if self._ledger.waiting()[0] >= self._settings.seal_at_transactions:
            self.seal(now)
        elif not self._seal_set:
            self._seal_set = True
            self._out.timer(SEAL, after_us=self._settings.seal_after_ms * 1_000)

    def seal(self, now: Now, *, replaced: Sequence[bytes] = ()) -> None:
        """Put everything that waits into batches; send them at once, and keep them."""
        self._seal_set = False
        sealed: list[tuple[bytes, bytes]] = []
        known: list[bytes] = []
        while (batch := self._ledger.seal(self._max_transactions, self._max_bytes)) is not None:
            digest, body = batch
            if self.pool.is_gone(digest):
                # A client sent these very transactions to another city too, whose block was first: there is nothing to
                # spread, and nobody would answer for it.
                self._ledger.forget(digest)
                known.append(digest)
                continue
            sealed.append(batch)
            self._add(digest, body, 0, self._city, now)
            self._out.send(None, BATCH, body)
        digests = [digest for digest, _ in sealed]
        for ticket in self._unsealed:
            self.pool.expect(ticket, digests + known)
        self._unsealed.clear()
        for old in replaced:
            self.pool.replace(old, digests)
        if sealed or replaced:
            self._out.write(lambda: self._durable(digests), batches=tuple(sealed), forget=tuple(replaced))
        else:
            self._acknowledge()

    # ------------------------------------------------------------ from peers

    def on_batch(self, peer: str, body: bytes, now: Now) -> None:
        """A peer's batch: verify it, unless it is known, in work, or over a bound."""
        digest = batch_digest(body)
        needed = self.pool.is_needed(digest)
        if digest in self._verifying or not (needed or self.pool.is_news(digest)):
            return
        if not needed:
            full = self._verifying_bytes + len(body) > self._settings.max_verifying_bytes
            if full or not self.pool.has_room(peer, self._verifying_of[peer] + len(body)):
                self._out.log("warning", "batch_dropped", peer=peer, size_bytes=len(body), why="over a bound")
                return
        self._verifying[digest] = (peer, body, self._epoch)
        self._verifying_bytes += len(body)
        self._verifying_of[peer] += len(body)
        self._to_verify.append(body)

    def flush(self) -> None:
        """One request to verify for everything that one step brought."""
        if self._to_verify:
            self._out.add(Verify(tuple(self._to_verify)))
            self._to_verify.clear()

    def on_verified(self, results: Sequence[tuple[bytes, int, str | None]], now: Now) -> list[tuple[str, bytes, str]]:
        """Keep the good ones; returns who sent which bad one, and what is wrong with it."""
        bad: list[tuple[str, bytes, str]] = []
        good: list[tuple[bytes, bytes]] = []
        for digest, transactions, error in results:
            peer, body, epoch = self._verifying.pop(digest)
            if error is not None and epoch != self._epoch:
                self._verifying[digest] = (peer, body, self._epoch)
                self._to_verify.append(body)
                continue
            self._verifying_bytes -= len(body)
            self._verifying_of[peer] -= len(body)
            if error is None:
                good.append((digest, body))
                self._add(digest, body, transactions, peer, now)
            else:
                bad.append((peer, digest, error))
                self._out.log("warning", "batch_refused", peer=peer, digest=digest.hex(), why=error)
        if good:
            digests = [digest for digest, _ in good]
            self._out.write(lambda: self._durable(digests), batches=tuple(good))
        return bad

    def on_have(self, peer: str, digests: Iterable[bytes], now: Now) -> None:
        """A peer holds these durably."""
        self.pool.announce(peer, digests, now_us=now.monotonic_us)
        self._acknowledge()
        if self.pool.is_fetching:
            self._fetch_later()

    def need(self, peer: str, digests: Sequence[bytes], now: Now) -> None:
        """A signed proposal names these: ask at once."""
        self.pool.need(peer, [digest for digest in digests if digest not in self._verifying], now_us=now.monotonic_us)
        self.fetch(now)

    def fetch(self, now: Now) -> None:
        """Ask for what is missing."""
        self._fetch_set = False
        patience_us = self._settings.fetch_patience_ms * 1_000
        asks = self.pool.fetches(now_us=now.monotonic_us, patience_us=patience_us, limit=MAX_DIGESTS)
        for peer, digests in asks.items():
            self._out.send(peer, WANT_BATCHES, encode_digests(digests), urgent=True)
        if self.pool.is_fetching:
            self._fetch_later()

    def _fetch_later(self) -> None:
        if not self._fetch_set:
            self._fetch_set = True
            self._out.timer(FETCH, after_us=self._settings.fetch_patience_ms * 1_000)

    # ------------------------------------------------------------ upkeep

    def announce_again(self, now: Now) -> None:
        """What waits for long may have been missed by somebody."""
        old = self.pool.durable_since(now.monotonic_us - self._settings.tick_ms * 1_000, limit=MAX_DIGESTS)
        if old:
            self._out.send(None, HAVE, encode_digests(old))

    def announce_to(self, peer: str) -> None:
        """A city is connected again: tell it what waits here."""
        held = [digest for digest in self.pool.digests() if self.pool.is_durable(digest)][:MAX_DIGESTS]
        if held:
            self._out.send(peer, HAVE, encode_digests(held))

    def tidy(self, digests: Iterable[bytes], height: int, now: Now) -> bool:
        """Seal anew what can no longer stand in a block of this height; whether there was anything."""
        stale = [digest for digest in digests if self._ledger.expired(digest, height)]
        if not stale:
            return False
        for digest in stale:
            kept = self._ledger.reclaim(digest)
            self._out.log("info", "batch_reclaimed", digest=digest.hex(), transactions=kept)
        self.pool.remove(stale)
        self.seal(now, replaced=stale)
        return True

    def on_committed(self, digests: Sequence[bytes]) -> None:
        """These are in a durable block."""
        self.pool.remove(digests)
        self.pool.forget_needs()
        self._acknowledge()

    def _add(self, digest: bytes, body: bytes, transactions: int, author: str, now: Now) -> None:
        self.pool.add(digest, size_bytes=len(body), transactions=transactions, author=author, now_us=now.monotonic_us)

    def _durable(self, digests: Sequence[bytes]) -> None:
        for digest in digests:
            self.pool.make_durable(digest)
        for start in range(0, len(digests), MAX_DIGESTS):
            self._out.send(None, HAVE, encode_digests(digests[start : start + MAX_DIGESTS]), urgent=True)
        self._acknowledge()

    def _acknowledge(self) -> None:
        for ticket in self.pool.acknowledged():
            self._out.add(Acknowledged(ticket))


def batch_digest(body: bytes) -> bytes:
    """The digest of a batch (P2, P30)."""
    hash_ = _BATCH_PREFIX.copy()
    hash_.update(body)
    return hash_.digest()


def _nothing() -> None:
    """A write that nothing waits for."""
