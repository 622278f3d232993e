"""`cityid item`: categories, and the items in them, one at a time.

An item of a sealed range is changed by an override (P47): `update`, `suspend`, `reinstate` and `retire` see from the
verified answer that its range is sealed and then sign that instead. `override` does nothing else, and can also register
a serial that the table left empty.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cityid._native import Answer, Code, make_item_code, record_json
from cityid.cli.acting import Acting, Asking, Session, example, with_options
from cityid.cli.messages import choose
from cityid.cli.output import say
from cityid.cli.parts import (
    Attributes,
    City,
    Class,
    CodeArgument,
    Disclosures,
    Drops,
    Expected,
    Model,
    Org,
    Services,
    Use,
    commit,
    named,
    of_kind,
    org_code,
    record_commitments,
    record_services,
    services,
)
from cityid.errors import InputError

if TYPE_CHECKING:
    from cityid.client.operations import Operation, Status

__all__ = ["add_commands"]

group = typer.Typer(no_args_is_help=True, help="Register categories and items, change, hand over and show them.")
categories = typer.Typer(no_args_is_help=True, help="Categories, which items need: use, class and model.")

KIND = "--city 130100 --org A7K2 --use 60 --class 010203 --model 1"
LAMP = "MA.156.130100.A7K2/60.010203.1/000012345B"

SchemaFile = Annotated[
    Path | None,
    typer.Option("--schema", metavar="FILE", help="A JSON Schema for the attributes of its items; it is published."),
]


def add_commands(app: typer.Typer) -> None:
    """Adds the group `item`."""
    group.add_typer(categories, name="category")
    app.add_typer(group, name="item")


@categories.command("register", epilog=example(f"cityid item category register --key office.pem {KIND} --name lamp"))
@with_options
def register_category(
    city: City,
    use: Use,
    class_code: Class,
    name: Annotated[str, typer.Option(help="What such items are called.")],
    acting: Acting,
    org: Annotated[
        str | None, typer.Option("--org", metavar="ORG", help="Its organisation; the city itself without it.")
    ] = None,
    model: Model = "0",
    schema: SchemaFile = None,
) -> None:
    """Register a category; signed by the organisation, or by the city for its own."""
    from cityid.client import operations

    holder = f"MA.156.{city}" if org is None else org_code(city, org)
    code = of_kind(f"{holder}/{use}.{class_code}.{model}", "category").text
    with acting.open() as session:
        digest = None if schema is None else publish_schema(session, schema)
        operation = operations.register_category(
            city, org, use=use, class_code=class_code, model=model, name=name, schema=digest
        )
        session.transact(operation, code, {} if digest is None else {"schema": digest.hex()})


@categories.command("show", epilog=example("cityid item category show MA.156.130100.A7K2/60.010203.1"))
@with_options
def show_category(code: CodeArgument, asking: Asking) -> None:
    """Show a category's record, verified."""
    asking.show_code(of_kind(code, "category").text)


@group.command(epilog=example(f"cityid item register --key office.pem {KIND} --serial 12345"))
@with_options
def register(
    city: City,
    org: Org,
    use: Use,
    class_code: Class,
    serial: Annotated[int, typer.Option(min=0, max=999_999_999)],
    acting: Acting,
    model: Model = "0",
    attribute: Attributes = None,
    service: Services = None,
    allocated: Annotated[
        bool, typer.Option("--allocated", help="Give the code out now, make it active later.")
    ] = False,
    disclosures: Disclosures = None,
) -> None:
    """Register one item in a range that the organisation holds; many at once: cityid import."""
    from cityid.client import operations

    code = make_item_code(city, org, use, class_code, model, serial)
    commitments = commit(code, named(attribute), disclosures)
    item = operations.Item(serial, commitments, services(service), "allocated" if allocated else "active")
    operation = operations.register_items(city, org, use=use, class_code=class_code, model=model, items=[item])
    with acting.open() as session:
        session.transact(operation, code)


