"""Keeps the connections to what the committed state says: which cities, under which TLS keys, where, with which caps.

A founder starts strictly: before the first block its keys, certificates and addresses must be those of the genesis, or
it does not start. After that the chain decides, and what does not fit is told and waited for. Until this node has
caught up once, the certificates of its folder let others in besides (`roster`).

This city's own TLS key is the one that the state names, from `tls.pem` or `tls.next.pem`. A node that is behind cannot
know which of the two the others expect by now: as long as nobody answers it tries them in turn.
"""

from collections.abc import Callable, Sequence
from typing import Final

import trio

from cityid import keys
from cityid._native import Genesis, Ledger
from cityid.errors import InputError, MalformedInput
from cityid.node.config import Config
from cityid.node.driver import Driver
from cityid.node.frames import frame_caps, widest_caps
from cityid.node.key_folder import KeyFolder
from cityid.node.peers import Peers
from cityid.node.roster import Roster, read_roster
from cityid.node.telemetry import Log
from cityid.node.tls import Credentials, load_credentials, make_credentials

__all__ = ["Connections", "check_founder"]

RETRY_S: Final = 2.0
"""How often a node looks again while it is behind, or lacks a certificate or key."""
ALONE_S: Final = 8.0
"""How long nobody answers before the other TLS key is tried."""


def check_founder(config: Config, genesis: Genesis, folder: KeyFolder) -> None:
    """Whether keys, certificates and addresses are those of the genesis. Raises `InputError` that names what is not."""
    if config.city not in genesis.cities:
        raise InputError(
            f"city {config.city} is not in this genesis; check `city` and `genesis` in node.toml. A city that joins a "
            "running network says joins = true there (`cityid init --join` writes it)"
        )
    for purpose in ("consensus", "checkpoint"):
        if folder.require(purpose).public_key != genesis.city(config.city)[purpose]:
            raise InputError(
                f"{keys.key_path(config.keys, purpose)} is not the {purpose} key that the genesis holds for city "
                f"{config.city}; restore the right one"
            )
    load_credentials(
        config.city,
        genesis,
        keys_directory=config.keys,
        certificates=config.certificates,
        passphrase=folder.passphrase,
    )
    if missing := [city for city in genesis.cities if city > config.city and city not in config.peers]:
        raise InputError(
            f"no address is set for {', '.join(missing)}: the lower city code dials, and {config.city} is lower; "
            f"add [peers] entries to node.toml"
        )


class Connections:
    """See the head of the file. `changed` is called when the configuration of the network changed."""

    def __init__(self, config: Config, ledger: Ledger, folder: KeyFolder, log: Log) -> None:
        self._config = config
        self._ledger = ledger
        self._folder = folder
        self._log = log
        self._changed = trio.Event()
        self._caught_up = False
        self._attempt = 0
        self._told: set[str] = set()

    def changed(self) -> None:
        """Look at the committed state again."""
        self._changed.set()

    def first(self, build: Callable[..., Peers]) -> Peers:
        """The connections as the state at the start has them; `build` makes them of credentials, addresses and caps."""
        credentials, roster, troubles = self._read()
        self._tell(troubles)
        return build(credentials=credentials, addresses=roster.addresses, caps=self._caps())

    async def run(
        self, peers: Peers, driver: Driver, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Follow the state until cancelled."""
        task_status.started()
        alone_since = trio.current_time()
        while True:
            with trio.move_on_after(RETRY_S) as waiting:
                await self._changed.wait()
            self._changed = trio.Event()
            if peers.connected:
                alone_since = trio.current_time()
            elif trio.current_time() - alone_since > ALONE_S:
                alone_since = trio.current_time()
                self._attempt += 1
            elif waiting.cancelled_caught and self._caught_up and not self._told:
                continue  # nothing changed and nothing is missing
            if not self._caught_up and driver.city in driver.members and driver.is_informed and driver.is_synced:
                self._caught_up = True
            try:
                credentials, roster, troubles = await trio.to_thread.run_sync(self._read)
            except InputError as error:
                self._tell([str(error)])
                continue
            self._tell(troubles)
            peers.reconfigure(credentials, roster.addresses, self._caps())

    def _read(self) -> tuple[Credentials, Roster, list[str]]:
        """The present state in the terms of TLS, and what is wrong with it. Blocks.

        Raises `InputError` when no TLS key of this city can be used.
        """
        roster = read_roster(
            self._ledger.cities(),
            city=self._config.city,
            folder=self._config.certificates,
            settings=self._config.peers,
            behind=not self._caught_up,
        )
        files = self._folder.files("tls")
        if not files:
            self._folder.require("tls")  # says what is wrong with it
        named = [found for found in files if found[1] == roster.own_tls]
        troubles = list(roster.troubles)
        if roster.own_tls is not None and not named and self._caught_up:
            troubles.append(
                f"the chain names another TLS key for {self._config.city} than the keys folder holds: the other cities "
                f"refuse this node; put the key into {self._config.keys} as tls.pem or tls.next.pem"
            )
        candidates = named + [found for found in files if found not in named]
        path, public_key = candidates[self._attempt % len(candidates)]
        own = self._own_certificate(path, public_key, roster)
        credentials = make_credentials(
            own, key_file=path, others=roster.certificates, passphrase=self._folder.passphrase
        )
        return credentials, roster, troubles

    def _own_certificate(self, path: object, public_key: bytes, roster: Roster) -> keys.Certificate:
        """What the others expect to see: the certificate in the record, if there is one, or what the key makes."""
        if roster.own_certificate is not None and public_key == roster.own_tls:
            return keys.parse_certificate(roster.own_certificate)
        signer = self._folder.find("tls", public_key)
        if signer is None:
            raise MalformedInput(f"{path} changed while it was read; the node looks again")
        return keys.parse_certificate(keys.tls_certificate(signer, self._config.city))

    def _caps(self) -> dict[int, int]:
        return frame_caps(self._ledger.parameters()) if self._caught_up else widest_caps()

    def _tell(self, troubles: Sequence[str]) -> None:
        """One event for each new trouble, not for each look."""
        for trouble in troubles:
            if trouble not in self._told:
                self._log.warning("connection_trouble", why=trouble)
        self._told = set(troubles)
