"""A transaction that several people sign in turn: built once, carried as a file, sent when nobody is missing.

    {"cityid": "transaction", "body": hex, "signatures": {public key: signature}}

The body is what everybody signs (P14, P15), and all that counts: whoever is about to sign is shown what the body says,
not what somebody wrote beside it. The file holds nothing secret.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, Self

from cityid._native import build_transaction, finish_transaction, transaction_json, verify_signature
from cityid.client.operations import Operation, to_json
from cityid.errors import InputError, MalformedInput
from cityid.keys import Signer

__all__ = ["FILE_BYTES", "Prepared"]

FILE_BYTES: Final = 4 * 1024 * 1024  # above two hexadecimal digits for each byte of the largest transaction (P6)
SLACK_HEIGHTS: Final = 10  # between the height that a gateway tells and that of the block that checks the window
NO_SIGNATURE: Final = bytes(64)


class Chain(Protocol):
    """What building needs of a client."""

    @property
    def genesis_hash(self) -> bytes:
        """Which network."""

    def height_and_window(self) -> tuple[int, int]:
        """The height of a gateway, and for how many heights a transaction may stay valid."""


@dataclass(slots=True)
class Prepared:
    """See the head of the file. `signatures` by public key."""

    body: bytes
    signatures: dict[bytes, bytes] = field(default_factory=dict)

    @classmethod
    def build(cls, operations: Sequence[Operation], keys: Sequence[bytes], chain: Chain) -> Self:
        """Valid for as long as the network allows, because people sign slowly. `keys` are all that will sign."""
        height, window = chain.height_and_window()
        valid_until = height + max(1, window - SLACK_HEIGHTS)
        body, _, _ = build_transaction(
            chain.genesis_hash, valid_until, os.urandom(16), sorted(set(keys)), to_json(operations)
        )
        return cls(body)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads a file; every signature in it is checked.

        Raises:
            MalformedInput: it is none, or it holds a signature that is not of a signer and this body.
        """
        try:
            found = json.loads(text)
            if found["cityid"] != "transaction":
                raise ValueError("it does not say that it is one")
            prepared = cls(bytes.fromhex(found["body"]))
            given = {bytes.fromhex(key): bytes.fromhex(one) for key, one in found["signatures"].items()}
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise MalformedInput(
                f"This is no transaction that waits for signatures ({error!r}). "
                "Next: take the file that --prepare or cityid transaction build wrote."
            ) from None
        message, signers = prepared.message(), prepared.signers()
        for key, signature in given.items():
            if key not in signers or not verify_signature(key, message, signature):
                raise MalformedInput(
                    f"The signature of {key.hex()} is not one of this transaction. Next: have it signed again."
                )
        prepared.signatures = given
        return prepared

    def to_json(self) -> dict[str, Any]:
        """The content of the file."""
        return {
            "cityid": "transaction",
            "body": self.body.hex(),
            "signatures": {key.hex(): self.signatures[key].hex() for key in sorted(self.signatures)},
        }

    def shown(self) -> dict[str, Any]:
        """What the body says: id, genesis, valid_until, signers, operations."""
        # A transaction has at most 16 signers; their number stands nowhere but in the body, so it is tried.
        for signers in range(1, 17):
            try:
                found: dict[str, Any] = json.loads(
                    transaction_json(finish_transaction(self.body, [NO_SIGNATURE] * signers))
                )
            except MalformedInput:
                continue
            return found
        # One signature suffices to have the fault named.
        finish_transaction(self.body, [NO_SIGNATURE])
        raise MalformedInput("The body of the transaction does not parse. Next: build it again.")

    def signers(self) -> list[bytes]:
        """Who signs, ascending."""
        return [bytes.fromhex(key) for key in self.shown()["signers"]]

    def missing(self) -> list[bytes]:
        """Who has not signed yet."""
        return [key for key in self.signers() if key not in self.signatures]

    def message(self) -> bytes:
        """What everybody signs (P15)."""
        found = self.shown()
        body, _, message = build_transaction(
            bytes.fromhex(found["genesis"]),
            int(found["valid_until"]),
            bytes.fromhex(found["nonce"]),
            [bytes.fromhex(key) for key in found["signers"]],
            json.dumps(found["operations"], ensure_ascii=False),
        )
        if body != self.body:
            raise MalformedInput("The body of the transaction is not in its one form. Next: build it again.")
        return message

    def sign(self, signer: Signer) -> None:
        """Adds a signature. Raises InputError when the key is not one of the signers."""
        if signer.public_key not in self.signers():
            raise InputError(
                f"The key {signer.public_key.hex()} is no signer of this transaction. "
                "Next: sign with another key, or build it again with --signer."
            )
        self.signatures[signer.public_key] = signer.sign(self.message())

    def finish(self) -> tuple[bytes, bytes]:
        """(id, transaction). Raises InputError while somebody is missing."""
        if missing := self.missing():
            raise InputError(
                f"{len(missing)} signatures are missing: {', '.join(key.hex() for key in missing)}. "
                "Next: cityid transaction sign, by each of them."
            )
        return bytes.fromhex(self.shown()["id"]), finish_transaction(
            self.body, [self.signatures[key] for key in self.signers()]
        )

    def write_new(self, path: Path) -> None:
        """Writes the file; one that exists is never overwritten."""
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(json.dumps(self.to_json(), indent=1) + "\n")
        except FileExistsError:
            raise InputError(f"{path} exists. Next: choose another name, or move it away.") from None

    def replace(self, path: Path) -> None:
        """Writes the file anew, whole or not at all."""
        temporary = path.with_name(path.name + ".new")
        temporary.write_text(json.dumps(self.to_json(), indent=1) + "\n", encoding="utf-8")
        temporary.replace(path)
