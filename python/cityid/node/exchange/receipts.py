"""Storage receipts (P45): signing them for others, and collecting them for a client.

Signing. A city that is asked takes the file from whoever asked, demands that the range has the version that was asked
for, reads the file once, which checks it (P43) and its table against the state and the version before (P44), notes that
it signed, and signs. `MAX_WAITING` requests of a city wait; beyond that it hears that this
node is busy.

Collecting. The first receipt is this city's own, for the file is here: one copy less on the way. At the same time the
others are asked in the order of rendezvous hashing over the digest, as many at once as receipts are needed; one that
refuses, fails or says nothing in time is followed by the next. What the state forbids here it forbids everywhere: such
a refusal of this city's own is the answer, and nobody else is asked any further.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from cityid._native import verify_strict
from cityid.errors import (
    CityIDError,
    InputError,
    MalformedInput,
    NotSynced,
    Overloaded,
    PeerUnreachable,
    RuleViolation,
    StorageError,
    Unavailable,
)
from cityid.keys import Signer
from cityid.node.exchange.keeping import FileNotHere, Keeper, rendezvous
from cityid.node.exchange.payloads import (
    NoReceipt,
    Receipt,
    WantReceipt,
    encode_no_receipt,
    encode_receipt,
    encode_want_receipt,
)
from cityid.node.exchange.ports import Against, LedgerReads, Link, Network, SnapshotReads, TableFile, TableHead
from cityid.node.messages import NO_RECEIPT, RECEIPT, WANT_RECEIPT
from cityid.node.telemetry import Log

__all__ = ["Collected", "Receipts"]

MAX_WAITING: Final = 4
WORKERS: Final = 2
HEIGHT_S: Final = 5.0
"""How long a city that is behind the one that asks waits for that height."""
LOOK_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Collected:
    """The receipts, ascending by city, and why the cities that were asked in vain gave none: reason and words."""

    needed: int
    receipts: Sequence[tuple[str, bytes]]
    refusals: Mapping[str, tuple[str, str]]


@dataclass(slots=True)
class _Asked:
    """A request that waits for a city's answer."""

    answer: Receipt | NoReceipt | None = None
    done: trio.Event = field(default_factory=trio.Event)


@dataclass(slots=True)
class _Collection:
    """One client's request on its way."""

    needed: int
    members: Mapping[str, bytes]
    table: TableFile | None = None
    opened: trio.Event = field(default_factory=trio.Event)
    receipts: dict[str, bytes] = field(default_factory=dict)
    refusals: dict[str, tuple[str, str]] = field(default_factory=dict)
    forbidden: CityIDError | None = None


