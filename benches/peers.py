"""Other people's programs: how each is found, built and asked.

The Rust ones are examples of cityid-core, built with the flags of the extension. CometBFT's sources are not part of
this repository: CITYID_PEERS names their folder (default: ../shared/peers), which is copied before it builds, because
it builds where it stands. Nothing here fails a bench: a peer that cannot run is `Missing`, with the reason.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from benches.machine import repository
from benches.timing import Contestant, cpu_clock_of

__all__ = ["Missing", "comet_bft", "rust_figures", "rust_peer", "say"]

CRATE: Final = "cityid-core"
COMET_BFT_S: Final = 300.0
"""Building CometBFT for the first time takes two minutes on two cores."""


class Missing(Exception):
    """This peer cannot run here; the message says why, and what would change that."""


def say(message: str) -> None:
    """Tells people, beside the rows."""
    print(message, file=sys.stderr)


def rust_figures(example: str, arguments: Sequence[object]) -> Mapping[str, list[float]]:
    """Runs an example that prints lines of a name and figures."""
    done = subprocess.run(
        [_example(example), *map(str, arguments)], env=_environment(), stdout=subprocess.PIPE, text=True, check=True
    )
    rows = (line.split() for line in done.stdout.splitlines())
    return {name: [float(figure) for figure in figures] for name, *figures in rows}


@contextmanager
def rust_peer(example: str, arguments: Sequence[object]) -> Iterator[Contestant]:
    """Starts an example that works once for each line it is sent, on one thread, and answers with a line.

    Gives a contestant for `timing.alternate`.
    """
    process = subprocess.Popen(
        [_example(example), *map(str, arguments)],
        env=_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    send, receive = process.stdin, process.stdout
    clock = cpu_clock_of(process.pid)

    def once() -> float:
        began = time.clock_gettime(clock)
        send.write("\n")
        send.flush()
        if not receive.readline():
            raise RuntimeError(f"the example {example} ended early with status {process.wait()}; its message is above")
        return time.clock_gettime(clock) - began

    try:
        yield once
    finally:
        send.close()
        receive.close()
        process.wait()


def comet_bft(*, window: int | None = None, rate: int | None = None, seconds: int) -> Mapping[str, Any]:
    """One run of four CometBFT validators with its `regsig` application; its own figures. Raises `Missing`."""
    folder = _built_comet_bft()
    load = ["-w", str(window)] if window is not None else ["-r", str(rate)]
    command = ["./run.sh", "-n", "4", "-a", "regsig", "-p", "tuned", *load, "-s", str(seconds)]
    try:
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, timeout=COMET_BFT_S, check=True)
        figures: Mapping[str, Any] = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    except (subprocess.SubprocessError, StopIteration, ValueError) as error:
        raise Missing(f"CometBFT did not finish its run: {error}; run {folder}/run.sh by hand to see why") from error
    return figures


def _built_comet_bft() -> Path:
    source = Path(os.environ.get("CITYID_PEERS", repository().parent / "shared" / "peers")) / "cometbft"
    if not (source / "run.sh").exists():
        raise Missing(
            f"CometBFT's sources are not in {source}; set CITYID_PEERS to the folder that holds cometbft/run.sh"
        )
    folder = repository() / "build" / "peers" / "cometbft"
    if not (folder / "bin" / "peerd").exists() and shutil.which("go") is None:
        raise Missing("CometBFT is built with Go, and there is no `go` on the PATH; install Go 1.23 or newer")
    shutil.copytree(source, folder, dirs_exist_ok=True)
    return folder


def _environment() -> dict[str, str]:
    """RUSTFLAGS would replace the flags of .cargo/config.toml, and with them the AVX-512 backend."""
    return {name: value for name, value in os.environ.items() if name not in ("RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS")}


def _example(name: str) -> str:
    """Builds an example and says where it is."""
    command = [
        "cargo",
        "build",
        "--quiet",
        "--locked",
        "--release",
        "--message-format=json",
        "-p",
        CRATE,
        "--example",
        name,
    ]
    done = subprocess.run(command, cwd=repository(), env=_environment(), stdout=subprocess.PIPE, text=True)
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message.get("target", {}).get("name") == name and message.get("executable"):
            return str(message["executable"])
    raise Missing(f"the example {name} of {CRATE} does not build; see cargo's message above")
