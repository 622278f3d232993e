"""The check of an audit folder: with a trust file, and nothing else.

Order: digests, manifest, trust, records, blocks, the log that ties them together, completeness, the visit before, and
last the tables and the page, which are made again from what was proven and compared. The first thing that fails is
named with its file.

What it shows. Every record is proven under a certified state root, and every version in its chain of hashes. All blocks
of the span are there, each with the votes of its own validators, and each with all of its batches, transactions and
receipts: so no transaction of the span can be left out, and every version that one made must be shown. What it does
not show: that no code under the prefix was registered before the span and never touched in it; the visits before do.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cityid._native import Auditor, AuditPage, Trust, header_json, is_under, record_json, verify_consistency
from cityid.audit.folder import SEEN, SUMS, Manifest, Since, check_sums, digest, named, read_json
from cityid.errors import ProofInvalid

__all__ = ["Audit", "Step", "Subject", "Version", "advanced", "read_audit", "seen_by", "verify_audit"]

MILLION: Final = 6
THOUSAND: Final = 7
ITEM: Final = 8


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was checked."""

    name: str
    detail: str


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a record."""

    number: int
    height: int
    record: dict[str, Any]
    digest: str
    """SHA-256 of its bytes."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A code or a range, with its versions, the present one first."""

    key: bytes
    code: str | None
    versions: tuple[Version, ...]

    def at(self, height: int) -> Version | None:
        """The version that held after a height; None before the first."""
        return next((version for version in self.versions if version.height <= height), None)

    @property
    def name(self) -> str:
        """The code; of a range its city, class and serials."""
        if self.code is not None:
            return self.code
        city, class_code, base, size = range_of(self.key)
        return f"{city} {class_code} {base:09d}-{base + size - 1:09d}"


@dataclass(slots=True)
class Audit:
    """What a folder proves."""

    manifest: Manifest
    subjects: list[Subject] = field(default_factory=list)
    others: list[Subject] = field(default_factory=list)
    ranges: dict[bytes, Subject] = field(default_factory=dict)
    blocks: list[dict[str, Any]] = field(default_factory=list)
    """Height, time, votes of each; without its transactions."""
    transactions: list[dict[str, Any]] = field(default_factory=list)
    """Those that concern the prefix, with the height and time of their block."""
    since: Since | None = None
    head_height: int = 0
    head_time_ms: int = 0
    head_root: bytes = b""
    steps: list[Step] = field(default_factory=list)

    def time_of(self, height: int) -> int | None:
        """The time of a height of the span, milliseconds since 1970 (UTC)."""
        place = height - self.manifest.first
        return int(self.blocks[place]["time_ms"]) if 0 <= place < len(self.blocks) else None

    def passed(self, name: str, detail: str) -> None:
        """Notes a check that held."""
        self.steps.append(Step(name, detail))


def verify_audit(folder: Path, trust: Trust, *, since: Path | None = None) -> Audit:
    """Checks a whole folder; with `since` also that it goes on from that visit's folder.

    Raises `ProofInvalid` or `CertificateInvalid`: the first thing that does not hold, with its file.
    """
    from cityid.audit.tables import made_files

    count = check_sums(folder)
    audit = read_audit(folder, trust)
    audit.steps.insert(0, Step("files", f"{count} files, each with its digest"))
    if since is not None:
        _check_visit(audit, since, trust)
    for name, text in made_files(audit).items():
        with named(name):
            if (folder / name).read_bytes() != text.encode():
                raise ProofInvalid("it is not what the proofs of this folder give")
    audit.passed("tables", "the tables and the page are those that the proofs give")
    return audit


def read_audit(folder: Path, trust: Trust) -> Audit:
    """Everything of a folder but its tables and page, checked."""
    manifest = Manifest.load(folder)
    audit = Audit(manifest)
    if manifest.genesis != trust.genesis_hash.hex():
        raise ProofInvalid(f"manifest.json: it is of another network than trust in {trust.name!r}")
    trust = _advanced(folder, trust)
    audit.passed("network", f"{trust.name}, genesis {manifest.genesis}")
    _read_records(audit, folder, trust)
    _read_blocks(audit, folder, trust)
    _check_complete(audit)
    _check_since(audit, folder)
    return audit


def _advanced(folder: Path, trust: Trust) -> Trust:
    name = "trust-path.json"
    with named(name):
        return advanced(trust, read_json(folder / name)["changes"])


def advanced(trust: Trust, changes: Sequence[Mapping[str, str]]) -> Trust:
    """Trust, moved along the headers above it that name another next set (P75).

    Raises `CertificateInvalid` when one of them does not count.
    """
    for change in changes:
        if int(change["height"]) > trust.height:
            header, log_path, certificate = (
                bytes.fromhex(change[part]) for part in ("header", "log_path", "certificate")
            )
            trust = trust.advance(header, log_path, certificate, bytes.fromhex(change["next_set"]))
    return trust


# ---------------------------------------------------------------- records


