"""What `cityid status` says of a node that follows, must be upgraded, or has halted."""

from typing import Any

import pytest

from cityid.cli.network import _remarks


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANG", "en_US.UTF-8")
    monkeypatch.delenv("LC_ALL", raising=False)
    monkeypatch.delenv("LC_MESSAGES", raising=False)


@pytest.mark.parametrize(
    ("status", "says"),
    [
        ({}, []),
        ({"role": "validator", "protocol": {"version": 1, "newest_known": 2, "scheduled": []}}, []),
        ({"role": "follower", "role_reason": "not_in_committee"}, ["not in the committee"]),
        ({"role": "follower", "role_reason": "key_missing"}, ["key_missing"]),
        (
            {"protocol": {"newest_known": 2, "scheduled": [{"version": 2, "height": "90"}]}},
            ["protocol 2 from height 90 on"],
        ),
        (
            {"protocol": {"newest_known": 1, "scheduled": [{"version": 2, "height": "90"}]}},
            ["protocol 2 from height 90 on", "UPGRADE this software before height 90"],
        ),
        ({"halted": "the disk failed"}, ["HALTED: the disk failed"]),
        ({"protocol": "nonsense"}, []),
    ],
)
def test_remarks(status: dict[str, Any], says: list[str]) -> None:
    found = _remarks(status)
    assert len(found) == len(says)
    assert all(expected in line for expected, line in zip(says, found, strict=True))
