"""What a node says about itself: events for people and machines, and figures for Prometheus.

Rules. A log is a stream of events: one JSON object a line, with `time` (UTC), `level`, `event` (a stable name) and
the event's own fields. A field holds a number, a text, a flag or a list of them; bytes are never written, only
counted, and a text that looks like a private key is replaced, so no key gets into a log even when someone passes one
by mistake. Texts are cut at `MAX_TEXT` characters, because some come from peers. `limited` is for events that an
outsider can cause at will: beyond `BURST` in `WINDOW_S` seconds they are only counted, and the count is written
afterwards. A sink that fails (a full disk) loses lines and counts them; it never stops the node.

Figures are pulled: each part counts in plain integers and offers them as a mapping; nothing on a hot path knows
Prometheus. This module knows nothing of the node.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, TextIO

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

__all__ = ["CONTENT_TYPE", "LEVELS", "Level", "Log", "Metrics", "open_log"]

Level = Literal["debug", "info", "warning", "error"]
LEVELS: Final[tuple[Level, ...]] = ("debug", "info", "warning", "error")

MAX_TEXT: Final = 1_000
MAX_ITEMS: Final = 100
BURST: Final = 20
WINDOW_S: Final = 10.0
MAX_LIMITED_EVENTS: Final = 256
"""How many event names `limited` tells apart; names are constants of the code, so this is never reached."""

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""Of `Metrics.text`."""


class _Sink:
    """Where lines go, what was lost, and the memory of `limited`; shared by a log and everything bound from it."""

    __slots__ = ("clock", "file", "lost_lines", "minimum", "windows")

    def __init__(self, file: TextIO, clock: Callable[[], float], minimum: Level) -> None:
        self.file = file
        self.clock = clock
        self.minimum = LEVELS.index(minimum)
        self.lost_lines = 0
        self.windows: dict[str, tuple[float, int]] = {}  # event → (window's start, events in it)


class Log:
    """Writes events. `bind` makes a log whose every event carries some more fields."""

    __slots__ = ("_fields", "_sink")

    def __init__(
        self,
        file: TextIO,
        *,
        clock: Callable[[], float] = time.time,
        level: Level = "info",
        fields: Mapping[str, object] | None = None,
    ) -> None:
        self._sink = _Sink(file, clock, level)
        self._fields = {name: _plain(value) for name, value in (fields or {}).items()}

    def bind(self, **fields: object) -> "Log":
        """The same log with more fields on every event."""
        bound = object.__new__(Log)
        bound._sink = self._sink
        bound._fields = self._fields | {name: _plain(value) for name, value in fields.items()}
        return bound

    @property
    def lost_lines(self) -> int:
        """How many events the sink could not take since the start."""
        return self._sink.lost_lines

    def debug(self, event: str, /, **fields: object) -> None:
        """Of use to someone who works on the program."""
        self._write("debug", event, fields)

    def info(self, event: str, /, **fields: object) -> None:
        """The normal life of a node."""
        self._write("info", event, fields)

    def warning(self, event: str, /, **fields: object) -> None:
        """Someone should look at it in working hours."""
        self._write("warning", event, fields)

    def error(self, event: str, /, **fields: object) -> None:
        """Someone should look at it now."""
        self._write("error", event, fields)

    def limited(self, level: Level, event: str, /, **fields: object) -> None:
        """An event that outsiders can cause at will: at most `BURST` in `WINDOW_S` seconds, the rest are counted."""
        sink = self._sink
        now = sink.clock()
        start, count = sink.windows.get(event, (now, 0))
        if not 0 <= now - start < WINDOW_S:  # also when the clock was set back
            if count > BURST:
                self._write(level, "events_suppressed", {"suppressed_event": event, "count": count - BURST})
            start, count = now, 0
        if event in sink.windows or len(sink.windows) < MAX_LIMITED_EVENTS:
            sink.windows[event] = (start, count + 1)
        if count < BURST:
            self._write(level, event, fields)

    def _write(self, level: Level, event: str, fields: Mapping[str, object]) -> None:
        sink = self._sink
        if LEVELS.index(level) < sink.minimum:
            return
        moment = datetime.fromtimestamp(sink.clock(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {"time": moment, "level": level, "event": event} | self._fields
        line |= {name: _plain(value) for name, value in fields.items()}
        try:
            sink.file.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")
            sink.file.flush()
        except (OSError, ValueError):  # ValueError: the file was closed
            sink.lost_lines += 1


@contextmanager
def open_log(path: Path | None, *, level: Level = "info", clock: Callable[[], float] = time.time) -> Iterator[Log]:
    """A log to a file (appended to, mode 0640) or, without a path, to standard error."""
    if path is None:
        yield Log(sys.stderr, clock=clock, level=level)
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
        yield Log(file, clock=clock, level=level)


def _plain(value: object) -> object:
    """A value that may stand in a log."""
    match value:
        case None | bool() | int() | float():
            return value
        case bytes() | bytearray() | memoryview():
            # Not even a digest: whoever wants to show one writes .hex() and so says that it is no secret.
            return f"<{len(value)} bytes>"
        case str():
            if "PRIVATE KEY" in value:
                return "<private key removed>"
            return value if len(value) <= MAX_TEXT else value[:MAX_TEXT] + "…"
        case Mapping():
            return {str(_plain(str(key))): _plain(item) for key, item in list(value.items())[:MAX_ITEMS]}
        case list() | tuple() | set() | frozenset():
            items = sorted(value, key=str) if isinstance(value, set | frozenset) else value
            return [_plain(item) for item in list(items)[:MAX_ITEMS]]
        case _:
            return _plain(str(value))


# ---------------------------------------------------------------- figures

Figures = Mapping[str, Any]


class Metrics:
    """A registry of its own with the HTTP figures, the process' figures, and whatever parts offer by `watch`."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._registry)
        self.http_requests = Counter(
            "cityid_http_requests", "HTTP requests by route and status.", ["route", "status"], registry=self._registry
        )
        self.http_seconds = Histogram(
            "cityid_http_seconds", "Time to the first byte of the answer.", ["route"], registry=self._registry,
            buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
        )  # fmt: skip

    def watch(self, part: str, figures: Callable[[], Figures]) -> None:
        """Offers a part's figures as `cityid_<part>_<name>`, read at each scrape.

        A name that ends in `_total` is a counter, any other a gauge. A figure is a number, or a mapping of label value
        to number, exposed under the label that the name ends in: `{"disconnects_total:reason": {"idle": 3}}`.
        """
        self._registry.register(_Watched(part, figures))

    def text(self) -> bytes:
        """All figures in the Prometheus text format 0.0.4."""
        return generate_latest(self._registry)


class _Watched(Collector):
    def __init__(self, part: str, figures: Callable[[], Figures]) -> None:
        self._part = part
        self._figures = figures

    def describe(self) -> Iterable[Metric]:
        # Without it the registry would collect once at registration, before the part has started.
        return []

    def collect(self) -> Iterator[Metric]:
        for key, figure in self._figures().items():
            name, _, label = key.partition(":")
            labelled: Mapping[str, float] = figure if isinstance(figure, Mapping) else {"": figure}
            labels = [label] if label else []
            full = f"cityid_{self._part}_{name}"
            title = f"{self._part}: {name.removesuffix('_total').replace('_', ' ')}"
            family: CounterMetricFamily | GaugeMetricFamily
            if name.endswith("_total"):
                family = CounterMetricFamily(full.removesuffix("_total"), title, labels=labels)
            else:
                family = GaugeMetricFamily(full, title, labels=labels)
            for value, number in labelled.items():
                family.add_metric([value] if label else [], number)
            yield family
