"""The relying party of the demo: a new process that has an answer and a genesis file, and no network at all.

The network is taken away by the kernel where that is permitted (an empty network namespace, `unshare -n`), and else by
an audit hook that refuses every socket inside the Python process. Which of the two is said, and tried: the same process
cannot reach a node that we can.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from cityid.errors import InputError

__all__ = ["Outside", "Ruling", "choose_outside"]

TIMEOUT_S: Final = 20.0
HOOK: Final = """
import sys
def refuse(event, arguments):
    if event.startswith("socket."):
        raise OSError("the network is out of reach")
sys.addaudithook(refuse)
"""
CONNECT: Final = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 2)"
MAIN: Final = "from cityid.cli import main; main()"


@dataclass(frozen=True, slots=True)
class Ruling:
    """What `cityid verify --json` said, and its exit status."""

    status: int
    found: dict[str, Any]

    @property
    def verdict(self) -> str:
        """The verdict's stable word."""
        return str(self.found["verdict"])

    @property
    def failed_step(self) -> tuple[str, str]:
        """(step, detail) of the step that failed."""
        step = self.found["steps"][-1]
        return str(step["name"]), str(step["detail"])


@dataclass(frozen=True, slots=True)
class Outside:
    """How processes without a network are started. `kernel` is true for a namespace, false for the hook."""

    prefix: tuple[str, ...]
    kernel: bool

    def verify(self, directory: Path, answer: str, *options: str, trust: str = "genesis.json") -> Ruling:
        """Runs `cityid verify` on files of `directory`, in a process of its own, without a network."""
        arguments = ["verify", answer, "--trust", trust, "--json", *options]
        done = self._run(MAIN, arguments, directory)
        try:
            return Ruling(done.returncode, json.loads(done.stdout))
        except ValueError:
            raise InputError(f"`cityid verify` says no JSON but: {done.stdout!r} {done.stderr!r}") from None

    def reaches(self, url: str) -> bool:
        """Whether such a process can reach a node."""
        parts = urlsplit(url)
        done = self._run(CONNECT, [str(parts.hostname), str(parts.port)], Path.cwd())
        return done.returncode == 0

    def _run(self, program: str, arguments: list[str], directory: Path) -> subprocess.CompletedProcess[bytes]:
        text = program if self.kernel else HOOK + program
        command = [*self.prefix, sys.executable, "-c", text, *arguments]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CITYID_")}
        return subprocess.run(
            command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S
        )


def choose_outside() -> Outside:
    """A network namespace if the kernel lets us have one, with or without privileges; else the hook."""
    for prefix in (("unshare", "-n"), ("unshare", "-rn")):
        try:
            done = subprocess.run([*prefix, "true"], capture_output=True, timeout=TIMEOUT_S)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0:
            return Outside(prefix, kernel=True)
    return Outside((), kernel=False)
