"""docs/security.md names tests that exist, and says of every threat which."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`((?:tests|rust)/[\w./-]+\.(?:py|rs))(?:::(\w+))?`")


def exists(file: str, test: str) -> bool:
    """Whether a file has this test; without a name, whether it has any."""
    path = ROOT / file
    if not path.is_file():
        return False
    text = path.read_text(encoding="utf-8")
    name = re.escape(test) if test else r"\w+"
    if path.suffix == ".py":
        return re.search(rf"^(async )?def {name if test else r'test_' + name}\(", text, re.MULTILINE) is not None
    if re.search(rf"#\[test\]\n(#\[.*\]\n)*\s*(async )?fn {name}\(", text):
        return True
    # A property test stands within `proptest!`, and one of a macro by its name alone.
    return bool(test) and re.search(rf"\bfn {name}\(|^\s*{name}[,:(]", text, re.MULTILINE) is not None


NAMES = sorted(set(NAMED.findall(PAGE)))


@pytest.mark.parametrize(("file", "test"), NAMES)
def test_each_named_test_exists(file: str, test: str) -> None:
    assert exists(file, test)


def test_control_a_test_that_does_not_exist_is_found() -> None:
    assert len(NAMES) > 60
    file, test = next(named for named in NAMES if named[1] and named[0].endswith(".py"))
    assert exists(file, test)
    assert not exists(file, test + "_not")
    assert not exists("tests/unit/test_nothing.py", test)


def test_every_threat_and_every_bound_names_its_test() -> None:
    sections = PAGE[PAGE.index("## Threats") : PAGE.index("## Fuzzing")]
    rows = [
        line for line in sections.splitlines() if line.startswith("| ") and not re.match(r"\| (threat|key|what) ", line)
    ]
    assert len(rows) > 60
    assert [row for row in rows if not NAMED.search(row)] == []
