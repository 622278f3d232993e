"""Every reason that execution gives has words for people: what is so, and where something can be done, what."""

import re
from pathlib import Path

import pytest

from cityid.client.reasons import REASONS, explain
from cityid.client.replies import Receipt
from cityid.errors import RuleViolation

LEDGER = Path(__file__).parents[2] / "rust" / "core" / "src" / "ledger"
GIVEN = re.compile(r'(?:Error::rule|refuse)\(\s*"([a-z_]+)"')
# About blocks, snapshots, waiting transactions and this software: no receipt has them.
NOT_OF_EXECUTION = {
    "invalid_block", "missing_batch", "not_ready", "overloaded", "pool_share", "stale_base", "state_full",
    "unknown_height", "unknown_protocol", "wrong_network",
}  # fmt: skip


def given() -> set[str]:
    return {reason for path in LEDGER.rglob("*.rs") for reason in GIVEN.findall(path.read_text())}


@pytest.mark.skipif(not LEDGER.is_dir(), reason="the Rust sources are not beside the tests")
def test_every_reason_of_the_ledger_has_words() -> None:
    assert len(given()) > 40, "the control: reasons are found at all"
    assert given() - NOT_OF_EXECUTION - REASONS.keys() == set()


def test_words_are_sentences() -> None:
    for reason, words in REASONS.items():
        assert re.fullmatch(r"[a-z].*\.", words), reason
        assert words.count("Next: ") <= 1, reason


def test_a_rejected_transaction_says_what_its_reason_means() -> None:
    receipt = Receipt(bytes(32), "rejected", height=7, reason="stale_version", operation=2)
    with pytest.raises(RuleViolation, match=r"stale_version: .*read it again and decide anew.*operation 2") as refused:
        receipt.require_committed()
    assert refused.value.reason == "stale_version"
    unknown = Receipt(bytes(32), "rejected", height=7, reason="of_tomorrow")
    with pytest.raises(RuleViolation, match="of_tomorrow: the network does not accept"):
        unknown.require_committed()
    own = Receipt(bytes(32), "refused", reason="expired", message="valid until height 3, the next block is 9")
    with pytest.raises(RuleViolation, match="valid until height 3"):
        own.require_committed()
    assert explain("exists") != explain("of_tomorrow")
