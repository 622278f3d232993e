"""The files of an audit folder: their names, their digests, and the manifest.

SHA256SUMS              a line for every other file
manifest.json           what was asked: network, prefix, heights, and the visit before
records/000001.cbor …   proven records under the prefix with their histories (P77)
others/000001.cbor …    proven records of other codes that transactions of these blocks name
blocks/H-H.cborseq …    whole blocks with votes, transactions and receipts (P78)
log.json                what ties blocks to the certified head, and to the visit before
validators.json         the sets that voted
trust-path.json         what moves an older trust file to the head
since.csv               the records of the visit before
codes.csv ranges.csv history.csv transactions.csv votes.csv index.html    made from all that
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from cityid.errors import CityIDError, ProofInvalid

__all__ = ["MADE", "Manifest", "Since", "check_sums", "named", "read_json", "sums", "write_json"]

SUMS: Final = "SHA256SUMS"
MANIFEST: Final = "manifest.json"
MADE: Final = ("codes.csv", "ranges.csv", "history.csv", "transactions.csv", "votes.csv", "seen.json", "index.html")
SEEN: Final = "seen.json"
FORMAT: Final = 1
MAX_FILES: Final = 200_000
MAX_FILE_BYTES: Final = 1024 * 1024 * 1024
_CHUNK: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Since:
    """What a visit leaves for the next one: its span, the log that its head ended, and every record that it saw."""

    prefix: str
    first: int
    last: int
    size: int
    root: str
    records: tuple[tuple[str, int, str], ...]
    """(key, version, SHA-256) in hexadecimal, ascending by key."""

    def to_json(self) -> str:
        """The file `seen.json`."""
        rows = ",\n".join(json.dumps(row) for row in self.records)
        head = {name: getattr(self, name) for name in ("prefix", "first", "last", "size", "root")}
        return json.dumps(head, indent=1)[:-2] + f',\n "records": [\n{rows}\n]}}\n'

    @staticmethod
    def load(folder: Path) -> "Since":
        """What a visit left, from the copy of it in a later folder: bound by its SHA256SUMS."""
        found = read_json(folder / SEEN)
        try:
            records = tuple((str(key), int(number), str(digest)) for key, number, digest in found.pop("records"))
            since = Since(**found, records=records)
        except (KeyError, TypeError, ValueError) as error:
            raise ProofInvalid(f"{SEEN}: it is not what a visit leaves: {error}") from None
        if (folder / SEEN).read_bytes() != since.to_json().encode():
            raise ProofInvalid(f"{SEEN}: it is not written as this software writes it")
        if f"{digest(folder / SEEN)}  {SEEN}" not in (folder / SUMS).read_text(encoding="utf-8").splitlines():
            raise ProofInvalid(f"{SEEN}: it is not the one that the {SUMS} of that visit names")
        return since


@dataclass(frozen=True, slots=True)
class Manifest:
    """What was asked and when. Nothing of it is believed but the prefix and the heights, which proofs must fit."""

    network: str
    genesis: str
    test: bool
    prefix: str
    first: int
    last: int
    made_ms: int
    utc_offset_minutes: int
    gateway: str
    software: str
    since: str | None = None
    """SHA-256 of the SHA256SUMS of the visit before."""
    format: int = FORMAT

    def to_json(self) -> str:
        """The file."""
        return json.dumps({"cityid": "audit"} | asdict(self), ensure_ascii=False, indent=1) + "\n"

    @staticmethod
    def load(folder: Path) -> "Manifest":
        """Reads the file of a folder. Raises `ProofInvalid` that names it."""
        found = read_json(folder / MANIFEST)
        try:
            if found.pop("cityid") != "audit" or found["format"] != FORMAT:
                raise ProofInvalid(f"{MANIFEST}: this software reads audits of format {FORMAT}")
            manifest = Manifest(**found)
        except (AttributeError, KeyError, TypeError) as error:
            raise ProofInvalid(f"{MANIFEST}: it is no manifest of an audit: {error}") from None
        numbers = (manifest.first, manifest.last, manifest.made_ms, manifest.utc_offset_minutes)
        if not all(isinstance(number, int) for number in numbers) or not 1 <= manifest.first <= manifest.last:
            raise ProofInvalid(f"{MANIFEST}: its heights are no span")
        if abs(manifest.utc_offset_minutes) >= 24 * 60 or not 0 <= manifest.made_ms < 2**48:
            raise ProofInvalid(f"{MANIFEST}: its time is none")
        if manifest.to_json().encode() != (folder / MANIFEST).read_bytes():
            raise ProofInvalid(f"{MANIFEST}: it is not written as this software writes it")
        return manifest


def sums(folder: Path) -> str:
    """A line for every file but SHA256SUMS, ascending by name, as `sha256sum` writes them."""
    return "".join(f"{digest(path)}  {path.relative_to(folder).as_posix()}\n" for path in files(folder))


def files(folder: Path) -> list[Path]:
    """Every file but SHA256SUMS, ascending by name."""
    found = []
    for path in folder.rglob("*"):
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise ProofInvalid(f"{path.relative_to(folder)}: an audit has plain files and folders only")
        if path.is_file() and path != folder / SUMS:
            found.append(path)
        if len(found) > MAX_FILES:
            raise ProofInvalid(f"{folder}: more than {MAX_FILES} files")
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    hash_ = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            hash_.update(chunk)
    return hash_.hexdigest()


def check_sums(folder: Path) -> int:
    """That every file is the one that SHA256SUMS names, with none missing and none too many; how many there are."""
    try:
        written = (folder / SUMS).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ProofInvalid(f"{SUMS}: it cannot be read: {error}. Is this the folder of an audit?") from None
    listed: dict[str, str] = {}
    for line in written.splitlines():
        hash_, mark, name = line.partition("  ")
        if not mark or len(hash_) != 64 or not name or name in listed:
            raise ProofInvalid(f"{SUMS}: the line {line[:100]!r} is none of its form")
        listed[name] = hash_
    present = {path.relative_to(folder).as_posix(): path for path in files(folder)}
    for name in sorted({*listed, *present}):
        if name not in present:
            raise ProofInvalid(f"{name}: it is missing, and {SUMS} names it")
        if name not in listed:
            raise ProofInvalid(f"{name}: it is not in {SUMS}")
        if digest(present[name]) != listed[name]:
            raise ProofInvalid(f"{name}: it is not the file that {SUMS} names; one of the two was changed")
    if sums(folder) != written:
        raise ProofInvalid(f"{SUMS}: its lines are not in their order and form")
    return len(present)


@contextmanager
def named(name: str) -> Iterator[None]:
    """Puts the name of a file before what is wrong with it."""
    try:
        yield
    except (KeyError, TypeError) as error:
        raise ProofInvalid(f"{name}: it has not the fields that it should have: {error}") from None
    except (CityIDError, ValueError) as error:
        text = str(error)
        raise ProofInvalid(text if text.startswith(f"{name}: ") else f"{name}: {text}") from None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises `ProofInvalid` that names the file."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ProofInvalid(f"{path.name}: it is longer than {MAX_FILE_BYTES} bytes")
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ProofInvalid(f"{path.name}: it cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise ProofInvalid(f"{path.name}: it is no JSON object")
    return found


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON object, one form only."""
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
