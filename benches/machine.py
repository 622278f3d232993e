"""What the figures depend on: processor, system, commit, and the disk under the data of the run."""

import os
import platform
import subprocess
import time
from pathlib import Path
from statistics import median
from typing import Any

__all__ = [
    "TransientFilesystem",
    "cpu_flags",
    "describe",
    "filesystem_of",
    "fsync_p50_ms",
    "refuse_transient",
    "repository",
]

TRANSIENT = frozenset({"tmpfs", "ramfs"})
FLAGS = ("sse4_2", "avx", "avx2", "avx512f", "avx512vl", "avx512ifma", "sha_ni")
"""Those that change what the code does here."""

FSYNCS = 200


class TransientFilesystem(Exception):
    """The data would lie in memory, where a sync costs nothing: every latency would be a lie."""


def repository() -> Path:
    """The root of this repository."""
    return Path(__file__).resolve().parent.parent


def describe(place: Path) -> dict[str, Any]:
    """The head of the results; `place` is the folder that holds the data of the run."""
    cpu = _cpu_info()
    return {
        "machine": {
            "cpu": cpu.get("model name", platform.processor()),
            "cores": os.cpu_count(),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "system": f"{platform.system()} {platform.release()}",
            "python": platform.python_version(),
        },
        "cpu_flags": sorted(cpu_flags()),
        "commit": _commit(),
        "fsync_p50_ms": fsync_p50_ms(place),
        "filesystem": filesystem_of(place),
    }


def cpu_flags() -> frozenset[str]:
    """Which of `FLAGS` this processor has."""
    return frozenset(FLAGS) & frozenset(_cpu_info().get("flags", "").split())


def refuse_transient(place: Path) -> None:
    """Raises `TransientFilesystem` when the folder does not lie on a disk."""
    kind = filesystem_of(place)
    if kind in TRANSIENT:
        raise TransientFilesystem(
            f"{place} lies on {kind}, where a sync costs nothing, so no latency would be true. "
            "Next: CITYID_BENCH_DATA=/folder/on/a/disk make bench"
        )


def filesystem_of(place: Path, mounts: str | None = None) -> str:
    """The type of the file system that holds a folder; `mounts` has the form of /proc/self/mounts."""
    if mounts is None:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8")
    found, length = "unknown", -1
    for line in mounts.splitlines():
        _, point, kind, *_ = line.split()
        mounted = Path(point.replace("\\040", " "))
        # A later line of the same mount point hides the earlier one.
        if place.resolve().is_relative_to(mounted) and len(str(mounted)) >= length:
            found, length = kind, len(str(mounted))
    return found


def fsync_p50_ms(place: Path) -> float:
    """The median of writing 4 KiB at the end of a file and syncing it."""
    path = place / "fsync-probe"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        taken = []
        for _ in range(FSYNCS):
            os.write(descriptor, b"x" * 4096)
            began = time.perf_counter()
            os.fsync(descriptor)
            taken.append(time.perf_counter() - began)
    finally:
        os.close(descriptor)
        path.unlink()
    return round(median(taken) * 1e3, 3)


def _cpu_info() -> dict[str, str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _commit() -> str:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=repository(), capture_output=True, text=True).stdout.strip()

    commit = git("rev-parse", "HEAD") or "unknown"
    return f"{commit}-dirty" if git("status", "--porcelain") else commit
