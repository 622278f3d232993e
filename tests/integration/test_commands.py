"""Every command against live nodes: a network by `cityid up`; how one is founded stands in test_founding.py."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.processes

LAMP = ("--city", "130100", "--org", "A7K2", "--use", "60", "--class", "010203", "--model", "1")
CITIES = ("110000", "130100", "330100", "440300")


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CITYID_", "LC_", "LANG"))}
    return kept | more


class Shell:
    """`cityid` as a process, in one directory, with gateways and trust from the environment."""

    def __init__(self, directory: Path, **settings: str) -> None:
        self.directory = directory
        self.settings = settings

    def __call__(self, *arguments: object, status: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "cityid", *map(str, arguments)],
            cwd=self.directory, capture_output=True, text=True, timeout=60, env=environment(**self.settings),
        )  # fmt: skip
        assert done.returncode == status, f"{arguments}: {done.stdout} {done.stderr}"
        return done.stdout

    def json(self, *arguments: object, status: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", status=status))


@contextmanager
def up(directory: Path) -> Iterator[dict[str, Any]]:
    """`cityid up`, stopped with Ctrl-C, which is a good end."""
    command = [sys.executable, "-m", "cityid", "up", "--dir", str(directory), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment())
    assert process.stdout is not None
    with process.stdout as out:
        try:
            yield json.loads(out.readline())
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0


def test_the_commands_of_cities_and_offices(tmp_path: Path) -> None:
    network = tmp_path / "network"
    with up(network) as told:
        urls = told["urls"]
        assert set(urls) == set(CITIES)
        shell = Shell(
            tmp_path,
            CITYID_AT=f"{urls['130100']} {urls['110000']}",
            CITYID_TRUST=told["genesis"],
            XDG_CONFIG_HOME=str(tmp_path / "config"),
        )
        assert {row["city"] for row in shell.json("status")["gateways"]} == {"130100", "110000"}
        shell("keys", "new", "office.pem")
        proof = shell("keys", "possession", "office.pem", "--subject", "MA.156.130100.A7K2").strip()
        city_key = network / "130100" / "keys" / "transaction.pem"
        shell(
            "org", "admit", "--key", city_key, "--city", "130100", "--org", "A7K2", "--name", "照明", "--quota", 5_000,
            "--holder", proof,
        )  # fmt: skip
        given = shell.json("range", "allocate", "--key", "office.pem", *LAMP[:4], "--class", "010203")
        assert given["outputs"] == [{"base": 0, "size": 1_000}]
        shell("item", "category", "register", "--key", "office.pem", *LAMP, "--name", "路灯")
        code = shell.json("item", "register", "--key", "office.pem", *LAMP, "--serial", 7)["subject"]
        shell("item", "register", "--key", "office.pem", *LAMP, "--serial", 7, status=2)
        (tmp_path / "l.csv").write_text("id,name\nL1,a\nL2,b\n")
        imported = shell.json("import", "l.csv", "--key", "office.pem", *LAMP, "--range", "0:1000")
        assert (imported["imported"], imported["ranges"]) == (2, [])
        shell("item", "update", code, "--expected-version", 1, "--key", "office.pem")
        changed = shell.json("item", "suspend", code, "--expected-version", 2, "--key", city_key)

        elsewhere = ("--at", urls["440300"], "--min-height", changed["height"], "--out", "answer.cbor")
        assert shell.json("resolve", code, *elsewhere)["status"] == "suspended"
        assert shell.json("verify", "answer.cbor", "--code", code)["verdict"] == "REGISTERED"
        assert shell.json("item", "show", code)["status"] == "suspended"
        assert shell.json("org", "show", "--city", "130100", "--org", "A7K2")["verdict"] == "REGISTERED"
        assert shell.json("resolve", "MA.156.130100.ZZZZ", status=4)["verdict"] == "NOT_REGISTERED"

        words = shell.json("trust", "fetch", "--out", "fetched.json")["words"]
        assert words == told["words"] == shell.json("trust", "show", told["genesis"])["words"]
        shell("trust", "pin", "fetched.json", "--words", words, "--out", "trust.json")
        advanced = shell.json("trust", "update", "--trust", "trust.json")
        assert int(advanced["height"]) >= int(changed["height"])
    shell("status", status=3)
    # The directory keeps the network: what was registered is there when it comes up again.
    with up(network) as told:
        found = Shell(tmp_path).json("resolve", code, "--at", told["urls"]["330100"], "--trust", "trust.json")
        assert found["status"] == "suspended"


def test_an_interrupted_demo_leaves_no_process(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cityid", "demo"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=tmp_path, stdout=pipe, stderr=pipe, text=True, env=environment())
    assert process.stdout is not None
    assert "four nodes" in process.stdout.readline()
    nodes = _processes_in(tmp_path)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (130, "cityid: interrupted\n")
    assert len(nodes) == 4
    assert _processes_in(tmp_path) == []


def _processes_in(directory: Path) -> list[int]:
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            command = (place / "cmdline").read_bytes()
        except OSError:
            continue
        if f"{directory}/demo".encode() in command:
            found.append(int(place.name))
    return found