@group.command(
    epilog=example(
        f"cityid item update {LAMP} --key office.pem --attribute colour=green --disclosures lamps.disclosures.jsonl"
    )
)
@with_options
def update(
    code: CodeArgument,
    acting: Acting,
    attribute: Attributes = None,
    service: Services = None,
    drop: Drops = None,
    disclosures: Disclosures = None,
    expected_version: Expected = None,
) -> None:
    """Give an item its next version; signed by its holder. What is neither named nor dropped stays."""
    from cityid.client import operations

    item = of_kind(code, "item")
    changed = named(attribute)
    with acting.open() as session:
        present = _present(session, item, expected_version)
        kept = {name: value for name, value in record_commitments(present.record).items() if name not in (drop or [])}
        commitments = kept | commit(item.text, changed, disclosures)
        listed = services(service, record_services(present.record), drop)
        if present.proof is not None:
            status: Status = present.record["status"]
            operation = _override(item, present, present.proof, status, commitments, listed)
        else:
            one = operations.ItemUpdate(item.serial or 0, present.version, commitments, listed)
            operation = operations.update_items(item.city or "", class_code=item.cls or "", updates=[one])
        session.transact(operation, item.text, {"override": present.proof is not None})


@group.command(epilog=example(f"cityid item suspend {LAMP} --key office.pem --reason 3"))
@with_options
def suspend(code: CodeArgument, acting: Acting, expected_version: Expected = None) -> None:
    """Suspend an item; signed by its holder or its city. What the city suspends only the city reinstates."""
    _set_status(code, "suspended", acting, expected_version)


@group.command(epilog=example(f"cityid item reinstate {LAMP} --key office.pem"))
@with_options
def reinstate(code: CodeArgument, acting: Acting, expected_version: Expected = None) -> None:
    """Make a suspended or allocated item active; signed by its holder or its city."""
    _set_status(code, "active", acting, expected_version)


@group.command(epilog=example(f"cityid item retire {LAMP} --key office.pem"))
@with_options
def retire(code: CodeArgument, acting: Acting, expected_version: Expected = None) -> None:
    """Retire an item, for ever: its code resolves as retired; signed by its holder or its city."""
    _set_status(code, "retired", acting, expected_version)


@group.command(epilog=example(f"cityid item override {LAMP} --key office.pem --register"))
@with_options
def override(
    code: CodeArgument,
    acting: Acting,
    register_new: Annotated[
        bool, typer.Option("--register", help="Register a serial that the sealed table left empty.")
    ] = False,
    status: Annotated[
        str | None, typer.Option("--status", metavar="STATUS", help="allocated, active, suspended or retired.")
    ] = None,
    attribute: Attributes = None,
    service: Services = None,
    drop: Drops = None,
    disclosures: Disclosures = None,
    expected_version: Expected = None,
) -> None:
    """Change one item of a sealed range by a record of its own, which stands above the table.

    The table proof comes from a gateway and is verified before it is signed for.
    """
    item = of_kind(code, "item")
    chosen = None if status is None else _status(status)
    with acting.open() as session:
        present = _empty_place(session, item) if register_new else _present(session, item, expected_version)
        if present.proof is None:
            raise InputError(
                f"{item.text} lies in no sealed range, or its record is newer than the table. "
                "Next: cityid item register or update."
            )
        kept = {name: value for name, value in record_commitments(present.record).items() if name not in (drop or [])}
        commitments = kept | commit(item.text, named(attribute), disclosures)
        listed = services(service, record_services(present.record), drop)
        becomes: Status = chosen or present.record.get("status", "active")
        operation = _override(item, present, present.proof, becomes, commitments, listed)
        session.transact(operation, item.text, {"override": True})


@group.command(epilog=example(f"cityid item offer {LAMP} --key office.pem --to MA.156.130100.B3Q8"))
@with_options
def offer(
    code: CodeArgument,
    acting: Acting,
    to: Annotated[
        str | None, typer.Option("--to", metavar="HOLDER", help="The code of the receiver; none withdraws the offer.")
    ] = None,
    expected_version: Expected = None,
) -> None:
    """Offer an item to another holder, or withdraw the offer; signed by its holder. The code never changes."""
    from cityid.client.operations import offer_transfer

    item = of_kind(code, "item")
    receiver = None if to is None else of_kind(to, "org", "city").text
    with acting.open() as session:
        version = session.version(item.text, expected_version)
        session.transact(offer_transfer(item.text, expected_version=version, to=receiver), item.text)


