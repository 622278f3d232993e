"""`cityid adopt`: numbers that were given before a city joined keep their value.

The serials of old numbers are reserved, so that nobody is given them again; each item is registered at its exact
serial, and the old number becomes an alias by which it is found. What an import does about journal, resuming and
rejects holds here, too: running it again changes nothing.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cityid.cli.acting import Acting, example, with_options
from cityid.cli.common import At, Json, KeyFile, PassphraseFile, TrustFile, async_client, load_trust, open_signer
from cityid.cli.importing import (
    CategoryName,
    DatumName,
    Delimiter,
    Mapped,
    SigningSubmitter,
    check_rows,
    ensure_category,
    identity_of,
    read_rows,
    report,
    run_import,
)
from cityid.cli.parts import City, Class, Model, Use
from cityid.errors import InputError

if TYPE_CHECKING:
    from cityid.client.importing import Summary

__all__ = ["add_commands"]

group = typer.Typer(no_args_is_help=True, help="Take over numbers that were given before the city joined.")


def add_commands(app: typer.Typer) -> None:
    """Adds the group `adopt`."""
    app.add_typer(group, name="adopt")


@group.command(
    epilog=example(
        "cityid adopt numbers covers.csv --key office.pem --city-key city/keys/transaction.pem --city 130100 \\",
        "    --org A7K2 --use 60 --class 010101 --category-name cover --map number=id --map position=serial",
    )
)
def numbers(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="CSV or GeoJSON; a column for the old number, one for the serial.")
    ],
    key: KeyFile,
    city: City,
    use: Use,
    class_code: Class,
    org: Annotated[
        str | None, typer.Option("--org", metavar="ORG", help="Who holds the items; the city itself without it.")
    ] = None,
    model: Model = "0",
    city_key: Annotated[
        Path | None,
        typer.Option("--city-key", metavar="FILE", help="The city's key, which reserves ranges; --key without it."),
    ] = None,
    namespace: Annotated[
        str | None,
        typer.Option(
            "--namespace", help="Of the aliases: 130100.A7K2, or 130100.A7K2/covers; the holder's own without it."
        ),
    ] = None,
    digits: Annotated[
        bool,
        typer.Option("--digits", help="Old numbers are 21 digits (district, class, serial), which give the serial."),
    ] = False,
    mapping: Mapped = None,
    datum: DatumName = "WGS84",
    delimiter: Delimiter = ",",
    category_name: CategoryName = None,
    at: At = None,
    trust: TrustFile = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Register every row of FILE at the serial that its old number has, and the number as its alias.

    Rows without a serial get the next free one. Beside FILE stand the same files as beside an import.
    """
    import trio

    from cityid.client.importing import Adoption, Target, with_aliases, with_serials

    believed = load_trust(trust)
    holder = open_signer(key, passphrase_file)
    city_signer = holder if city_key is None else open_signer(city_key, passphrase_file)
    target = Target(city, org, use, class_code, model)
    target.code(0)  # a part that breaks the grammar is said before the file is read
    if digits and namespace is not None:
        raise InputError("Numbers of 21 digits are found in the city's own namespace. Next: leave --namespace out.")
    chosen = city if digits else namespace or target.holder().removeprefix("MA.156.")
    of_city = chosen.partition("/")[0] == city
    adoption = Adoption(chosen, of_city and org is not None, city if digits else None)
    table, rows = read_rows(file, mapping, datum, delimiter, blank_serials=True)
    if digits and table.columns.column("serial") is not None:
        raise InputError(
            "With --digits the old number gives the serial. Next: leave that column out with --map COLUMN="
        )
    column = table.columns.column("id") or "id"
    rows = with_serials(rows, column, class_code) if digits else with_aliases(rows, column)

    async def run() -> "Summary":
        async with async_client(at, believed) as client:
            if category_name is not None:
                await ensure_category(client, holder, target, category_name)
            checked = await check_rows(client, target, rows)
            submitter = SigningSubmitter(client, holder, city_signer)
            identity = identity_of(target, table.columns, believed) | {"namespace": chosen}
            return await run_import(
                file, identity, table, checked, target=target, submitter=submitter, adoption=adoption
            )

    report(file, trio.run(run), as_json=as_json)


@group.command(epilog=example("cityid adopt district 130104 --city 130100 --key city/keys/transaction.pem"))
@with_options
def district(
    district_code: Annotated[str, typer.Argument(metavar="DISTRICT", help="Six digits that begin old numbers.")],
    city: City,
    acting: Acting,
) -> None:
    """Say that old numbers that begin with a district's six digits are looked up at this city; signed by it."""
    from cityid.client.operations import map_district

    with acting.open() as session:
        session.transact(map_district(city, district_code), f"MA.156.{city}")
