"""Files by their digest on a real file system: what is whole, what gives way, what a restart finds."""

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from cityid.errors import Overloaded, RuleViolation, StorageError, VerificationError
from cityid.node.blobs import FILE_BYTES, Blobs

MiB = 1_048_576


def digest_of(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def put(blobs: Blobs, data: bytes) -> bytes:
    with blobs.receive(digest_of(data), limit_bytes=16 * MiB) as incoming:
        incoming.write(data)
        incoming.finish()
    return digest_of(data)


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs", bound_bytes=4 * MiB)


def test_a_file_appears_when_it_is_whole(blobs: Blobs) -> None:
    data = b"whole"
    with blobs.receive(digest_of(data), limit_bytes=MiB) as incoming:
        incoming.write(data[:2])
        assert blobs.path(digest_of(data)) is None
        assert not incoming.is_whole
        incoming.write(data[2:])
        assert incoming.finish()
    path = blobs.path(digest_of(data))
    assert path is not None
    assert path.read_bytes() == data
    assert blobs.digests() == [digest_of(data)]
    assert blobs.budget.used_bytes == len(data) + FILE_BYTES


def test_a_file_that_is_there_is_not_new_and_counts_once(blobs: Blobs) -> None:
    put(blobs, b"same")
    with blobs.receive(digest_of(b"same"), limit_bytes=MiB) as incoming:
        incoming.write(b"same")
        assert not incoming.finish()
    assert blobs.budget.used_bytes == 4 + FILE_BYTES


def test_two_who_send_the_same_file_at_once_do_not_meet(blobs: Blobs) -> None:
    digest = digest_of(b"same")
    with blobs.receive(digest, limit_bytes=MiB) as one, blobs.receive(digest, limit_bytes=MiB) as other:
        one.write(b"sa")
        other.write(b"same")
        assert other.finish()
        one.write(b"me")
        assert not one.finish()
    assert blobs.budget.used_bytes == 4 + FILE_BYTES


def test_other_bytes_and_too_many_are_refused_and_gone(blobs: Blobs) -> None:
    def send(name: bytes, *parts: bytes) -> None:
        with blobs.receive(digest_of(name), limit_bytes=10) as incoming:
            for part in parts:
                incoming.write(part)
            incoming.finish()

    with pytest.raises(VerificationError, match="not " + digest_of(b"right").hex()):
        send(b"right", b"wrong")
    with pytest.raises(RuleViolation, match="max_table_bytes") as caught:
        send(b"x", bytes(10), b"x")
    assert caught.value.reason == "too_large"
    assert list(blobs.directory.iterdir()) == []
    assert blobs.budget.used_bytes == 0


def test_the_oldest_give_way_and_those_in_use_do_not(blobs: Blobs) -> None:
    first, second, third = (put(blobs, bytes([number]) * MiB) for number in range(3))
    with blobs.using(first) as path:
        assert path is not None
        put(blobs, b"d" * (2 * MiB))
        assert path.exists()
    assert [blobs.path(one) is not None for one in (first, second, third)] == [True, False, False]
    assert blobs.budget.dropped == 2
    assert blobs.budget.used_bytes <= blobs.budget.bound_bytes


def test_when_nothing_can_give_way_the_newcomer_is_refused(blobs: Blobs) -> None:
    kept = put(blobs, b"a" * 3 * MiB)
    with blobs.using(kept), pytest.raises(Overloaded, match="blob_bytes is 4194304"):
        put(blobs, b"b" * 2 * MiB)
    assert blobs.path(kept) is not None
    assert blobs.budget.used_bytes == 3 * MiB + FILE_BYTES
    put(blobs, b"b" * 2 * MiB)
    assert blobs.path(kept) is None, "when nobody uses it any more it gives way"


def test_many_small_files_are_bounded_too(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path, bound_bytes=10 * (FILE_BYTES + 1))
    for number in range(30):
        put(blobs, bytes([number]))
    assert len(blobs.digests()) == 10
    assert blobs.digests() == sorted(digest_of(bytes([number])) for number in range(20, 30))


def test_a_restart_finds_whole_files_and_parts_and_removes_what_was_cut_off(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path, bound_bytes=4 * MiB)
    whole = put(blobs, b"whole")
    data = b"ab" * 1_000
    with blobs.fetch(digest_of(data), limit_bytes=MiB) as incoming:
        incoming.write(data[:700])
    (tmp_path / f"{'0' * 64}.3.upload").write_bytes(b"cut off")
    (tmp_path / "something else").write_bytes(b"not ours")
    blobs.mark_signed(whole)
    again = Blobs(tmp_path, bound_bytes=4 * MiB)
    assert again.digests() == [whole]
    assert again.is_signed(whole)
    assert not (tmp_path / f"{'0' * 64}.3.upload").exists()
    assert (tmp_path / "something else").exists()
    assert again.budget.used_bytes == 5 + 700 + 2 * FILE_BYTES
    with again.fetch(digest_of(data), limit_bytes=MiB) as incoming:
        assert incoming.size == 700
        incoming.write(data[700:])
        assert incoming.finish()
    path = again.path(digest_of(data))
    assert path is not None
    assert path.read_bytes() == data


def test_a_full_disk_says_what_to_do_and_leaves_nothing_behind(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, data: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(StorageError, match="No space left on device; free some space"):
            put(blobs, b"data")
    assert list(blobs.directory.iterdir()) == []
    assert blobs.budget.used_bytes == 0
    put(blobs, b"data")
