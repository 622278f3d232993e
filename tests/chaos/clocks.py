"""Wrong clocks, by libfaketime: the wall clock of one city's node goes ahead or behind, also while it runs.

The monotonic clock stays right, as in a real machine whose time somebody sets.
"""

from pathlib import Path

PLACES = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
)


def library() -> Path | None:
    """libfaketime for programs with threads, if it is installed."""
    return next((Path(place) for place in PLACES if Path(place).exists()), None)


class Clocks:
    """A clock for each city."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        found = library()
        if found is None:
            raise RuntimeError("libfaketime is not installed; on Debian: apt-get install libfaketime")
        self._library = found

    def environment(self, city: str) -> dict[str, str]:
        """What makes a node of this city run by its own clock."""
        if not self._file(city).exists():
            self.set(city, ahead_s=0)
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file(city)),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, city: str, *, ahead_s: int) -> None:
        """From a second from now on."""
        self._file(city).write_text(f"{ahead_s:+d}\n", encoding="ascii")

    def _file(self, city: str) -> Path:
        return self._directory / f"{city}.clock"
