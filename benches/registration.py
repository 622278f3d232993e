"""Executing blocks of 4,000 one-operation transactions, alone and on one core: no signatures, no consensus, no disk.

Signatures are checked when the transactions are admitted, before the clock starts; committing comes after it.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Final

from benches import registrations, rows, timing
from benches.chain import Chain
from benches.rows import Row

ORGANISATIONS: Final = 100
PER_BLOCK: Final = 4_000
BLOCKS: Final = 9


def run(names: Sequence[str], place: Path) -> Iterator[Row]:
    """The rows of these names."""
    del place
    timing.on_one_core()
    chain = Chain(4)
    organisations = registrations.organisations(ORGANISATIONS, chain.cities)
    chain.open(organisations, size=1_000)
    transactions = registrations.registrations(chain.genesis.hash, organisations, PER_BLOCK * BLOCKS)
    taken = []
    for start in range(0, len(transactions), PER_BLOCK):
        digests = chain.admit(transactions[start : start + PER_BLOCK])
        executed = []
        taken.append(timing.clocked(lambda: executed.append(chain.execute(digests)))())  # noqa: B023
        if chain.commit(executed[0]).committed != PER_BLOCK:
            raise RuntimeError("a registration was rejected")
    for name in names:
        rates = [PER_BLOCK / seconds for seconds in taken]
        yield rows.make(
            name, rates, "operations/s", better="higher", cpu_us_per_op=median(timing.per_us(taken, PER_BLOCK))
        )
