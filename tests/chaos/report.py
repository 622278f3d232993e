"""The table of results, for people and for programs: build/chaos/results.md and results.json."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.chaos.trials import Result

HEAD = (
    "scenario", "nodes", "tx/s", "seconds", "acknowledged", "lost", "partial", "blocks", "recovered, s", "writes",
    "reads", "",
)  # fmt: skip


def write(results: Sequence[Result], folder: Path, machine: dict[str, Any]) -> Path:
    """Both files; the path of the table."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {"machine": machine, "results": [result.to_json() for result in results]}
    (folder / "results.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    path = folder / "results.md"
    path.write_text(table(results), encoding="utf-8")
    return path


def table(results: Sequence[Result]) -> str:
    """Rows as in docs/reliability.md."""
    rows = [list(HEAD), ["---"] * len(HEAD)]
    for one in results:
        verdict = "as it must be" if one.ok else "WRONG"
        rows.append(
            [
                one.scenario, str(one.nodes), str(one.rate), f"{one.seconds:.0f}", f"{one.acknowledged:,}",
                str(one.lost), str(one.partial), f"{one.blocks:,}", f"{one.recovered_s:.1f}", str(one.writes),
                str(one.reads), verdict,
            ]
        )  # fmt: skip
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def line(result: Result) -> str:
    """One result, while others still run."""
    said = (
        f"{result.scenario:14} {result.nodes} nodes  {result.seconds:5.0f} s  {result.acknowledged:6} acknowledged  "
        f"{result.lost} lost  {result.partial} partial  recovered in {result.recovered_s:5.1f} s  "
        f"{result.writes} writes {result.reads} reads  {'ok' if result.ok else 'WRONG'}"
    )
    return "\n".join([said, *(f"    {what}" for what in result.wrong)])
