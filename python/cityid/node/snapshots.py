"""The part of a node that makes snapshots, gives them to other cities, and brings one when the driver asks for it.

Rules. A snapshot is made every `every` heights, from a published version of the state: the node goes on meanwhile,
and as much time passes between two chunks as the last one took, so it takes half a thread and half a disk at most.
Nodes make them at the same heights, and honest ones of the same content; when one is to be fetched, what most cities
offer is tried first. A snapshot whose certificates, sizes or bytes are wrong is never tried again, and neither is its
city as long as others are there. Chunks are asked for from every city that offers the same content, a few at a time,
and are kept on disk: a node that is killed goes on with what it has.

What this part does not know: whether a snapshot is needed (the driver), and what is in one (the ledger).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any, Final

import trio

from cityid._native import Genesis, Ledger, SnapshotLoader, SnapshotWriter
from cityid.errors import (
    CityIDError,
    InputError,
    MalformedInput,
    PeerUnreachable,
    RuleViolation,
    StorageError,
    VerificationError,
)
from cityid.node.exchange.fetching import Fetcher
from cityid.node.exchange.payloads import (
    NO_OFFER,
    Offer,
    decode_snapshot,
    decode_want_snapshot,
    encode_snapshot,
    encode_want_snapshot,
)
from cityid.node.exchange.ports import Link
from cityid.node.messages import SNAPSHOT, WANT_SNAPSHOT, Frame
from cityid.node.ports import Event, Kept, SnapshotFetched, SnapshotMissing
from cityid.node.snapshot_folder import MAX_CHUNK_BYTES, MAX_MANIFEST_BYTES, SnapshotFolder, content_of
from cityid.node.store import Store
from cityid.node.telemetry import Log

__all__ = ["Snapshots"]

OFFERS_S: Final = 2.0
"""How long offers are waited for, unless every connected city has answered."""
AHEAD: Final = 4
"""Chunks on their way beside the one that is read."""
MAX_REFUSED: Final = 1_024


class Snapshots:
    """See the head of the file. `post` gives the driver an event."""

    def __init__(
        self,
        *,
        folder: SnapshotFolder,
        ledger: Ledger,
        store: Store,
        genesis: Genesis,
        fetcher: Fetcher,
        link: Link,
        post: Callable[[Event], None],
        log: Log,
        every: int,
        keep_heights: int | None,
    ) -> None:
        self.folder = folder
        self._ledger = ledger
        self._store = store
        self._genesis = genesis
        self._fetcher = fetcher
        self._link = link
        self._post = post
        self._log = log
        self._every = every
        self._keep_heights = keep_heights
        self._writer: SnapshotWriter | None = None
        self._made = folder.newest.height if folder.newest is not None else 0
        self._wanted: int | None = None
        self._news = trio.Event()
        self._offers: dict[str, Offer] | None = None
        self._offers_news = trio.Event()
        self._refused: dict[bytes, str] = {}  # manifest → why
        self._liars: set[str] = set()
        self.made = 0
        self.fetched = 0

    # ------------------------------------------------------------ from the node

    def deliver(self, frame: Frame) -> None:
        """Takes a WANT_SNAPSHOT or SNAPSHOT frame; never waits."""
        try:
            self._deliver(frame)
        except MalformedInput as error:
            self._log.limited("warning", "frame_dropped", peer=frame.peer, kind=frame.kind, why=str(error))

    def _deliver(self, frame: Frame) -> None:
        if frame.kind == WANT_SNAPSHOT:
            above, newest = decode_want_snapshot(frame.payload), self.folder.newest
            offer = NO_OFFER if newest is None or newest.height <= above else newest
            self._link.send(frame.peer, SNAPSHOT, encode_snapshot(offer), urgent=False)
            return
        offer = decode_snapshot(frame.payload)
        if self._offers is not None and frame.peer in self._link.connected:
            self._offers[frame.peer] = offer
            self._offers_news.set()

    def fetch(self, above: int) -> None:
        """The driver wants one of a height above this one."""
        self._wanted = above
        self._news.set()

    def on_committed(self, height: int) -> None:
        """A height is decided and durable."""
        if not self._every or self._writer is not None or height // self._every <= self._made // self._every:
            return
        self._made = height
        walk = [self._store.certified(at) for at, _ in self._ledger.set_changes(0)]
        try:
            self._writer = self._ledger.write_snapshot([found for found in walk if found is not None])
        except RuleViolation as error:  # a set change that is not written yet: next time
            self._log.info("snapshot_not_made", height=height, why=str(error))
            return
        self._news.set()

    def figures(self) -> Mapping[str, Any]:
        """For metrics."""
        newest = self.folder.newest
        return {
            "made_total": self.made,
            "fetched_total": self.fetched,
            "height": 0 if newest is None else newest.height,
            "size_bytes": 0 if newest is None else newest.size,
            "refused": len(self._refused),
            "first_height_kept": self._store.first,
        }

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Makes and fetches until cancelled."""
        task_status.started()
        await trio.to_thread.run_sync(self.folder.tidy, self.folder.fetching)
        while True:
            while self._writer is None and self._wanted is None:
                self._news = trio.Event()
                await self._news.wait()
            if self._wanted is not None:
                self._writer = None  # of a state that is left behind
                await self._bring(self._wanted)
                self._wanted = None
            elif self._writer is not None:
                try:
                    await self._make(self._writer)
                except StorageError as error:
                    self._log.error("snapshot_not_made", why=str(error))
                self._writer = None

    # ------------------------------------------------------------ making

    async def _make(self, writer: SnapshotWriter) -> None:
        chunks: list[tuple[bytes, int]] = []
        began = trio.current_time()

        def step() -> bool:
            if (found := writer.next_chunk(self._ledger)) is None:
                return False
            self.folder.put(*found)
            chunks.append((found[0], len(found[1])))
            return True

        while True:
            before = trio.current_time()
            if not await trio.to_thread.run_sync(step):
                break
            if self._wanted is not None:
                return
            await trio.sleep(trio.current_time() - before)
        manifest = writer.manifest()
        offer = Offer(writer.height, sha256(manifest).digest(), content_of(chunks), sum(size for _, size in chunks))
        await trio.to_thread.run_sync(self._finish, offer, manifest)
        self.made += 1
        self._log.info(
            "snapshot_made", height=offer.height, size_bytes=offer.size, chunks=len(chunks),
            seconds=round(trio.current_time() - began, 3),
        )  # fmt: skip
        self._post(Kept(self._store.first))

    def _finish(self, offer: Offer, manifest: bytes) -> None:
        self.folder.put(offer.manifest, manifest)
        self.folder.keep(offer)
        self.folder.tidy(b"")
        if self._keep_heights is not None and (oldest := self.folder.oldest) is not None:
            # What a start needs goes on from either snapshot: the second is there when the first is hurt.
            self._store.prune(min(oldest.height + 1, offer.height - self._keep_heights))

    # ------------------------------------------------------------ fetching

    async def _bring(self, above: int) -> None:
        try:
            loader = await self._fetch_any(above)
        except (CityIDError, OSError) as error:
            self._post(SnapshotMissing(str(error)))
            return
        self.fetched += 1
        self._made = loader.height
        self._post(SnapshotFetched(loader))

    async def _fetch_any(self, above: int) -> SnapshotLoader:
        offers = await self._ask(above)
        groups: dict[tuple[int, bytes], list[tuple[str, Offer]]] = {}
        for city, offer in sorted(offers.items()):
            if offer.height > above and offer.manifest not in self._refused:
                groups.setdefault((offer.height, offer.content), []).append((city, offer))

        def rank(group: list[tuple[str, Offer]]) -> tuple[int, int]:
            return sum(city not in self._liars for city, _ in group), group[0][1].height

        said = []
        ranked = sorted(groups.values(), key=rank, reverse=True)
        resumed = self.folder.fetching
        ranked.sort(key=lambda group: all(offer.manifest != resumed for _, offer in group))
        for group in ranked:
            group.sort(key=lambda row: (row[1].manifest != resumed, row[0] in self._liars))
            cities = [city for city, _ in group]
            for city, offer in group:
                try:
                    return await self._fetch_one(offer, [city, *(other for other in cities if other != city)])
                except (InputError, VerificationError) as error:
                    self._refuse(city, offer, str(error))
                    said.append(f"{city}: {error}")
                except PeerUnreachable as error:
                    said.append(f"{city}: {error}")
        raise PeerUnreachable(
            f"no city has a snapshot above height {above} ({'; '.join(said) or f'{len(offers)} answered'}); blocks are "
            "asked for instead, and a snapshot again in a moment"
        )

    def _refuse(self, city: str, offer: Offer, why: str) -> None:
        while len(self._refused) >= MAX_REFUSED:
            del self._refused[next(iter(self._refused))]
        self._refused[offer.manifest] = why
        self._liars.add(city)
        self._log.warning("snapshot_refused", peer=city, height=offer.height, why=why)

    async def _ask(self, above: int) -> dict[str, Offer]:
        offers = self._offers = {}
        payload = encode_want_snapshot(above)
        asked = {city for city in self._link.connected if self._link.send(city, WANT_SNAPSHOT, payload, urgent=False)}
        with trio.move_on_after(OFFERS_S):
            while asked - offers.keys():
                self._offers_news = trio.Event()
                await self._offers_news.wait()
        self._offers = None
        return offers

    async def _fetch_one(self, offer: Offer, cities: Sequence[str]) -> SnapshotLoader:
        """Brings one snapshot and checks it. Raises `PeerUnreachable`, `InputError`, `VerificationError`."""
        folder, blobs = self.folder, self.folder.blobs
        began = trio.current_time()
        await self._fetcher.fetch(offer.manifest, cities[:1], limit_bytes=MAX_MANIFEST_BYTES, into=blobs)
        manifest = await trio.to_thread.run_sync(folder.get, offer.manifest)
        loader = await trio.to_thread.run_sync(SnapshotLoader, self._genesis, manifest)
        chunks = loader.chunks
        found = replace(offer, height=loader.height, content=content_of(chunks), size=loader.size_bytes)
        if found != offer:
            raise VerificationError(f"the snapshot is of height {loader.height} and not what was offered")
        if not await trio.to_thread.run_sync(folder.has_room, offer.size):
            raise PeerUnreachable(f"a snapshot of {offer.size} bytes does not fit on the disk of this node")
        folder.fetching = offer.manifest
        await trio.to_thread.run_sync(folder.tidy, offer.manifest)
        here = sum(blobs.path(digest) is not None for digest, _ in chunks)
        ready = [trio.Event() for _ in chunks]
        taken = trio.Semaphore(AHEAD)
        failed: list[CityIDError] = []

        async def bring(place: int) -> None:
            # Each chunk begins with another city, so all of them carry the load.
            turn = [*cities[place % len(cities) :], *cities[: place % len(cities)]]
            try:
                await self._fetcher.fetch(chunks[place][0], turn, limit_bytes=MAX_CHUNK_BYTES, into=blobs)
            except CityIDError as error:  # no city has it, or this disk takes no more
                failed.append(error)
            ready[place].set()

        async with trio.open_nursery() as nursery:

            async def start_all() -> None:
                for place in range(len(chunks)):
                    await taken.acquire()
                    nursery.start_soon(bring, place)

            nursery.start_soon(start_all)
            for place, (digest, _) in enumerate(chunks):
                await ready[place].wait()
                try:
                    if not failed:
                        await trio.to_thread.run_sync(_add, loader, folder, digest)
                except CityIDError as error:
                    failed.append(error)
                if failed:
                    nursery.cancel_scope.cancel()
                    break
                taken.release()
        if failed:
            raise failed[0]
        await trio.to_thread.run_sync(loader.finish)
        await trio.to_thread.run_sync(folder.keep, offer)
        folder.fetching = b""
        self._log.info(
            "snapshot_fetched", height=offer.height, size_bytes=offer.size, chunks=len(chunks), resumed=here,
            seconds=round(trio.current_time() - began, 3),
        )  # fmt: skip
        return loader


def _add(loader: SnapshotLoader, folder: SnapshotFolder, digest: bytes) -> None:
    loader.add(folder.get(digest))