class Receipts:
    """See the head of the file."""

    def __init__(
        self, *, keeper: Keeper, ledger: LedgerReads, link: Link, network: Network, log: Log, receipt_s: float
    ) -> None:
        self._keeper = keeper
        self._ledger = ledger
        self._link = link
        self._network = network
        self._log = log
        self._receipt_s = receipt_s
        self._patience_s = receipt_s / 2  # with one city, so that the next one has time
        self._committed = trio.Event()
        self._requests, self._requested = trio.open_memory_channel[tuple[str, WantReceipt]](1_000)
        self._waiting: Counter[str] = Counter()
        self._asked: dict[tuple[str, bytes, int], _Asked] = {}
        self.signed = 0
        self.refused: Counter[str] = Counter()

    def on_committed(self) -> None:
        """A height was committed."""
        self._committed.set()
        self._committed = trio.Event()

    # ------------------------------------------------------------ signing

    def on_want_receipt(self, peer: str, want: WantReceipt) -> None:
        """Queues a request of another city."""
        if self._waiting[peer] >= MAX_WAITING:
            self._refuse(peer, want, "overloaded", f"{MAX_WAITING} requests of city {peer} wait here already")
            return
        try:
            self._requests.send_nowait((peer, want))
        except trio.WouldBlock:
            self._refuse(peer, want, "overloaded", "too many requests for storage receipts wait here")
            return
        self._waiting[peer] += 1

    async def run(self) -> None:
        """Signs for others until cancelled."""
        async with trio.open_nursery() as nursery:
            for _ in range(WORKERS):
                nursery.start_soon(self._work)

    async def _work(self) -> None:
        async for peer, want in self._requested.clone():
            try:
                with trio.fail_after(self._patience_s):
                    signature = await self._sign_for(peer, want)
            except trio.TooSlowError:
                self._refuse(peer, want, "slow", f"fetching and checking took longer than {self._patience_s:g} s")
            except CityIDError as error:
                self._refuse(peer, want, reason_of(error), str(error))
            else:
                answer = encode_receipt(Receipt(want.digest, want.version, signature))
                self._link.send(peer, RECEIPT, answer, urgent=False)
                self._log.info("receipt_signed", digest=want.digest.hex(), peer=peer)
            finally:
                self._waiting[peer] -= 1

    async def _sign_for(self, peer: str, want: WantReceipt) -> bytes:
        await self._reach(want.height)
        _, signature = await self._sign(want.digest, [peer], want.version)
        return signature

    async def _reach(self, height: int) -> None:
        """Waits until this node is as far as the one that asks."""
        with trio.move_on_after(HEIGHT_S):
            while self._ledger.height < height:
                await self._committed.wait()
        if self._ledger.height < height:
            raise NotSynced(f"this node is at height {self._ledger.height}, the request is about {height}")

    async def _sign(self, digest: bytes, cities: Sequence[str], version: int) -> tuple[TableFile, bytes]:
        """Takes the table in, checks it and signs; the table and the signature."""
        if not self._network.synced():
            raise NotSynced("this node is behind the network and does not know what the range is now")
        signer = self._signer()

        def judge(head: TableHead) -> Against:
            snapshot = self._ledger.snapshot()
            check_version(snapshot, head, version)
            previous = None if head.previous is None else self._keeper.folder.get(head.previous)
            if head.previous is not None and previous is None:
                raise Unavailable(
                    f"the table of the version before, {head.previous.hex()}, is not here yet; ask again in a moment"
                )
            return Against(snapshot, previous)

        table = await self._keeper.obtain(digest, cities, judge)
        await self._keeper.mark_signed(digest)
        self.signed += 1
        return table, signer.sign(table.statement(version))

    def _signer(self) -> Signer:
        """Of the key that the state names: with any other a receipt would count for nothing."""
        key = self._network.members().get(self._network.city)
        signer = None if key is None else self._network.signer(key)
        if signer is None:
            raise Unavailable("this city is no active member, or the checkpoint key that the state names is not here")
        return signer

    def _refuse(self, peer: str, want: WantReceipt, reason: str, message: str) -> None:
        self.refused[reason] += 1
        self._log.limited("warning", "receipt_refused", digest=want.digest.hex(), peer=peer, reason=reason, why=message)
        answer = encode_no_receipt(NoReceipt(want.digest, want.version, reason, message))
        self._link.send(peer, NO_RECEIPT, answer, urgent=False)

    # ------------------------------------------------------------ collecting

    def on_answer(self, peer: str, answer: Receipt | NoReceipt) -> None:
        """A city signed or refused; what nobody asked for is dropped."""
        asked = self._asked.get((peer, answer.digest, answer.version))
        if asked is not None and asked.answer is None:
            asked.answer = answer
            asked.done.set()

    async def collect(self, digest: bytes, version: int) -> Collected:
        """As many receipts as the network demands, for a file that is here or at a connected city.

        Raises `FileNotHere`, `MalformedInput` when the file is no table, `RuleViolation` when the state forbids it.
        """
        members, city = self._network.members(), self._network.city
        order = rendezvous(digest, sorted(members))
        if self._keeper.find(digest) is None:
            await self._obtain(digest, order)
        collection = _Collection(needed=self._network.parameters()["receipts"], members=members)
        others = iter([other for other in order if other != city])

        async def own() -> None:
            try:
                if city in members and (signed := await self._sign_own(collection, digest, order, version)):
                    collection.table, collection.receipts[city] = signed
                else:
                    collection.table = await self._obtain(digest, order)
            except (InputError, FileNotHere) as error:
                collection.forbidden = error
                nursery.cancel_scope.cancel()
            except CityIDError as error:  # without the table here nobody's receipt can be compared with it
                collection.refusals[city] = reason_of(error), str(error)
                nursery.cancel_scope.cancel()
            else:
                collection.opened.set()
                if city in collection.refusals:
                    await ask_others()

        async def ask_others() -> None:
            for other in others:
                if await self._ask_within_patience(collection, other, digest, version):
                    return

        with trio.move_on_after(self._receipt_s):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(own)
                for _ in range(collection.needed - (city in members)):
                    nursery.start_soon(ask_others)
        if collection.forbidden is not None:
            raise collection.forbidden
        return Collected(collection.needed, sorted(collection.receipts.items()), collection.refusals)

    async def _sign_own(
        self, collection: "_Collection", digest: bytes, order: Sequence[str], version: int
    ) -> tuple[TableFile, bytes] | None:
        """This city's own receipt; without one its refusal is noted."""
        try:
            return await self._sign(digest, self._connected(order), version)
        except (InputError, FileNotHere):
            raise
        except CityIDError as error:
            collection.refusals[self._network.city] = reason_of(error), str(error)
            return None

    async def _obtain(self, digest: bytes, order: Sequence[str]) -> TableFile:
        try:
            return await self._keeper.obtain(digest, self._connected(order))
        except PeerUnreachable as error:
            raise FileNotHere(str(error)) from None

    def _connected(self, order: Sequence[str]) -> list[str]:
        return [city for city in order if city in self._link.connected]

    async def _ask_within_patience(self, collection: "_Collection", city: str, digest: bytes, version: int) -> bool:
        """Whether the city signed; if not, its refusal is noted."""
        collection.refusals[city] = "slow", f"no answer within {self._patience_s:g} s"
        with trio.move_on_after(self._patience_s):
            try:
                signature = await self._ask(city, digest, version)
                await collection.opened.wait()
                assert collection.table is not None
                if not verify_strict(collection.members[city], collection.table.statement(version), signature):
                    self._log.limited("warning", "receipt_wrong", digest=digest.hex(), peer=city)
                    raise RuleViolation("bad_receipt", "its signature does not verify under its checkpoint key")
            except CityIDError as error:
                collection.refusals[city] = reason_of(error), str(error)
            else:
                collection.receipts[city] = signature
                del collection.refusals[city]
                return True
        return False

    async def _ask(self, city: str, digest: bytes, version: int) -> bytes:
        request = WantReceipt(digest, version, self._ledger.height)
        place = (city, digest, version)
        asked = self._asked.get(place)
        if asked is None:
            if not self._link.send(city, WANT_RECEIPT, encode_want_receipt(request), urgent=False):
                raise PeerUnreachable("it is not connected")
            asked = self._asked[place] = _Asked()
        try:
            while asked.answer is None:
                if city not in self._link.connected:
                    raise PeerUnreachable("the connection to it was lost")
                with trio.move_on_after(LOOK_S):
                    await asked.done.wait()
        finally:
            self._asked.pop(place, None)
        if isinstance(asked.answer, NoReceipt):
            raise RuleViolation(asked.answer.reason, asked.answer.message)
        return asked.answer.signature


def check_version(snapshot: SnapshotReads, table: TableHead, version: int) -> None:
    """Refuses when the table's range is not there, or has another version than the seal will expect (P45)."""
    text = snapshot.range(table.city, table.cls, table.base, table.size)
    name = f"the range of {table.size} from {table.base} of city {table.city}, class {table.cls}"
    if text is None:
        raise RuleViolation("not_in_range", f"nobody holds {name}; allocate it first")
    found = int(json.loads(text)["version"])
    if found != version:
        raise RuleViolation(
            "stale_version", f"{name} has version {found}, not {version}; read it again and decide anew"
        )


def reason_of(error: CityIDError) -> str:
    """The stable word for why a city gives no receipt."""
    match error:
        case RuleViolation():
            return error.reason
        case FileNotHere():
            return "not_here"
        case MalformedInput() | InputError():
            return "bad_table"
        case Overloaded():
            return "overloaded"
        case NotSynced():
            return "not_synced"
        case PeerUnreachable():
            return "unreachable"
        case StorageError():
            return "storage"
        case _:
            return "unavailable"
