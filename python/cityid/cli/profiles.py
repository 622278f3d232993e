"""`cityid profile`: what a city, an organisation, a category or an item says of itself, and whose keys speak for it."""

import json
import math
import time
from pathlib import Path
from typing import Annotated, Final

import typer

from cityid._native import verify_disclosure
from cityid.cli.acting import Acting, Asking, example, hex_bytes, with_options
from cityid.cli.common import Json, TrustFile, load_trust, read_bounded
from cityid.cli.messages import choose
from cityid.cli.output import VERDICT_EXIT, show
from cityid.cli.parts import (
    Attributes,
    CodeArgument,
    Disclosures,
    Drops,
    Expected,
    Services,
    commit,
    existing,
    key_entry,
    named,
    of_kind,
    record_commitments,
    record_services,
    services,
    write_private,
)
from cityid.cli.verdicts import MaxAge, describe, seconds_or_any
from cityid.errors import InputError

__all__ = ["add_commands"]

group = typer.Typer(no_args_is_help=True, help="Profiles: services, attributes, keys, controllers, recovery.")
keys = typer.Typer(no_args_is_help=True, help="Add and remove keys of a subject.")
recovery = typer.Typer(no_args_is_help=True, help="Give a subject that lost its keys new ones, after a delay.")

SUBJECTS = ("city", "org", "item")
OFFICE = "MA.156.130100.A7K2"

ANSWER_BYTES: Final = 4 * 1024 * 1024
DISCLOSURE_BYTES: Final = 4 * 1024 * 1024

Store = Annotated[
    Path, typer.Option("--store", metavar="FILE", help="Where values and salts are kept: what --disclosures named.")
]
NewKeys = Annotated[
    list[str],
    typer.Option(
        "--new-key",
        metavar="KEY:POSSESSION[:PURPOSE]",
        help="As `cityid keys possession --subject CODE` prints it; say it again for more.",
    ),
]


def add_commands(app: typer.Typer) -> None:
    """Adds the group `profile`."""
    group.add_typer(keys, name="keys")
    group.add_typer(recovery, name="recover")
    app.add_typer(group, name="profile")


@group.command("show", epilog=example(f"cityid profile show {OFFICE}"))
@with_options
def show_profile(code: CodeArgument, asking: Asking) -> None:
    """Show the record of any subject, verified."""
    asking.show_code(of_kind(code, *SUBJECTS, "category").text)


@group.command(
    epilog=example(
        f"cityid profile update {OFFICE} --key office.pem --service web=https://lamps.example/",
        f"cityid profile update {OFFICE} --key office.pem --attribute phone=0311 --disclosures office.jsonl",
    )
)
@with_options
def update(
    code: CodeArgument,
    acting: Acting,
    service: Services = None,
    attribute: Attributes = None,
    drop: Drops = None,
    disclosures: Disclosures = None,
    expected_version: Expected = None,
) -> None:
    """Change services and attributes of a city, an organisation or a category; signed by the subject.

    What is neither named nor dropped stays. An item is changed with cityid item update.
    """
    from cityid.client.operations import update_profile

    subject = of_kind(code, "city", "org", "category").text
    changed = named(attribute)
    with acting.open() as session:
        record = session.record(subject)
        kept = {name: value for name, value in record_commitments(record).items() if name not in (drop or [])}
        operation = update_profile(
            subject,
            expected_version=expected_version or int(record["version"]),
            commitments=kept | commit(subject, changed, disclosures),
            services=services(service, record_services(record), drop),
            schema=bytes.fromhex(record["schema"]) if "schema" in record else None,
        )
        session.transact(operation, subject)


@keys.command(
    "add",
    epilog=example(
        f"cityid keys possession second.pem --subject {OFFICE}",
        f"cityid profile keys add {OFFICE} --key office.pem --new-key KEY:POSSESSION",
    ),
)
@with_options
def add_keys(code: CodeArgument, new_key: NewKeys, acting: Acting, expected_version: Expected = None) -> None:
    """Add keys; signed by the subject (of an item by its holder, or its own keys)."""
    _rotate(code, acting, expected_version, add=new_key)


@keys.command("remove", epilog=example(f"cityid profile keys remove {OFFICE} PUBLICKEY --key second.pem"))
@with_options
def remove_keys(
    code: CodeArgument,
    public_keys: Annotated[list[str], typer.Argument(metavar="PUBLICKEY...", help="As the record shows them.")],
    acting: Acting,
    expected_version: Expected = None,
) -> None:
    """Remove keys; signed by the subject. Its last transaction keys stay."""
    _rotate(code, acting, expected_version, remove=public_keys)


@keys.command(
    "rotate",
    epilog=example(
        f"cityid profile keys rotate {OFFICE} --key office.pem --new-key KEY:POSSESSION --old-key PUBLICKEY"
    ),
)
@with_options
def rotate_keys(
    code: CodeArgument,
    new_key: NewKeys,
    old_key: Annotated[
        list[str],
        typer.Option("--old-key", metavar="PUBLICKEY", help="Removed in the same step; say it again for more."),
    ],
    acting: Acting,
    expected_version: Expected = None,
) -> None:
    """Add and remove keys in one step; signed by the subject with keys that it has before."""
    _rotate(code, acting, expected_version, add=new_key, remove=old_key)


@group.command(epilog=example(f"cityid profile controllers {OFFICE} --threshold 2 --key first.pem --key second.pem"))
@with_options
def controllers(
    code: CodeArgument,
    threshold: Annotated[int, typer.Option(min=1, max=16, help="How many transaction keys must sign from now on.")],
    acting: Acting,
    expected_version: Expected = None,
) -> None:
    """Set how many of a subject's keys must sign together; signed by as many as must sign now."""
    from cityid.client.operations import set_controllers

    subject = of_kind(code, *SUBJECTS).text
    with acting.open() as session:
        version = session.version(subject, expected_version)
        session.transact(set_controllers(subject, expected_version=version, threshold=threshold), subject)


