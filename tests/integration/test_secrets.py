"""No secret leaves the file that it stands in: a network and commands run, and whatever they said is searched.

Secrets are private keys in every spelling, passphrases, and the salts and values behind commitments. Searched are logs,
standard output and error of commands that go well and of those that cannot, replies over HTTP, representations and
tracebacks. The control plants each secret, and the same search finds it.
"""

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cityid import genesis, keys
from cityid.cli.local import FIRST_CITIES, free_ports
from cityid.errors import InputError
from cityid.node import config, node
from cityid.node.tls import make_credentials

if TYPE_CHECKING:
    from tests.integration.conftest import LiveNetwork

pytestmark = pytest.mark.processes

PASSPHRASE = b"correct horse 8f1d"
VALUE = "private owner 5c2e"
LAMP = ("--city", FIRST_CITIES[0], "--org", "A7K2", "--use", "60", "--class", "900002", "--model", "1")
ROUTES = ("/v1/status", "/v1/cities", "/v1/trust", "/v1/checkpoint", "/v1/governance", "/metrics", "/openapi.json")


def spellings(path: Path, passphrase: bytes | None = None) -> Iterator[str]:
    """Every way in which a program may write the private key of a file."""
    pem = path.read_bytes()
    private = serialization.load_pem_private_key(pem, passphrase)
    assert isinstance(private, Ed25519PrivateKey)
    raw = private.private_bytes_raw()
    yield from (raw.hex(), raw.hex().upper(), base64.b64encode(raw).decode(), str(list(raw)))
    yield repr(raw)[2:-1]
    yield base64.urlsafe_b64encode(raw).decode().rstrip("=")
    yield from (line for line in pem.decode().splitlines() if "-----" not in line)


def leaks(text: str, secrets: Iterable[str]) -> list[str]:
    """The secrets that a text holds; of each only its beginning, because this goes into a report."""
    return [secret[:4] + "…" for secret in secrets if secret in text]


class Commands:
    """`cityid` as a process, and everything that it ever said."""

    def __init__(self, directory: Path, **settings: str) -> None:
        self.directory = directory
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CITYID_")}
        self.environment = kept | {"XDG_CONFIG_HOME": str(directory), "LANG": "en_US.UTF-8"} | settings
        self.said: list[str] = []

    def __call__(self, *arguments: object, status: int | None = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "cityid", *map(str, arguments)],
            cwd=self.directory, capture_output=True, text=True, timeout=60, env=self.environment,
        )  # fmt: skip
        assert status is None or done.returncode == status, f"{arguments}: {done.stdout} {done.stderr}"
        self.said += [done.stdout, done.stderr]
        return done.stdout


def test_no_secret_of_a_network_is_said_by_anybody(live_network: "LiveNetwork", tmp_path: Path) -> None:
    network, city = live_network, FIRST_CITIES[0]
    city_key = network.directory / city / "keys" / "transaction.pem"
    commands = Commands(
        tmp_path, CITYID_AT=str(network.local.urls[city]), CITYID_TRUST=str(network.directory / "genesis.json")
    )
    commands("keys", "new", "office.pem")
    proof = commands("keys", "possession", "office.pem", "--subject", f"MA.156.{city}.A7K2").strip()
    commands(
        "org", "admit", "--key", city_key, "--city", city, "--org", "A7K2", "--name", "Lamps", "--quota", 5_000,
        "--holder", proof,
    )  # fmt: skip
    commands("range", "allocate", "--key", "office.pem", *LAMP[:4], "--class", "900002")
    commands("item", "category", "register", "--key", "office.pem", *LAMP, "--name", "Lamp")
    (tmp_path / "l.csv").write_text(f"id,owner\nL1,{VALUE}\nL2,{VALUE} again\n")
    commands("import", "l.csv", "--key", "office.pem", *LAMP, "--range", "0:1000")
    disclosed = [json.loads(line) for line in (tmp_path / "l.csv.disclosures.jsonl").read_text().splitlines()]
    salts = [parts["salt"] for line in disclosed for parts in line["attributes"].values()]
    assert len(salts) == 4

    # What people do by mistake: a private file where another one belongs.
    for mistaken in (tmp_path / "office.pem", tmp_path / "l.csv.disclosures.jsonl"):
        commands("verify", mistaken, status=None)
        commands("trust", "show", mistaken, status=None)
        commands("transaction", "build", mistaken, "--key", "office.pem", status=None)
        commands("run", mistaken, status=None)
    spoiled = tmp_path / "spoiled.pem"
    shutil.copy(tmp_path / "office.pem", spoiled)
    spoiled.write_text(spoiled.read_text().replace("M", "N", 1))
    commands("keys", "show", spoiled, status=None)
    commands("item", "register", "--key", spoiled, *LAMP, "--serial", 9, status=None)
    # And a private key is sent to a node.
    pem = (tmp_path / "office.pem").read_bytes()
    http = network.clients[city]
    for path in ("/v1/transactions", "/v1/resolve"):
        assert http.post(path, content=pem, headers={"Content-Type": "application/cbor"}).status_code >= 400
    raw = serialization.load_pem_private_key(pem, None)
    assert isinstance(raw, Ed25519PrivateKey)
    assert http.get(f"/v1/codes/{raw.private_bytes_raw().hex()}").status_code == 400

    files = [*network.directory.glob("*/keys/*.pem"), tmp_path / "office.pem"]
    assert len(files) == 4 * len(keys.PURPOSES) + 1
    secrets = [spelled for path in files for spelled in spellings(path)] + salts + [VALUE]
    said = {
        "commands": "\n".join(commands.said),
        "logs": "\n".join(path.read_text() for path in network.directory.glob("*/node.log")),
        "replies": "\n".join(network.clients[one].get(path).text for one in network.cities for path in ROUTES),
    }
    assert all(len(text) > 1_000 for text in said.values()), "nothing was said, so nothing was searched"
    for where, text in said.items():
        assert leaks(text, secrets) == [], where
    for secret in secrets:  # the control
        assert leaks(said["logs"] + json.dumps({"event": "x", "key": secret}), [secret]) or "\\" in secret


