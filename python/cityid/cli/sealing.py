"""`cityid seal`: a whole range committed at once by the table of its items.

`build` makes the table file, `submit` has cities keep it and seals the range with it, `range` does both. A later
version is made from the file of the one before: it adds items, and takes up what was changed singly since (compaction).
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from cityid._native import Table, Trust
from cityid.cli.acting import Acting, Asking, Session, example, with_options
from cityid.cli.messages import choose
from cityid.cli.output import progress, say
from cityid.cli.parts import range_of
from cityid.errors import InputError

if TYPE_CHECKING:
    from cityid.client import SyncClient
    from cityid.client.operations import Range
    from cityid.client.schemas import Schema
    from cityid.client.sealing import Built, Source

__all__ = ["add_commands"]

group = typer.Typer(no_args_is_help=True, help="Seal a range: commit all of its items at once by one table.")

SHOWN_FAULTS: Final = 5
SPECIAL: Final = frozenset({"serial", "code", "use", "model", "status"})
WHERE: Final = "--city 130100 --org A7K2 --class 010203"
NUMBERS: Final = "--prefix MA.156.130100.A7K2/60.010203.1/0001 --range 0-99999"

TableFile = Annotated[Path, typer.Argument(metavar="FILE", help="The table file to make.")]


def add_commands(app: typer.Typer) -> None:
    """Adds the group `seal`."""
    app.add_typer(group, name="seal")


@dataclass(slots=True)
class Building:
    """Which range, which items: the four forms of a table's items, and the version before."""

    city: str | None
    org: str | None
    class_code: str | None
    base: int | None
    size: int | None
    file: Path | None
    listed: str | None
    prefix: str | None
    numbers: str | None
    width: int | None
    use: str | None
    model: str
    status: str
    previous: Path | None
    takes_up: bool
    disclosures: Path | None

    @staticmethod
    def from_options(
        city: Annotated[str | None, typer.Option("--city", metavar="CITY", help="Six digits.")] = None,
        org: Annotated[
            str | None, typer.Option("--org", metavar="ORG", help="The range's holder; the city itself without it.")
        ] = None,
        class_code: Annotated[str | None, typer.Option("--class", metavar="CLASS", help="Six digits.")] = None,
        base: Annotated[
            int | None, typer.Option(min=0, help="First serial of the range; found from the items without it.")
        ] = None,
        size: Annotated[int | None, typer.Option(help="1000 or 1000000; as the range is held without it.")] = None,
        file: Annotated[
            Path | None,
            typer.Option(
                "--file",
                metavar="CSV",
                help="Items as rows: serial (with --use), or code; status if wanted; other columns are attributes.",
            ),
        ] = None,
        listed: Annotated[str | None, typer.Option("--list", metavar="1,2,5-9", help="Items by serial.")] = None,
        prefix: Annotated[
            str | None,
            typer.Option("--prefix", metavar="CODE/DIGITS", help="A category, with leading digits of the serial."),
        ] = None,
        numbers: Annotated[
            str | None, typer.Option("--range", metavar="FIRST-LAST", help="With --prefix: the numbers behind it.")
        ] = None,
        width: Annotated[
            int | None, typer.Option(min=1, max=9, help="With --prefix: digits of a number, zeros before it.")
        ] = None,
        use: Annotated[str | None, typer.Option(metavar="USE", help="With --file or --list: two digits.")] = None,
        model: Annotated[str, typer.Option(metavar="MODEL", help="With --use; 0 for none.")] = "0",
        status: Annotated[str, typer.Option(help="Of listed items: active or allocated.")] = "active",
        previous: Annotated[
            Path | None,
            typer.Option("--previous", metavar="FILE", help="The table of the version before; its items stay."),
        ] = None,
        takes_up: Annotated[
            bool,
            typer.Option("--take-up/--no-take-up", help="Items with records of their own, which a table must hold."),
        ] = True,
        disclosures: Annotated[
            Path | None,
            typer.Option(
                "--disclosures", metavar="FILE", help="Gets what opens the commitments of --file; beside FILE."
            ),
        ] = None,
    ) -> "Building":
        """What a command line says."""
        return Building(
            city, org, class_code, base, size, file, listed, prefix, numbers, width, use, model, status, previous,
            takes_up, disclosures,
        )  # fmt: skip

    def source(self, out: Path) -> "Source | None":
        """Where the items come from; None for a version that only takes up what was changed."""
        from cityid.client import sealing

        forms = [self.file, self.listed, self.prefix]
        if sum(form is not None for form in forms) > 1:
            raise InputError(
                "--file, --list and --prefix exclude each other. Next: choose one, or seal again with more."
            )
        if (self.prefix is None) != (self.numbers is None):
            raise InputError("--prefix and --range belong together.")
        if self.prefix is not None and self.numbers is not None:
            found = sealing.parse_prefix(self.prefix, self.numbers, self.width)
            self.city, self.org, self.class_code = found.category.city, found.category.org, found.category.cls
            return sealing.Numbered(found.category, found.first_serial, found.last_serial, self.status)
        if self.listed is not None:
            if self.use is None:
                raise InputError("--list needs --use, and --model if the category has one.")
            return sealing.Listed(self.use, self.model, sealing.parse_list(self.listed), self.status)
        if self.file is not None:
            disclosures = self.disclosures or out.with_name(out.name + ".disclosures.csv")
            return sealing.Rows(self.file, None if self.use is None else (self.use, self.model), disclosures)
        if self.previous is None:
            raise InputError("No items are named. Next: say --file, --list, or --prefix with --range.")
        return None


