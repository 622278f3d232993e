"""The store: what survives, and every way in which it says that it does not."""

import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import pytest

from cityid._native import Ledger, header_hash
from cityid.errors import CertificateInvalid, StorageError
from cityid.node import store as store_module
from cityid.node.ports import HeightRecord, PendingProposal, WriteStore
from cityid.node.store import Store

NETWORK = b"n" * 32


class ReplayedLedger:
    """Stands in for a ledger: notes what it is given."""

    def __init__(self) -> None:
        self.height = 0
        self.headers: list[bytes] = []
        self.changes: list[bytes] = []
        self.certificate = b""
        self.calls = 0

    def replay(self, headers: list[bytes], changes: list[bytes], _: list[bytes], certificate: bytes) -> None:
        self.headers += headers
        self.changes += changes
        self.certificate = certificate
        self.height += len(headers)
        self.calls += 1


def replayed(store: Store) -> ReplayedLedger:
    ledger = ReplayedLedger()
    store.replay(cast(Ledger, ledger))
    return ledger


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    Store.create(directory, NETWORK)
    return directory


def digest_of(body: bytes) -> bytes:
    return sha256(body).digest()


def height(number: int, *bodies: bytes, changes: bytes = b"changes") -> WriteStore:
    header = b"header %d" % number
    digests = b"".join(map(digest_of, bodies))
    record = HeightRecord(
        number, header, header_hash(header), b"certificate %d" % number, digests, changes, b"receipts"
    )
    return WriteStore(number, height=record)


def batches(*bodies: bytes) -> WriteStore:
    return WriteStore(0, batches=tuple((digest_of(body), body) for body in bodies))


def filled(directory: Path, heights: int = 3) -> None:
    store = Store.open(directory, NETWORK)
    for number in range(1, heights + 1):
        body = b"batch %d" % number
        store.write([batches(body), height(number, body)])
    store.close()


def test_a_new_store_is_empty(directory: Path) -> None:
    store = Store.open(directory, NETWORK)
    assert store.height == 0
    assert store.pending().batches == ()
    assert replayed(store).height == 0
    store.close()


def test_heights_come_back_in_order(directory: Path) -> None:
    filled(directory)
    store = Store.open(directory, NETWORK)
    assert store.height == 3
    ledger = replayed(store)
    assert ledger.headers == [b"header 1", b"header 2", b"header 3"]
    assert ledger.certificate == b"certificate 3"
    assert store.block(2) == (b"header 2", b"certificate 2", digest_of(b"batch 2"))
    assert store.batch(digest_of(b"batch 2")) == b"batch 2"
    assert store.block(4) is None
    store.close()


