"""The whole program on one page: open what is on disk, start the parts, stop them in order.

What may fail before the first vote fails here, with one clear error: the settings, the keys, the store. After that the
parts run in one nursery. SIGTERM and SIGINT end HTTP first, within `stop_ms`, then the connections and the driver; the
store is closed when no thread writes any more.
"""

import os
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import trio

from cityid._native import Ledger
from cityid.genesis import load as load_genesis
from cityid.node.blobs import Blobs
from cityid.node.config import Address, Config
from cityid.node.connections import Connections, check_founder
from cityid.node.control.server import serve
from cityid.node.driver import Driver
from cityid.node.exchange import Exchange, Network
from cityid.node.exchange.native import NativeFolder
from cityid.node.face import Face
from cityid.node.host import Host, Outcome
from cityid.node.key_folder import KeyFolder
from cityid.node.messages import SNAPSHOT_KINDS, Frame
from cityid.node.peers import Peers
from cityid.node.ports import Committed, Recovered, Settings, Start
from cityid.node.recovery import open_data
from cityid.node.snapshots import Snapshots
from cityid.node.store import create_data
from cityid.node.telemetry import Log, Metrics, open_log

__all__ = ["prepare", "run"]

TABLES = "tables"
BLOBS = "blobs"


def prepare(config: Config) -> None:
    """Make the data folder of a new city. A node never makes it by itself: an empty folder would forget its votes."""
    create_data(config.data, load_genesis(config.genesis).hash)


async def run(config: Config, *, task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED) -> None:
    """Run one node until SIGTERM, SIGINT or cancellation; starts with its URLs once it listens.

    Raises `InputError` for settings and keys that do not fit, `StorageError` for a store that is hurt or in use.
    """
    with open_log(config.log_file, level=config.log_level) as log:
        genesis = load_genesis(config.genesis)
        folder = KeyFolder(
            config.keys, passphrase=config.passphrase(), complain=lambda why: log.warning("key_unusable", why=why)
        )
        for purpose in ("consensus", "checkpoint", "tls"):
            folder.require(purpose)
        with open_data(config.data, genesis, log, archive=config.archive) as opened:
            ledger, store, recovered = opened.ledger, opened.store, opened.recovered
            if ledger.height == 0 and not config.joins:
                check_founder(config, genesis, folder)
            driver = Driver(
                genesis=genesis,
                ledger=ledger,
                city=config.city,
                keyring=folder,
                seed=os.urandom(32),
                settings=_settings(config),
            )
            connections = Connections(config, ledger, folder, log)
            peers = connections.first(
                partial(
                    Peers,
                    genesis_hash=genesis.hash,
                    listen=config.listen_peers,
                    limits=config.limits,
                    timeouts=config.timeouts,
                    log=log,
                    tip=lambda: ledger.height,
                )
            )

            exchange = _exchange(config, ledger, driver, folder, peers, log, opened.snapshots.find)

            def tell(outcome: Outcome) -> None:
                if isinstance(outcome, Committed):
                    exchange.on_committed(outcome.tables)
                    snapshots.on_committed(outcome.height)
                    if outcome.configuration:
                        connections.changed()
                face.tell(outcome)

            def divert(frame: Frame) -> None:
                if frame.kind in SNAPSHOT_KINDS:
                    snapshots.deliver(frame)
                else:
                    exchange.deliver(frame)

            host = Host(
                driver,
                ledger,
                store=store,
                votes=opened.votes,
                peers=peers,
                log=log,
                tell=tell,
                divert=divert,
                fetch_snapshot=lambda above: snapshots.fetch(above),
            )
            snapshots = Snapshots(
                folder=opened.snapshots,
                ledger=ledger,
                store=store,
                genesis=genesis,
                fetcher=exchange.fetcher,
                link=peers,
                post=host.post,
                log=log,
                every=config.keeping.snapshot_heights,
                keep_heights=None if config.archive else config.keeping.keep_heights,
            )
            face = Face(
                city=config.city,
                genesis=genesis,
                ledger=ledger,
                driver=driver,
                blocks=store,
                post=host.post,
                connected=lambda: peers.connected,
                files=exchange,
                certificates=config.certificates,
                addresses=_addresses(config),
            )
            metrics = Metrics()
            metrics.watch("ledger", face.figures)
            metrics.watch("peers", peers.stats)
            metrics.watch("host", host.figures)
            metrics.watch("exchange", exchange.figures)
            metrics.watch("snapshots", snapshots.figures)
            follow = partial(connections.run, peers, driver)
            await _run_parts(
                config, log, host, peers, exchange, snapshots, follow, face, metrics, recovered, task_status
            )


