"""`cityid import`: a whole register from CSV or GeoJSON, resumable, with its rejects named."""

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from cityid._native import Trust
from cityid.cli.acting import example
from cityid.cli.common import At, Json, KeyFile, PassphraseFile, TrustFile, async_client, load_trust, open_signer
from cityid.cli.messages import choose, language
from cityid.cli.output import progress, say, show
from cityid.cli.parts import City, Class, Model, Org, Use
from cityid.errors import InputError

if TYPE_CHECKING:
    from cityid.client import Client, Receipt
    from cityid.client.importing import Adoption, Columns, Reject, Row, Submitter, Summary, Table, Target
    from cityid.client.importing.run import Who
    from cityid.client.operations import ItemColumns, Operation, Range
    from cityid.keys import Signer

__all__ = [
    "CategoryName",
    "DatumName",
    "Delimiter",
    "Mapped",
    "SigningSubmitter",
    "add_commands",
    "check_rows",
    "describe_reject",
    "ensure_category",
    "identity_of",
    "import_table",
    "read_rows",
    "report",
    "run_import",
]

SHOWN_REJECTS: Final = 5
SHOWN_LETTERS: Final = 24

Mapped = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="COLUMN=ATTRIBUTE",
        help="Without an attribute the column is left out. Say it again for more.",
    ),
]
DatumName = Annotated[str, typer.Option("--datum", help="Of the coordinates: WGS84, CGCS2000 or GCJ02.")]
Delimiter = Annotated[str, typer.Option("--delimiter", help="Of a CSV file.")]
CategoryName = Annotated[
    str | None, typer.Option("--category-name", help="Register the category under this name when it is not there yet.")
]


def add_commands(app: typer.Typer) -> None:
    """Adds `import`."""
    line = "cityid import lamps.csv --key office.pem --city 130100 --org A7K2 --use 60 --class 010203 --model 1"
    app.command("import", epilog=example(line))(import_file)


def import_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV, or GeoJSON points; UTF-8.")],
    key: KeyFile,
    city: City,
    org: Org,
    use: Use,
    class_code: Class,
    model: Model = "0",
    mapping: Mapped = None,
    datum: DatumName = "WGS84",
    delimiter: Delimiter = ",",
    category_name: CategoryName = None,
    held: Annotated[
        list[str] | None,
        typer.Option("--range", metavar="BASE:SIZE", help="A range that is held already; its free serials go first."),
    ] = None,
    at: At = None,
    trust: TrustFile = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Register every row of FILE as an item. Running it again goes on where it stopped, and changes nothing twice.

    Beside FILE it keeps FILE.disclosures.jsonl (salts and values: yours, secret, back it up), FILE.import.jsonl (the
    journal) and FILE.rejects.csv (line, column, value, reason, cure).
    """
    import trio

    from cityid.client.importing import Target

    believed = load_trust(trust)
    signer = open_signer(key, passphrase_file)
    target = Target(city, org, use, class_code, model)
    ranges = [_range(text) for text in held or []]
    target.code(0)  # a part that breaks the grammar is said before the file is read
    table, rows = read_rows(file, mapping, datum, delimiter)

    async def run() -> "Summary":
        async with async_client(at, believed) as client:
            if category_name is not None:
                await ensure_category(client, signer, target, category_name)
            checked = await check_rows(client, target, rows)
            return await import_table(file, table, checked, target=target, client=client, signer=signer, held=ranges)

    report(file, trio.run(run), as_json=as_json)


def read_rows(
    file: Path, mapping: list[str] | None, datum: str, delimiter: str, *, blank_serials: bool = False
) -> "tuple[Table, list[Row | Reject]]":
    """Every row of a register, and how its columns were understood, which is said."""
    from cityid.client.importing import read_table

    with file.open("rb") as opened, _without_collector():
        table = read_table(
            file,
            opened,
            chosen=_mapping(mapping),
            datum=_datum(datum),
            delimiter=delimiter,
            blank_serials=blank_serials,
        )
        say(
            choose("列 → 属性：", "column → attribute: ")
            + ", ".join(f"{c} → {a}" for c, a in table.columns.attributes.items())
        )
        return table, list(table.rows)


async def check_rows(client: "Client", target: "Target", rows: "list[Row | Reject]") -> "list[Row | Reject]":
    """The same rows, those rejected that break the schema of their category, if it has one."""
    from cityid.client.importing import check_against

    found = await client.resolve(target.category())
    if found.verdict.verdict != "REGISTERED":
        return rows  # the ledger says what is missing, with its reason
    schema = await client.schema(target.category())
    if schema is None:
        return rows
    say(
        choose(
            f"按架构 {schema.digest.hex()[:16]}… 校验", f"rows are checked against schema {schema.digest.hex()[:16]}…"
        )
    )
    return check_against(schema, rows)


def report(file: Path, summary: "Summary", *, as_json: bool) -> None:
    """What an import or an adoption did: a table of rejects beside the file, and the counts on stdout."""
    from cityid.client.importing import write_rejects

    rejects = file.with_name(file.name + ".rejects.csv")
    write_rejects(rejects, summary.rejects, language=language())
    for reject in summary.rejects[:SHOWN_REJECTS]:
        say(describe_reject(reject))
    value = {
        "read": summary.read,
        "imported": summary.imported,
        "already": summary.already,
        "rejected": len(summary.rejects),
        "rejects": str(rejects) if summary.rejects else None,
        "ranges": [{"base": base, "size": size} for base, size in summary.ranges],
        "reserved": len(summary.reserved),
        "height": summary.highest,
    }
    show(value, _text(summary, rejects), as_json=as_json)


async def import_table(
    file: Path,
    table: "Table",
    rows: "Sequence[Row | Reject]",
    *,
    target: "Target",
    client: "Client",
    signer: "Signer",
    held: Sequence[tuple[int, int]] = (),
) -> "Summary":
    """The import of rows that are read already, signed by one key."""
    identity = identity_of(target, table.columns, client.trust)
    submitter = SigningSubmitter(client, signer)
    return await run_import(file, identity, table, rows, target=target, submitter=submitter, held=held)


async def run_import(
    file: Path,
    identity: Mapping[str, Any],
    table: "Table",
    rows: "Sequence[Row | Reject]",
    *,
    target: "Target",
    submitter: "Submitter",
    held: Sequence[tuple[int, int]] = (),
    adoption: "Adoption | None" = None,
) -> "Summary":
    """The import of rows that are read already, with its journal beside `file` and a progress bar."""
    from cityid.client.importing import Journal, import_rows

    with Journal.open(file, identity) as journal, progress(file.name) as advance, _without_collector():
        return await import_rows(
            rows,
            columns=table.columns,
            target=target,
            journal=journal,
            submitter=submitter,
            held=held,
            adoption=adoption,
            progress=advance,
        )


@contextmanager
def _without_collector() -> Iterator[None]:
    """A register is many small objects without cycles, which the collector would look through again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


