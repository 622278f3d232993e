"""What these tests need of a machine, and the private place that they run in.

Everything happens in namespaces of their own for network, mounts and processes: the machine's own interfaces, firewall
and mounts are never touched, and when the program ends, however it ends, the kernel takes all of it back.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

TOOLS = {
    "ip": "iproute2", "tc": "iproute2", "nft": "nftables", "unshare": "util-linux", "nsenter": "util-linux",
    "mount": "mount", "mkfs.ext4": "e2fsprogs", "cp": "coreutils", "cc": "gcc",
}  # fmt: skip
PRIVATE = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
REPOSITORY = Path(__file__).parents[2]
PROBE_S = 60


def run(*command: object, input: str | None = None) -> str:
    """A command that must succeed; what it printed."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, input=input, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def missing() -> str | None:
    """Why these tests cannot run here; None when they can."""
    if os.geteuid() != 0:
        return "network namespaces, loop mounts and nftables need root; run `make chaos` as root, in a machine to spare"
    absent = {package for tool, package in TOOLS.items() if shutil.which(tool) is None}
    if absent:
        return f"programs are missing; on Debian: apt-get install {' '.join(sorted(absent))}"
    try:
        probe = subprocess.run(
            inside("--probe"), capture_output=True, text=True, check=False, timeout=PROBE_S, cwd=REPOSITORY
        )
    except subprocess.TimeoutExpired:
        return f"the kernel does not make namespaces and mounts within {PROBE_S} s"
    if probe.returncode:
        last = (probe.stderr.strip() or "no reason given").splitlines()[-1]
        return f"the kernel refuses what these tests need: {last}"
    return None


def inside(*arguments: str) -> list[str]:
    """The command that runs this package in a place of its own."""
    return [*PRIVATE, sys.executable, "-m", "tests.chaos", *arguments]
