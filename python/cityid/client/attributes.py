"""The attributes of a holder's subjects: values and salts, kept here and nowhere else.

The chain has commitments alone (P76). Whoever holds a subject keeps the values with their salts in a store, one file,
shows single attributes to whom he wants, and erases them for good.

    with AttributeStore.open(Path("office.attributes")) as store:
        commitments = store.commit_attributes(code, {"material": "steel"}, schema="urn:example:lamp")
        text = store.disclose(code, ["material"], answer=answer)      # for `cityid.verify_disclosure`
        store.erase(code)

Order. Salts are durable before a commitment leaves `commit_attributes`: what stands on the chain can be shown. Erasing
writes the file anew without what is erased, syncs it, puts it in the place of the old one, and overwrites the old
bytes. It reaches this file: not copies, not what a disk or file system keeps of overwritten blocks, and not what was
disclosed before, which stays disclosed. A commitment stays on the chain; without its salt it says nothing.

Form: JSON lines `{"code", "version", "attributes": {name: {"schema", "salt", "value"}}}`, the form of an import's
disclosures, which can be taken in. Mode 0600, one process at a time, at most STORE_BYTES.
"""

import base64
import csv
import io
import json
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

from cityid._native import Answer, Code, commitment, record_json
from cityid.client.private_lines import append_lines, encode_lines, open_private, read_lines, sync_folder
from cityid.errors import InputError, StorageError

__all__ = ["STORE_BYTES", "AttributeStore", "Kept"]

STORE_BYTES: Final = 1 << 30
SALT_BYTES: Final = 16
ERASING: Final = ".erasing"
WIPE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Kept:
    """One attribute of one version of a record, with what its commitment is made of."""

    code: str
    version: int
    attribute: str
    schema: str
    salt: bytes
    value: str

    def commitment(self) -> bytes:
        """What stands on the chain for it, 32 bytes. Raises `MalformedInput` for a part that is too long."""
        return commitment(self.code, self.attribute, self.schema, self.salt, self.value)


