"""`cityid classes` and `cityid schema`: what items are, and what their attributes must look like."""

import json
from pathlib import Path
from typing import Annotated

import typer

from cityid.cli.acting import Acting, Asking, example, with_options
from cityid.cli.common import Json
from cityid.cli.messages import choose
from cityid.cli.output import show
from cityid.cli.parts import CodeArgument, Expected, of_kind, record_commitments, record_services
from cityid.errors import InputError

__all__ = ["add_commands"]

group = typer.Typer(no_args_is_help=True, help="JSON Schemas for the attributes of items, published by their digest.")
CATEGORY = "MA.156.130100.A7K2/60.010203.1"


def add_commands(app: typer.Typer) -> None:
    """Adds `classes` and the group `schema`."""
    app.command(epilog=example("cityid classes lamp"))(classes)
    app.add_typer(group, name="schema")


def classes(
    word: Annotated[
        str | None, typer.Argument(metavar="WORD", help="Only rows with this in code, name or note.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List item classes: our own table, designed along CJ/T 553-2024's widths; not the standard's table."""
    from cityid.client.classes import classes_table

    wanted = (word or "").casefold()
    rows = [row for row in classes_table() if wanted in f"{row.code} {row.chinese} {row.english} {row.note}".casefold()]
    value = {"classes": [{"class": r.code, "zh": r.chinese, "en": r.english, "note": r.note} for r in rows]}
    show(value, "\n".join(f"{r.code}  {r.chinese}  {r.english}  ({r.note})" for r in rows), as_json=as_json)


@group.command(epilog=example(f"cityid schema publish lamp.schema.json --category {CATEGORY} --key office.pem"))
@with_options
def publish(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A JSON Schema (draft 2020-12) of an object.")],
    category: Annotated[str, typer.Option(metavar="CODE", help="The category whose items it is for.")],
    acting: Acting,
    expected_version: Expected = None,
) -> None:
    """Publish a schema and set it for a category; signed by the category's holder.

    From then on import, adopt and seal check each row against it before anything is sent.
    """
    from cityid.cli.items import publish_schema
    from cityid.client.operations import update_profile

    code = of_kind(category, "category").text
    with acting.open() as session:
        record = session.record(code)
        digest = publish_schema(session, file)
        operation = update_profile(
            code,
            expected_version=expected_version or int(record["version"]),
            commitments=record_commitments(record),
            services=record_services(record),
            schema=digest,
        )
        session.transact(operation, code, {"schema": digest.hex()})


@group.command("show", epilog=example(f"cityid schema show {CATEGORY}"))
@with_options
def show_schema(code: CodeArgument, asking: Asking) -> None:
    """Show the schema of a category. Its digest is proven, and the body is checked against it."""
    wanted = of_kind(code, "category").text
    with asking.client() as client:
        found = client.schema(wanted)
    if found is None:
        raise InputError(
            choose(
                f"{wanted} 没有架构", f"{wanted} has no schema. Next: cityid schema publish FILE --category {wanted}"
            )
        )
    value = {"code": wanted, "digest": found.digest.hex(), "schema": found.document}
    asking.show(value, json.dumps(found.document, ensure_ascii=False, indent=1))