async def _run_parts(
    config: Config,
    log: Log,
    host: Host,
    peers: Peers,
    exchange: Exchange,
    snapshots: Snapshots,
    follow: Callable[..., Awaitable[None]],
    face: Face,
    metrics: Metrics,
    recovered: Recovered,
    task_status: trio.TaskStatus[list[str]],
) -> None:
    send, receive = trio.open_memory_channel[list[Frame]](config.limits.inbox_batches)
    stop = trio.Event()
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(_watch_signals, stop, log)
            await nursery.start(exchange.run)
            await nursery.start(snapshots.run)
            await nursery.start(host.run, receive)
            await nursery.start(peers.run, send)
            await nursery.start(follow)
            host.post(Start(recovered))

            async def http(*, task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED) -> None:
                await serve(face, config, metrics=metrics, log=log, stop=stop, task_status=task_status)

            async with trio.open_nursery() as front:
                urls = await front.start(http)
                log.info("node_started", city=config.city, height=face.ledger.height, urls=urls)
                task_status.started(urls)
            # HTTP has ended, and with it whoever waited for a receipt: the rest may stop.
            nursery.cancel_scope.cancel()
    except* trio.BrokenResourceError as group:
        # The inbox is only closed when the nursery ends: a part noticed it before it was cancelled.
        log.debug("stopped_while_sending", parts=len(group.exceptions))
    log.info("node_stopped", city=config.city, height=face.ledger.height)


async def _watch_signals(
    stop: trio.Event, log: Log, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            log.info("stopping", signal=signal.Signals(number).name)
            stop.set()


def _addresses(config: Config) -> dict[str, Address]:
    """Where nodes listen, as far as this one was told; its own address too, unless it listens on all of them."""
    own = {} if config.listen_peers.host in {"", "0.0.0.0", "::"} else {config.city: config.listen_peers}
    return {**config.peers, **own}


def _exchange(
    config: Config,
    ledger: Ledger,
    driver: Driver,
    key_folder: KeyFolder,
    peers: Peers,
    log: Log,
    also: Callable[[bytes], Path | None],
) -> Exchange:
    """The part that exchanges files; from here on the ledger answers from its tables."""
    folder = NativeFolder(config.data / TABLES)
    ledger.use_tables(folder.tables)

    def members() -> dict[str, bytes]:
        return {one["city"]: one["checkpoint"] for one in ledger.cities() if one["status"] == "active"}

    network = Network(
        city=config.city,
        signer=partial(key_folder.find, "checkpoint"),
        members=members,
        parameters=ledger.parameters,
        synced=lambda: driver.halted is None and driver.is_informed and driver.is_synced,
    )
    return Exchange(
        folder=folder,
        tables_directory=config.data / TABLES,
        blobs=Blobs(config.data / BLOBS, bound_bytes=config.limits.blob_bytes),
        ledger=ledger,
        link=peers,
        network=network,
        keep=config.tables_keep,
        limits=config.limits,
        timeouts=config.timeouts,
        log=log,
        also=also,
    )


def _settings(config: Config) -> Settings:
    timeouts, limits, keeping = config.timeouts, config.limits, config.keeping
    return Settings(
        propose_ms=timeouts.propose_ms,
        step_ms=timeouts.step_ms,
        precommit_ms=timeouts.precommit_ms,
        delta_ms=timeouts.delta_ms,
        block_interval_ms=timeouts.block_ms,
        seal_after_ms=timeouts.seal_ms,
        seal_at_transactions=limits.seal_transactions,
        max_author_bytes=limits.pool_city_bytes,
        snapshot_lag=0 if config.archive else keeping.snapshot_lag_heights,
    )
