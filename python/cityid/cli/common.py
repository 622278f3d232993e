"""Options that many commands share, and what they open: a trust file, a key, a client.

Nothing heavy is imported at the top: `cityid verify` must start without a network stack.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cityid._native import Trust
from cityid.errors import InputError

if TYPE_CHECKING:
    from cityid.client import Client, SyncClient
    from cityid.keys import Signer

__all__ = [
    "At",
    "Json",
    "KeyFile",
    "PassphraseFile",
    "TrustFile",
    "async_client",
    "client",
    "load_trust",
    "open_signer",
    "pinned_trust",
    "read_bounded",
]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object with stable keys.")]
At = Annotated[
    list[str] | None,
    typer.Option("--at", metavar="URL", envvar="CITYID_AT", help="A gateway; say it again for more than one."),
]
TrustFile = Annotated[
    Path | None,
    typer.Option(
        "--trust",
        metavar="FILE",
        envvar="CITYID_TRUST",
        help="A trust file or genesis file; the pinned one by default.",
    ),
]
KeyFile = Annotated[Path, typer.Option("--key", metavar="FILE", envvar="CITYID_KEY", help="The key file that signs.")]
PassphraseFile = Annotated[
    Path | None, typer.Option("--passphrase-file", metavar="FILE", help="Holds the key file's passphrase, in one line.")
]


TRUST_BYTES: Final = 1024 * 1024


def pinned_trust() -> Path:
    """Where `cityid trust pin` puts the trust file that is used when none is named."""
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return Path(base) / "cityid" / "trust.json"


def load_trust(path: Path | None) -> Trust:
    """The named trust file, or the pinned one."""
    chosen = path or pinned_trust()
    if path is None and not chosen.exists():
        raise InputError(
            "No trust file is named and none is pinned, so nothing can be verified. "
            "Next: say --trust FILE with the network's genesis file, or pin one with: cityid trust pin FILE"
        )
    try:
        return Trust.from_json(read_bounded(chosen, TRUST_BYTES).decode())
    except (InputError, UnicodeDecodeError) as error:
        raise InputError(f"{chosen} is no trust file and no genesis file: {error}") from None


def read_bounded(path: Path, limit_bytes: int) -> bytes:
    """A whole file, or InputError when it is longer than it can be."""
    with path.open("rb") as file:
        data = file.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise InputError(f"{path} is longer than {limit_bytes} bytes. Next: is it the right file?")
    return data


def open_signer(path: Path, passphrase_file: Path | None) -> "Signer":
    """The signer behind a key file."""
    from cityid import keys

    return keys.load(path, passphrase=passphrase(passphrase_file))


def passphrase(path: Path | None) -> bytes | None:
    """The passphrase in a file that only its owner can read, without its line break."""
    from cityid import keys

    return None if path is None else keys.read_private_file(path).removesuffix(b"\n").removesuffix(b"\r")


def client(at: Sequence[str] | None, trust: Trust) -> "SyncClient":
    """A synchronous client of the gateways named with --at."""
    from cityid.client import SyncClient

    return SyncClient(gateways(at), trust)


def async_client(at: Sequence[str] | None, trust: Trust) -> "Client":
    """A Trio client of the gateways named with --at."""
    from cityid.client import Client

    return Client(gateways(at), trust)


def gateways(at: Sequence[str] | None) -> list[str]:
    """The URLs named with --at, or in CITYID_AT, separated by spaces."""
    if not at:
        raise InputError(
            "No gateway is named. Next: say --at URL, or set CITYID_AT; `cityid up` prints the URLs of its nodes."
        )
    return list(at)
