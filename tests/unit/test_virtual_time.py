"""The house's own test runner: coroutine tests run, on virtual time, and can fail."""

import time
from pathlib import Path

import pytest
import trio


async def test_an_hour_passes_at_once(tmp_path: Path) -> None:
    assert tmp_path.name  # fixtures reach coroutine tests
    started = trio.current_time()
    before = time.monotonic()
    await trio.sleep(3600)
    assert trio.current_time() - started == pytest.approx(3600)
    assert time.monotonic() - before < 60


@pytest.mark.xfail(raises=trio.TooSlowError)
async def test_control_a_failing_coroutine_fails() -> None:
    with trio.fail_after(1):
        await trio.sleep_forever()
