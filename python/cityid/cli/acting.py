"""What commands that ask and commands that act have in common: their options, and the session behind them.

A command says what it needs by a parameter `asking: Asking` or `acting: Acting`; `with_options` puts the options in its
place, so that every command has the same ones with the same meaning.

    Asking   gateways, trust, --json
    Acting   the same, and who signs, why, and whether the transaction is sent or written to a file for other signers

Whoever acts signs one transaction, sends it, waits for the receipt and is told what became of it. A refusal carries the
network's stable reason and ends with status 2.
"""

import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from cityid._native import Trust
from cityid.cli.common import At, Json, PassphraseFile, TrustFile, client, load_trust, open_signer, read_bounded
from cityid.cli.messages import choose
from cityid.cli.output import VERDICT_EXIT, say
from cityid.cli.output import show as show_result
from cityid.cli.verdicts import describe, verdict_json
from cityid.errors import InputError

if TYPE_CHECKING:
    from cityid.client import Receipt, Resolved, SyncClient
    from cityid.client.operations import Operation
    from cityid.client.replies import Output
    from cityid.keys import Signer

__all__ = ["Acting", "Asking", "Session", "example", "hex_bytes", "show_receipt", "with_options"]

DOCUMENT_BYTES: Final = 64 * 1024 * 1024

KeyFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--key",
        metavar="FILE",
        envvar="CITYID_KEY",
        help="The key file that signs; say it again where several must sign.",
    ),
]
Reason = Annotated[
    int | None, typer.Option("--reason", min=0, metavar="NUMBER", help="A reason code, kept with the new version.")
]
Basis = Annotated[
    Path | None,
    typer.Option(
        "--basis", metavar="FILE", help="The document that decides; its SHA-256 is kept with the new version."
    ),
]
Prepare = Annotated[
    Path | None,
    typer.Option(
        "--prepare",
        metavar="FILE",
        help="Send nothing: write the transaction for others to sign (cityid transaction sign, then submit).",
    ),
]
Signers = Annotated[
    list[str] | None,
    typer.Option("--signer", metavar="PUBLICKEY", help="With --prepare: a key that will sign; say it again for more."),
]


@dataclass(slots=True)
class Asking:
    """Where to ask, what to believe, how to print."""

    at: list[str] | None
    trust_file: Path | None
    as_json: bool

    @staticmethod
    def from_options(at: At = None, trust: TrustFile = None, as_json: Json = False) -> "Asking":
        """What a command line says."""
        return Asking(at, trust, as_json)

    def trust(self) -> Trust:
        """The trust file that was named, or the pinned one."""
        return load_trust(self.trust_file)

    @contextmanager
    def client(self) -> "Iterator[SyncClient]":
        """A client of the gateways."""
        with client(self.at, self.trust()) as asking:
            yield asking

    def show(self, value: Mapping[str, Any], text: str) -> None:
        """One result on stdout."""
        show_result(value, text, as_json=self.as_json)

    def show_code(self, code: str) -> None:
        """What a code resolves to, verified, with its record; ends with the exit status of the verdict."""
        believed = self.trust()
        with client(self.at, believed) as asking:
            found = asking.resolve(code)
        verdict = found.verdict
        record = json.dumps(json.loads(verdict.record), ensure_ascii=False, indent=1) if verdict.record else ""
        text = "\n".join(part for part in (code, describe(verdict, believed), record) if part)
        self.show(verdict_json(verdict) | {"code": code, "gateway": found.gateway}, text)
        raise typer.Exit(VERDICT_EXIT[verdict.verdict])


@dataclass(slots=True)
class Acting:
    """Asking, and who signs for what reason."""

    asking: Asking
    key_files: list[Path]
    passphrase_file: Path | None
    reason: int | None
    basis: Path | None
    prepare: Path | None
    others: list[str]

    @staticmethod
    def from_options(
        key: KeyFiles = None,
        passphrase_file: PassphraseFile = None,
        reason: Reason = None,
        basis: Basis = None,
        prepare: Prepare = None,
        signer: Signers = None,
        at: At = None,
        trust: TrustFile = None,
        as_json: Json = False,
    ) -> "Acting":
        """What a command line says."""
        return Acting(Asking(at, trust, as_json), key or [], passphrase_file, reason, basis, prepare, signer or [])

    def signers(self) -> "list[Signer]":
        """The keys that sign here and now."""
        if not self.key_files and not (self.prepare and self.others):
            raise InputError("Nobody signs. Next: say --key FILE, or set CITYID_KEY.")
        if self.others and self.prepare is None:
            raise InputError("--signer names keys that sign later. Next: say --prepare FILE, too.")
        return [open_signer(path, self.passphrase_file) for path in self.key_files]

    @contextmanager
    def open(self) -> "Iterator[Session]":
        """Keys, gateways and trust, opened; whatever is wrong with them is said before anything is asked."""
        signers = self.signers()
        basis = None if self.basis is None else read_bounded(self.basis, DOCUMENT_BYTES)
        with self.asking.client() as asking:
            yield Session(self, asking, signers, basis)