def _read_records(audit: Audit, folder: Path, trust: Trust) -> None:
    seen: set[bytes] = set()
    floor = audit.manifest.first - 1
    for part, subjects in (("records", audit.subjects), ("others", audit.others)):
        for path in _numbered(folder / part, "*.cbor"):
            with named(f"{part}/{path.name}"):
                header, root, entries = AuditPage.from_bytes(path.read_bytes()).verify(trust)
                head = json.loads(header_json(header))
                if int(head["height"]) < audit.manifest.last:
                    raise ProofInvalid(f"it is of height {head['height']}, before the end of the span")
                if not audit.head_root:
                    audit.head_height, audit.head_time_ms, audit.head_root = (
                        int(head["height"]),
                        int(head["time_ms"]),
                        root,
                    )
                for key, code, records in entries:
                    if key in seen:
                        raise ProofInvalid(f"the record {key.hex()} is shown twice")
                    seen.add(key)
                    subject = Subject(key, code, tuple(_version(record) for record in records))
                    oldest = subject.versions[-1]
                    if oldest.number > 1 and oldest.height > floor:
                        raise ProofInvalid(
                            f"{subject.name}: version {oldest.number - 1} and those before it are missing"
                        )
                    if part == "others" and code is not None and is_under(audit.manifest.prefix, code):
                        raise ProofInvalid(f"{code} is under the prefix and belongs into records")
                    if part == "records" and code is not None and not is_under(audit.manifest.prefix, code):
                        raise ProofInvalid(f"{code} is not under the prefix")
                    subjects.append(subject)
    if not audit.head_root:
        raise ProofInvalid("records: no page is there")
    audit.subjects.sort(key=lambda subject: subject.key)
    audit.others.sort(key=lambda subject: subject.key)
    audit.ranges = {subject.key: subject for subject in audit.subjects if subject.key[0] in (MILLION, THOUSAND)}
    versions = sum(len(subject.versions) for subject in audit.subjects)
    audit.passed(
        "records",
        f"{len(audit.subjects)} records with {versions} versions, proven at height {audit.head_height} or above",
    )


def _version(record: bytes) -> Version:
    found = json.loads(record_json(record))
    return Version(int(found["version"]), int(found["height"]), found, hashlib.sha256(record).hexdigest())


def range_of(key: bytes) -> tuple[str, str, int, int]:
    """(city, class, first serial, size) from the key of a range (P8)."""
    text = key[1:].decode()
    size = 1_000_000 if key[0] == MILLION else 1_000
    return text[:6], text[6:12], int(text[12:]) * size, size


# ---------------------------------------------------------------- blocks


def _read_blocks(audit: Audit, folder: Path, trust: Trust) -> None:
    manifest = audit.manifest
    log = read_json(folder / "log.json")
    with named("validators.json"):
        sets = [bytes.fromhex(one) for one in read_json(folder / "validators.json")["sets"]]
    with named("log.json"):
        peaks, consistency = bytes.fromhex(log["peaks"]), bytes.fromhex(log["consistency"])
        auditor = Auditor(trust.genesis_hash, manifest.first, peaks, sets, manifest.prefix)
    for path in _numbered(folder / "blocks", "*.cborseq"):
        with named(f"blocks/{path.name}"):
            for told in auditor.blocks(path.read_bytes()):
                block = json.loads(told)
                touching = block.pop("touching")
                audit.blocks.append(block)
                place = {"height": block["height"], "time_ms": block["time_ms"]}
                audit.transactions.extend(place | one for one in touching)
                if block["height"] > manifest.last:
                    raise ProofInvalid(f"block {block['height']} is after the span")
    size, root = auditor.log
    if size != manifest.last + 1:
        raise ProofInvalid(f"blocks: they end at height {size - 1}, and the span at {manifest.last}")
    with named("log.json"):
        verify_consistency(size, audit.head_height + 1, _hashes(consistency), root, audit.head_root)
    votes = sum(block["signatures"] for block in audit.blocks)
    transactions = sum(block["transactions"] for block in audit.blocks)
    audit.passed(
        "blocks",
        f"heights {manifest.first} to {manifest.last} without a gap, {votes} votes, {transactions} transactions "
        "with their "
        f"receipts; in the log of the certified height {audit.head_height}",
    )


def _hashes(data: bytes) -> list[bytes]:
    if len(data) % 32:
        raise ProofInvalid("a proof that is not whole hashes of 32 bytes")
    return [data[start : start + 32] for start in range(0, len(data), 32)]


def _numbered(folder: Path, pattern: str) -> Iterator[Path]:
    yield from sorted(folder.glob(pattern), key=lambda path: (len(path.name), path.name))


# ---------------------------------------------------------------- completeness