@group.command(epilog=example(f"cityid item accept {LAMP} --key other.pem"))
@with_options
def accept(code: CodeArgument, acting: Acting, expected_version: Expected = None) -> None:
    """Accept an item that was offered; signed by the receiver."""
    from cityid.client.operations import accept_transfer

    item = of_kind(code, "item")
    with acting.open() as session:
        version = session.version(item.text, expected_version)
        session.transact(accept_transfer(item.text, expected_version=version), item.text)


@group.command("show", epilog=example(f"cityid item show {LAMP}"))
@with_options
def show_item(code: CodeArgument, asking: Asking) -> None:
    """Show an item's record, verified."""
    asking.show_code(of_kind(code, "item").text)


def publish_schema(session: Session, path: Path) -> bytes:
    """Checks a JSON Schema, has a gateway keep it, and gives its digest."""
    from cityid.client.schemas import read_schema

    read_schema(path)
    digest = session.client.upload(path)
    say(choose(f"架构已发布：{digest.hex()}", f"schema published: {digest.hex()}"))
    return digest


@dataclass(frozen=True, slots=True)
class _Present:
    """What is to be replaced: its version, its record, and the table proof when only an override can replace it."""

    version: int
    record: dict[str, Any]
    proof: bytes | None


def _present(session: Session, item: Code, expected: int | None) -> _Present:
    found = session.resolve(item.text)
    record: dict[str, Any] = json.loads(found.verdict.record or "{}")
    proof = found.answer.table if _only_by_override(found.answer) else None
    return _Present(expected or int(record["version"]), record, proof)


def _empty_place(session: Session, item: Code) -> _Present:
    found = session.client.resolve(item.text)
    if found.verdict.verdict != "NOT_REGISTERED":
        raise InputError(
            f"{item.text} has the verdict {found.verdict.verdict}: its place is not empty. "
            "Next: leave --register out to change it."
        )
    return _Present(0, {}, found.answer.table)


def _only_by_override(answer: Answer) -> bool:
    """Whether the table of the item's range is as new as the item's own record, or there is no such record (P47)."""
    records = {kind: None if data is None else json.loads(record_json(data)) for kind, data in answer.records}
    held = records.get("thousand") or records.get("million") or {}
    own = records.get("item")
    if "table" not in held:
        return False
    return own is None or int(own["height"]) <= int(held["table"]["height"])


def _override(
    item: Code,
    present: _Present,
    proof: bytes,
    status: "Status",
    commitments: dict[str, bytes],
    listed: list[tuple[str, str]],
) -> "Operation":
    from cityid.client.operations import override_item

    return override_item(
        item.city or "",
        item.org,
        use=item.use or "",
        class_code=item.cls or "",
        model=item.model or "",
        serial=item.serial or 0,
        expected_version=present.version,
        status=status,
        commitments=commitments,
        services=listed,
        proof=proof,
    )


def _set_status(code: str, status: "Status", acting: Acting, expected: int | None) -> None:
    from cityid.client.operations import set_status

    item = of_kind(code, "item")
    with acting.open() as session:
        present = _present(session, item, expected)
        if present.proof is not None:
            commitments, listed = record_commitments(present.record), record_services(present.record)
            operation = _override(item, present, present.proof, status, commitments, listed)
        else:
            operation = set_status(item.text, expected_version=present.version, status=status)
        session.transact(operation, item.text, {"override": present.proof is not None})


def _status(text: str) -> "Status":
    words: dict[str, Status] = {
        "allocated": "allocated",
        "active": "active",
        "suspended": "suspended",
        "retired": "retired",
    }
    if text not in words:
        raise InputError(f"{text!r} is no status: {', '.join(words)}.")
    return words[text]
