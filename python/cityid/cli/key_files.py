"""`cityid keys`: key files and what they prove. A private key is never printed."""

import json
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from cityid._native import possession_message
from cityid.cli.acting import example
from cityid.cli.common import Json, PassphraseFile, TrustFile, load_trust, open_signer, passphrase, read_bounded
from cityid.cli.output import show
from cityid.errors import InputError

__all__ = ["add_commands"]

group = typer.Typer(no_args_is_help=True, help="Make key files, show their public keys, prove possession.")
ENTRY_BYTES: Final = 64 * 1024
KeyPath = Annotated[Path, typer.Argument(metavar="FILE", help="A PKCS#8 key file, mode 0600.")]


def add_commands(app: typer.Typer) -> None:
    """Adds the group `keys`."""
    app.add_typer(group, name="keys")


@group.command()
def new(path: KeyPath, passphrase_file: PassphraseFile = None, as_json: Json = False) -> None:
    """Make a new Ed25519 key in FILE; an existing file is never overwritten."""
    from cityid import keys

    signer = keys.generate(path, passphrase=passphrase(passphrase_file))
    show({"file": str(path), "public_key": signer.public_key.hex()}, signer.public_key.hex(), as_json=as_json)


@group.command("show")
def show_key(path: KeyPath, passphrase_file: PassphraseFile = None, as_json: Json = False) -> None:
    """Print the public key of a key file."""
    signer = open_signer(path, passphrase_file)
    show({"file": str(path), "public_key": signer.public_key.hex()}, signer.public_key.hex(), as_json=as_json)


@group.command()
def possession(
    path: KeyPath,
    subject: Annotated[str, typer.Option(metavar="CODE", help="Whose key it is to be, for example MA.156.130100.A7K2")],
    purpose: Annotated[
        str, typer.Option(help="What the key is for: transaction, recovery, assertion; of a city also the others.")
    ] = "transaction",
    from_height: Annotated[
        int, typer.Option("--from", min=0, metavar="HEIGHT", help="The first height at which it counts.")
    ] = 0,
    until_height: Annotated[
        int | None, typer.Option("--until", min=1, metavar="HEIGHT", help="The first at which it no longer counts.")
    ] = None,
    trust: TrustFile = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Prove that the key of FILE is held, for one subject of one network (P16); hand the output to the registrar."""
    believed = load_trust(trust)
    signer = open_signer(path, passphrase_file)
    proof = signer.sign(possession_message(believed.genesis_hash, subject, purpose, signer.public_key))
    text = f"{signer.public_key.hex()}:{proof.hex()}"
    if (purpose, from_height, until_height) != ("transaction", 0, None):
        text += f":{purpose}"
    if (from_height, until_height) != (0, None):
        text += f":{from_height}"
    if until_height is not None:
        text += f":{until_height}"
    value: dict[str, Any] = {
        "subject": subject,
        "purpose": purpose,
        "key": signer.public_key.hex(),
        "possession": proof.hex(),
    }
    value |= {"from": from_height, "until": until_height, "text": text}
    show(value, text, as_json=as_json)


@group.command(
    epilog=example("cityid keys certificate city/keys/tls.next.pem --city 130100 --out tls.next.crt"),
)
def certificate(
    path: KeyPath,
    city: Annotated[str, typer.Option("--city", metavar="CITY", help="Whose TLS key it is: six digits.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Gets the certificate, PEM; it is not secret.")],
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Make the self-signed certificate of a TLS key that is to replace another one, for `cityid gov propose`."""
    from cityid import keys

    pem = keys.tls_certificate(keys.load(path, passphrase=passphrase(passphrase_file)), city)
    try:
        with out.open("xb") as file:
            file.write(pem)
    except FileExistsError:
        raise InputError(f"{out} exists, and nothing is overwritten. Next: choose another file.") from None
    show({"certificate": str(out), "city": city}, str(out), as_json=as_json)


@group.command()
def introduction(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="What `cityid init CITY --dir DIR` made.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Gets the introduction; it holds nothing secret.")],
    peer: Annotated[
        str | None,
        typer.Option("--peer", metavar="HOST:PORT", help="Where its node listens; as in the entry without it."),
    ] = None,
    trust: TrustFile = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Introduce a new city to a running network: its public keys, each with a proof that it is held, its certificate.

    A member city proposes it: cityid gov propose admit-city CITY --introduction FILE.
    """
    from cityid import keys
    from cityid.client import operations

    believed = load_trust(trust)
    try:
        entry = json.loads(read_bounded(directory / "entry.json", ENTRY_BYTES))
        city, name, address = str(entry["city"]), str(entry["name"]), peer or str(entry["peers"])
        certificate = keys.parse_certificate(str(entry["certificate"]).encode())
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"{directory} holds no entry of a city ({error!r}). Next: cityid init CITY --dir DIR"
        ) from None
    entries = [
        operations.prove_possession(
            open_signer(keys.key_path(directory / "keys", purpose), passphrase_file),
            believed.genesis_hash,
            f"MA.156.{city}",
            purpose=purpose,
        )
        for purpose in keys.PURPOSES
    ]
    services = [("peer", f"tls://{address}")]
    change = operations.admit_city(city, name=name, keys=entries, certificate=certificate.der, services=services)
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(json.dumps(change, ensure_ascii=False, indent=1) + "\n")
    except FileExistsError:
        raise InputError(f"{out} exists. Next: choose another name, or move it away.") from None
    show({"city": city, "name": name, "introduction": str(out)}, str(out), as_json=as_json)
