"""`cityid run` that cannot: its exit status, and a sentence that names the file or address and says what to do.

Status 2 is for settings, keys and addresses; 5, for a data folder that is hurt or in use, is tested with hurt nodes.
"""

import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cityid.cli.local import FIRST_CITIES, create, free_ports
from cityid.node.config import load

pytestmark = pytest.mark.processes

CITY, OTHER, *_ = FIRST_CITIES


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that never runs."""
    directory = tmp_path_factory.mktemp("refuses") / "network"
    ports = iter(free_ports(2 * len(FIRST_CITIES)))
    addresses = {city: (f"127.0.0.1:{next(ports)}", f"127.0.0.1:{next(ports)}") for city in FIRST_CITIES}
    create(directory, FIRST_CITIES, name="refuses", addresses=addresses)
    return directory


@pytest.fixture
def node(made: Path, tmp_path: Path) -> Path:
    """A city's directory to spoil."""
    return Path(shutil.copytree(made / CITY, tmp_path / CITY))


def edit(node: Path, old: str, new: str) -> None:
    text = (node / "node.toml").read_text()
    assert old in text
    (node / "node.toml").write_text(text.replace(old, new))


@contextmanager
def taken(host: str, port: int) -> Iterator[None]:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()
        yield


def test_a_configuration_that_is_not_there_or_not_toml(node: Path, run_node: Callable[..., str]) -> None:
    assert "nowhere.toml does not exist" in run_node(node / "nowhere.toml", status=2)
    (node / "node.toml").write_text("city = ")
    said = run_node(node / "node.toml", status=2)
    assert "is not TOML" in said
    assert "correct that line" in said


def test_every_mistake_of_a_configuration_is_named_at_once(node: Path, run_node: Callable[..., str]) -> None:
    edit(node, "[peers]", "[limits]\nhttp_boddy_bytes = 7\npeer_handshakes = 0\n\n[peers]")
    said = run_node(node / "node.toml", status=2)
    assert "did you mean limits.http_body_bytes?" in said
    assert "limits.peer_handshakes is a whole number from 1 to 1000" in said


def test_a_city_that_is_not_in_the_genesis(node: Path, run_node: Callable[..., str]) -> None:
    edit(node, f'city = "{CITY}"', 'city = "999900"')
    assert "999900" in run_node(node / "node.toml", status=2)


def test_keys_that_are_missing_readable_by_others_or_of_another_city(
    made: Path, node: Path, run_node: Callable[..., str]
) -> None:
    key = node / "keys" / "consensus.pem"
    key.chmod(0o644)
    said = run_node(node / "node.toml", status=2)
    assert str(key) in said
    assert "chmod" in said
    key.unlink()
    assert str(key) in run_node(node / "node.toml", status=2)
    shutil.copy(made / OTHER / "keys" / "consensus.pem", key)
    said = run_node(node / "node.toml", status=2)
    assert f"{key} is not the consensus key that the genesis holds for city {CITY}" in said
    assert "restore the right one" in said


def test_a_tls_key_of_another_city(made: Path, node: Path, run_node: Callable[..., str]) -> None:
    shutil.copy(made / OTHER / "keys" / "tls.pem", node / "keys" / "tls.pem")
    assert "is not the TLS key that the genesis holds" in run_node(node / "node.toml", status=2)


def test_a_founder_without_the_address_of_a_higher_city(node: Path, run_node: Callable[..., str]) -> None:
    lines = (node / "node.toml").read_text().splitlines()
    (node / "node.toml").write_text("\n".join(line for line in lines if not line.startswith("440300")) + "\n")
    assert "no address is set for 440300" in run_node(node / "node.toml", status=2)


@pytest.mark.parametrize("which", ["peers", "http"])
def test_an_address_that_is_taken(node: Path, run_node: Callable[..., str], which: str) -> None:
    config = load(node / "node.toml")
    address = config.listen_peers if which == "peers" else config.listen_http
    with taken(address.host, address.port):
        said = run_node(node / "node.toml", status=2)
    assert f"{which if which == 'peers' else 'HTTP'} on {address}" in said
    assert "is another node running" in said
