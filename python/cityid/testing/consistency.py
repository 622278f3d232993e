"""Whether a recorded history of clients is one that a right network can have, in the manner of Jepsen.

What is promised, and so checked:

- **Writes are linearizable.** A write names the version that it must find, so the versions of a key are a total order:
  each was made by one write, which found the one before; heights follow that order; and a write that began after the
  client of another one (or of a read) had its reply is in a later block than what that client was told of.
- **Reads are snapshots.** An answer of height h shows the newest version made at or below h and nothing newer, and one
  height has one state root, whoever answers. A read with `min_height` is of that height or above.
- **Clients never go back.** Successive answers to one client have ascending heights.
- **What was acknowledged ends**: it has a receipt, the same at every city and every time, and it took effect once.
- **What was refused had no effect**, and a write refused as stale really was.
- A write whose client was told nothing may have happened or not; what others saw decides.

It follows from versions and heights, which the network proves: no search is needed, and every history is judged in
about linear time. Nothing here trusts a node: what comes in was verified, or is compared with what was.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from cityid.testing.checks import Violation
from cityid.testing.histories import Call, Decided, Failed, History, Look, Read, Saw, Write, reads, writes

__all__ = ["Report", "check", "judge"]

MAX_FINDINGS = 20
NAMED = 12  # digits of an id in a message
VERSION_REASONS = frozenset({"stale_version", "exists", "unknown_code"})
"""Why a write had no effect when it found another version than it named; other reasons are other rules."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was judged, and what is wrong with it. Without findings and with none committed it shows nothing."""

    committed: int
    rejected: int
    failed: int
    unknown: int
    """Writes that nobody could say anything about until the end."""
    reads: int
    keys: int
    findings: tuple[str, ...]


@dataclass(slots=True)
class _Version:
    """One version of a key: what is known of it from receipts and from readers."""

    writers: list[tuple[Call, Write]] = field(default_factory=list)
    height: int | None = None
    seen: Saw | None = None


def judge(history: History) -> Report:
    """All findings, at most MAX_FINDINGS of them."""
    judging = _Judging(history.calls)
    judging.judge()
    decided = list(judging.decided.values())
    all_writes = {write.id for _, write in writes(history.calls)}
    return Report(
        committed=sum(one.reason is None for one in decided),
        rejected=sum(one.reason is not None for one in decided),
        failed=len(judging.failed),
        unknown=len(all_writes - judging.decided.keys() - judging.failed),
        reads=len(reads(history.calls)),
        keys=len({write.key for _, write in writes(history.calls)}),
        findings=tuple(judging.findings[:MAX_FINDINGS]),
    )


def check(history: History) -> Report:
    """The report of a history that is right; raises `Violation` with the findings of one that is not."""
    report = judge(history)
    if report.findings:
        raise Violation("clients saw what they must never see: " + "; ".join(report.findings))
    return report


