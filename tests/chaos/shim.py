"""The library that makes a node's disk fail and its clock go wrong (`shim.c`), and a page for each city: how."""

import mmap
from pathlib import Path

from tests.chaos.machine import run

SOUND, SYNC_FAILS, SYNC_LIES, ALL_FAILS = range(4)
CLOCK_AT = 8  # byte of the page


class Shim:
    """One for all nodes of a network."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._library = directory / "shim.so"
        run(
            "cc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", self._library, Path(__file__).with_name("shim.c")
        )

    def environment(self, city: str) -> dict[str, str]:
        """What puts it under a node of this city."""
        page = self._page(city)
        if not page.exists():
            page.write_bytes(bytes(mmap.PAGESIZE))
        return {"LD_PRELOAD": str(self._library), "CHAOS_PAGE": str(page)}

    def set_disk(self, city: str, how: int) -> None:
        """From now on."""
        self._put(city, 0, bytes([how]))

    def set_clock(self, city: str, *, ahead_ms: int) -> None:
        """The wall clock, from now on."""
        self._put(city, CLOCK_AT, ahead_ms.to_bytes(8, "little", signed=True))

    def _put(self, city: str, at: int, data: bytes) -> None:
        with self._page(city).open("r+b") as file:
            file.seek(at)
            file.write(data)

    def _page(self, city: str) -> Path:
        return self._directory / f"{city}.page"
