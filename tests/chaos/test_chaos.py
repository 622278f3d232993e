"""The short form of `make chaos`, where the machine allows it: root, namespaces, loop mounts. Elsewhere it is skipped,
and the summary of pytest says why.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos import machine
from tests.chaos.__main__ import SHORT
from tests.chaos.scenarios import SCENARIOS

pytestmark = pytest.mark.chaos

MINUTES = 5
PATIENCE = "4"


@pytest.fixture(scope="session")
def able() -> None:
    """Skips, loudly, where it cannot run."""
    if (why := machine.missing()) is not None:
        pytest.skip(f"NO CHAOS HERE: {why}")


@pytest.mark.usefixtures("able")
@pytest.mark.parametrize("name", SHORT)
def test_a_network_survives(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", name, "--out", str(tmp_path), "--patience", PATIENCE],
        capture_output=True, text=True, timeout=60 * MINUTES, check=False, cwd=machine.REPOSITORY,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    [result] = json.loads((tmp_path / "results.json").read_text())["results"]
    assert result["acknowledged"] > 0
    assert bool(result["wrong"]) == SCENARIOS[name].breaks_promises


def test_an_unknown_scenario_is_refused_with_the_known_ones() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "kil"],
        capture_output=True, text=True, timeout=60, check=False, cwd=machine.REPOSITORY,
    )  # fmt: skip
    assert done.returncode == 2
    assert "no scenario kil; there are kill, " in done.stderr