def test_a_replay_is_cut_into_bounded_calls(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(directory, 5)
    monkeypatch.setattr(store_module, "REPLAY_BYTES", 1)
    store = Store.open(directory, NETWORK)
    ledger = replayed(store)
    assert ledger.calls == 5
    assert ledger.height == 5
    store.close()


def test_only_batches_without_a_block_are_pending(directory: Path) -> None:
    store = Store.open(directory, NETWORK)
    store.write([batches(b"one", b"two", b"three")])
    store.write([height(1, b"two"), WriteStore(9, forget=(digest_of(b"three"),))])
    store.close()
    store = Store.open(directory, NETWORK)
    pending = store.pending()
    assert pending.batches == (b"one",)
    assert pending.recent == (digest_of(b"two"),)
    assert store.batch(digest_of(b"two")) == b"two"
    assert store.batch(digest_of(b"three")) is None
    store.close()


def test_proposals_live_until_their_height_is_decided(directory: Path) -> None:
    store = Store.open(directory, NETWORK)
    proposal = PendingProposal(1, b"v" * 32, b"header", b"d" * 32)
    store.write([WriteStore(1, proposals=(proposal,))])
    store.close()
    store = Store.open(directory, NETWORK)
    assert store.pending().proposals == (proposal,)
    store.write([height(1)])
    assert store.pending().proposals == ()
    store.close()


def test_a_second_node_on_the_same_folder_is_refused(directory: Path) -> None:
    store = Store.open(directory, NETWORK)
    with pytest.raises(StorageError, match="Another node runs"):
        Store.open(directory, NETWORK)
    store.close()
    Store.open(directory, NETWORK).close()


def test_a_store_of_another_network_is_refused(directory: Path) -> None:
    with pytest.raises(StorageError, match="another network"):
        Store.open(directory, b"x" * 32)
    Store.open(directory, NETWORK).close()


def test_a_missing_store_is_not_made_by_opening_it(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cityid init"):
        Store.open(tmp_path / "nothing", NETWORK)
    assert not (tmp_path / "nothing").exists()


def test_a_store_is_not_made_over_another(directory: Path) -> None:
    with pytest.raises(StorageError, match="has a store already"):
        Store.create(directory, NETWORK)
    (directory / "tip").unlink()  # what is left of one is one
    with pytest.raises(StorageError, match="has a store already"):
        Store.create(directory, NETWORK)


def test_a_store_without_its_marker_is_refused(directory: Path) -> None:
    filled(directory, 2)
    kept = (directory / "tip").read_bytes()
    (directory / "tip").unlink()
    with pytest.raises(StorageError, match="tip marker") as raised:
        Store.open(directory, NETWORK)
    assert "cityid init" not in str(raised.value)
    (directory / "tip").write_bytes(kept)
    Store.open(directory, NETWORK).close()


@pytest.mark.parametrize("position", range(44))
def test_no_flip_in_the_marker_moves_the_tip(directory: Path, position: int) -> None:
    filled(directory, 3)
    data = bytearray((directory / "tip").read_bytes())
    data[4_096 + position] ^= 0x10
    (directory / "tip").write_bytes(data)
    store = Store.open(directory, NETWORK)
    assert store.height == 3
    store.close()


def test_blocks_that_the_ledger_refuses_hurt_the_store(directory: Path) -> None:
    filled(directory, 2)

    class Refusing(ReplayedLedger):
        def replay(self, *_: object) -> None:
            raise CertificateInvalid("two signatures of four")

    store = Store.open(directory, NETWORK)
    with pytest.raises(StorageError, match="two signatures of four"):
        store.replay(cast(Ledger, Refusing()))
    cast(Any, store)._database.delete(b"s" + (2).to_bytes(8, "big"))
    with pytest.raises(StorageError, match="do not follow from each other"):
        replayed(store)
    store.close()


def test_a_database_that_fell_behind_its_marker_is_refused(directory: Path, tmp_path: Path) -> None:
    filled(directory, 2)
    marker = (directory / "tip").read_bytes()
    other = tmp_path / "other"
    Store.create(other, NETWORK)
    filled(other, 1)
    (other / "tip").write_bytes(marker)
    with pytest.raises(StorageError, match="lost what it had acknowledged"):
        Store.open(other, NETWORK)


def test_an_emptied_database_is_refused_and_left_alone(directory: Path) -> None:
    filled(directory, 2)
    for file in (directory / "db").iterdir():
        file.unlink()
    with pytest.raises(StorageError):
        Store.open(directory, NETWORK)
    assert not (directory / "db" / "CURRENT").exists()


def test_one_damaged_marker_slot_is_survived(directory: Path) -> None:
    filled(directory, 3)
    with (directory / "tip").open("r+b") as file:
        file.seek(4_096 + 20)  # the slot of height 3
        file.write(b"\xff")
    store = Store.open(directory, NETWORK)
    assert store.height == 3
    store.close()


def test_a_missing_height_in_the_middle_is_refused(directory: Path) -> None:
    store = Store.open(directory, NETWORK)
    store.write([height(1)])
    store.write([height(3)])
    with pytest.raises(StorageError, match="height 2 is not there"):
        replayed(store)
    store.close()


def test_a_flipped_bit_in_a_table_is_refused(directory: Path) -> None:
    store = Store.open(directory, NETWORK)
    for number in range(1, 50):
        store.write([height(number, changes=sha256(b"%d" % number).digest() * 100)])
    cast(Any, store)._database.flush()
    store.close()
    table = max((directory / "db").glob("*.sst"), key=lambda path: path.stat().st_size)
    data = bytearray(table.read_bytes())
    data[len(data) // 2] ^= 1
    table.write_bytes(data)
    with pytest.raises(StorageError):  # noqa: PT012 (opening or replaying, whichever reads the block first)
        store = Store.open(directory, NETWORK)
        try:
            replayed(store)
        finally:
            store.close()


def test_after_a_failed_write_there_is_no_other_and_reads_go_on(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(directory, NETWORK)
    store.write([batches(b"one"), height(1, b"one")])

    def fail(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        with pytest.raises(StorageError, match="reserve"):
            store.write([height(2)])
    with pytest.raises(StorageError, match="takes no more writes"):
        store.write([height(2)])
    assert store.batch(digest_of(b"one")) == b"one"
    store.close()


def test_what_was_reported_durable_survives_a_killed_process(directory: Path) -> None:
    program = f"""
import os, sys
sys.path[:0] = {sys.path!r}
from pathlib import Path
from cityid.node.ports import WriteStore
from cityid.node.store import Store
store = Store.open(Path({str(directory)!r}), {NETWORK!r})
for number in range(20):
    body = b"body %d" % number
    store.write([WriteStore(number, batches=((bytes([number]) * 32, body),))])
os._exit(9)
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=60, capture_output=True)
    assert done.returncode == 9, done.stderr.decode()
    store = Store.open(directory, NETWORK)
    assert set(store.pending().batches) == {b"body %d" % number for number in range(20)}
    store.close()
