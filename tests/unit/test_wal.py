"""The vote log: what it keeps, what it drops, and when it refuses to go on."""

import errno
import os
from pathlib import Path

import pytest

from cityid.errors import StorageError
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


RECORD = 20 + 4  # head and the length of one entry


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


@pytest.mark.parametrize("position", [0, 4, 8, 19, RECORD])
def test_a_torn_last_record_is_dropped(path: Path, position: int) -> None:
    written(path, (5, [b"first"]), (5, [b"second"]))
    damage(path, RECORD + len(b"first") + position)
    assert reopened(path, 5) == (5, (b"first",))


def test_a_torn_record_is_written_over(path: Path) -> None:
    written(path, (5, [b"first"]), (5, [b"second"]))
    damage(path, RECORD + len(b"first") + RECORD)
    written(path, (5, [b"third"]))
    assert reopened(path, 5) == (5, (b"first", b"third"))


@pytest.mark.parametrize("position", [4, 8, RECORD])
def test_a_damaged_record_with_a_good_one_behind_it_is_refused(path: Path, position: int) -> None:
    written(path, (5, [b"first"]), (5, [b"second"]))
    damage(path, position)
    with pytest.raises(StorageError, match="damaged"):
        reopened(path, 5)


def test_what_an_older_height_left_behind_is_no_damage(path: Path) -> None:
    written(path, (5, [b"first"]), (5, [b"second"]), (5, [b"third"]), (6, [b"first"]))
    damage(path, RECORD)  # the only record of height 6 is torn
    assert reopened(path, 6) == (0, ())


def test_any_prefix_of_the_file_gives_a_prefix_of_the_entries(path: Path) -> None:
    entries = [b"%d" % number * 7 for number in range(6)]
    written(path, *((5, [entry]) for entry in entries))
    data = path.read_bytes()[: 6 * (RECORD + 7)]
    for length in range(len(data)):
        path.write_bytes(data[:length])
        found = reopened(path, 5)[1]
        assert list(found) == entries[: len(found)]
        assert len(found) == length // (RECORD + 7)


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
    with pytest.raises(StorageError, match="votes"):
        VoteLog.open(tmp_path / "votes")
