"""The way of docs/operating.md, as processes: four cities found a network, run it, and one is restarted."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from cityid.cli.local import LocalNetwork, free_ports

pytestmark = pytest.mark.processes

CITIES = ("110000", "130100", "330100", "440300")


class Shell:
    """`cityid` as a process, in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.said = ""

    def __call__(self, *arguments: object, status: int = 0) -> str:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CITYID_", "LC_", "LANG"))}
        done = subprocess.run(
            [sys.executable, "-m", "cityid", *map(str, arguments)],
            cwd=self.directory, capture_output=True, text=True, timeout=60, env=kept,
        )  # fmt: skip
        self.said = done.stderr
        assert done.returncode == status, f"{arguments}: {done.stdout} {done.stderr}"
        return done.stdout

    def json(self, *arguments: object, status: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", status=status))


@pytest.fixture
def founded(tmp_path: Path) -> tuple[Shell, dict[str, str]]:
    """Keys, entries and a genesis; HTTP addresses by city."""
    shell = Shell(tmp_path)
    ports = iter(free_ports(2 * len(CITIES)))
    http = {}
    (tmp_path / "passphrase").write_text("correct horse\n")
    (tmp_path / "passphrase").chmod(0o600)
    for city in CITIES:
        http[city] = f"127.0.0.1:{next(ports)}"
        secret = ("--passphrase-file", "passphrase") if city == "440300" else ()
        shell("init", city, "--dir", city, "--peers", f"127.0.0.1:{next(ports)}", "--http", http[city], *secret)
    entries = [f"{city}/entry.json" for city in CITIES]
    shell("genesis", *entries, "--name", "ceremony", "--out", "network", "--time-ms", 1_790_000_000_000)
    return shell, http


def test_four_operators_found_a_network_and_one_restarts(founded: tuple[Shell, dict[str, str]], tmp_path: Path) -> None:
    shell, http = founded
    words = set()
    for city in CITIES:
        secret = ("--passphrase-file", "passphrase") if city == "440300" else ()
        words.add(shell.json("init", city, "--dir", city, "--network", "network", *secret)["words"])
    assert words == {shell.json("trust", "show", "network/genesis.json")["words"]}
    network = LocalNetwork(tmp_path, {city: f"http://{address}" for city, address in http.items()})

    async def serve(*cities: str) -> None:
        for city in cities:
            network.start(city)
        for city in cities:
            await network.wait_ready(city)

    with network.running():
        trio.run(serve, *CITIES)
        rows = shell.json("status", *(part for url in network.urls.values() for part in ("--at", url)))["gateways"]
        assert {row["city"] for row in rows} == set(CITIES)
        trust = ("--trust", "network/genesis.json", "--at", network.urls["440300"])
        assert shell.json("resolve", "MA.156.110000", *trust)["verdict"] == "REGISTERED"
        network.kill("130100")
        # What a backup is: the folder of a node that does not run.
        shutil.copytree(tmp_path / "130100", tmp_path / "backup")
        trio.run(serve, "130100")
        shell("run", "backup/node.toml", status=2)
        assert "cannot listen" in shell.said


def test_init_makes_nothing_twice_and_nothing_of_other_keys(
    founded: tuple[Shell, dict[str, str]], tmp_path: Path
) -> None:
    shell, _ = founded
    shell("init", "990000", "--dir", "110000", "--network", "network", status=2)
    assert "not in this genesis" in shell.said
    shell("init", "110000", "--dir", "110000", "--network", "network", "--name", "x", status=2)
    assert "belong to the entry" in shell.said
    shell("init", "130100", "--dir", "110000", "--network", "network", status=2)
    assert "is not the consensus key" in shell.said
    shell("init", "440300", "--dir", "440300", "--network", "network", status=2)
    assert "passphrase" in shell.said
    assert sorted(path.name for path in (tmp_path / "110000").iterdir()) == ["entry.json", "keys"]

    # Addresses that an operator corrected are kept; a data folder is never made twice.
    text = (tmp_path / "network" / "110000.node.toml").read_text()
    (tmp_path / "110000" / "node.toml").write_text(text + "\n[log]\nlevel = 'debug'\n")
    shell("init", "110000", "--dir", "110000", "--network", "network")
    assert "debug" in (tmp_path / "110000" / "node.toml").read_text()
    before = (tmp_path / "110000" / "data" / "votes").stat().st_mtime_ns
    shell("init", "110000", "--dir", "110000", "--network", "network", status=2)
    assert "may have voted" in shell.said
    assert (tmp_path / "110000" / "data" / "votes").stat().st_mtime_ns == before
    # A node never makes its data by itself: an empty folder would forget its votes.
    (tmp_path / "110000" / "data").rename(tmp_path / "elsewhere")
    shell("run", "110000/node.toml", status=5)
    assert "holds no store" in shell.said

    entry = json.loads((tmp_path / "130100" / "entry.json").read_text())
    other = json.loads((tmp_path / "330100" / "entry.json").read_text())
    (tmp_path / "130100" / "entry.json").write_text(json.dumps(entry | {"certificate": other["certificate"]}))
    entries = [f"{city}/entry.json" for city in CITIES]
    shell("genesis", *entries, "--name", "x", "--out", "again", "--time-ms", 1, status=2)
    assert "not of its city" in shell.said
    assert not (tmp_path / "again").exists()