@group.command(
    epilog=example(
        f"cityid seal build lamps.table {NUMBERS}",
        f"cityid seal build lamps.table {WHERE} --base 0 --file lamps.csv --use 60 --model 1",
        f"cityid seal build next.table {WHERE} --previous lamps.table --list 7,9-12 --use 60 --model 1",
    )
)
@with_options
def build(out: TableFile, building: Building, asking: Asking) -> None:
    """Make the table file of a range; nothing is sent. The gateway tells what the range holds already."""
    with asking.client() as client:
        built = _build(out, building, asking, client)
    asking.show(_table_json(built.table, out) | {"taken_up": built.taken_up}, _table_text(built.table, out))


@group.command(epilog=example("cityid seal submit lamps.table --key office.pem"))
@with_options
def submit(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `cityid seal build` made.")], acting: Acting
) -> None:
    """Seal a range with a table: upload it, have cities check and keep it, send the seal; signed by the holder."""
    table = Table.open(file)
    with acting.open() as session:
        _submit(session, table, file)


@group.command("range", epilog=example(f"cityid seal range lamps.table {NUMBERS} --key office.pem"))
@with_options
def seal_range(out: TableFile, building: Building, acting: Acting) -> None:
    """Build a table and seal its range with it, in one go. What `build` and `submit` say holds here."""
    with acting.open() as session:
        built = _build(out, building, acting.asking, session.client)
        say(_table_text(built.table, out))
        _submit(session, built.table, out)


def _build(out: Path, building: Building, asking: Asking, client: "SyncClient") -> "Built":
    from cityid.client import sealing

    believed = asking.trust()
    source = building.source(out)
    before = None if building.previous is None else Table.open(building.previous)
    sealed, record = _held(client, building, source, before)
    has_table = record.get("table")
    if (has_table or {}).get("digest") != (before and before.digest.hex()):
        raise InputError(_other_version(sealed, has_table, before))
    if building.file is not None:
        _check_rows(client, building, believed)
    records: list[bytes] = []
    if building.takes_up and (has_table is not None or record.get("used")):
        codes = client.items_of(sealed.city, sealed.class_code, sealed.base, sealed.size)
        with progress(choose("核对单项记录", "reading single records")) as advance:
            found = []
            for done, code in enumerate(codes, start=1):
                found.append(client.resolve(code))
                advance(done, len(codes))
        records = sealing.take_up(found, before)
    if source is None and not records:
        raise InputError(f"Nothing was changed since the table of {sealed} was made. Next: name items to add.")
    height = int(client.status()["height"])
    with progress(out.name) as advance:
        return sealing.build(
            out,
            source,
            sealed,
            genesis_hash=believed.genesis_hash,
            org=building.org,
            height=height,
            previous=building.previous,
            records=records,
            progress=advance,
        )


def _held(
    client: "SyncClient", building: Building, source: "Source | None", before: Table | None
) -> "tuple[Range, dict[str, Any]]":
    """The range that the items lie in, as the gateway says that it is held."""
    if before is not None:
        building.city, building.class_code = building.city or before.city, building.class_code or before.cls
        building.base = before.base if building.base is None else building.base
        building.size = building.size or before.size
    if building.city is None or building.class_code is None:
        raise InputError("Whose range is it? Next: say --city, --class, and --org where an organisation holds it.")
    serial = building.base if building.base is not None else source.first if source is not None else None
    if serial is None:
        raise InputError("Which range is it? Next: say --base with its first serial.")
    holder = f"MA.156.{building.city}" + (f".{building.org}" if building.org else "")
    found = client.ranges_of(building.city, building.class_code, serial)
    for record in found:
        where = record["range"]
        if record.get("holder") == holder and building.size in (None, where["size"]):
            return range_of(building.city, building.class_code, where["base"], where["size"]), record
    held_by = ", ".join(sorted({str(record["holder"]) for record in found if "holder" in record})) or "nobody"
    raise InputError(
        f"{holder} holds no such range at serial {serial:09d} ({held_by} does). Next: look with cityid range show."
    )


