"""How codes, ranges, attributes, services and keys are written on the command line, and read into values."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cityid._native import Code
from cityid.cli.acting import hex_bytes
from cityid.errors import InputError, MalformedInput

if TYPE_CHECKING:
    from cityid.client.operations import KeyEntry, Range

__all__ = [
    "Attributes",
    "Base",
    "City",
    "Class",
    "CodeArgument",
    "Disclosures",
    "Drops",
    "Expected",
    "Keys",
    "Model",
    "Org",
    "Services",
    "Size",
    "Use",
    "commit",
    "existing",
    "key_entry",
    "named",
    "of_kind",
    "org_code",
    "range_of",
    "record_commitments",
    "record_services",
    "services",
    "write_private",
]

City = Annotated[str, typer.Option("--city", metavar="CITY", help="Six digits, for example 130100.")]
Org = Annotated[str, typer.Option("--org", metavar="ORG", help="4 to 8 of A-Z 0-9.")]
Class = Annotated[str, typer.Option("--class", metavar="CLASS", help="Six digits; cityid classes lists ours.")]
Use = Annotated[str, typer.Option("--use", metavar="USE", help="Two digits: 10 product, 60 asset, 73 person.")]
Model = Annotated[str, typer.Option("--model", metavar="MODEL", help="1 to 8 of A-Z 0-9; 0 for none.")]
Base = Annotated[int, typer.Option("--base", min=0, max=999_999_000, help="The first serial of the range.")]
Size = Annotated[int, typer.Option("--size", help="1000 or 1000000.")]
CodeArgument = Annotated[str, typer.Argument(metavar="CODE")]
Expected = Annotated[
    int | None,
    typer.Option(
        "--expected-version",
        min=1,
        help="The version that this replaces; without it the present one, as a gateway shows it.",
    ),
]
Attributes = Annotated[
    list[str] | None,
    typer.Option("--attribute", metavar="NAME=VALUE", help="Committed to with a fresh salt; say it again for more."),
]
Drops = Annotated[
    list[str] | None,
    typer.Option("--drop", metavar="NAME", help="An attribute or type of service that is not kept."),
]
Services = Annotated[
    list[str] | None,
    typer.Option("--service", metavar="TYPE=URI", help="Where the subject can be reached; say it again for more."),
]
Disclosures = Annotated[
    Path | None,
    typer.Option("--disclosures", metavar="FILE", help="Where salts and values are kept (appended, mode 0600)."),
]
Keys = Annotated[
    list[str],
    typer.Option(
        "--holder",
        metavar="KEY:POSSESSION",
        help="Its key, as `cityid keys possession` prints it; say it again for more.",
    ),
]


def commit(code: str, attributes: Mapping[str, str], disclosures: Path | None) -> dict[str, bytes]:
    """Commitments with fresh salts; the salts go to a file before anything is sent, or nothing could ever be shown."""
    if not attributes:
        return {}
    if disclosures is None:
        raise InputError(
            "Attributes are committed to with salts that only you have. Next: say --disclosures FILE to keep them."
        )
    from cityid.client.attributes import AttributeStore

    with AttributeStore.open(disclosures) as store:
        return store.commit_attributes(code, attributes, schema="text")


def named(texts: Sequence[str] | None, *, option: str = "--attribute") -> dict[str, str]:
    """NAME=VALUE pairs, each name once."""
    found: dict[str, str] = {}
    for text in texts or []:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise InputError(f"{option} takes NAME=VALUE, not {text!r}.")
        if name in found:
            raise InputError(f"{option} names {name!r} twice.")
        found[name] = value
    return found


def services(
    texts: Sequence[str] | None, present: Sequence[Sequence[str]] = (), drop: Sequence[str] | None = None
) -> list[tuple[str, str]]:
    """The services of a record from now on: the present ones, less what is dropped, with what is given."""
    given = named(texts, option="--service")
    kept = {kind: uri for kind, uri in present if kind not in (drop or [])}
    return list((kept | given).items())


def existing(path: Path) -> Path:
    """A file that is there: a mistyped name must not make an empty store."""
    if not path.exists():
        raise InputError(f"{path} does not exist. Next: name the file that --disclosures named.")
    return path


def write_private(path: Path, text: str) -> None:
    """A new file that only its owner reads."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise InputError(f"{path} exists. Next: choose another name, or move it away.") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def key_entry(text: str) -> "KeyEntry":
    """KEY:POSSESSION, or KEY:POSSESSION:PURPOSE[:FROM[:UNTIL]], as `cityid keys possession` prints it."""
    from cityid.client.operations import KeyEntry

    try:
        key, possession, *more = text.split(":")
        purpose, from_height, until_height = [*more, *["transaction", "0", ""][len(more) :]]
        heights = int(from_height), int(until_height) if until_height else None
    except ValueError:
        raise MalformedInput("A key is KEY:POSSESSION in hexadecimal, as `cityid keys possession` prints it.") from None
    return KeyEntry(hex_bytes(key, 32), hex_bytes(possession, 64), purpose, *heights)


def of_kind(text: str, *kinds: str) -> Code:
    """A code that names one of these kinds."""
    code = Code.parse(text)
    if code.kind not in kinds:
        wanted = " or ".join({"org": "an organisation", "item": "an item"}.get(kind, f"a {kind}") for kind in kinds)
        raise InputError(f"{code.text} names a {code.kind}, and {wanted} is needed. Next: give its full code.")
    return code


def org_code(city: str, org: str) -> str:
    """The canonical code of an organisation."""
    return Code.parse(f"MA.156.{city}.{org}").text


def range_of(city: str, class_code: str, base: int, size: int) -> "Range":
    """A range, its size and base checked."""
    from cityid.client.operations import Range

    if size not in (1_000, 1_000_000):
        raise InputError(f"--size is 1000 or 1000000, not {size}.")
    if base % size:
        raise InputError(f"A range of {size} begins at a multiple of it. Next: --base {base - base % size}")
    return Range(city, class_code, base, size)


def record_services(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The services of a record."""
    return [(kind, uri) for kind, uri in record.get("services", [])]


def record_commitments(record: Mapping[str, Any]) -> dict[str, bytes]:
    """The commitments of a record."""
    return {name: bytes.fromhex(value) for name, value in record.get("commitments", {}).items()}
