"""Making the folder of an audit from a gateway, verified as it is made.

Everything is asked of one gateway after the other (heads and blocks have to fit each other, and the check at the end
says so when they do not), written as it came, and then checked by `cityid.audit` before the tables and the page are
made from it. A folder that is there is never written into; one that could not be finished is left under `FOLDER.part`.

Bounds: 100,000 codes, 1,000,000 heights, 4 GiB of blocks; whoever needs more audits in spans.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from cityid._native import Auditor, AuditPage, Trust, header_json, is_under, parse_prefix
from cityid.audit import Audit, Manifest
from cityid.audit.folder import MADE, SEEN, SUMS, check_sums, digest, sums, write_json
from cityid.audit.proof import advanced, read_audit
from cityid.audit.tables import made_files
from cityid.client.faces import SyncClient
from cityid.client.replies import CBOR, CBOR_SEQUENCE, JSON, json_object, whole_number
from cityid.errors import InputError, MalformedInput
from cityid.moments import to_milliseconds

__all__ = ["export"]

MOST_RECORDS: Final = 100_000
MOST_HEIGHTS: Final = 1_000_000
MOST_BYTES: Final = 4 * 1024 * 1024 * 1024
PAGE_RECORDS: Final = 64

Advance = Callable[[int, int], None]


def export(
    client: SyncClient,
    prefix: str,
    first: int | datetime,
    last: int | datetime | None,
    out: Path,
    *,
    since: Path | None = None,
    gateway: str = "",
    advance: Advance = lambda done, total: None,
) -> Audit:
    """Writes the audit of a prefix and a span of heights or times to a new folder, and returns what it proves.

    `last` None: up to now. With `since`, the folder of the visit before, it shows that nothing was removed.

    Raises:
        InputError: the folder exists, the prefix is none, or the span is empty or over a bound.
        ProofInvalid, CertificateInvalid: what the gateway gave does not verify, or does not go on from that visit.
    """
    prefix = parse_prefix(prefix)
    if out.exists():
        raise InputError(f"{out} exists. Next: name a folder that does not; an audit is never written over another.")
    earlier = None if since is None else _read_earlier(since, client.trust)
    low, high = _span(client, first, last)
    building = out.with_name(out.name + ".part")
    shutil.rmtree(building, ignore_errors=True)
    for name in ("records", "others", "blocks"):
        (building / name).mkdir(parents=True)
    writer = _Writer(client, building, prefix, low, high, advance)
    if earlier is not None:
        writer.expect(subject.key for subject in earlier.subjects)
    writer.trust_path()
    writer.blocks()
    writer.records()
    # The first page's header is the head that blocks and the visit before are tied to.
    head = AuditPage.from_bytes((building / "records" / "000001.cbor").read_bytes())
    header, _, _ = head.verify(writer.trust)
    writer.log(int(json.loads(header_json(header))["height"]), earlier)
    manifest = Manifest(
        network=client.trust.name,
        genesis=client.trust.genesis_hash.hex(),
        test=client.trust.test,
        prefix=prefix,
        first=low,
        last=high,
        made_ms=time.time_ns() // 1_000_000,
        utc_offset_minutes=time.localtime().tm_gmtoff // 60,
        gateway=gateway,
        software=f"cityid {version('cityid')}",
        since=None if since is None else digest(since / SUMS),
    )
    (building / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
    if since is not None:
        (building / "since").mkdir()
        for name in (SUMS, SEEN):
            shutil.copyfile(since / name, building / "since" / name)
    audit = read_audit(building, client.trust)
    for name, text in made_files(audit).items():
        (building / name).write_bytes(text.encode())
    assert set(MADE) <= {path.name for path in building.iterdir()}
    (building / SUMS).write_text(sums(building), encoding="utf-8")
    building.rename(out)
    return audit


def _read_earlier(since: Path, trust: Trust) -> Audit:
    """The visit before, checked: what it saw is only worth something when it holds."""
    check_sums(since)
    return read_audit(since, trust)


def _span(client: SyncClient, first: int | datetime, last: int | datetime | None) -> tuple[int, int]:
    tip = whole_number(client.status(), "height")
    low = first if isinstance(first, int) else _height_at(client, first) + 1
    high = tip if last is None else last if isinstance(last, int) else _height_at(client, last)
    low = max(low, 1)  # block 0 is the genesis, which every trust file names
    if high > tip:
        raise InputError(f"Height {high} is not decided yet; the newest is {tip}. Next: end the span there.")
    if low > high:
        raise InputError(f"The span of heights {low} to {high} is empty. Next: let it end later than it begins.")
    if high - low >= MOST_HEIGHTS:
        raise InputError(f"A span of {high - low + 1} heights; an audit takes {MOST_HEIGHTS}. Next: audit in spans.")
    return low, high


def _height_at(client: SyncClient, moment: datetime) -> int:
    """The last height at a time or before, 0 before the first; as a gateway says: the times in the folder show whether
    that is so.
    """
    began_ms = whole_number(json_object(client.fetch("/v1/audit/height?at=0", accept=JSON)), "time_ms")
    tip_ms = whole_number(client.status(), "time_ms")
    if to_milliseconds(moment) < began_ms:
        return 0
    wanted = datetime.fromtimestamp(min(to_milliseconds(moment), tip_ms) / 1000, tz=moment.tzinfo)
    path = f"/v1/audit/height?at={quote(wanted.isoformat(), safe='')}"
    return whole_number(json_object(client.fetch(path, accept=JSON)), "height")


class _Writer:
    """Asks for the parts of one audit and writes them."""

    def __init__(self, client: SyncClient, folder: Path, prefix: str, first: int, last: int, advance: Advance) -> None:
        self._client = client
        self._folder = folder
        self._prefix = prefix
        self._first = first
        self._last = last
        self._advance = advance
        self._down_to = first - 1
        self._touched: set[bytes] = set()
        self._sets: list[bytes] = []
        self.trust = client.trust

    def expect(self, keys: Iterable[bytes]) -> None:
        """Records that the visit before saw: each is shown again, whoever holds it now."""
        self._touched.update(keys)

    def trust_path(self) -> None:
        """What moves a trust file to the head, from genesis on; and the sets that voted."""
        found = json_object(self._client.fetch("/v1/audit/trust", accept=JSON))
        try:
            write_json(self._folder / "trust-path.json", {"changes": found["changes"]})
            write_json(self._folder / "validators.json", {"sets": found["sets"]})
            self._sets = [bytes.fromhex(one) for one in found["sets"]]
            self.trust = advanced(self.trust, found["changes"])
        except (KeyError, TypeError, ValueError) as error:
            raise MalformedInput(f"/v1/audit/trust answers with something else than sets: {error}") from None

    def blocks(self) -> None:
        """Whole blocks of the span; which records their transactions touched is noted on the way."""
        peaks, _ = self._log_proof(self._first, self._last + 1)
        auditor = Auditor(self.trust.genesis_hash, self._first, peaks, self._sets, self._prefix)
        height, size = self._first, 0
        while height <= self._last:
            path = f"/v1/audit/blocks?from={height}&to={self._last}"
            data = self._client.fetch(path, accept=CBOR_SEQUENCE).body
            told = [json.loads(one) for one in auditor.blocks(data)]
            if not told or told[0]["height"] != height:
                raise MalformedInput(f"{path} answers with other blocks. Next: ask another gateway.")
            end = told[-1]["height"]
            (self._folder / "blocks" / f"{height:012d}-{end:012d}.cborseq").write_bytes(data)
            for block in told:
                for transaction in block["touching"]:
                    if transaction["receipt"]["status"] == "committed":
                        changed = (one for one in transaction["subjects"] if one["changes"])
                        self._touched.update(bytes.fromhex(one["key"]) for one in changed)
            size += len(data)
            if size > MOST_BYTES:
                raise InputError(f"The blocks of this span have more than {MOST_BYTES} bytes. Next: audit in spans.")
            height = end + 1
            self._advance(height - self._first, self._last - self._first + 1)

    def records(self) -> None:
        """Every record under the prefix, then what transactions touched or the visit before saw and the list lacks."""
        shown: set[bytes] = set()
        after: str | None = None
        number = 0
        while True:
            path = f"/v1/audit/records?prefix={quote(self._prefix, safe='')}&from={self._down_to}"
            reply = self._client.fetch(path + (f"&after={quote(after, safe='')}" if after else ""), accept=CBOR)
            keys = self._check(reply.body)
            if keys or number == 0:
                number += 1
                (self._folder / "records" / f"{number:06d}.cbor").write_bytes(reply.body)
            shown.update(key for key, _ in keys)
            if len(shown) > MOST_RECORDS:
                raise InputError(
                    f"More than {MOST_RECORDS} codes are under {self._prefix}. Next: audit longer prefixes."
                )
            after = reply.following
            if after is None:
                break
        own, others = number, 0
        missing = sorted(self._touched - shown)
        for start in range(0, len(missing), PAGE_RECORDS):
            part = missing[start : start + PAGE_RECORDS]
            # Which of them are under the prefix is for their records to say.
            found = self._check(self._named(part))
            for under, folder in ((True, "records"), (False, "others")):
                chosen = [key for key, is_own in found if is_own == under]
                if not chosen:
                    continue
                if under:
                    own += 1
                else:
                    others += 1
                name = f"{own if under else others:06d}.cbor"
                (self._folder / folder / name).write_bytes(self._named(chosen))

    def _named(self, keys: list[bytes]) -> bytes:
        query = "&".join(f"key={key.hex()}" for key in keys)
        return self._client.fetch(f"/v1/audit/records?from={self._down_to}&{query}", accept=CBOR).body

    def _check(self, data: bytes) -> list[tuple[bytes, bool]]:
        """(key, whether its code is under the prefix) of each entry of a page that verifies."""
        _, _, entries = AuditPage.from_bytes(data).verify(self.trust)
        return [(key, code is not None and is_under(self._prefix, code)) for key, code, _ in entries]

    def log(self, head: int, earlier: Audit | None) -> None:
        """What ties the blocks, and the visit before, to the head."""
        peaks, _ = self._log_proof(self._first, self._last + 1)
        _, consistency = self._log_proof(self._last + 1, head + 1)
        found: dict[str, Any] = {"peaks": peaks.hex(), "consistency": consistency.hex()}
        if earlier is not None:
            if earlier.head_height > head:
                raise InputError(f"The visit before saw height {earlier.head_height}, this gateway is at {head}.")
            found["since"] = self._log_proof(earlier.head_height + 1, head + 1)[1].hex()
        write_json(self._folder / "log.json", found)

    def _log_proof(self, size1: int, size2: int) -> tuple[bytes, bytes]:
        found = json_object(self._client.fetch(f"/v1/audit/log?size1={size1}&size2={size2}", accept=JSON))
        try:
            return bytes.fromhex(found["peaks"]), bytes.fromhex(found["consistency"])
        except (KeyError, TypeError, ValueError) as error:
            raise MalformedInput(f"/v1/audit/log answers with something else than proofs: {error}") from None
