"""Text that JSON can carry and UTF-8 cannot, and files that never end: refused with a reason, one row at a time."""

import json
from pathlib import Path

import pytest

import cityid
from cityid import _native
from cityid.errors import CodeError, MalformedInput

SURROGATE = json.loads('"MA.156.130100\\ud800"')
GOOD = "MA.156.130100"


def test_a_lone_surrogate_spoils_its_own_row_only() -> None:
    codes, errors = _native.parse_many([GOOD, SURROGATE, GOOD])
    assert [code is not None for code in codes] == [True, False, True]
    assert "position 14" in (errors[1] or "")
    assert errors[0] is None, "the control"


def test_a_lone_surrogate_is_no_code() -> None:
    for call in (cityid.Code.parse, cityid.Code.from_did):
        with pytest.raises(CodeError):
            call(SURROGATE)
    assert cityid.Code.parse(GOOD).text == GOOD


def test_a_trust_file_without_an_end_is_refused() -> None:
    with pytest.raises(MalformedInput, match="limit"):
        cityid.Trust.load("/dev/zero")


def test_a_trust_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trust.json"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(MalformedInput, match="UTF-8"):
        cityid.Trust.load(path)
