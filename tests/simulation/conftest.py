"""What several tests of the simulation need."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest


def run_in_process(program: str, hash_seed: str) -> list[str]:
    """The lines that a program prints, in a process of its own with this seed of hashes."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.stdout.split()


@pytest.fixture
def lines_of() -> Callable[[str, str], list[str]]:
    """`run_in_process`."""
    return run_in_process
