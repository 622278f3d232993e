"""`cityid org`, `range` and `item`: what cities and organisations do with codes, one operation at a time.

Each command signs one transaction, sends it, waits for the receipt and says what became of it. A refusal carries the
network's stable reason and ends with status 2.
"""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from cityid._native import Code, Trust, check_uscc, commitment, make_item_code
from cityid.cli.common import At, Json, KeyFile, PassphraseFile, TrustFile, client, load_trust, open_signer
from cityid.cli.messages import choose
from cityid.cli.output import VERDICT_EXIT
from cityid.cli.output import show as show_result
from cityid.cli.verdicts import describe, verdict_json
from cityid.errors import InputError, MalformedInput

if TYPE_CHECKING:
    from cityid.client import Receipt
    from cityid.client.operations import Operation

__all__ = ["add_commands"]

organisations = typer.Typer(no_args_is_help=True, help="Admit organisations and show them.")
ranges = typer.Typer(no_args_is_help=True, help="Ask for ranges of serials.")
items = typer.Typer(no_args_is_help=True, help="Register categories and items, change and show them.")

SALT_BYTES: Final = 16
City = Annotated[str, typer.Option("--city", metavar="CITY", help="Six digits, for example 130100.")]
Org = Annotated[str, typer.Option("--org", metavar="ORG", help="4 to 8 of A-Z 0-9.")]
Class = Annotated[str, typer.Option("--class", metavar="CLASS", help="Six digits.")]
Use = Annotated[str, typer.Option("--use", metavar="USE", help="Two digits: 10 product, 60 asset, 73 person.")]
Model = Annotated[str, typer.Option("--model", metavar="MODEL", help="1 to 8 of A-Z 0-9; 0 for none.")]
Attributes = Annotated[
    list[str] | None,
    typer.Option("--attribute", metavar="NAME=VALUE", help="Committed to with a fresh salt; say it again for more."),
]
Disclosures = Annotated[
    Path | None,
    typer.Option("--disclosures", metavar="FILE", help="Where salts and values are kept (appended, mode 0600)."),
]


def add_commands(app: typer.Typer) -> None:
    """Adds the groups `org`, `range` and `item`."""
    app.add_typer(organisations, name="org")
    app.add_typer(ranges, name="range")
    app.add_typer(items, name="item")


