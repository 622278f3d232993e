"""Nodes whose disk is full, or gives back something else than was written.

A node never votes on a store that is short: it starts with exactly the state that it had, or with an empty store that
comes from the others while its vote log keeps it silent, or without the votes of one height, at which it stays silent.
With store and vote log both hurt it refuses with exit status 5. What it made anew is kept: putting it back starts it.

The tests follow one another on one network; after `hurt` is made, that network is gone and only its data is left.
"""

import io
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest

from cityid._native import Ledger
from cityid.errors import StorageError
from cityid.node.recovery import DAMAGED, open_data
from cityid.node.store import VOTE_LOG, Store
from cityid.node.telemetry import Log
from cityid.node.wal import VoteLog

if TYPE_CHECKING:
    from tests.integration.conftest import LiveNetwork

pytestmark = pytest.mark.processes

NEXT = "new consensus key"  # every refusal ends in what can be done


# ---------------------------------------------------------------- a full disk


@pytest.fixture
def small_disk(live_network: "LiveNetwork") -> Iterator[Path]:
    """The data folder of the last city on a file system of 40 MB."""
    network, city = live_network, live_network.cities[-1]
    network.stop(city)
    data = network.directory / city / "data"
    kept = data.rename(data.with_name("kept"))
    data.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(data)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        data.rmdir()
        kept.rename(data)
        network.start(city)
        pytest.skip(f"no file system can be mounted here, so no disk can be full: {error}")
    try:
        shutil.copytree(kept, data, dirs_exist_ok=True)
        yield data
    finally:
        if city in network.local.processes:
            network.stop(city)
        shutil.rmtree(kept)
        shutil.copytree(data, kept)
        subprocess.run(["umount", str(data)], check=True)
        data.rmdir()
        kept.rename(data)
        network.start(city)
        network.wait_ready(city)
        network.wait_same_tip()


def fill(disk: Path) -> Path:
    """Takes every byte that is left."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return filler


def test_a_node_on_a_full_disk_stops_signing_and_goes_on_answering(
    live_network: "LiveNetwork", small_disk: Path, run_node: Callable[..., str]
) -> None:
    network, city = live_network, live_network.cities[-1]
    others = [other for other in network.cities if other != city]
    network.start(city)
    network.wait_ready(city)
    client = network.clients[city]
    with network.load() as load:
        load.wait_for_more(50)
        known = load.acknowledged[0][0]
        network.until(lambda: network.verdicts(city, [known]) == ["REGISTERED"], "a code to ask for")
        filler = fill(small_disk)
        network.until(lambda: network.status(city)["halted"] is not None, "the node stops")
        load.wait_for_more(50)  # the others go on

    # It says so, and answers what it knows.
    status = network.status(city)
    assert "No space left" in status["halted"]
    assert "reserve" in status["halted"]
    assert not status["ready"]
    for path in ("/health/live", "/health/ready"):
        assert client.get(path).status_code == 503
    _, data = network.sign([network.category(city)[1]], [network.signer(city)])
    refused = network.post(city, data)
    assert (refused.status_code, refused.json()["type"]) == (503, "urn:cityid:problem:storage")
    reply = client.get("/" + known).json()
    assert (reply["verdict"], reply["was"]) == ("UNKNOWN", "REGISTERED")  # it cannot know what came since
    assert client.get("/v1/blocks/1").status_code == 200

    # It signs nothing any more.
    first = network.height(city) + 2  # the height that it was in when the disk was full may hold its vote
    network.wait_height(first + 3, *others)
    place = network.genesis.cities.index(city)
    for height in range(first, first + 4):
        certificate = bytes.fromhex(network.clients[others[0]].get(f"/v1/blocks/{height}").json()["certificate"])
        assert not certificate[46] & 0x80 >> place, "height(8) round(4) value(32) count(2) and a bit for each city"

    # Full, it neither stops well nor starts; the reserve is what it takes.
    assert network.stop(city) == 5
    said = run_node(network.directory / city / "node.toml", status=5)
    assert "No space" in said
    assert str(small_disk / "reserve") in said
    (small_disk / "reserve").unlink()
    network.start(city)
    network.wait_ready(city)
    filler.unlink()
    network.wait_same_tip()
    network.assert_kept(load)
    network.assert_serves(city)


# ---------------------------------------------------------------- damaged files


@dataclass(slots=True)
class Hurt:
    """The directory of a city whose node was killed under load, and what its data says."""

    directory: Path  # with node.toml and keys; its data folder is what the tests damage
    pristine: Path
    network: "LiveNetwork"
    city: str
    known: tuple[object, ...] = ()

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def restore(self) -> None:
        """All files as they were; the reserve is left out, it holds nothing."""
        shutil.rmtree(self.data, ignore_errors=True)
        shutil.copytree(self.pristine, self.data)

    def recover(self) -> tuple[object, ...]:
        """What a node would start with: height, roots, what was acknowledged and is in no block."""
        ledger = Ledger(self.network.genesis)
        store = Store.open(self.data, self.network.genesis.hash)
        try:
            store.replay(ledger)
            log = VoteLog.open(self.data / VOTE_LOG)
            try:
                votes = log.recover(ledger.height + 1)
            finally:
                log.close()
            pending = store.pending()
        finally:
            store.close()
        return ledger.height, ledger.state_root.hex(), ledger.log_root.hex(), pending, votes

    def files(self) -> list[Path]:
        """Of the data folder, relative; RocksDB's own logs of what it did are for people only."""
        found = [file.relative_to(self.pristine) for file in self.pristine.rglob("*") if file.is_file()]
        return sorted(
            file for file in found if not file.name.startswith("LOG") and file.name not in ("reserve", "lock")
        )

    def put_back(self, file: Path) -> None:
        shutil.copyfile(self.pristine / file, self.data / file)


