"""Answers: how long one takes to verify on one core, from its bytes, and how large it is.

The state holds 100,000 items, and the log 1,024 headers, the size at which a log path of that length is longest.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Final

import cityid
from benches import registrations, rows, timing
from benches.chain import Chain
from benches.rows import Row
from cityid._native import make_item_code

ITEMS: Final = 100_000
PER_TRANSACTION: Final = 500
HEADERS: Final = 1_024
CODES: Final = 200
REPETITIONS: Final = 9


def run(names: Sequence[str], place: Path) -> Iterator[Row]:
    """The rows of these names."""
    del place
    timing.on_one_core()
    chains: dict[int, Chain] = {}
    for name in names:
        validators = int(name.rpartition(".")[2])
        chain = chains.get(validators) or chains.setdefault(validators, _chain(validators))
        serials = range(ITEMS, ITEMS + CODES) if ".absent." in name else range(0, ITEMS, ITEMS // CODES)
        codes = [make_item_code(chain.cities[0], "B00000", "60", "000000", "1", serial) for serial in serials]
        answers = [chain.ledger.answer(code).to_bytes() for code in codes]
        _check(answers, chain, "NOT_REGISTERED" if ".absent." in name else "REGISTERED")
        if name.startswith("answer.bytes"):
            yield rows.make(name, [len(answer) for answer in answers], "bytes", better="lower")
            continue
        contestants = {"ours": timing.clocked(lambda: [cityid.verify(answer, chain.trust) for answer in answers])}  # noqa: B023
        taken = timing.per_us(timing.alternate(contestants, repetitions=REPETITIONS)["ours"], len(answers))
        yield rows.make(name, taken, "us", better="lower", cpu_us_per_op=median(taken))


def _chain(validators: int) -> Chain:
    chain = Chain(validators)
    organisation = registrations.organisations(1, chain.cities)[0]
    chain.open([organisation], size=1_000_000)
    transactions = [
        registrations.register(chain.genesis.hash, organisation, range(start, start + PER_TRANSACTION))
        for start in range(0, ITEMS, PER_TRANSACTION)
    ]
    for start in range(0, len(transactions), 100):
        chain.commit_all(transactions[start : start + 100])
    while chain.ledger.height < HEADERS - 1:
        chain.commit(chain.execute(b""))
    return chain


def _check(answers: Sequence[bytes], chain: Chain, expected: str) -> None:
    for answer in answers:
        verdict = cityid.verify(answer, chain.trust)
        if verdict.verdict != expected:
            raise AssertionError(f"{verdict.verdict} instead of {expected}: {verdict.steps}")
