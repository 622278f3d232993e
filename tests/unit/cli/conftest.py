"""A network without nodes: the real ledger in this process, certified with the cities' keys, behind HTTP on loopback.

It decides a block for every request that brings transactions. What it leaves out is agreement: the four keys are in one
hand. `OneHand.mood` makes it misbehave as gateways do.
"""

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import pytest

from cityid import genesis, keys
from cityid._native import Answer, Genesis, Ledger, Snapshot, Trust
from cityid.keys import Signer

CITIES = (("130100", "石家庄"), ("110000", "北京"), ("440300", "深圳"), ("330100", "杭州"))
Mood = Literal["well", "lying", "stalled", "busy", "mute", "nonsense", "pending"]


class OneHand:
    """A ledger and everybody's keys."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.genesis: Genesis = genesis.create_network(directory, CITIES, name="one hand", time_ms=1_790_000_000_000)
        self.genesis_file = directory / "genesis.json"
        self.trust = Trust.load(str(self.genesis_file))
        self.ledger = Ledger(self.genesis)
        self.mood: Mood = "well"
        self.requests: list[str] = []
        self.submitted: list[bytes] = []
        self._old: Snapshot | None = None
        self._lock = threading.Lock()
        self._signers = [self.key(city, "consensus") for city in self.genesis.cities]
        self.decide()

    def key_file(self, city: str, purpose: str = "transaction") -> Path:
        return keys.key_path(self.directory / city / "keys", purpose)

    def key(self, city: str, purpose: str = "transaction") -> Signer:
        return keys.load(self.key_file(city, purpose))

    def decide(self) -> None:
        """One block of what waits, with a certificate of three of the four."""
        digests = b""
        while (sealed := self.ledger.seal(4_096, 1_048_576)) is not None:
            digests += sealed[0]
        height = self.ledger.height + 1
        now_ms = max(time.time_ns() // 1_000_000, self.ledger.time_ms + 1)
        candidate = self.ledger.execute(height, now_ms, self.genesis.cities[0], digests)
        place = height.to_bytes(8, "big") + bytes(4)
        no_round = b"\xff" * 4
        message = b"cityid/1/V" + self.genesis.hash + place + no_round + candidate.value  # P35
        signatures = b"".join(signer.sign(message) for signer in self._signers[:3])
        certificate = place + candidate.value + (4).to_bytes(2, "big") + b"\xe0" + signatures
        self.ledger.commit(candidate, certificate)
        path = self.ledger.inclusion(height, height + 1)
        self.newest = {"header": candidate.header.hex(), "log_path": path.hex(), "certificate": certificate.hex()}

    def stall(self) -> None:
        """Answers from the present height from now on, whatever is decided."""
        self._old = self.ledger.snapshot()
        self.mood = "stalled"

    def answer(self, code: str) -> Answer:
        source = self._old if self.mood == "stalled" and self._old is not None else self.ledger.snapshot()
        return source.answer(code)

    def respond(self, method: str, target: str, body: bytes) -> tuple[int, str, bytes]:
        """(status, media type, body) for one request."""
        with self._lock:
            path = unquote(urlsplit(target).path)
            self.requests.append(f"{method} {path}")
            if self.mood == "busy":
                return 429, "application/problem+json", b'{"type": "urn:cityid:problem:overloaded", "detail": "busy"}'
            if self.mood == "nonsense":
                return 200, "text/html", b"<html>a captive portal</html>"
            if path == "/v1/status":
                return self._json(
                    {"city": "130100", "height": str(self.ledger.height), "parameters": self.genesis.parameters()}
                )
            if path == "/v1/trust":
                return self._json({"newest": self.newest, "trust": json.loads(self.trust.to_json())})
            if path == "/v1/transactions":
                return self._transactions(body)
            if path == "/v1/resolve":
                codes = json.loads(body)["codes"]
                return self._json({"results": [json.loads(row) for row in self.ledger.resolve_many(codes)]})
            if re.match(r"/(v1/codes/|[Mm][Aa]\.)", path):
                code = path.removeprefix("/v1/codes/").removeprefix("/")
                data = self.answer(code).to_bytes()
                if self.mood == "lying":
                    data = data[:200] + bytes([data[200] ^ 1]) + data[201:]
                return 200, "application/cbor", data
            return (
                404,
                "application/problem+json",
                b'{"type": "urn:cityid:problem:not-found", "detail": "no such path"}',
            )

    def _transactions(self, body: bytes) -> tuple[int, str, bytes]:
        self.submitted.append(body)
        results = self.ledger.admit(body)
        if self.mood != "pending":
            self.decide()
        rows: list[dict[str, Any]] = []
        for id, reason, message in results:
            found = self.ledger.receipt(id)
            if reason is not None:
                rows.append({"id": id.hex(), "status": "refused", "reason": reason, "message": message})
            else:
                rows.append({"id": id.hex(), "status": "pending"} if found is None else json.loads(found[1]))
        return self._json({"transactions": rows})

    def _json(self, value: Any) -> tuple[int, str, bytes]:
        return 200, "application/json", json.dumps(value).encode()

    @contextmanager
    def serve(self) -> Iterator[str]:
        """The URL of a gateway on loopback."""
        hand = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 65_536  # one segment a reply: no delayed acknowledgements

            def handle_any(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                status, media_type, data = hand.respond(self.command, self.path, self.rfile.read(length))
                if hand.mood == "mute":
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("Content-Type", media_type)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = handle_any

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


@pytest.fixture
def hand(tmp_path: Path) -> OneHand:
    return OneHand(tmp_path / "network")


@pytest.fixture
def gateway(hand: OneHand) -> Iterator[str]:
    with hand.serve() as url:
        yield url