async def ensure_category(client: "Client", signer: "Signer", target: "Target", name: str) -> None:
    """Registers the category of a target unless a verified answer says that it is there."""
    from cityid.client import operations

    found = await client.resolve(target.category())
    if found.verdict.verdict == "NOT_REGISTERED":
        operation = operations.register_category(
            target.city, target.org, use=target.use, class_code=target.class_code, model=target.model, name=name
        )
        await client.transact([operation], [signer])


class SigningSubmitter:
    """What an import needs: a client, the key of the holder, and where ranges are reserved that of the city."""

    def __init__(self, client: "Client", holder: "Signer", city: "Signer | None" = None) -> None:
        self._client = client
        self._holder = holder
        self._city = city

    async def sign(
        self, operations: "Sequence[Operation] | ItemColumns", *, by: "Who" = "holder"
    ) -> tuple[bytes, bytes, int]:
        """(id, transaction, valid_until)."""
        city = self._city or self._holder
        signers = {"holder": [self._holder], "city": [city], "both": [self._holder, city]}[by]
        return await self._client.sign(operations, signers)

    async def submit(self, transactions: Mapping[bytes, bytes]) -> "list[Receipt]":
        """Receipts, in order."""
        return await self._client.submit(transactions)

    async def look_up(self, codes: Sequence[str]) -> list[dict[str, Any]]:
        """What a gateway says about codes, unproven."""
        return await self._client.look_up(codes)

    async def holder_of(self, held: "Range") -> str | None:
        """Who holds a range, as a gateway says: its own record, else that of the million that it lies in."""
        found = await self._client.ranges_of(held.city, held.class_code, held.base)
        return next((record["holder"] for record in reversed(found) if "holder" in record), None)


def describe_reject(reject: "Reject") -> str:
    """One rejected row in one line."""
    from cityid.client.importing.rejects import cure, name

    value = reject.value if len(reject.value) <= SHOWN_LETTERS else reject.value[:SHOWN_LETTERS] + "…"
    place = f"{reject.column}={value!r}" if reject.column else repr(value)
    return choose(
        f"第 {reject.line} 行 {place}：{name(reject.reason, 'zh')}：{cure(reject.reason, 'zh')}",
        f"line {reject.line}, {place}: {name(reject.reason, 'en')}: {cure(reject.reason, 'en')}",
    )


def identity_of(target: "Target", columns: "Columns", trust: Trust) -> dict[str, Any]:
    """What must be the same when an import goes on: another mapping would commit to other things."""
    return {
        "genesis": trust.genesis_hash.hex(),
        "city": target.city,
        "org": target.org,
        "use": target.use,
        "class": target.class_code,
        "model": target.model,
        "mapping": dict(columns.attributes),
        "datum": columns.datum,
    }


def _text(summary: "Summary", rejects: Path) -> str:
    chinese = (
        f"读入 {summary.read} 行：新登记 {summary.imported}，此前已登记 {summary.already}，拒绝 {len(summary.rejects)}"
    )
    english = (
        f"{summary.read} rows: {summary.imported} registered, {summary.already} before, {len(summary.rejects)} rejected"
    )
    if summary.rejects:
        chinese, english = f"{chinese}（见 {rejects}）", f"{english} (see {rejects})"
    return choose(chinese, english)


def _mapping(texts: list[str] | None) -> dict[str, str]:
    mapping: dict[str, str] = {}
    for text in texts or []:
        column, equals, attribute = text.rpartition("=")
        if not (column and equals):
            raise InputError(f"--map takes COLUMN=ATTRIBUTE, or COLUMN= to leave one out, not {text!r}.")
        mapping[column] = attribute.strip()
    return mapping


def _datum(text: str) -> Any:
    if text not in ("WGS84", "CGCS2000", "GCJ02"):
        raise InputError(f"--datum is WGS84, CGCS2000 or GCJ02, not {text!r}.")
    return text


def _range(text: str) -> tuple[int, int]:
    base, colon, size = text.partition(":")
    if not (colon and base.isascii() and base.isdigit() and size in ("1000", "1000000")):
        raise InputError(f"--range takes BASE:1000 or BASE:1000000, not {text!r}.")
    return int(base), int(size)