@dataclass(slots=True)
class Session:
    """One command at work."""

    acting: Acting
    client: "SyncClient"
    signers: "list[Signer]"
    document: bytes | None
    notes: dict[str, Any] = field(default_factory=dict)

    def resolve(self, code: str) -> "Resolved":
        """A verified answer about a code that must be registered."""
        found = self.client.resolve(code)
        if found.verdict.verdict != "REGISTERED":
            raise InputError(
                f"{code} is not registered here (verdict {found.verdict.verdict}), so it cannot be changed. "
                "Next: look at it with cityid resolve."
            )
        return found

    def record(self, code: str) -> dict[str, Any]:
        """The present record of a registered code, verified."""
        record: dict[str, Any] = json.loads(self.resolve(code).verdict.record or "{}")
        return record

    def version(self, code: str, expected: int | None) -> int:
        """The version that is to be replaced: the one that was named, else the present one, verified."""
        return expected if expected is not None else int(self.record(code)["version"])

    def transact(
        self, operations: "Operation | Sequence[Operation]", subject: str, more: Mapping[str, Any] | None = None
    ) -> "Receipt | None":
        """Signs and sends, or writes for other signers; says what became of it. None when nothing was sent."""
        from cityid.client.operations import because, digest_of_document

        listed = [operations] if isinstance(operations, dict) else list(operations)
        basis = None if self.document is None else digest_of_document(self.document)
        reasoned = [because(operation, reason=self.acting.reason, basis=basis) for operation in listed]
        if self.acting.prepare is not None:
            self._prepare(reasoned, subject, self.acting.prepare)
            return None
        receipt = self.client.transact(reasoned, self.signers)
        show_receipt(self.acting.asking, receipt, subject, more)
        return receipt

    def _prepare(self, operations: "Sequence[Operation]", subject: str, path: Path) -> None:
        from cityid.client.prepared import Prepared

        keys = [signer.public_key for signer in self.signers] + [hex_bytes(text, 32) for text in self.acting.others]
        prepared = Prepared.build(operations, keys, self.client)
        for signer in self.signers:
            prepared.sign(signer)
        prepared.write_new(path)
        value = prepared.to_json() | {"subject": subject, "file": str(path)}
        missing = ", ".join(key.hex() for key in prepared.missing()) or choose("无", "none")
        self.acting.asking.show(value, choose(f"{path}：尚缺签名：{missing}", f"{path}: still to sign: {missing}"))
        say(choose("尚未发送", "nothing is sent yet; next: cityid transaction sign, then cityid transaction submit"))


def show_receipt(asking: Asking, receipt: "Receipt", subject: str, more: Mapping[str, Any] | None = None) -> None:
    """What became of a transaction, on stdout."""
    asking.show(_receipt_json(receipt, subject) | dict(more or {}), _receipt_text(receipt, subject))


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Puts the options of a bundle in the place of each parameter whose type is one: `Asking`, `Acting`, or any other
    class with a function `from_options` that has the options as its parameters.
    """
    signature = inspect.signature(command, eval_str=True)
    own: list[inspect.Parameter] = []
    bundles: dict[str, tuple[Callable[..., Any], dict[str, inspect.Parameter]]] = {}
    for parameter in signature.parameters.values():
        maker = getattr(parameter.annotation, "from_options", None)
        if maker is None:
            own.append(parameter)
        else:
            bundles[parameter.name] = maker, dict(inspect.signature(maker, eval_str=True).parameters)
    options = [option for _, found in bundles.values() for option in found.values()]
    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in [*own, *options]]

    @wraps(command)
    def run(**given: Any) -> None:
        made = {
            name: maker(**{option: given.pop(option) for option in found}) for name, (maker, found) in bundles.items()
        }
        command(**given, **made)

    # What typer reads instead of the wrapped function's own signature.
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def example(*lines: str) -> str:
    """The end of a command's help: lines that a newcomer can copy."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


def hex_bytes(text: str, length: int | None = None) -> bytes:
    """Hexadecimal from the command line."""
    try:
        data = bytes.fromhex(text)
    except ValueError:
        raise InputError(f"{text[:80]!r} is not hexadecimal.") from None
    if length is not None and len(data) != length:
        raise InputError(f"{text[:80]!r} has {len(data)} bytes, and {length} are needed.")
    return data


def _receipt_json(receipt: "Receipt", subject: str) -> dict[str, Any]:
    return {
        "subject": subject,
        "id": receipt.id.hex(),
        "state": receipt.state,
        "height": receipt.height,
        "outputs": [_output_json(output) for output in receipt.outputs],
    }


def _output_json(output: "Output") -> dict[str, int] | None:
    match output:
        case None:
            return None
        case int():
            return {"proposal": output}
        case base, size:
            return {"base": base, "size": size}


def _receipt_text(receipt: "Receipt", subject: str) -> str:
    lines = [choose(f"{subject}：高度 {receipt.height} 已提交", f"{subject}: committed at height {receipt.height}")]
    for output in receipt.outputs:
        if isinstance(output, int):
            lines.append(choose(f"提案 {output}", f"proposal {output}"))
        elif output is not None:
            base, size = output
            lines.append(choose(f"号段 {base:09d}–{base + size - 1:09d}", f"range {base:09d}-{base + size - 1:09d}"))
    return "\n".join(lines)
