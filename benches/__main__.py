"""`python -m benches [PREFIX]`: runs the parts whose rows begin with PREFIX, one process each.

A process of its own keeps the memory and the threads of one part out of the figures of the next. Parts print their rows
as JSON lines on stdout and talk on stderr. The results are of this run only: a part run replaces the file too.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Final

from benches import machine, rows
from benches.rows import Row

PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "signatures": (
        "signature.single",
        "signature.batch.4096.distinct",
        "signature.batch.4096.keys256",
        "signature.batch.4096.first",
        "signature.batch.bad1in1000",
    ),
    "hashes": ("hash.sha256.64B",),
    "state_map": ("state.update.10k", "state.update.100k", "state.proof_bytes.1m", "state.bytes_per_key"),
    "answers": ("answer.verify.4", "answer.verify.100", "answer.bytes.present.4", "answer.bytes.absent.4"),
    "registration": ("ledger.register_ops",),
    "resolving": ("resolve.python.many.1m", "memory.bytes_per_record", "restart.1m"),
    "joining": ("join.snapshot.1m", "join.snapshot.1m.restart"),
    "sealing": ("seal.1m",),
    "adopting": ("adopt.227k",),
    "writing": ("write.saturated.w4000", "write.saturated.w20000", "write.open.500"),
}
"""Module → the rows it makes. Those of `writing` have `.p50` and `.p99` beside them, `sealing` and `adopting` their
steps.
"""


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="make bench", description="Measures cityid beside its peers.")
    parser.add_argument("prefix", nargs="?", default="", help="only rows whose names begin so")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--list", action="store_true", help="names only")
    arguments = parser.parse_args()
    chosen = {part: tuple(name for name in names if _wanted(name, arguments.prefix)) for part, names in PARTS.items()}
    if arguments.list:
        print("\n".join(name for names in chosen.values() for name in names))
        return 0
    if not any(chosen.values()):
        print(f"No row begins with {arguments.prefix!r}. Names: {' '.join(sum(PARTS.values(), ()))}", file=sys.stderr)
        return 2
    if arguments.part is not None:
        for row in importlib.import_module(f"benches.{arguments.part}").run(chosen[arguments.part], arguments.data):
            print(rows.to_json(row), flush=True)
        return 0
    return _run(chosen, arguments.prefix)


def _run(chosen: Mapping[str, tuple[str, ...]], prefix: str) -> int:
    results = machine.repository() / "benches" / "results"
    place = Path(os.environ.get("CITYID_BENCH_DATA", results))
    place.mkdir(parents=True, exist_ok=True)
    try:
        machine.refuse_transient(place)
    except machine.TransientFilesystem as error:
        print(error, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="data-", dir=place) as data:
        head = machine.describe(Path(data))
        measured, failed = _run_parts([part for part, names in chosen.items() if names], prefix, data)
    latest = results / "latest.json"
    latest.parent.mkdir(parents=True, exist_ok=True)
    latest.write_text(
        json.dumps(head | {"results": [asdict(row) for row in measured]}, indent=1) + "\n", encoding="utf-8"
    )
    print(rows.table(measured))
    print(f"fsync {head['fsync_p50_ms']} ms on {head['filesystem']}; {latest.relative_to(machine.repository())}")
    for part in failed:
        print(f"The part {part} failed; its message is above.", file=sys.stderr)
    return 1 if failed else 0


def _wanted(name: str, prefix: str) -> bool:
    """A row's own name is a prefix of its latencies: `write.open.500.p99` asks for `write.open.500`."""
    return name.startswith(prefix) or prefix.removesuffix(".p50").removesuffix(".p99") == name


def _run_parts(parts: list[str], prefix: str, data: str) -> tuple[list[Row], list[str]]:
    measured: list[Row] = []
    failed: list[str] = []
    for part in parts:
        print(f"{part} …", file=sys.stderr)
        process = subprocess.Popen(
            [sys.executable, "-m", "benches", "--part", part, "--data", data, prefix],
            cwd=machine.repository(), stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        measured.extend(_read_rows(process))
        if process.wait() != 0:
            failed.append(part)
    return measured, failed


def _read_rows(process: subprocess.Popen[str]) -> Iterator[Row]:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            yield rows.from_json(line)


if __name__ == "__main__":
    sys.exit(main())
