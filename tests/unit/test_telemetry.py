"""Events and figures: their form, their bounds, and that no key gets into them."""

import errno
import io
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client.parser import text_string_to_metric_families

from cityid import keys
from cityid.node.telemetry import BURST, MAX_TEXT, WINDOW_S, Log, Metrics, open_log


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def lines(file: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.getvalue().splitlines()]


def test_an_event_is_one_json_line() -> None:
    file = io.StringIO()
    log = Log(file, clock=Clock(), fields={"city": "130100"})
    log.bind(part="peers").info("peer_connected", peer="石家庄\n\x1b[31m", tip=7, tags={"b", "a"}, ok=True, none=None)
    assert file.getvalue().count("\n") == 1
    assert "\x1b" not in file.getvalue()
    assert lines(file) == [
        {
            "time": "2023-11-14T22:13:20.000Z", "level": "info", "event": "peer_connected", "city": "130100",
            "part": "peers", "peer": "石家庄\n\x1b[31m", "tip": 7, "tags": ["a", "b"], "ok": True, "none": None,
        }
    ]  # fmt: skip


def test_events_below_the_level_are_not_written() -> None:
    file = io.StringIO()
    log = Log(file, level="warning")
    log.debug("a")
    log.info("b")
    log.warning("c")
    log.error("d")
    assert [line["event"] for line in lines(file)] == ["c", "d"]


def test_no_key_material_reaches_a_log(tmp_path: Path) -> None:
    private = Ed25519PrivateKey.generate()
    raw = private.private_bytes_raw()
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    signer = keys.FileSigner(private)
    file = io.StringIO()
    log = Log(file, fields={"key": raw})
    log.error(
        "event", a=raw, b=bytearray(raw), c=memoryview(raw), d=pem.decode(), e=pem, f=signer, g=[raw], h={"k": raw}
    )
    log.bind(pem=pem.decode()).error("event", error=ValueError(pem.decode()), nested={"x": [{"y": pem.decode()}]})
    text = file.getvalue()
    body = "".join(pem.decode().splitlines()[1:-1])
    for secret in (raw.hex(), repr(raw)[2:20], repr(list(raw))[1:40], body, body[:20]):
        assert secret not in text
    assert "<32 bytes>" in text
    assert "<private key removed>" in text
    # The control: the scan finds a key when one is there.
    log.error("event", leak=raw.hex())
    assert raw.hex() in file.getvalue()


def test_texts_and_lists_are_bounded() -> None:
    file = io.StringIO()
    Log(file).info("event", text="x" * 100_000, items=list(range(100_000)))
    [line] = lines(file)
    assert line["text"] == "x" * MAX_TEXT + "…"
    assert len(line["items"]) == 100


def test_what_outsiders_cause_is_limited_and_counted() -> None:
    file, clock = io.StringIO(), Clock()
    log = Log(file, clock=clock)
    for _ in range(BURST + 1_000):
        log.limited("warning", "peer_refused", reason="tls")
    log.limited("warning", "other")
    assert [line["event"] for line in lines(file)] == ["peer_refused"] * BURST + ["other"]
    clock.now += WINDOW_S
    log.limited("warning", "peer_refused", reason="tls")
    suppressed, last = lines(file)[-2:]
    assert (suppressed["event"], suppressed["suppressed_event"], suppressed["count"]) == (
        "events_suppressed", "peer_refused", 1_000,
    )  # fmt: skip
    assert last["event"] == "peer_refused"
    clock.now -= 1_000_000  # a clock that is set back does not silence events
    log.limited("warning", "peer_refused", reason="tls")
    assert lines(file)[-1]["event"] == "peer_refused"


def test_a_full_disk_loses_lines_but_stops_nothing() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    log = Log(Full())
    log.error("event")
    log.bind(part="x").error("event")
    assert log.lost_lines == 2


def test_a_log_file_is_appended_to(tmp_path: Path) -> None:
    for event in ("first", "second"):
        with open_log(tmp_path / "node.log") as log:
            log.info(event)
    log.info("after the end")
    assert log.lost_lines == 1
    found = [json.loads(line)["event"] for line in (tmp_path / "node.log").read_text().splitlines()]
    assert found == ["first", "second"]
    assert stat.S_IMODE((tmp_path / "node.log").stat().st_mode) & 0o137 == 0


def test_figures_in_prometheus_form() -> None:
    metrics = Metrics()
    figures: dict[str, Any] = {"connected": 2, "frames_in_total": 5, "disconnects_total:reason": {"idle": 3, "tls": 1}}
    metrics.watch("peers", lambda: figures)
    metrics.http_requests.labels("/v1/status", "200").inc()
    figures["connected"] = 3  # read at each scrape, not when offered
    text = metrics.text().decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert families["cityid_peers_connected"].type == "gauge"
    assert families["cityid_peers_connected"].samples[0].value == 3
    assert families["cityid_peers_frames_in"].type == "counter"
    reasons = {sample.labels["reason"]: sample.value for sample in families["cityid_peers_disconnects"].samples}
    assert reasons == {"idle": 3, "tls": 1}
    assert "cityid_http_requests" in families
    assert "process_cpu_seconds" in families


def test_registries_are_separate() -> None:
    one, other = Metrics(), Metrics()
    one.watch("node", lambda: {"height": 1})
    other.watch("node", lambda: {"height": 2})
    assert "cityid_node_height 1.0" in one.text().decode()
    assert "cityid_node_height 2.0" in other.text().decode()
    with pytest.raises(AssertionError):
        assert "cityid_node_height 2.0" in one.text().decode()
