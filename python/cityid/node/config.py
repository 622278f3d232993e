"""A node's settings: one TOML file, read once at the start.

Rules. Every setting has a default except who the node is and where the others are; units end names. Every number has
a range, because a limit of zero or a timeout of a year is a mistake and not a wish. A file with mistakes is refused
with all of them at once, each by its full name, and an unknown name is told what it may have meant: a misspelt limit
must not silently leave the default in force. Relative paths are relative to the file. No secret stands in the file; a
passphrase lies in a file of its own.

The addresses are checked for form only; nothing here opens a socket or looks at the genesis.
"""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Literal

from cityid.errors import InputError
from cityid.keys import read_private_file
from cityid.node.telemetry import LEVELS, Level

__all__ = ["Address", "Config", "Keep", "Keeping", "Limits", "Timeouts", "load", "parse", "parse_address"]

MAX_FILE_BYTES: Final = 262_144
MAX_CITIES: Final = 100


Keep = Literal["all", "own"]
"""Which tables of sealed ranges a node keeps: all of them, or those that its city signed a storage receipt for."""
KEEPS: Final[tuple[Keep, ...]] = ("all", "own")


def _number(default: int, minimum: int, maximum: int) -> Any:
    """A setting that is a whole number within a range."""
    return field(default=default, metadata={"minimum": minimum, "maximum": maximum})


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a port. Port 0, to listen on, means any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of queues and inputs; what happens at one is said where it is enforced, and a refusal names it."""

    # One peer's outgoing queues (node/frames.py).
    peer_urgent_frames: int = _number(10_000, 100, 1_000_000)
    peer_urgent_bytes: int = _number(16_777_216, 1_048_576, 1_073_741_824)
    peer_bulk_frames: int = _number(4_096, 16, 1_000_000)
    peer_bulk_bytes: int = _number(67_108_864, 16_777_216, 4_294_967_296)
    peer_handshakes: int = _number(16, 1, 1_000)
    inbox_batches: int = _number(32, 1, 100_000)
    # The HTTP interface (node/control).
    http_body_bytes: int = _number(4_194_304, 65_536, 67_108_864)
    http_requests: int = _number(256, 1, 100_000)
    http_events: int = _number(64, 0, 10_000)
    http_resolve_codes: int = _number(1_000, 1, 1_000)
    # The pool of batches without a block (node/pool.py, node/batches.py).
    pool_city_bytes: int = _number(33_554_432, 2_097_152, 268_435_456)
    seal_transactions: int = _number(500, 1, 4_096)
    # Files by their digest, and tables of sealed ranges (node/blobs.py, node/exchange).
    blob_bytes: int = _number(4_294_967_296, 67_108_864, 1_125_899_906_842_624)
    blob_uploads: int = _number(4, 1, 100)
    table_transfers: int = _number(2, 1, 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long a node waits, in milliseconds."""

    # Between nodes (node/peers.py).
    handshake_ms: int = _number(5_000, 100, 60_000)
    idle_ms: int = _number(15_000, 1_000, 600_000)
    send_ms: int = _number(15_000, 1_000, 600_000)
    reconnect_first_ms: int = _number(100, 10, 10_000)
    reconnect_last_ms: int = _number(1_000, 100, 600_000)
    # The HTTP interface (node/control).
    http_body_ms: int = _number(10_000, 100, 600_000)
    http_send_ms: int = _number(20_000, 100, 600_000)
    http_wait_ms: int = _number(30_000, 100, 600_000)
    http_keep_alive_ms: int = _number(60_000, 1_000, 600_000)
    http_event_ms: int = _number(15_000, 1_000, 600_000)
    # Consensus (node/driver.py).
    propose_ms: int = _number(500, 10, 60_000)
    step_ms: int = _number(300, 10, 60_000)
    precommit_ms: int = _number(100, 1, 60_000)
    delta_ms: int = _number(200, 0, 60_000)
    block_ms: int = _number(25, 0, 60_000)
    seal_ms: int = _number(5, 0, 1_000)
    # Files and storage receipts (node/exchange).
    part_ms: int = _number(10_000, 100, 600_000)
    receipt_ms: int = _number(60_000, 1_000, 3_600_000)
    # The whole node.
    stop_ms: int = _number(5_000, 100, 600_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """What a node keeps of decided heights, and when it takes a snapshot of another city (node/snapshots.py)."""

    snapshot_heights: int = _number(10_000, 0, 1_000_000_000)
    """Heights between two snapshots that this node makes; 0: none."""
    keep_heights: int = _number(1_000_000, 64, 1_000_000_000)
    """Blocks that are kept whole below the newest snapshot, unless `archive`."""
    snapshot_lag_heights: int = _number(10_000, 64, 1_000_000_000)
    """So many heights behind, a snapshot is taken instead of blocks, unless `archive`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A node's settings. Paths are absolute once `load` has read them."""

    city: str
    genesis: Path
    certificates: Path
    keys: Path
    data: Path
    listen_peers: Address
    listen_http: Address
    peers: Mapping[str, Address]
    passphrase_file: Path | None = None
    joins: bool = False
    log_file: Path | None = None
    log_level: Level = "info"
    tables_keep: Keep = "all"
    archive: bool = False
    keeping: Keeping = Keeping()
    limits: Limits = Limits()
    timeouts: Timeouts = Timeouts()

    def passphrase(self) -> bytes | None:
        """The key files' passphrase, or None when they are not encrypted. Raises `InputError` as `keys.load` does."""
        if self.passphrase_file is None:
            return None
        return read_private_file(self.passphrase_file).removesuffix(b"\n").removesuffix(b"\r")


def load(path: Path) -> Config:
    """Reads a node's TOML file. Raises `InputError` that names every mistake."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; `cityid init --network` writes one") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; check its owner and mode") from error
    if len(data) > MAX_FILE_BYTES:
        raise InputError(f"{path} is larger than {MAX_FILE_BYTES} bytes, so it is no node.toml; check the path")
    try:
        document = tomllib.loads(data.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not TOML: {error}; correct that line") from None
    try:
        return parse(document, path.absolute().parent)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def parse_address(text: str) -> Address:
    """`host:port`, with an IPv6 host in square brackets (RFC 3986 section 3.2.2)."""
    host, separator, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise InputError(f"{text!r} is ambiguous; write an IPv6 host in brackets, for example [::1]:27100")
    # Latin digits only: int() would also take those of other scripts.
    if not (separator and host and port.isascii() and port.isdigit() and len(port) <= 5 and int(port) < 65_536):
        raise InputError(f"{text!r} is no address; write host:port, for example 127.0.0.1:27100")
    if any(character.isspace() or not character.isprintable() for character in host):
        raise InputError(f"{text!r} is no address: its host has spaces or control characters")
    return Address(host, int(port))


def parse(document: Mapping[str, Any], directory: Path) -> Config:
    """Makes a `Config` of a parsed TOML document; `directory` is what relative paths are relative to."""
    reader = _Reader(document, directory)
    config: dict[str, Any] = {
        "city": reader.city(),
        **{name: reader.path(name, f"{name}.json" if name == "genesis" else name) for name in _PATHS},
        "passphrase_file": reader.optional_path(reader.document, "passphrase_file"),
        "joins": reader.flag("joins", document),
        "peers": reader.peers(),
    }
    listen = reader.table("listen", ("peers", "http"))
    config["listen_peers"] = reader.address("listen.peers", listen.get("peers"))
    config["listen_http"] = reader.address("listen.http", listen.get("http"))
    log = reader.table("log", ("file", "level"))
    config["log_file"] = reader.optional_path(log, "file", "log.file")
    config["log_level"] = reader.level("log.level", log.get("level", "info"))
    config["tables_keep"] = reader.keep("tables.keep", reader.table("tables", ("keep",)).get("keep", "all"))
    config["archive"] = reader.flag("store.archive", reader.table("store", None))
    config["keeping"] = Keeping(**reader.numbers("store", Keeping, also=("archive",)))
    config["limits"] = Limits(**reader.numbers("limits", Limits))
    timeouts = Timeouts(**reader.numbers("timeouts", Timeouts))
    config["timeouts"] = timeouts
    if timeouts.reconnect_first_ms > timeouts.reconnect_last_ms:
        reader.mistake("timeouts.reconnect_first_ms is above timeouts.reconnect_last_ms; the first wait is the shorter")
    reader.unknown("", document, _TOP)
    if config["city"] in config["peers"]:
        reader.mistake(f"peers.{config['city']} is this node itself; list the other cities only")
    if reader.mistakes:
        raise InputError("; ".join(reader.mistakes))
    return Config(**config)


_PATHS: Final = ("genesis", "certificates", "keys", "data")
_TOP: Final = (
    "city", *_PATHS, "passphrase_file", "joins", "listen", "peers", "log", "tables", "store", "limits", "timeouts",
)  # fmt: skip


class _Reader:
    """Takes settings out of a document and gathers mistakes instead of stopping at the first."""

    def __init__(self, document: Mapping[str, Any], directory: Path) -> None:
        self.document = document
        self.directory = directory
        self.mistakes: list[str] = []

    def mistake(self, text: str) -> None:
        self.mistakes.append(text)

    def unknown(self, prefix: str, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
        for name in table:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {prefix}{near[0]}?" if near else f"known here: {', '.join(known)}"
                self.mistake(f"{prefix}{name} is no setting; {hint}")

    def table(self, name: str, known: tuple[str, ...] | None) -> Mapping[str, Any]:
        value = self.document.get(name, {})
        if not isinstance(value, dict):
            self.mistake(f"{name} is a table; write [{name}] on a line of its own")
            return {}
        if known is not None:
            self.unknown(f"{name}.", value, known)
        return value

    def text(self, name: str, value: object) -> str:
        if isinstance(value, str) and value and "\0" not in value:
            return value
        self.mistake(f"{name} is missing" if value is None else f"{name} is text in quotes and not empty")
        return ""

    def city(self) -> str:
        return self.city_code("city", self.text("city", self.document.get("city")))

    def city_code(self, name: str, code: str) -> str:
        if code and not (len(code) == 6 and code.isascii() and code.isdigit()):
            self.mistake(f"{name}: {code!r} is no city code; it is six digits (GB/T 2260), for example 130100")
        return code

    def path(self, name: str, default: str) -> Path:
        return self.directory / Path(self.text(name, self.document.get(name, default))).expanduser()

    def optional_path(self, table: Mapping[str, Any], name: str, full_name: str | None = None) -> Path | None:
        if name not in table:
            return None
        return self.directory / Path(self.text(full_name or name, table[name])).expanduser()

    def flag(self, name: str, table: Mapping[str, Any]) -> bool:
        value = table.get(name.rpartition(".")[2], False)
        if not isinstance(value, bool):
            self.mistake(f"{name} is true or false, without quotes")
            return False
        return value

    def address(self, name: str, value: object) -> Address:
        text = self.text(name, value)
        try:
            return parse_address(text) if text else Address("", 0)
        except InputError as error:
            self.mistake(f"{name}: {error}")
            return Address("", 0)

    def peers(self) -> dict[str, Address]:
        table = self.table("peers", None)
        if len(table) > MAX_CITIES:
            self.mistake(f"peers lists {len(table)} cities; a committee has at most {MAX_CITIES}")
            return {}
        addresses = {}
        for code, value in table.items():
            addresses[self.city_code("peers", code)] = address = self.address(f"peers.{code}", value)
            if address.host and address.port == 0:
                self.mistake(f"peers.{code} has port 0; give the port that this city listens on")
        return addresses

    def level(self, name: str, value: object) -> Level:
        for level in LEVELS:
            if value == level:
                return level
        self.mistake(f"{name} is one of {', '.join(LEVELS)}")
        return "info"

    def keep(self, name: str, value: object) -> Keep:
        for keep in KEEPS:
            if value == keep:
                return keep
        self.mistake(f"{name} is one of {', '.join(KEEPS)}")
        return "all"

    def numbers(
        self, name: str, kind: type[Limits] | type[Timeouts] | type[Keeping], *, also: tuple[str, ...] = ()
    ) -> dict[str, int]:
        settings = {setting.name: setting.metadata for setting in fields(kind)}
        table = self.table(name, (*settings, *also))
        numbers = {}
        for key, value in table.items():
            if key not in settings:
                continue
            minimum, maximum = settings[key]["minimum"], settings[key]["maximum"]
            if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
                self.mistake(f"{name}.{key} is a whole number from {minimum} to {maximum}")
            else:
                numbers[key] = value
        return numbers