def _check_complete(audit: Audit) -> None:
    """Whatever a transaction of the span changed under the prefix is shown, with a version of that height."""
    known = {subject.key: subject for subject in (*audit.subjects, *audit.others)}
    own = {subject.key for subject in audit.subjects}
    concerned = []
    checked = 0
    for transaction in audit.transactions:
        committed = transaction["receipt"]["status"] == "committed"
        names = []
        for subject in transaction["subjects"]:
            key = bytes.fromhex(subject["key"])
            shown = known.get(key)
            if committed and subject["changes"]:
                checked += 1
                if shown is None:
                    raise ProofInvalid(
                        f"records: transaction {transaction['id']} of height {transaction['height']} changed "
                        f"{subject['name']}, which is not shown"
                    )
                if all(version.height != transaction["height"] for version in shown.versions):
                    raise ProofInvalid(
                        f"records: transaction {transaction['id']} changed {subject['name']} at height "
                        f"{transaction['height']}, and no version of that height is shown"
                    )
            if shown is None or key in own or _was_held(audit, shown):
                # A refused transaction may name what never was; it is listed: nobody can say that it was another's.
                names.append(shown.name if shown is not None else subject["name"])
        if names:
            concerned.append(transaction | {"names": names})
    audit.transactions = concerned
    audit.passed(
        "completeness",
        f"{len(concerned)} transactions of the span concern the prefix; each of {checked} changes that "
        "transactions made is "
        "shown as a version",
    )


def _was_held(audit: Audit, subject: Subject) -> bool:
    """Whether a range that is another's now was held under the prefix in a version that is shown."""
    return subject.key[0] in (MILLION, THOUSAND) and any(
        is_under(audit.manifest.prefix, version.record.get("holder", "")) for version in subject.versions
    )


def superseded(audit: Audit, subject: Subject, height: int) -> bool:
    """Whether a sealed table, and not the item's own record, decided about it after a height (P41)."""
    held = subject.at(height)
    if subject.key[0] != ITEM or held is None:
        return False
    serial = int(subject.key[13:].decode())
    place = subject.key[1:13]
    for key in (
        bytes([THOUSAND]) + place + b"%06d" % (serial // 1_000),
        bytes([MILLION]) + place + b"%03d" % (serial // 1_000_000),
    ):
        if (found := audit.ranges.get(key)) is not None and (record := found.at(height)) is not None:
            table = record.record.get("table")
            return table is not None and held.height <= int(table["height"])
    return False


# ---------------------------------------------------------------- the visit before


def seen_by(audit: Audit) -> Since:
    """What this visit leaves for the next one."""
    manifest = audit.manifest
    rows = tuple(
        (subject.key.hex(), subject.versions[0].number, subject.versions[0].digest) for subject in audit.subjects
    )
    return Since(
        prefix=manifest.prefix,
        first=manifest.first,
        last=manifest.last,
        size=audit.head_height + 1,
        root=audit.head_root.hex(),
        records=rows,
    )


def _check_since(audit: Audit, folder: Path) -> None:
    before = folder / "since"
    if audit.manifest.since is None:
        if before.exists():
            raise ProofInvalid("since: the manifest names no visit before")
        return
    with named("since/SHA256SUMS"):
        if digest(before / SUMS) != audit.manifest.since:
            raise ProofInvalid("it is of another visit than the manifest names")
    with named(f"since/{SEEN}"):
        since = audit.since = Since.load(before)
    if audit.manifest.first > since.last + 1:
        raise ProofInvalid(
            f"manifest.json: the visit before ended at height {since.last}, this span begins at {audit.manifest.first}"
        )
    with named("log.json"):
        proof = _hashes(bytes.fromhex(read_json(folder / "log.json")["since"]))
        root = bytes.fromhex(since.root)
        try:
            verify_consistency(since.size, audit.head_height + 1, proof, root, audit.head_root)
        except ProofInvalid as error:
            raise ProofInvalid(f"the log is not the one of the visit before, continued: {error}") from None
    # A range that changed hands since then is another holder's now, and shown among the others.
    shown = {subject.key.hex(): subject for subject in (*audit.subjects, *audit.others)}
    with named(f"since/{SEEN}"):
        for key, number, sha256 in since.records:
            if (subject := shown.get(key)) is None:
                raise ProofInvalid(f"the record {key}, which the visit before saw, is gone")
            if all((version.number, version.digest) != (number, sha256) for version in subject.versions):
                raise ProofInvalid(
                    f"{subject.name}: version {number}, which the visit before saw, is not in its history"
                )
    audit.passed(
        "since",
        f"the log continues the one that the visit before saw, of {since.size} headers; all {len(since.records)} "
        "of its "
        "records are there, as they were or as an earlier version",
    )


def _check_visit(audit: Audit, before: Path, trust: Trust) -> None:
    """That the visit before is the one in this folder of it, whole and verified itself."""
    if audit.manifest.since is None:
        raise ProofInvalid("manifest.json: this audit does not go on from a visit before")
    if digest(before / SUMS) != audit.manifest.since:
        raise ProofInvalid(f"manifest.json: it goes on from another visit than the one in {before}")
    with named(str(before)):
        check_sums(before)
        earlier = read_audit(before, trust)
    if seen_by(earlier) != audit.since:
        raise ProofInvalid(f"since/{SEEN}: it is not what the visit in {before} saw")
    audit.passed("visit", f"the visit before is the one in {before.name}, which verifies")