@organisations.command()
def admit(
    key: KeyFile,
    city: City,
    org: Org,
    name: Annotated[str, typer.Option(help="The organisation's name.")],
    quota: Annotated[int, typer.Option(min=1, help="Serials that it may hold in each class.")],
    holder: Annotated[
        list[str],
        typer.Option("--holder", metavar="KEY:POSSESSION", help="Its key, as `cityid keys possession` prints it."),
    ],
    uscc: Annotated[
        str | None, typer.Option(help="Unified social credit code; only its commitment leaves this machine.")
    ] = None,
    disclosures: Disclosures = None,
    at: At = None,
    trust: TrustFile = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Admit an organisation; signed by its city."""
    from cityid.client import operations

    believed = load_trust(trust)
    commitments: dict[str, bytes] = {}
    if uscc is not None:
        check_uscc(uscc)
        commitments = _commit(_org_code(city, org), {"uscc": uscc}, disclosures)
    entries = [_key_entry(text) for text in holder]
    operation = operations.admit_organisation(city, org, name=name, quota=quota, keys=entries, commitments=commitments)
    _transact(operation, believed, at, key, passphrase_file, _org_code(city, org), as_json=as_json)


@organisations.command("show")
def show_organisation(city: City, org: Org, at: At = None, trust: TrustFile = None, as_json: Json = False) -> None:
    """Show an organisation's record, verified."""
    _show_code(_org_code(city, org), at, trust, as_json=as_json)


@ranges.command()
def allocate(
    key: KeyFile,
    city: City,
    org: Org,
    class_code: Class,
    size: Annotated[int, typer.Option(help="1000 or 1000000.")] = 1_000,
    count: Annotated[int, typer.Option(min=1, max=200, help="How many ranges.")] = 1,
    at: At = None,
    trust: TrustFile = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Ask for the next free range of a class; signed by the organisation."""
    from cityid.client import operations

    sizes: dict[int, Literal[1_000, 1_000_000]] = {1_000: 1_000, 1_000_000: 1_000_000}
    if size not in sizes:
        raise InputError(f"--size is 1000 or 1000000, not {size}.")
    operation = operations.allocate_range(city, org, class_code=class_code, size=sizes[size])
    _transact([operation] * count, load_trust(trust), at, key, passphrase_file, _org_code(city, org), as_json=as_json)


@items.command()
def category(
    key: KeyFile,
    city: City,
    org: Org,
    use: Use,
    class_code: Class,
    name: Annotated[str, typer.Option(help="What such items are called.")],
    model: Model = "0",
    at: At = None,
    trust: TrustFile = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Register a category, which its items need; signed by the organisation."""
    from cityid.client import operations

    operation = operations.register_category(city, org, use=use, class_code=class_code, model=model, name=name)
    subject = f"{_org_code(city, org)}/{use}.{class_code}.{model}"
    _transact(operation, load_trust(trust), at, key, passphrase_file, subject, as_json=as_json)


@items.command()
def register(
    key: KeyFile,
    city: City,
    org: Org,
    use: Use,
    class_code: Class,
    serial: Annotated[int, typer.Option(min=0, max=999_999_999)],
    model: Model = "0",
    attribute: Attributes = None,
    disclosures: Disclosures = None,
    at: At = None,
    trust: TrustFile = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Register one item in a range that the organisation holds; many at once: cityid import."""
    from cityid.client import operations

    code = make_item_code(city, org, use, class_code, model, serial)
    item = operations.Item(serial, _commit(code, _named(attribute), disclosures))
    operation = operations.register_items(city, org, use=use, class_code=class_code, model=model, items=[item])
    _transact(operation, load_trust(trust), at, key, passphrase_file, code, as_json=as_json)


@items.command()
def update(
    code: Annotated[str, typer.Argument(metavar="CODE")],
    key: KeyFile,
    expected_version: Annotated[
        int, typer.Option(min=1, help="The version that this replaces: see `cityid item show`.")
    ],
    attribute: Attributes = None,
    disclosures: Disclosures = None,
    at: At = None,
    trust: TrustFile = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Give an item its next version; attributes that are not named are dropped from it."""
    from cityid.client import operations

    parsed = _item_code(code)
    commitments = _commit(parsed.text, _named(attribute), disclosures)
    change = operations.ItemUpdate(parsed.serial or 0, expected_version, commitments)
    operation = operations.update_items(parsed.city or "", class_code=parsed.cls or "", updates=[change])
    _transact(operation, load_trust(trust), at, key, passphrase_file, parsed.text, as_json=as_json)


@items.command()
def status(
    code: Annotated[str, typer.Argument(metavar="CODE")],
    to: Annotated[str, typer.Argument(metavar="STATUS", help="active, suspended or retired; retired is for ever.")],
    key: KeyFile,
    expected_version: Annotated[
        int, typer.Option(min=1, help="The version that this replaces: see `cityid item show`.")
    ],
    at: At = None,
    trust: TrustFile = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Suspend, reactivate or retire an item; signed by its holder or its city."""
    from cityid.client import operations

    words: dict[str, operations.Status] = {"active": "active", "suspended": "suspended", "retired": "retired"}
    if to not in words:
        raise InputError(f"{to!r} is no status to move to: active, suspended or retired.")
    parsed = _item_code(code)
    operation = operations.set_item_status(parsed.text, expected_version=expected_version, status=words[to])
    _transact(operation, load_trust(trust), at, key, passphrase_file, parsed.text, as_json=as_json)


@items.command("show")
def show_item(
    code: Annotated[str, typer.Argument(metavar="CODE")], at: At = None, trust: TrustFile = None, as_json: Json = False
) -> None:
    """Show an item's record, verified."""
    _show_code(_item_code(code).text, at, trust, as_json=as_json)


def _transact(
    operation: "Operation | list[Operation]",
    believed: Trust,
    at: list[str] | None,
    key: Path,
    passphrase_file: Path | None,
    subject: str,
    *,
    as_json: bool,
) -> None:
    signer = open_signer(key, passphrase_file)
    with client(at, believed) as sending:
        receipt = sending.transact(operation if isinstance(operation, list) else [operation], [signer])
    show_result(_receipt_json(receipt, subject), _receipt_text(receipt, subject), as_json=as_json)


def _receipt_json(receipt: "Receipt", subject: str) -> dict[str, Any]:
    return {
        "subject": subject,
        "id": receipt.id.hex(),
        "state": receipt.state,
        "height": receipt.height,
        "outputs": [None if output is None else {"base": output[0], "size": output[1]} for output in receipt.outputs],
    }


def _receipt_text(receipt: "Receipt", subject: str) -> str:
    lines = [choose(f"{subject}：高度 {receipt.height} 已提交", f"{subject}: committed at height {receipt.height}")]
    for output in receipt.outputs:
        if output is not None:
            base, size = output
            lines.append(choose(f"号段 {base:09d}–{base + size - 1:09d}", f"range {base:09d}-{base + size - 1:09d}"))
    return "\n".join(lines)


def _show_code(code: str, at: list[str] | None, trust: Path | None, *, as_json: bool) -> None:
    believed = load_trust(trust)
    with client(at, believed) as asking:
        found = asking.resolve(code)
    record = json.dumps(json.loads(found.verdict.record), ensure_ascii=False, indent=1) if found.verdict.record else ""
    text = "\n".join(part for part in (code, describe(found.verdict, believed), record) if part)
    show_result(verdict_json(found.verdict) | {"code": code, "gateway": found.gateway}, text, as_json=as_json)
    raise typer.Exit(VERDICT_EXIT[found.verdict.verdict])


def _commit(code: str, attributes: dict[str, str], disclosures: Path | None) -> dict[str, bytes]:
    """Commitments with fresh salts; the salts go to a file before anything is sent, or nothing could ever be shown."""
    if not attributes:
        return {}
    if disclosures is None:
        raise InputError(
            "Attributes are committed to with salts that only you have. Next: say --disclosures FILE to keep them."
        )
    salts = {name: os.urandom(SALT_BYTES) for name in attributes}
    shown = {name: {"schema": "text", "salt": salts[name].hex(), "value": value} for name, value in attributes.items()}
    with os.fdopen(os.open(disclosures, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a", encoding="utf-8") as file:
        file.write(json.dumps({"code": code, "attributes": shown}, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return {name: commitment(code, name, "text", salts[name], value) for name, value in attributes.items()}


def _named(attributes: list[str] | None) -> dict[str, str]:
    named: dict[str, str] = {}
    for text in attributes or []:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise InputError(f"--attribute takes NAME=VALUE, not {text!r}.")
        if name in named:
            raise InputError(f"The attribute {name!r} is given twice.")
        named[name] = value
    return named


def _key_entry(text: str) -> Any:
    from cityid.client.operations import KeyEntry

    try:
        key, possession = (bytes.fromhex(part) for part in text.split(":"))
    except ValueError:
        raise MalformedInput(
            "--holder takes KEY:POSSESSION in hexadecimal, as `cityid keys possession` prints it."
        ) from None
    return KeyEntry(key, possession)


def _item_code(text: str) -> Code:
    code = Code.parse(text)
    if code.kind != "item":
        raise InputError(f"{code.text} names no item but a {code.kind}. Next: give the full code with its serial.")
    return code


def _org_code(city: str, org: str) -> str:
    return Code.parse(f"MA.156.{city}.{org}").text
