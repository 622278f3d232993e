"""One city's node: the whole program on one page.

    config → keys, genesis → store, vote log → ledger (rebuilt, roots compared) → driver
    nursery: peers ─ frames → host (drives, writes, verifies, serves) ─ outcomes → clients ← HTTP

Everything runs in one nursery; parts talk over bounded channels. SIGTERM and SIGINT ask for a stop: HTTP requests in
progress get `stop_ms`, then everything is cancelled. Nothing has to be saved on the way out: whatever was acknowledged
is durable. When the disk fails the driver halts, and reads go on until somebody stops the node.
"""

import secrets
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import trio

from cityid import genesis as geneses
from cityid import keys
from cityid._native import Genesis, Ledger, Trust
from cityid.errors import InputError
from cityid.node.clients import Clients
from cityid.node.config import Config
from cityid.node.control import serve
from cityid.node.driver import Driver
from cityid.node.frames import frame_caps
from cityid.node.host import Host
from cityid.node.messages import Frame
from cityid.node.peers import Peers
from cityid.node.ports import Recovered, Settings, Start
from cityid.node.store import VOTE_LOG, Store, ensure_data
from cityid.node.telemetry import Log, Metrics, open_log
from cityid.node.tls import load_credentials
from cityid.node.wal import VoteLog

STARTED = "consensus.started"  # beside the consensus key: it has voted


@dataclass(frozen=True, slots=True)
class Disk:
    """The open store and vote log, and what they still knew."""

    store: Store
    votes: VoteLog
    ledger: Ledger
    recovered: Recovered


async def run(config: Config, *, task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED) -> None:
    """Run a node until it is asked to stop; starts with its URLs.

    Raises `InputError` for what is wrong with its configuration, `StorageError` for what is wrong with its disk.
    """
    with open_log(config.log_file, level=config.log_level) as log:
        genesis = geneses.load(config.genesis)
        log = log.bind(city=config.city)
        with _open_disk(config, genesis) as disk:
            log.info("store_opened", height=disk.store.height, pending_batches=len(disk.recovered.batches))
            await _run(config, genesis, disk, log, task_status)
        log.info("stopped", height=disk.ledger.height)


async def _run(config: Config, genesis: Genesis, disk: Disk, log: Log, task_status: trio.TaskStatus[list[str]]) -> None:
    passphrase = config.passphrase()
    driver = Driver(
        genesis=genesis,
        ledger=disk.ledger,
        city=config.city,
        consensus_signer=_signer(config, genesis, "consensus", passphrase),
        checkpoint_signer=_signer(config, genesis, "checkpoint", passphrase),
        seed=secrets.token_bytes(32),
        settings=_settings(config),
    )
    peers = Peers(
        credentials=load_credentials(
            config.city,
            genesis,
            keys_directory=config.keys,
            certificates=config.certificates,
            passphrase=passphrase,
        ),
        genesis_hash=genesis.hash,
        addresses=config.peers,
        listen=config.listen_peers,
        limits=config.limits,
        timeouts=config.timeouts,
        log=log,
        tip=lambda: disk.store.height,
        caps=frame_caps(genesis.parameters()),
    )
    host = Host(driver, disk.ledger, store=disk.store, votes=disk.votes, peers=peers, log=log)
    clients = Clients(
        genesis=genesis,
        trust=Trust.load(str(config.genesis)),
        driver=driver,
        ledger=disk.ledger,
        store=disk.store,
        connected=lambda: peers.connected,
        post=host.post,
    )
    host.tell = clients.tell
    metrics = Metrics()
    metrics.watch("peers", peers.stats)
    metrics.watch("node", host.stats)
    metrics.watch("ledger", lambda: {f"{name}_total": count for name, count in disk.ledger.counters().items()})
    send_frames, receive_frames = trio.open_memory_channel[list[Frame]](config.limits.inbox_batches)
    stop, served = trio.Event(), trio.Event()

    async with trio.open_nursery() as nursery:
        await nursery.start(_stop_on_signal, stop)
        host.post(Start(disk.recovered))
        await nursery.start(host.run, receive_frames)
        await nursery.start(peers.run, send_frames)
        serving = partial(serve, clients, config, metrics=metrics, log=log, stop=stop)
        urls = await nursery.start(_then, serving, served)
        log.info("started", height=disk.ledger.height, urls=urls)
        task_status.started(urls)
        await stop.wait()
        log.info("stopping")
        with trio.move_on_after(config.timeouts.stop_ms / 1_000):
            await served.wait()
        nursery.cancel_scope.cancel()


async def _then(
    part: Callable[..., Awaitable[None]], done: trio.Event, *, task_status: trio.TaskStatus[list[str]]
) -> None:
    """Run a part of the node, and say when it has ended."""
    await part(task_status=task_status)
    done.set()


async def _stop_on_signal(stop: trio.Event, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for _ in signals:
            stop.set()
            return


@contextmanager
def _open_disk(config: Config, genesis: Genesis) -> Iterator[Disk]:
    """Open the store and the vote log, and rebuild the ledger; close them whatever happens."""
    ensure_data(config.data, genesis.hash, mark=config.keys / STARTED)
    store = Store.open(config.data, genesis.hash)
    try:
        votes = VoteLog.open(config.data / VOTE_LOG)
        try:
            ledger = Ledger(genesis)
            store.replay(ledger)
            pending = store.pending()
            height, entries = votes.recover(store.height + 1)
            recovered = Recovered(height, entries, pending.proposals, pending.batches, pending.recent)
            yield Disk(store, votes, ledger, recovered)
        finally:
            votes.close()
    finally:
        store.close()


def _signer(config: Config, genesis: Genesis, purpose: str, passphrase: bytes | None) -> keys.Signer:
    """The city's key for a purpose, compared with the genesis: another key would sign what nobody accepts."""
    if config.city not in genesis.cities:
        raise InputError(f"city {config.city} is not in this genesis; check `city` and `genesis` in node.toml")
    path = keys.key_path(config.keys, purpose)
    signer = keys.load(path, passphrase=passphrase)
    if signer.public_key != genesis.city(config.city)[purpose]:
        raise InputError(
            f"{path} is not the {purpose} key that the genesis holds for city {config.city}; restore the right one"
        )
    return signer


def _settings(config: Config) -> Settings:
    timeouts = config.timeouts
    return Settings(
        propose_ms=timeouts.propose_ms,
        step_ms=timeouts.step_ms,
        precommit_ms=timeouts.precommit_ms,
        delta_ms=timeouts.delta_ms,
        block_interval_ms=timeouts.block_ms,
        seal_after_ms=timeouts.seal_ms,
        seal_at_transactions=config.limits.seal_transactions,
        max_author_bytes=max(1_048_576, config.limits.pool_bytes // 8),
    )
