"""What every test may use.

- `vectors`: the folder of published test vectors, which is not part of this repository.
- `async def test_…`: runs under Trio on a virtual clock that jumps to the next deadline when all tasks wait, so a test
  never sleeps on the wall clock. A test that needs real processes is a plain function that says so with its marker.
"""

import inspect
import os
from pathlib import Path

import pytest
import trio
import trio.testing


@pytest.fixture(scope="session")
def vectors() -> Path:
    """The folder that CITYID_VECTORS names. Unset: the test is skipped, and the summary says why. Wrong: an error."""
    name = os.environ.get("CITYID_VECTORS")
    if not name:
        pytest.skip("CITYID_VECTORS is not set: this test compares with published vectors kept outside the repository")
    folder = Path(name)
    if not folder.is_dir():
        raise FileNotFoundError(f"CITYID_VECTORS names {name}, which is no folder; unset it or correct it")
    return folder


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs coroutine tests under Trio on virtual time; leaves the others to pytest."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in names if name in pyfuncitem.funcargs}

    async def call() -> None:
        await pyfuncitem.obj(**arguments)

    trio.run(call, clock=trio.testing.MockClock(autojump_threshold=0))
    return True