@pytest.fixture
def encrypted(tmp_path: Path) -> Path:
    """A network whose key files are encrypted, ready to run; with the passphrase beside each city's node.toml."""
    directory = tmp_path / "network"
    ports = iter(free_ports(2 * len(FIRST_CITIES)))
    addresses = {city: (f"127.0.0.1:{next(ports)}", f"127.0.0.1:{next(ports)}") for city in FIRST_CITIES}
    names = genesis.member_names()
    genesis.create_network(
        directory, [(city, names[city]) for city in FIRST_CITIES], name="tests",
        time_ms=time.time_ns() // 1_000_000, addresses=addresses, passphrase=PASSPHRASE,
    )  # fmt: skip
    for city in FIRST_CITIES:
        write_private(directory / city / "passphrase", PASSPHRASE + b"\n")
        node.prepare(config.load(directory / city / "node.toml"))
    return directory


def write_private(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    path.touch(0o600)
    path.write_bytes(data)


def test_a_node_with_encrypted_keys_says_neither_passphrase_nor_key(
    encrypted: Path, run_node: Callable[..., str]
) -> None:
    city = FIRST_CITIES[0]
    place = encrypted / city
    files = list((place / "keys").glob("*.pem"))
    secrets = [spelled for path in files for spelled in spellings(path, PASSPHRASE)] + [PASSPHRASE.decode()]
    process = subprocess.Popen(
        [sys.executable, "-m", "cityid", "run", str(place / "node.toml")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    said = ""
    assert process.stderr is not None
    while '"event":"peers_listening"' not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    command = Path(f"/proc/{process.pid}/cmdline").read_bytes() + Path(f"/proc/{process.pid}/environ").read_bytes()
    process.send_signal(signal.SIGTERM)
    out, rest = process.communicate(timeout=30)
    said += out + rest + command.decode(errors="replace")
    assert leaks(said, secrets) == []
    write_private(place / "passphrase", PASSPHRASE[:-1] + b"x")
    wrong = run_node(place / "node.toml", status=2)
    assert "passphrase is wrong" in wrong
    assert leaks(wrong, [*secrets, PASSPHRASE[:-1].decode()]) == []


def test_representations_and_tracebacks_show_nothing(encrypted: Path) -> None:
    place = encrypted / FIRST_CITIES[0]
    settings = config.load(place / "node.toml")
    assert settings.passphrase() == PASSPHRASE
    path = place / "keys" / "tls.pem"
    signer = keys.load(path, passphrase=PASSPHRASE)
    certificate = keys.parse_certificate(keys.tls_certificate(signer, FIRST_CITIES[0]))
    credentials = make_credentials(certificate, key_file=path, others=[certificate], passphrase=PASSPHRASE)
    said = [repr(value) for value in (settings, settings.limits, settings.timeouts, signer, certificate, credentials)]
    said += [str(signer), f"{signer}", str(settings)]
    spoiled = encrypted / "spoiled.pem"
    write_private(spoiled, path.read_bytes().replace(b"M", b"N", 2))
    for file, passphrase in ((path, b"wrong 77"), (path, None), (spoiled, PASSPHRASE)):
        with pytest.raises(InputError) as caught:
            keys.load(file, passphrase=passphrase)
        said.append("".join(traceback.format_exception(caught.value)))
    secrets = [*spellings(path, PASSPHRASE), PASSPHRASE.decode(), "wrong 77"]
    assert leaks("\n".join(said), secrets) == []
    # The control: a traceback with local variables, as some tools print it, would show them.
    with_locals = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert leaks(with_locals, secrets), "the search finds a secret that is there"
