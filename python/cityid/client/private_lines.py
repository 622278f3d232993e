"""JSON lines that only their owner reads: salts, values, signed bytes that were not sent yet.

A file is made with mode 0600 and locked for one process at a time. Lines are appended and, where it matters, durable
before the call returns. A torn last line, which a crash leaves, is cut off when the file is read.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

from cityid.errors import InputError, StorageError

__all__ = ["QUOTE", "append_encoded", "append_lines", "encode_lines", "open_private", "read_lines", "sync_folder"]

READ_BYTES: Final = 1024 * 1024
# Made once: an encoder a line costs more than the line.
ENCODE: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
QUOTE: Final[Callable[[str], str]] = json.encoder.encode_basestring
"""A text as JSON, the same as `ENCODE` gives: for lines of which there are as many as rows of a register."""


def open_private(path: Path) -> BinaryIO:
    """Opens for reading and appending, 0600, for one process at a time.

    Raises:
        InputError: another process has it open.
    """
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "r+b")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise InputError(f"{path.name} is in use by another run of this program. Next: wait for it.") from None
    return file


def encode_lines(lines: Iterable[Mapping[str, Any]]) -> bytes:
    """One compact JSON object a line, UTF-8."""
    return "".join([ENCODE(line) + "\n" for line in lines]).encode()


def append_lines(file: BinaryIO, lines: Iterable[Mapping[str, Any]], *, durable: bool) -> None:
    """Appends lines; they survive a power cut if `durable`. Raises OSError when the disk does not take them."""
    append_encoded(file, encode_lines(lines), durable=durable)


def append_encoded(file: BinaryIO, lines: bytes, *, durable: bool) -> None:
    """The same for lines that are encoded already."""
    file.write(lines)
    file.flush()
    if durable:
        os.fsync(file.fileno())


def read_lines(file: BinaryIO, path: Path) -> list[dict[str, Any]]:
    """Every whole line; a torn last one is cut off, so that the next entry does not continue it.

    Raises:
        StorageError: a whole line is no JSON object.
    """
    file.seek(0)
    entries: list[dict[str, Any]] = []
    end = 0
    while lines := file.readlines(READ_BYTES):
        if is_torn := not lines[-1].endswith(b"\n"):
            lines.pop()
        for line, entry in zip(lines, _parse(lines), strict=True):
            if entry is None:
                raise StorageError(f"{path.name} is damaged after {end} bytes. Next: restore it from a copy.")
            entries.append(entry)
            end += len(line)
        if is_torn:
            break
    file.truncate(end)
    file.seek(end)
    return entries


def _parse(lines: Sequence[bytes]) -> Sequence[dict[str, Any] | None]:
    """The object of each line; None for one that is none."""
    # As one list at first: the parser costs more to start than to go on.
    try:
        found = json.loads(b"[%b]" % b",".join(lines))
    except (ValueError, RecursionError):
        found = []
    if len(found) == len(lines) and all(line.startswith(b"{") for line in lines):
        return [entry if isinstance(entry, dict) else None for entry in found]
    return [_parse_line(line) for line in lines]


def _parse_line(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def sync_folder(path: Path) -> None:
    """Makes the names in a folder durable: what was made in it, renamed or removed."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
