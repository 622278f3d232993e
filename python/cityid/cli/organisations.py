"""`cityid org`: a city admits organisations, sets their terms, suspends and reinstates them."""

from typing import TYPE_CHECKING, Annotated

import typer

from cityid._native import check_uscc
from cityid.cli.acting import Acting, Asking, example, with_options
from cityid.cli.parts import City, Disclosures, Expected, Keys, Org, commit, key_entry, org_code

if TYPE_CHECKING:
    from cityid.client.operations import Status

__all__ = ["add_commands"]

group = typer.Typer(no_args_is_help=True, help="Admit organisations, set their terms, suspend and show them.")

Quota = Annotated[int, typer.Option(min=1, help="Serials that it may hold in each class.")]
Rate = Annotated[
    int | None,
    typer.Option(min=1, help="Operations and items that it may have in a block; as the network allows without it."),
]
KEY = "--key city/keys/transaction.pem"
WHO = "--city 130100 --org A7K2"


def add_commands(app: typer.Typer) -> None:
    """Adds the group `org`."""
    app.add_typer(group, name="org")


@group.command(
    epilog=example(
        "cityid keys possession office.pem --subject MA.156.130100.A7K2",
        f"cityid org admit {KEY} {WHO} --name Lighting --quota 5000 --holder KEY:POSSESSION",
    )
)
@with_options
def admit(
    city: City,
    org: Org,
    name: Annotated[str, typer.Option(help="The organisation's name.")],
    quota: Quota,
    holder: Keys,
    acting: Acting,
    rate: Rate = None,
    uscc: Annotated[
        str | None, typer.Option(help="Unified social credit code; only its commitment leaves this machine.")
    ] = None,
    disclosures: Disclosures = None,
) -> None:
    """Admit an organisation; signed by its city."""
    from cityid.client import operations

    code = org_code(city, org)
    entries = [key_entry(text) for text in holder]
    commitments: dict[str, bytes] = {}
    if uscc is not None:
        check_uscc(uscc)
        commitments = commit(code, {"uscc": uscc}, disclosures)
    operation = operations.admit_organisation(
        city, org, name=name, quota=quota, rate=rate, keys=entries, commitments=commitments
    )
    with acting.open() as session:
        session.transact(operation, code)


@group.command(epilog=example(f"cityid org terms {KEY} {WHO} --quota 50000 --rate 10000"))
@with_options
def terms(
    city: City,
    org: Org,
    acting: Acting,
    name: Annotated[str | None, typer.Option(help="Its name from now on; the present one without it.")] = None,
    quota: Annotated[int | None, typer.Option(min=1, help="Its quota from now on.")] = None,
    rate: Rate = None,
    no_rate: Annotated[bool, typer.Option("--no-rate", help="No rate of its own from now on.")] = False,
    expected_version: Expected = None,
) -> None:
    """Change name, quota or rate of an organisation; signed by its city. What is not named stays as it is."""
    from cityid.client import operations

    code = org_code(city, org)
    with acting.open() as session:
        record = session.record(code)
        present = record.get("rate")
        operation = operations.set_terms(
            city,
            org,
            expected_version=expected_version or int(record["version"]),
            name=name or record["name"],
            quota=quota or int(record["quota"]),
            rate=rate or (None if no_rate or present is None else int(present)),
        )
        session.transact(operation, code)


@group.command(epilog=example(f"cityid org suspend {KEY} {WHO} --reason 3 --basis decision.pdf"))
@with_options
def suspend(city: City, org: Org, acting: Acting, expected_version: Expected = None) -> None:
    """Suspend an organisation: it can do nothing, and its codes show it; signed by its city."""
    _set_status(city, org, "suspended", acting, expected_version)


@group.command(epilog=example(f"cityid org reinstate {KEY} {WHO}"))
@with_options
def reinstate(city: City, org: Org, acting: Acting, expected_version: Expected = None) -> None:
    """Make a suspended organisation active again; signed by its city."""
    _set_status(city, org, "active", acting, expected_version)


@group.command(epilog=example(f"cityid org retire {KEY} {WHO}"))
@with_options
def retire(city: City, org: Org, acting: Acting, expected_version: Expected = None) -> None:
    """Retire an organisation, for ever: its codes resolve as retired; signed by its city."""
    _set_status(city, org, "retired", acting, expected_version)


@group.command("show", epilog=example(f"cityid org show {WHO}"))
@with_options
def show_organisation(city: City, org: Org, asking: Asking) -> None:
    """Show an organisation's record, verified."""
    asking.show_code(org_code(city, org))


def _set_status(city: str, org: str, status: "Status", acting: Acting, expected: int | None) -> None:
    from cityid.client.operations import set_status

    code = org_code(city, org)
    with acting.open() as session:
        session.transact(set_status(code, expected_version=session.version(code, expected), status=status), code)
