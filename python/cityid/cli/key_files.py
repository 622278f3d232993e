"""`cityid keys`: key files and what they prove. A private key is never printed."""

from pathlib import Path
from typing import Annotated

import typer

from cityid._native import possession_message
from cityid.cli.common import Json, PassphraseFile, TrustFile, load_trust, open_signer, passphrase
from cityid.cli.output import show

__all__ = ["add_commands"]

group = typer.Typer(no_args_is_help=True, help="Make key files, show their public keys, prove possession.")
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
    purpose: Annotated[str, typer.Option(help="What the key is for.")] = "transaction",
    trust: TrustFile = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Prove that the key of FILE is held, for one subject of one network (P16); hand the output to the registrar."""
    believed = load_trust(trust)
    signer = open_signer(path, passphrase_file)
    proof = signer.sign(possession_message(believed.genesis_hash, subject, purpose, signer.public_key))
    value = {"subject": subject, "purpose": purpose, "key": signer.public_key.hex(), "possession": proof.hex()}
    show(value, f"{signer.public_key.hex()}:{proof.hex()}", as_json=as_json)
