"""The vote log: what it keeps, what it drops, and when it says that it is damaged."""

import errno
import os
from pathlib import Path

import pytest

from cityid.errors import DamagedStore, StorageError
from cityid.node.wal import VoteLog


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "votes"
    VoteLog.create(path)
    return path


def reopened(path: Path, next_height: int) -> tuple[int, tuple[bytes, ...]]:
    log = VoteLog.open(path)
    try:
        return log.recover(next_height)
    finally:
        log.close()


def written(path: Path, *records: tuple[int, list[bytes]]) -> None:
    log = VoteLog.open(path)
    log.recover(records[0][0])
    for height, entries in records:
        log.append(height, entries)
    log.close()


def damage(path: Path, position: int) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)
        file.seek(position)
        file.write(bytes([byte[0] ^ 1]))


BLOCK = 4_096
FIRST = 2 * BLOCK  # where the first record begins; its second copy is in the next block, the second record behind it


def test_an_empty_log_has_no_entries(path: Path) -> None:
    assert reopened(path, 1) == (0, ())


def test_entries_come_back_in_order(path: Path) -> None:
    written(path, (5, [b"a", b"", b"bc"]), (5, [b"d"]))
    assert reopened(path, 5) == (5, (b"a", b"", b"bc", b"d"))


def test_a_new_height_replaces_the_old_one(path: Path) -> None:
    written(path, (5, [b"long entry " * 20]), (5, [b"second"]), (6, [b"x"]))
    assert reopened(path, 6) == (6, (b"x",))


def test_a_height_that_the_store_has_is_as_good_as_empty(path: Path) -> None:
    written(path, (5, [b"a"]))
    assert reopened(path, 6) == (0, ())


def test_a_log_ahead_of_the_store_is_shown_as_it_is(path: Path) -> None:
    written(path, (9, [b"a"]))
    assert reopened(path, 6) == (9, (b"a",))


def test_appending_goes_on_after_recovery(path: Path) -> None:
    written(path, (5, [b"a"]))
    written(path, (5, [b"b"]))
    assert reopened(path, 5) == (5, (b"a", b"b"))


def test_no_single_flip_loses_an_entry(path: Path) -> None:
    """What was durable is there whichever byte changes, the last record included; and both copies are good again."""
    written(path, (4, [b"old"] * 3), (5, [b"first"]), (5, [b"second"]))
    whole = path.read_bytes()
    used = FIRST + 4 * BLOCK
    positions = [*range(36), *range(BLOCK, BLOCK + 36)]
    positions += [FIRST + block * BLOCK + at for block in range(4) for at in range(29)]
    with path.open("r+b", buffering=0) as file:
        for position in positions:
            file.seek(0)
            file.write(whole[:used])
            damage(path, position)
            assert reopened(path, 5) == (5, (b"first", b"second")), position
            file.seek(0)
            assert file.read(used) == whole[:used], position


def test_a_record_that_reads_in_no_copy_was_cut_off_and_is_dropped(path: Path) -> None:
    written(path, (5, [b"first"]), (5, [b"second"]))
    for copy in (2, 3):
        damage(path, FIRST + copy * BLOCK + 20)
    assert reopened(path, 5) == (5, (b"first",))
    written(path, (5, [b"third"]))
    assert reopened(path, 5) == (5, (b"first", b"third"))


def test_a_record_cut_after_its_first_copy_counts(path: Path) -> None:
    written(path, (5, [b"first"]), (5, [b"second"]))
    with path.open("r+b") as file:
        file.seek(FIRST + 3 * BLOCK)
        file.write(bytes(BLOCK))
    assert reopened(path, 5) == (5, (b"first", b"second"))


def test_a_record_that_is_missing_before_a_good_one_is_damage(path: Path) -> None:
    written(path, (5, [b"first"]), (5, [b"second"]))
    for copy in (0, 1):
        damage(path, FIRST + copy * BLOCK + 20)
    with pytest.raises(DamagedStore, match="record 0 of height 5"):
        reopened(path, 5)


def test_what_an_older_height_left_behind_is_no_damage(path: Path) -> None:
    written(path, (5, [b"first"]), (5, [b"second"]), (5, [b"third"]), (6, [b"first"]))
    assert reopened(path, 6) == (6, (b"first",))
    for copy in (0, 1):
        damage(path, FIRST + copy * BLOCK + 20)  # the only record of height 6 was cut off
    assert reopened(path, 6) == (0, ())


def test_a_file_that_is_shortened_emptied_or_zeroed_is_damaged(path: Path) -> None:
    written(path, (5, [b"first"]))
    whole = path.read_bytes()
    for length in (0, 1, 100, BLOCK, FIRST, FIRST + BLOCK, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedStore):
            reopened(path, 5)
    path.write_bytes(bytes(len(whole)))
    with pytest.raises(DamagedStore, match="head"):
        reopened(path, 5)
    path.write_bytes(whole)
    assert reopened(path, 5) == (5, (b"first",))


def test_a_log_grows_and_knows_its_size(path: Path) -> None:
    large = b"x" * (3 * 1024 * 1024)
    written(path, (5, [b"first"]), (5, [large]), (5, [b"last"]))
    assert path.stat().st_size == 8 * 1024 * 1024
    assert reopened(path, 5) == (5, (b"first", large, b"last"))
    with path.open("r+b") as file:
        file.truncate(4 * 1024 * 1024)
    with pytest.raises(DamagedStore, match="bytes of"):
        reopened(path, 5)


def test_the_log_that_replaces_a_damaged_one_remembers_where_to_stay_silent(path: Path) -> None:
    written(path, (5, [b"first"]))
    VoteLog.replace(path, silent_until=5)
    written(path, (6, [b"next"]))
    log = VoteLog.open(path)
    assert log.recover(6) == (6, (b"next",))
    assert log.silent_until == 5
    log.close()


@pytest.mark.parametrize("call", ["pwrite", "fdatasync"])
def test_a_failing_disk_closes_the_log_for_good(path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    log = VoteLog.open(path)
    log.recover(5)
    log.append(5, [b"kept"])

    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(StorageError, match="No space left"):
            log.append(5, [b"lost"])
    with pytest.raises(StorageError, match="failed before"):
        log.append(5, [b"never"])
    assert reopened(path, 5)[1][:1] == (b"kept",)


def test_a_missing_log_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(DamagedStore, match="votes"):
        VoteLog.open(tmp_path / "votes")