@recovery.command(
    "start",
    epilog=example(f"cityid profile recover start {OFFICE} --key city/keys/transaction.pem --new-key KEY:POSSESSION"),
)
@with_options
def start_recovery(code: CodeArgument, new_key: NewKeys, acting: Acting, expected_version: Expected = None) -> None:
    """Begin to replace all transaction keys of a subject; signed by its city, of an item by its holder.

    Every answer about the subject shows it. The subject may object until the delay is over.
    """
    from cityid.client import operations

    subject = of_kind(code, "org", "item").text
    entries = [key_entry(text) for text in new_key]
    with acting.open() as session:
        version = session.version(subject, expected_version)
        session.transact(operations.start_recovery(subject, expected_version=version, keys=entries), subject)


@recovery.command("cancel", epilog=example(f"cityid profile recover cancel {OFFICE} --key recovery.pem"))
@with_options
def cancel_recovery(code: CodeArgument, acting: Acting, expected_version: Expected = None) -> None:
    """Object to a recovery; signed by a recovery key, by the present keys, or by whoever began it."""
    _end_recovery(code, acting, expected_version, cancel=True)


@recovery.command("finish", epilog=example(f"cityid profile recover finish {OFFICE} --key city/keys/transaction.pem"))
@with_options
def finish_recovery(code: CodeArgument, acting: Acting, expected_version: Expected = None) -> None:
    """Put the new keys in place, once the height that the record shows is reached; signed by whoever may begin one."""
    _end_recovery(code, acting, expected_version, cancel=False)


@group.command(epilog=example(f"cityid profile disclose {OFFICE} phone --store office.jsonl --out phone.json"))
@with_options
def disclose(
    code: CodeArgument,
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="The attributes to show.")],
    store: Store,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Gets the disclosure; whoever has it can read it.")
    ],
    asking: Asking,
) -> None:
    """Show single attributes: values and salts, with the answer that proves them, in a file to hand over."""
    from cityid.client.attributes import AttributeStore

    subject = of_kind(code, *SUBJECTS, "category").text
    with asking.client() as client:
        found = client.resolve(subject)
    if found.verdict.verdict != "REGISTERED":
        raise InputError(f"{subject} has the verdict {found.verdict.verdict}: nothing can be shown of it.")
    with AttributeStore.open(existing(store)) as kept:
        text = kept.disclose(subject, names, answer=found.answer)
    write_private(out, text)
    asking.show({"code": subject, "attributes": names, "file": str(out)}, str(out))


@group.command(
    "verify-disclosure",
    epilog=example("cityid profile verify-disclosure phone.json --trust genesis.json --max-age any"),
)
def verify_disclosure_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `cityid profile disclose` made.")],
    answer: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Another answer, CBOR, than the one in the disclosure.")
    ] = None,
    trust: TrustFile = None,
    max_age: MaxAge = None,
    as_json: Json = False,
) -> None:
    """Check disclosed attributes without any network. Proven is that a value was committed to, not that it is true."""
    believed = load_trust(trust)
    age = seconds_or_any(max_age)
    data = None if answer is None else read_bounded(answer, ANSWER_BYTES)
    found = verify_disclosure(
        read_bounded(file, DISCLOSURE_BYTES).decode("utf-8", "replace"),
        data,
        believed,
        now=None if age == math.inf else time.time(),
        max_age=None if age == math.inf else age,
    )
    lines = [f"{name} = {value}: {result}" for name, _, value, result in found.attributes]
    text = "\n".join([describe(found.verdict, believed), *lines])
    show(json.loads(found.to_json()), text, as_json=as_json)
    if not found.proven:
        raise typer.Exit(VERDICT_EXIT[found.verdict.verdict] or 1)


@group.command(epilog=example(f"cityid profile erase {OFFICE} phone --store office.jsonl"))
def erase(
    code: CodeArgument,
    store: Store,
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME...]", help="All of them without a name.")] = None,
    as_json: Json = False,
) -> None:
    """Delete values and salts for good: nobody can be shown them again. What was disclosed stays disclosed."""
    from cityid.client.attributes import AttributeStore

    subject = of_kind(code, *SUBJECTS, "category").text
    with AttributeStore.open(existing(store)) as kept:
        count = kept.erase(subject, names or None)
    text = choose(f"{subject}：已删除 {count} 项", f"{subject}: {count} erased")
    show({"code": subject, "erased": count}, text, as_json=as_json)


def _end_recovery(code: str, acting: Acting, expected: int | None, *, cancel: bool) -> None:
    from cityid.client.operations import end_recovery

    subject = of_kind(code, "org", "item").text
    with acting.open() as session:
        version = session.version(subject, expected)
        session.transact(end_recovery(subject, expected_version=version, cancel=cancel), subject)


def _rotate(
    code: str,
    acting: Acting,
    expected: int | None,
    *,
    add: list[str] | None = None,
    remove: list[str] | None = None,
) -> None:
    from cityid.client import operations

    subject = of_kind(code, *SUBJECTS).text
    entries = [key_entry(text) for text in add or []]
    gone = [hex_bytes(text, 32) for text in remove or []]
    with acting.open() as session:
        version = session.version(subject, expected)
        operation = operations.rotate_keys(subject, expected_version=version, add=entries, remove=gone)
        session.transact(operation, subject)