class _Judging:
    """One pass over one history."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self.calls = calls
        self.findings: list[str] = []
        self.decided: dict[str, Decided] = {}
        self.failed: set[str] = set()

    def judge(self) -> None:
        self._clients()
        self._roots()
        self._receipts()
        self._real_time()
        by_key: dict[str, list[tuple[Call, Write]]] = defaultdict(list)
        for call, write in writes(self.calls):
            by_key[write.key].append((call, write))
        seen: dict[str, list[tuple[Call, Saw]]] = defaultdict(list)
        for call, read, saw in reads(self.calls):
            seen[read.key].append((call, saw))
        for key in sorted(by_key.keys() | seen.keys()):
            self._key(key, by_key[key], seen[key])

    # ------------------------------------------------------------ one client, one height, one transaction

    def _clients(self) -> None:
        busy_until: dict[str, float] = {}
        highest: dict[str, int] = {}
        for call in self.calls:
            if call.invoked < busy_until.get(call.client, call.invoked):
                self.findings.append(f"{call.client} does two things at once: this recording cannot be judged")
            busy_until[call.client] = float("inf") if call.ended is None else call.ended
            if isinstance(call.question, Read) and isinstance(call.outcome, Saw):
                height, key = call.outcome.height, call.question.key
                if height < highest.get(call.client, 0):
                    self.findings.append(
                        f"{call.client} went back: an answer about {key} of height {height} after one of "
                        f"{highest[call.client]}"
                    )
                if height < call.question.min_height:
                    self.findings.append(
                        f"{call.client} asked about {key} from height {call.question.min_height} on and was answered "
                        f"of height {height}"
                    )
                highest[call.client] = max(height, highest.get(call.client, 0))

    def _roots(self) -> None:
        roots: dict[int, str] = {}
        for call, _, saw in reads(self.calls):
            if roots.setdefault(saw.height, saw.root) != saw.root:
                self.findings.append(f"height {saw.height} has two state roots, {call.client} saw the second")

    def _receipts(self) -> None:
        """One outcome of each transaction, from whoever was told one."""
        acknowledged: dict[str, Call] = {}
        for call in self.calls:
            if not isinstance(call.question, Write | Look):
                continue
            id = call.question.id
            if call.acknowledged is not None:
                acknowledged[id] = call
            if isinstance(call.outcome, Decided):
                if self.decided.setdefault(id, call.outcome) != call.outcome:
                    self.findings.append(
                        f"{id[:NAMED]} was executed twice: {_told(self.decided[id])} and {_told(call.outcome)}"
                    )
            elif isinstance(call.outcome, Failed) and isinstance(call.question, Write):
                self.failed.add(id)
        for id in sorted(self.failed & self.decided.keys()):
            self.findings.append(f"{id[:NAMED]} was refused, and is in the block of height {self.decided[id].height}")
        for id in sorted(acknowledged.keys() - self.decided.keys()):
            self.findings.append(f"{id[:NAMED]} was acknowledged to {acknowledged[id].client}, and is lost")

    def _real_time(self) -> None:
        """What began after somebody was told of a height is not in that block or an earlier one."""
        told: list[tuple[float, int]] = []
        for call in self.calls:
            if call.ended is not None and isinstance(call.outcome, Decided | Saw):
                told.append((call.ended, call.outcome.height))
        told.sort()
        highest, place = 0, 0
        for call, write in writes(self.calls):  # in the order in which they began
            while place < len(told) and told[place][0] < call.invoked:
                highest = max(highest, told[place][1])
                place += 1
            decided = self.decided.get(write.id)
            if decided is not None and decided.height <= highest:
                self.findings.append(
                    f"{write.key}: {write.id[:NAMED]} is in height {decided.height}, and began when a client knew of "
                    f"{highest}"
                )

    # ------------------------------------------------------------ one key

    def _key(self, key: str, made: list[tuple[Call, Write]], seen: list[tuple[Call, Saw]]) -> None:
        versions: dict[int, _Version] = defaultdict(_Version)
        for call, write in made:
            decided = self.decided.get(write.id)
            if decided is None or decided.reason is not None:
                continue
            version = versions[write.expected + 1]
            if version.writers and version.writers[0][1].id != write.id:
                self.findings.append(
                    f"{key}: an update is lost, version {write.expected + 1} was made by "
                    f"{version.writers[0][1].id[:NAMED]} and by {write.id[:NAMED]}"
                )
            version.writers, version.height = [(call, write)], decided.height
        for _, saw in seen:
            if saw.version:
                self._seen(key, versions[saw.version], saw)
        open_writes = [(call, one) for call, one in made if one.id not in self.decided and one.id not in self.failed]
        self._chain(key, versions, made, open_writes)
        heights = [versions[number].height for number in range(1, len(versions) + 1)]
        for call, saw in seen:
            self._snapshot(key, versions, call, saw)
        beyond = any(write.expected >= len(versions) for _, write in open_writes)
        if not beyond and None not in heights:
            self._rejections(key, made, [height for height in heights if height is not None])

    def _seen(self, key: str, version: _Version, saw: Saw) -> None:
        """Readers and receipts agree about a version."""
        if version.height is None:
            version.height = saw.changed
        if version.height != saw.changed:
            self.findings.append(
                f"{key}: version {saw.version} was made at height {version.height} and, says a record, at {saw.changed}"
            )
        if version.seen is None:
            version.seen = saw
        if version.seen.fields != saw.fields:
            self.findings.append(
                f"{key}: version {saw.version} has two contents, {dict(version.seen.fields)} and {dict(saw.fields)}"
            )

    def _chain(
        self,
        key: str,
        versions: dict[int, _Version],
        made: list[tuple[Call, Write]],
        open_writes: list[tuple[Call, Write]],
    ) -> None:
        """Each version has a writer, a height not below the one before, and the content that follows."""
        content: dict[str, str] | None = {}  # None: more than one write may have made it, and nobody looked
        height = 0
        for number in range(1, max(versions, default=0) + 1):
            version = versions[number]
            seen = None if version.seen is None else dict(version.seen.fields)
            if not version.writers:
                version.writers = [
                    (call, write)
                    for call, write in open_writes
                    if write.expected + 1 == number and _fits(content, write, seen)
                ]
            if not version.writers:
                self.findings.append(f"{key}: nobody made version {number}{self._blamed(made, number)}")
            if version.height is not None:
                if version.height < height:
                    self.findings.append(f"{key}: version {number} was made at {version.height}, below the one before")
                height = version.height
            before = seen if content is None else content
            is_certain = before is not None and len({write.id for _, write in version.writers}) == 1
            content = (before or {}) | dict(version.writers[0][1].sets) if is_certain else seen
            if seen is not None and content is not None and content != seen:
                self.findings.append(f"{key}: version {number} shows {seen}, and what was written gives {content}")
            content = seen if seen is not None else content

    def _blamed(self, made: list[tuple[Call, Write]], number: int) -> str:
        """A refused write of this version, if there is one: it may have had an effect after all."""
        for _, write in made:
            decided = self.decided.get(write.id)
            why = "refused" if write.id in self.failed else None if decided is None else decided.reason
            if write.expected + 1 == number and why is not None:
                return f"; {write.id[:NAMED]}, which would have, was {why}"
        return ""

    def _snapshot(self, key: str, versions: dict[int, _Version], call: Call, saw: Saw) -> None:
        """An answer shows the newest version at its height."""
        if saw.version and saw.changed > saw.height:
            self.findings.append(f"{key}: an answer of height {saw.height} shows what was made at {saw.changed}")
        newer = versions[saw.version + 1].height if saw.version + 1 in versions else None
        if newer is not None and newer <= saw.height:
            self.findings.append(
                f"{key}: stale: {call.client} was shown version {saw.version} at height {saw.height}, and version "
                f"{saw.version + 1} was made at {newer}"
            )
        if saw.version and call.ended is not None:
            writers = versions[saw.version].writers
            if writers and all(writer.invoked > call.ended for writer, _ in writers):
                self.findings.append(f"{key}: {call.client} saw version {saw.version} before anybody wrote it")

    def _rejections(self, key: str, made: list[tuple[Call, Write]], heights: list[int]) -> None:
        """A write that found another version than it named: then the key had another one in that block."""
        for _, write in made:
            decided = self.decided.get(write.id)
            if decided is None or decided.reason not in VERSION_REASONS:
                continue
            before = sum(height < decided.height for height in heights)
            after = sum(height <= decided.height for height in heights)
            if before == after == write.expected:
                self.findings.append(
                    f"{key}: {write.id[:NAMED]} was {decided.reason} at height {decided.height}, and the version there "
                    f"was the {write.expected} that it named"
                )


def _fits(content: dict[str, str] | None, write: Write, seen: dict[str, str] | None) -> bool:
    """Whether this write can have made what was seen."""
    if seen is None:
        return True
    if content is None:
        return all(seen.get(name) == value for name, value in write.sets.items())
    return content | dict(write.sets) == seen


def _told(decided: Decided) -> str:
    return f"height {decided.height}" + ("" if decided.reason is None else f" as {decided.reason}")
