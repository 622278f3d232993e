"""`cityid transaction`: one transaction that several people sign, each at their own machine.

`build` (or --prepare of any command that acts) writes a file, `sign` adds one signature after another, `submit` sends
it. Only a body that everybody saw is signed: `show` and `sign` print what it says.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from cityid.cli.acting import Acting, Asking, example, with_options
from cityid.cli.common import Json, KeyFile, PassphraseFile, TrustFile, load_trust, open_signer, read_bounded
from cityid.cli.messages import choose
from cityid.cli.output import show
from cityid.errors import InputError, MalformedInput

__all__ = ["add_commands"]

group = typer.Typer(no_args_is_help=True, help="Build a transaction, have it signed by several people, send it.")
OPERATIONS_BYTES: Final = 16 * 1024 * 1024

Prepared = Annotated[Path, typer.Argument(metavar="FILE", help="What --prepare or `cityid transaction build` wrote.")]


def add_commands(app: typer.Typer) -> None:
    """Adds the group `transaction`."""
    app.add_typer(group, name="transaction")


@group.command(
    epilog=example(
        "cityid transaction build operations.json --prepare change.json --signer PUBLICKEY --signer PUBLICKEY"
    )
)
@with_options
def build(
    operations: Annotated[
        Path, typer.Argument(metavar="FILE", help="A JSON list of operations, as docs/protocol.md spells them.")
    ],
    acting: Acting,
) -> None:
    """Make a transaction of operations in a file; with --prepare for others to sign, without it it is sent at once."""
    try:
        found = json.loads(read_bounded(operations, OPERATIONS_BYTES))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{operations} is no JSON: {error}") from None
    if not isinstance(found, list) or not found or not all(isinstance(one, dict) for one in found):
        raise InputError(f"{operations} is no list of operations. Next: see docs/protocol.md (P22 to P28, P46 to P60).")
    with acting.open() as session:
        session.transact(found, str(operations))


@group.command("show", epilog=example("cityid transaction show change.json"))
def show_transaction(file: Prepared, as_json: Json = False) -> None:
    """Show what a prepared transaction says and who has signed it. Reads the file, asks nobody."""
    from cityid.client.prepared import Prepared as Waiting

    _show(Waiting.from_json(_text(file)), as_json=as_json)


@group.command(epilog=example("cityid transaction sign change.json --key second.pem"))
def sign(
    file: Prepared,
    key: KeyFile,
    trust: TrustFile = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Add a signature to a prepared transaction, after showing what it says. Needs no gateway."""
    from cityid.client.prepared import Prepared as Waiting

    believed = load_trust(trust)
    waiting = Waiting.from_json(_text(file))
    if bytes.fromhex(waiting.shown()["genesis"]) != believed.genesis_hash:
        raise InputError(f"{file} is for another network than {believed.name}. Next: sign with its trust file.")
    waiting.sign(open_signer(key, passphrase_file))
    waiting.replace(file)
    _show(waiting, as_json=as_json)


@group.command(epilog=example("cityid transaction submit change.json"))
@with_options
def submit(file: Prepared, asking: Asking) -> None:
    """Send a transaction that everybody has signed, and wait for its receipt."""
    from cityid.cli.acting import show_receipt
    from cityid.client.prepared import Prepared as Waiting

    id, transaction = Waiting.from_json(_text(file)).finish()
    with asking.client() as client:
        [receipt] = client.submit({id: transaction})
    show_receipt(asking, receipt.require_committed(), str(file))


def _show(waiting: Any, *, as_json: bool) -> None:
    found = waiting.shown()
    signed = [key.hex() for key in waiting.signatures]
    missing = [key.hex() for key in waiting.missing()]
    lines = [
        json.dumps(found["operations"], ensure_ascii=False, indent=1),
        choose(f"至高度 {found['valid_until']} 有效", f"valid until height {found['valid_until']}"),
        choose("已签：", "signed: ") + (", ".join(signed) or choose("无", "nobody")),
        choose("待签：", "to sign: ") + (", ".join(missing) or choose("无", "nobody")),
    ]
    show(found | {"signed": sorted(signed), "missing": missing}, "\n".join(lines), as_json=as_json)


def _text(path: Path) -> str:
    from cityid.client.prepared import FILE_BYTES

    try:
        return read_bounded(path, FILE_BYTES).decode()
    except UnicodeDecodeError:
        raise MalformedInput(f"{path} is no text. Next: take the file that --prepare wrote.") from None
