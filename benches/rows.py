"""A row of the results: one figure of ours, beside at most one peer.

Rules: `min` and `max` are over `reps` repetitions, and `value` is their median unless
docs/benchmarks.md says otherwise; `ratio` above 1 means ours is better, whichever way the unit goes;
several peers of one figure are several rows.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Literal

__all__ = ["Peer", "Row", "from_json", "make", "table", "to_json"]


@dataclass(frozen=True, slots=True)
class Peer:
    """Another program's figures, in the unit of the row; none when it could not be run."""

    name: str
    values: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """See the head of the file. `cpu_us_per_op` is the CPU time of all threads of ours, an operation."""

    name: str
    value: float
    unit: str
    better: Literal["higher", "lower"]
    min: float
    max: float
    reps: int
    peer: str | None
    peer_value: float | None
    ratio: float | None
    cpu_us_per_op: float | None
    command: str


def make(
    name: str,
    values: Sequence[float],
    unit: str,
    *,
    better: Literal["higher", "lower"],
    peer: Peer | None = None,
    cpu_us_per_op: float | None = None,
    value: float | None = None,
) -> Row:
    """The row of these repetitions; `value` only when their median is not the figure that counts."""
    if value is None:
        value = median(values)
    peer_value = median(peer.values) if peer is not None and peer.values else None
    ratio = None
    if peer_value is not None:
        ratio = value / peer_value if better == "higher" else peer_value / value
    return Row(
        name=name,
        value=_short(value),
        unit=unit,
        better=better,
        min=_short(min(values)),
        max=_short(max(values)),
        reps=len(values),
        peer=peer.name if peer is not None else None,
        peer_value=None if peer_value is None else _short(peer_value),
        ratio=None if ratio is None else _short(ratio),
        cpu_us_per_op=None if cpu_us_per_op is None else _short(cpu_us_per_op),
        command=f"make bench NAME={name}",
    )


def to_json(row: Row) -> str:
    """One line."""
    return json.dumps(asdict(row), ensure_ascii=False)


def from_json(text: str) -> Row:
    """What `to_json` wrote."""
    return Row(**json.loads(text))


def table(rows: Iterable[Row]) -> str:
    """The rows for people."""
    lines = [("", "ours", "", "(least to greatest)", "peer", "", "ratio")]
    for row in rows:
        spread = f"({row.min:g} to {row.max:g}, {row.reps})"
        peer_value = "" if row.peer_value is None else f"{row.peer_value:g}"
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        lines.append((row.name, f"{row.value:g}", row.unit, spread, row.peer or "", peer_value, ratio))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    left = (0, 2, 3, 4)
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _short(value: float) -> float:
    """Five digits: more would only be noise."""
    return float(f"{value:.5g}")