@dataclass(slots=True)
class AttributeStore:
    """See the head of the file."""

    path: Path
    _kept: dict[str, dict[str, list[Kept]]] = field(default_factory=dict)  # code, attribute: versions ascending
    _file: BinaryIO | None = None

    @classmethod
    def open(cls, path: Path) -> Self:
        """Opens or makes a store.

        Raises:
            InputError: another process has it open, or it is larger than STORE_BYTES.
            StorageError: it holds something that this program did not write.
        """
        store = cls(path)
        store._file = open_private(path)
        try:
            # What a crash left of an erasure: it holds salts, and nothing that the store does not.
            _erasing(path).unlink(missing_ok=True)
            if os.fstat(store._file.fileno()).st_size > STORE_BYTES:
                raise InputError(f"{path.name} has more than {STORE_BYTES} bytes. Next: keep several stores.")
            for line in read_lines(store._file, path):
                store._take(_kept(line, path))
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def commit_attributes(
        self, code: str, values: Mapping[str, str], *, schema: str, version: int | None = None
    ) -> dict[str, bytes]:
        """Draws a salt for each value and keeps them; the commitments by attribute, for an operation on `code`.

        `version` is the version that the record will have with them; left out, one above the last that is kept. An
        operation replaces all commitments of a record: those that stay are in `commitments`.

        Raises:
            InputError: not a canonical native code, no values, or a version that is kept already.
            MalformedInput: a name, schema or value that is too long for a commitment.
            StorageError: the disk does not take them; no commitment may be used then.
        """
        _check_code(code)
        last = max((kept.version for versions in self._kept.get(code, {}).values() for kept in versions), default=0)
        number = last + 1 if version is None else version
        if number < 1 or not values:
            raise InputError("Attributes need at least one value, and a version from 1. Next: give both.")
        new = [Kept(code, number, name, schema, os.urandom(SALT_BYTES), value) for name, value in values.items()]
        for kept in new:
            versions = self._kept.get(code, {}).get(kept.attribute, [])
            if any(other.version == number for other in versions):
                raise InputError(
                    f"{kept.attribute!r} of {code} is kept for version {number} already. "
                    "Next: name the version that the record will have."
                )
        commitments = {kept.attribute: kept.commitment() for kept in new}
        self._keep(new)
        return commitments

    def commitments(self, code: str) -> dict[str, bytes]:
        """The newest commitment of each attribute that is kept of a code."""
        return {name: versions[-1].commitment() for name, versions in self._kept.get(code, {}).items()}

    def names(self, code: str) -> list[str]:
        """The attributes that are kept of a code."""
        return list(self._kept.get(code, {}))

    def codes(self) -> list[str]:
        """The codes of which something is kept."""
        return list(self._kept)

    def disclose(
        self, code: str, names: Collection[str], *, version: int | None = None, answer: Answer | None = None
    ) -> str:
        """The text of a disclosure file that shows these attributes (P76), for `cityid.verify_disclosure`.

        Of several versions that are kept it shows the one that the record of `answer` commits to; without an answer
        that of `version`, or the newest at or below it. The answer travels in the file. Nothing is verified here.

        Raises:
            InputError: an attribute is not kept, or not in a version that the answer's record commits to.
        """
        committed = _commitments_of(answer) if answer is not None else None
        shown = []
        for name in dict.fromkeys(names):
            versions = self._kept.get(code, {}).get(name, [])
            fit = [
                kept
                for kept in versions
                if (version is None or kept.version <= version)
                and (committed is None or kept.commitment() in committed)
            ]
            if not fit:
                why = "in the version that the record commits to" if versions else "here: it never was, or was erased"
                raise InputError(f"{name!r} of {code} is not kept {why}. Next: see what is kept with `names`.")
            kept = fit[-1]
            shown.append({"attribute": name, "schema": kept.schema, "salt": kept.salt.hex(), "value": kept.value})
        if not shown:
            raise InputError("A disclosure shows at least one attribute. Next: name one.")
        disclosure: dict[str, Any] = {"cityid": "disclosure", "code": code, "attributes": shown}
        if answer is not None:
            disclosure["answer"] = json.loads(answer.to_json())
        return json.dumps(disclosure, ensure_ascii=False, indent=2) + "\n"

    def erase(self, code: str, names: Collection[str] | None = None) -> int:
        """Deletes salts and values of these attributes of a code, or of all, in every version; how many there were.

        What was disclosed stays disclosed. Durable on return; a crash leaves the store as it was before or after.

        Raises:
            InputError: an attribute that is not kept; nothing is erased then.
            StorageError: the disk does not take the new file; the old one is still whole.
        """
        held = self._kept.get(code, {})
        erased = list(held) if names is None else list(dict.fromkeys(names))
        missing = [name for name in erased if name not in held]
        if missing or not erased:
            raise InputError(f"Of {code} nothing is kept as {', '.join(missing) or 'attributes'}. Next: see `names`.")
        rest = {name: versions for name, versions in held.items() if name not in erased}
        kept = {**self._kept, code: rest}
        if not rest:
            del kept[code]
        self._rewrite(kept)
        return sum(len(held[name]) for name in erased)

    def take_disclosures(self, path: Path) -> int:
        """Takes in what an import keeps beside its register, `FILE.disclosures.jsonl`; how many attributes.

        What is kept already is not taken twice. The import's file stays as it is: delete it, with the register, once
        the import is done, or erasing here leaves a copy there.
        """
        with open_private(path) as file:
            return self._take_new(one for line in read_lines(file, path) for one in _kept({**line, "version": 1}, path))

    def take_rows(self, rows: bytes) -> int:
        """Takes in the disclosure rows of a table that was made from CSV: code, attribute, schema, salt, value."""
        found = csv.DictReader(io.StringIO(rows.decode(), newline=""))
        try:
            new = [
                Kept(row["code"], 1, row["attribute"], row["schema"], bytes.fromhex(row["salt"]), row["value"])
                for row in found
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"These are no disclosure rows ({error!r}). Next: give what making the table returned."
            ) from None
        return self._take_new(new)

    def _take_new(self, found: Iterable[Kept]) -> int:
        new = [one for one in found if one not in self._kept.get(one.code, {}).get(one.attribute, [])]
        self._keep(new)
        return len(new)

    def _keep(self, new: Iterable[Kept]) -> None:
        assert self._file is not None, "the store is open"
        lines = list(_lines(new))
        size = os.fstat(self._file.fileno()).st_size
        if size + len(encode_lines(lines)) > STORE_BYTES:
            raise InputError(f"{self.path.name} would have more than {STORE_BYTES} bytes. Next: keep several stores.")
        try:
            append_lines(self._file, lines, durable=True)
            sync_folder(self.path.parent)
        except OSError as error:
            raise StorageError(f"{self.path} cannot be written ({error}). Next: make room and try again.") from None
        self._take(one for line in lines for one in _kept(line, self.path))

    def _take(self, new: Iterable[Kept]) -> None:
        for one in new:
            versions = self._kept.setdefault(one.code, {}).setdefault(one.attribute, [])
            versions.append(one)
            versions.sort(key=lambda kept: kept.version)

    def _rewrite(self, kept: dict[str, dict[str, list[Kept]]]) -> None:
        assert self._file is not None, "the store is open"
        erasing = _erasing(self.path)
        try:
            with open(self.path, "r+b") as old:
                # The new file is locked before it has the name, so that nobody gets between.
                new = open_private(erasing)
                try:
                    every = (one for names in kept.values() for versions in names.values() for one in versions)
                    append_lines(new, _lines(every), durable=True)
                    os.replace(erasing, self.path)
                except BaseException:
                    new.close()
                    raise
                # From here on the new file is the store, whatever becomes of the old bytes.
                self._file.close()
                self._file, self._kept = new, kept
                sync_folder(self.path.parent)
                _overwrite(old.fileno())
        except OSError as error:
            raise StorageError(
                f"{self.path} cannot be written anew, or its old bytes not be overwritten ({error}). "
                "Next: make room and erase again."
            ) from None


