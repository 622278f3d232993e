"""The state map beside the `jmt` crate over a hash map, whose hash rules it has: a million keys, batches of half old,
half new keys, one root a batch. Ours uses all cores and jmt knows one: `cpu_us_per_op` says what ours costs in all."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from benches import peers, rows
from benches.rows import Peer, Row

KEYS: Final = 1_000_000
ROUNDS: Final = 12
PEER_ROUNDS: Final = 3
"""jmt is some thirty times slower."""
SIZES: Final = (10_000, 100_000)


def run(names: Sequence[str], place: Path) -> Iterator[Row]:
    """The rows of these names."""
    del place
    ours = peers.rust_figures("state_rate", ["ours", KEYS, ROUNDS, *SIZES])
    theirs = peers.rust_figures("state_rate", ["jmt", KEYS, PEER_ROUNDS, *SIZES])

    def row(name: str, figure: str, unit: str) -> Row:
        return rows.make(name, ours[figure], unit, better="lower", peer=Peer("jmt 0.12", theirs[figure]))

    for name in names:
        match name:
            case "state.proof_bytes.1m":
                yield row(name, "proof_bytes.present", "bytes")
            case "state.bytes_per_key":
                yield row(name, "bytes_per_key", "bytes")
            case _:
                size = {"state.update.10k": 10_000, "state.update.100k": 100_000}[name]
                yield rows.make(
                    name,
                    ours[f"update.{size}"],
                    "updates/s",
                    better="higher",
                    peer=Peer("jmt 0.12", theirs[f"update.{size}"]),
                    cpu_us_per_op=ours[f"cpu_us.{size}"][0],
                )