@pytest.fixture(scope="module")
def hurt(live_network: "LiveNetwork") -> Hurt:
    """Killed twice, so that there are tables, and a log with as much again."""
    network, city = live_network, live_network.cities[-1]
    with network.load() as load:
        load.wait_for_more(100)
        network.kill(city)
        network.start(city)
        network.wait_ready(city)
        load.wait_for_more(100)
        network.kill(*network.cities)
    directory = network.directory / city
    pristine = (directory / "data").rename(directory / "pristine")
    (pristine / "reserve").write_bytes(b"")
    made = Hurt(directory, pristine, network, city)
    made.restore()
    made.known = made.recover()
    assert isinstance(made.known[0], int)
    assert made.known[0] > 10
    assert made.recover() == made.known, "recovery itself changes nothing"
    return made


def flip(path: Path, position: int, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)
        file.seek(position)
        file.write(bytes([byte[0] ^ 1 << bit]))


def damages(path: Path, random: Random) -> list[Callable[[], None]]:
    """Ways to hurt a file."""
    size = min(path.stat().st_size, 8_192)  # the vote log is mostly empty
    whole = path.stat().st_size
    found: list[Callable[[], None]] = [path.unlink, lambda: os.truncate(path, whole // 2)]
    positions = [0, size // 2, whole - 1, *(random.randrange(size) for _ in range(3))] if size else []
    return found + [lambda at=at: flip(path, at, random.randrange(8)) for at in positions]


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def test_no_damage_to_one_file_starts_a_node_with_less(hurt: Hurt) -> None:
    random = Random(3)
    refused: dict[str, int] = {}

    def recover_after(damage: Callable[[], None]) -> tuple[object, ...]:
        damage()
        with suppress(StorageError):  # and no other exception: `cityid run` exits with 5
            return hurt.recover()
        kind = file.suffix or file.name
        refused[kind] = refused.get(kind, 0) + 1
        hurt.put_back(file)
        return hurt.recover()

    for file in hurt.files():
        for number in range(len(damages(hurt.pristine / file, random))):
            hurt.restore()
            found = recover_after(damages(hurt.data / file, random)[number])
            if file.name == VOTE_LOG:
                found = (*found[:-1], hurt.known[-1])  # what a torn end means is for tests/unit/test_wal.py
            assert found == hurt.known, (file, number)
    assert {".sst", ".log", "CURRENT", "tip", VOTE_LOG} <= refused.keys(), refused


def test_a_start_after_any_damage_has_all_or_comes_from_the_others_in_silence(hurt: Hurt) -> None:
    """Two files of a kind are enough: the test before tries them all."""
    random = Random(4)
    kinds: dict[str, int] = {}
    outcomes: set[str] = set()
    log = VoteLog.open(hurt.pristine / VOTE_LOG)
    all_votes = log.recover(1)
    log.close()
    known, (height, *roots) = hurt.known, hurt.known[:3]
    assert isinstance(height, int)
    for file in hurt.files():
        kind = file.suffix or file.name
        kinds[kind] = kinds.get(kind, 0) + 1
        if kinds[kind] > 2:
            continue
        for number in range(len(damages(hurt.pristine / file, random)) + 1):
            hurt.restore()
            ways: list[Callable[[], None]] = [partial(zero, hurt.data / file), *damages(hurt.data / file, random)]
            ways[number]()
            text = io.StringIO()
            with open_data(hurt.data, hurt.network.genesis, Log(text)) as opened:
                ledger, recovered = opened.ledger, opened.recovered
                votes = recovered.vote_height, recovered.vote_entries
                if ledger.height == 0:
                    outcomes.add("anew")
                    assert file.name != VOTE_LOG
                    assert "store_damaged" in text.getvalue()
                    assert votes == all_votes, "what it may have signed is not forgotten"
                    assert (hurt.data / DAMAGED).is_dir()
                    continue
                assert [ledger.height, ledger.state_root.hex(), ledger.log_root.hex()] == [height, *roots]
                if recovered.silent_until:
                    outcomes.add("silent")
                    assert file.name == VOTE_LOG
                    assert recovered.silent_until == height + 1
                    assert "votes_damaged" in text.getvalue()
                else:
                    outcomes.add("whole")
                    assert votes == known[-1]
    assert outcomes == {"anew", "silent", "whole"}


def named(hurt: Hurt, pattern: str) -> Path:
    """The largest file of this name."""
    found = max(hurt.pristine.glob(pattern), key=lambda path: path.stat().st_size)
    return found.relative_to(hurt.pristine)


def assert_starts(hurt: Hurt) -> None:
    """As a process, alone: with the height and the roots that it had."""
    network = hurt.network
    network.start(hurt.city)
    network.until(lambda: network.answers(hurt.city), "it serves")
    status = network.status(hurt.city)
    assert network.stop(hurt.city) == 0
    assert (int(status["height"]), status["state_root"], status["log_root"]) == hurt.known[:3]


def test_a_node_makes_a_damaged_store_anew_and_says_so(hurt: Hurt) -> None:
    network, city = hurt.network, hurt.city
    for pattern, position in (("db/*.sst", -1), ("db/*.log", 1_000), ("db/CURRENT", 3), ("db/MANIFEST-*", 100)):
        hurt.restore()
        file = named(hurt, pattern)
        flip(hurt.data / file, position % (hurt.pristine / file).stat().st_size, 2)
        before = len(network.events(city, "store_damaged"))
        network.start(city)
        network.until(lambda: network.answers(city), "it serves")
        assert network.height(city) == 0
        assert network.clients[city].get("/health/ready").status_code == 503
        assert network.stop(city) == 0
        said = network.events(city, "store_damaged")[before:]
        assert [str(hurt.data) in str(one["why"]) for one in said] == [True]
    hurt.restore()
    assert_starts(hurt)


def test_a_node_without_its_tip_marker_or_vote_log_goes_on_and_without_both_refuses(
    hurt: Hurt, run_node: Callable[..., str]
) -> None:
    hurt.restore()
    (hurt.data / VOTE_LOG).unlink()
    assert_starts(hurt)
    assert isinstance(hurt.known[0], int)
    assert hurt.network.events(hurt.city, "votes_damaged")[-1]["silent_until"] == hurt.known[0] + 1
    hurt.restore()
    (hurt.data / VOTE_LOG).unlink()
    (hurt.data / "tip").unlink()
    said = run_node(hurt.directory / "node.toml", status=5)
    assert "both damaged" in said
    assert NEXT in said
    hurt.put_back(Path("tip"))
    hurt.put_back(Path(VOTE_LOG))
    assert_starts(hurt)


def test_a_node_refuses_the_data_of_another_network(hurt: Hurt, run_node: Callable[..., str], tmp_path: Path) -> None:
    hurt.restore()
    shutil.rmtree(hurt.data)
    Store.create(hurt.data, bytes(32))
    VoteLog.create(hurt.data / VOTE_LOG)
    said = run_node(hurt.directory / "node.toml", status=5)
    assert "another network" in said
    assert hurt.network.genesis.hash.hex() in said
    assert "Name the right data folder" in said