def _erasing(path: Path) -> Path:
    return path.with_name(path.name + ERASING)


def _overwrite(file: int) -> None:
    """Zeros over every byte of a file that has no name any more."""
    size = os.fstat(file).st_size
    for start in range(0, size, WIPE_BYTES):
        os.pwrite(file, bytes(min(WIPE_BYTES, size - start)), start)
    os.fsync(file)


def _check_code(code: str) -> None:
    parsed = Code.parse(code)
    if parsed.kind == "foreign" or parsed.text != code:
        raise InputError(f"{code!r} is not a canonical native code. Next: write it as {parsed.text!r}.")


def _lines(kept: Iterable[Kept]) -> Iterable[dict[str, Any]]:
    """One line for each code and version, in the order in which they come."""
    grouped: dict[tuple[str, int], dict[str, Any]] = {}
    for one in kept:
        parts = {"schema": one.schema, "salt": one.salt.hex(), "value": one.value}
        grouped.setdefault((one.code, one.version), {})[one.attribute] = parts
    for (code, version), attributes in grouped.items():
        yield {"code": code, "version": version, "attributes": attributes}


def _kept(line: Mapping[str, Any], path: Path) -> list[Kept]:
    try:
        return [
            Kept(
                str(line["code"]),
                int(line["version"]),
                name,
                str(parts["schema"]),
                bytes.fromhex(parts["salt"]),
                str(parts["value"]),
            )
            for name, parts in line["attributes"].items()
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StorageError(
            f"{path.name} holds a line that cannot be read ({error!r}). Next: restore it from a copy."
        ) from None


def _commitments_of(answer: Answer) -> set[bytes]:
    """Every commitment that a record of an answer shows; unverified, it only chooses what to show."""
    shown = json.loads(answer.to_json())
    texts = [entry["record"] for entry in shown["records"]] + [(shown["table"] or {}).get("record")]
    found: set[bytes] = set()
    for text in texts:
        if text is not None:
            record = json.loads(record_json(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))))
            found.update(bytes.fromhex(value) for value in record.get("commitments", {}).values())
    return found