def _submit(session: Session, table: Table, file: Path) -> None:
    from cityid.cli.ranges import range_record
    from cityid.client.operations import Range, seal_range

    sealed = Range(table.city, table.cls, table.base, table.size)
    version = int(range_record(session, sealed)["version"])
    steps = 3
    with progress(choose("封存", "sealing")) as advance:
        advance(0, steps)
        digest = session.client.upload(file)
        advance(1, steps)
        receipts = session.client.storage_receipts(digest, version)
        advance(2, steps)
        operation = seal_range(
            sealed, expected_version=version, root=table.root, digest=digest, count=table.count, receipts=receipts
        )
        more = _table_json(table, file) | {"kept_by": [receipt["city"] for receipt in receipts]}
        session.transact(operation, str(sealed), more)
        advance(steps, steps)


def _check_rows(client: "SyncClient", building: Building, believed: Trust) -> None:
    """Refuses a file of which rows break the schema of their category; without a schema nothing is read."""
    assert building.file is not None
    holder = f"MA.156.{building.city}" + (f".{building.org}" if building.org else "")
    schemas: dict[tuple[str, str], Schema | None] = {}

    def schema_of(use: str, model: str) -> "Schema | None":
        if (use, model) not in schemas:
            schemas[use, model] = client.schema(f"{holder}/{use}.{building.class_code}.{model}")
        return schemas[use, model]

    if building.use is not None and schema_of(building.use, building.model) is None:
        return
    faults: list[str] = []
    count = 0
    for line, row, category in _rows(building):
        schema = schema_of(*category)
        fault = None if schema is None else schema.fault(row)
        if fault is not None:
            count += 1
            if count <= SHOWN_FAULTS:
                faults.append(f"line {line}, {fault[0] or 'row'}: {fault[1]}")
    if count:
        raise InputError(
            f"{count} rows of {building.file} break the schema of their category: {'; '.join(faults)}. "
            "Next: correct them; cityid schema show prints the schema."
        )


def _rows(building: Building) -> Iterator[tuple[int, dict[str, str], tuple[str, str]]]:
    """(line, attributes, category) of each row that says its category; what is wrong otherwise the writer says."""
    assert building.file is not None
    with building.file.open(encoding="utf-8-sig", newline="", errors="replace") as file:
        reader = csv.DictReader(file)
        for row in reader:
            said = {name: value for name, value in row.items() if name and value}
            match said.get("code", "").split("/"):
                case [_, text, _] if text.count(".") == 2:
                    use, _, model = text.split(".")
                case _:
                    use, model = said.get("use", building.use or ""), said.get("model", building.model)
            yield reader.line_num, {name: value for name, value in said.items() if name not in SPECIAL}, (use, model)


def _other_version(sealed: "Range", has_table: dict[str, Any] | None, before: Table | None) -> str:
    if has_table is None:
        return f"{sealed} was never sealed, so there is no version before. Next: leave --previous out."
    if before is None:
        return (
            f"{sealed} is sealed; a new version goes on from the table {has_table['digest']}. "
            "Next: say --previous FILE; every gateway that keeps it hands it out at /v1/blobs/DIGEST."
        )
    return (
        f"The table before has the digest {before.digest.hex()}, and {sealed} is sealed with {has_table['digest']}. "
        "Next: get that file, and say --previous with it."
    )


def _table_json(table: Table, path: Path) -> dict[str, Any]:
    return {
        "table": str(path),
        "digest": table.digest.hex(),
        "root": table.root.hex(),
        "table_version": table.version,
        "count": table.count,
        "range": {"city": table.city, "class": table.cls, "base": table.base, "size": table.size},
        "size_bytes": table.size_bytes,
    }


def _table_text(table: Table, path: Path) -> str:
    return choose(
        f"{path}：第 {table.version} 版，{table.count} 项，{table.size_bytes} 字节，摘要 {table.digest.hex()}",
        f"{path}: version {table.version}, {table.count} items, {table.size_bytes} bytes, digest {table.digest.hex()}",
    )
