"""Every parser in Python that reads what somebody else wrote, fed with anything: it returns or refuses by name.

A *parser* is a function of bytes. It may raise what its module says (a `CityIDError`) and nothing else; no other
exception is a refusal. Inputs are random bytes, good inputs that are cut, edited and spliced, and nesting deep enough
to exhaust a recursive reader. `CITYID_FUZZ_EXAMPLES` makes the search longer: `make fuzz NAME=python`.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cityid import _native, genesis, keys
from cityid.audit import folder
from cityid.cli import founding, governing, joining
from cityid.client import private_lines, replies, schemas
from cityid.client.importing.journal import Journal
from cityid.client.importing.rows import read_table
from cityid.client.prepared import Prepared
from cityid.errors import CityIDError, MalformedInput
from cityid.node import config, messages, wal
from cityid.node.config import Limits
from cityid.node.control import codes
from cityid.node.control.problems import Problem
from cityid.node.exchange import payloads
from cityid.node.frames import HELLO, FrameReader, Hello, encode_frame
from cityid.node.wal import VoteLog

EXAMPLES = int(os.environ.get("CITYID_FUZZ_EXAMPLES", "25"))
GOLDEN = Path(__file__).parents[1] / "conformance" / "golden"
DEEP = 100_000


@dataclass(frozen=True, slots=True)
class Parser:
    """A function of bytes, and inputs that it takes. `folder` is a scratch place for what is read from files."""

    run: Callable[[bytes, Path], object]
    good: tuple[bytes, ...]


def golden(name: str) -> bytes:
    return (GOLDEN / name).read_bytes()


def in_file(name: str, run: Callable[[Path], object]) -> Callable[[bytes, Path], object]:
    def parse(data: bytes, place: Path) -> object:
        path = place / name
        path.unlink(missing_ok=True)
        path.touch(0o600)
        path.write_bytes(data)
        return run(path)

    return parse


def table(path: Path) -> object:
    with path.open("rb") as file:
        return list(read_table(path, file, chosen={}).rows)


def journal(path: Path) -> None:
    with Journal.open(path.with_name(path.name.removesuffix(".import.jsonl")), {"city": "130100"}):
        pass


def frames(data: bytes) -> object:
    """As one read and as single bytes: the same frames, or the same refusal."""
    whole, parts = FrameReader(), FrameReader()
    try:
        found = whole.feed(data)
    except MalformedInput:
        with pytest.raises(MalformedInput):
            feed_bytewise(parts, data)
        raise
    assert feed_bytewise(parts, data) == found
    return found


def feed_bytewise(reader: FrameReader, data: bytes) -> list[tuple[int, bytes]]:
    return [frame for byte in data for frame in reader.feed(bytes([byte]))]


def payload(decode: Callable[[bytes], object], encode: Callable[..., bytes]) -> Callable[[bytes, Path], object]:
    """What is decoded is encoded to the same bytes."""

    def parse(data: bytes, _: Path) -> object:
        found = decode(data)
        assert encode(found) == data
        return found

    return parse


def vote_log(path: Path) -> None:
    log = VoteLog.open(path)
    try:
        log.recover(1)
    finally:
        log.close()


def body(read: Callable[[bytes], object]) -> Callable[[bytes, Path], object]:
    """A body of a request, whose refusal is a problem with a name (RFC 9457)."""

    def parse(data: bytes, _: Path) -> object:
        try:
            return read(data)
        except Problem as problem:
            raise MalformedInput(str(problem.response().body)) from None

    return parse


def no_receipt(data: bytes, _: Path) -> object:
    """Its words are made fit for a log, so they are only the same once they have been."""
    found = payloads.decode_no_receipt(data)
    again = payloads.decode_no_receipt(payloads.encode_no_receipt(found))
    assert (again.digest, again.version, again.reason) == (found.digest, found.version, found.reason)
    return found


def reply(data: bytes, _: Path) -> None:
    for status in (200, 202, 400, 404, 429, 500):
        assert isinstance(replies.failure(replies.Reply(status, JSON, data)), CityIDError)
    replies.receipts(replies.Reply(200, JSON, data))


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("parsers") / "network"
    cities = [("110000", "北京"), ("130100", "石家庄"), ("330100", "杭州"), ("440300", "深圳")]
    genesis.create_network(directory, cities, name="tests", time_ms=1_790_000_000_000, passphrase=b"open")
    return directory


JSON = replies.JSON
HASH = bytes(range(32))
RECEIPTS = json.dumps({"transactions": [{"id": "00" * 32, "status": "committed", "height": "7", "outputs": [None]}]})
NAMES = (
    "block", "certificate", "change", "cosignature", "csv", "digests", "entry", "frames", "genesis", "geojson", "hello",
    "history", "json folder", "journal", "key", "no part", "no receipt", "node.toml", "operations", "own entry", "part",
    "passphrase", "prepared", "private lines", "proposal", "receipt", "reply",
    "resolve body", "schema", "status", "trust", "vote log",
    "want blocks", "want part", "want receipt",
)  # fmt: skip


def parsers(network: Path) -> Mapping[str, Parser]:
    city = network / "110000"
    key = (city / "keys" / "tls.pem").read_bytes()
    certificate = (network / "certificates" / "110000.pem").read_bytes()
    header, commit = b"header", b"certificate"
    operation = json.dumps(
        [{"op": "register_category", "city": "130100", "use": "60", "class": "010203", "model": "1", "name": "x"}]
    )
    made = network / "votes"
    if not made.exists():
        with pytest.MonkeyPatch.context() as small:
            small.setattr(wal, "PREALLOCATED_BYTES", 6 * wal.BLOCK_BYTES)
            VoteLog.create(made)
    log = VoteLog.open(made)
    log.recover(1)
    log.append(1, [b"entry"])
    log.close()
    votes = made.read_bytes()
    status = messages.encode_status(messages.Status(7, HASH, 2))
    features = [{"type": "Feature", "id": 1, "properties": {"a": 1}, "geometry": {"coordinates": [1.5, 2]}}]
    return {
        "block": Parser(
            payload(messages.decode_block, messages.encode_block),
            (messages.encode_block(messages.Block(7, header, commit, HASH, (b"body",))),),
        ),
        "certificate": Parser(lambda data, _: keys.parse_certificate(data), (certificate,)),
        "change": Parser(in_file("change.json", governing._read_change), (b'{"change": "remove_city"}',)),
        "cosignature": Parser(payload(messages.decode_cosignature, messages.encode_cosignature), (bytes(72),)),
        "csv": Parser(in_file("t.csv", table), (b'id,name,longitude\n1,"a\nb",1.5\n2,,\n',)),
        "digests": Parser(payload(messages.decode_digests, messages.encode_digests), (HASH * 3,)),
        "entry": Parser(in_file("entry.json", founding._entry), (entry(certificate),)),
        "frames": Parser(
            lambda data, _: frames(data),
            (encode_frame(HELLO, bytes(48)) + encode_frame(messages.BATCH, b"body"),),
        ),
        "genesis": Parser(in_file("genesis.json", genesis.load), (golden("genesis.json"),)),
        "geojson": Parser(
            in_file("t.geojson", table),
            (json.dumps({"type": "FeatureCollection", "features": features}).encode(),),
        ),
        "hello": Parser(lambda data, _: Hello.parse(data), (Hello(HASH, "130100", 7).encode(),)),
        "history": Parser(lambda data, _: _native.History.from_bytes(data), (golden_hex("history-short.hex"),)),
        "json folder": Parser(in_file("page.json", folder.read_json), (b'{"a": 1}',)),
        "journal": Parser(in_file("t.csv.import.jsonl", journal), (journal_lines(),)),
        "key": Parser(in_file("tls.pem", lambda path: keys.load(path, passphrase=b"open")), (key,)),
        "no part": Parser(payload(payloads.decode_no_part, payloads.encode_no_part), (bytes(41),)),
        "no receipt": Parser(no_receipt, (payloads.encode_no_receipt(payloads.NoReceipt(HASH, 1, "slow", "why")),)),
        "node.toml": Parser(in_file("node.toml", config.load), ((city / "node.toml").read_bytes(),)),
        "operations": Parser(
            lambda data, _: _native.build_transaction(HASH, 9, bytes(16), [HASH], data.decode()), (operation.encode(),)
        ),
        "own entry": Parser(
            in_file("entry.json", lambda path: joining._entry("110000", path.parent)), (entry(certificate),)
        ),
        "part": Parser(payload(payloads.decode_part, payloads.encode_part), (part(),)),
        "passphrase": Parser(in_file("passphrase", keys.read_private_file), (b"open\n",)),
        "prepared": Parser(
            lambda data, _: Prepared.from_json(data.decode()),
            (json.dumps({"cityid": "transaction", "body": "86", "signatures": {}}).encode(),),
        ),
        "private lines": Parser(in_file("lines", lines), (b'{"a": 1}\n{"b": 2}\n',)),
        "proposal": Parser(
            payload(messages.decode_proposal, messages.encode_proposal),
            (messages.encode_proposal(messages.Proposal(7, 0, -1, header, HASH)),),
        ),
        "receipt": Parser(payload(payloads.decode_receipt, payloads.encode_receipt), (bytes(104),)),
        "reply": Parser(reply, (RECEIPTS.encode(),)),
        "resolve body": Parser(
            body(lambda data: codes._parse_many(data, Limits())), (b'{"codes": ["MA.156.130100"], "proof": true}',)
        ),
        "schema": Parser(lambda data, _: schemas.parse_schema(data), (b'{"type": "object", "properties": {"a": {}}}',)),
        "status": Parser(payload(messages.decode_status, messages.encode_status), (status,)),
        "trust": Parser(
            lambda data, _: _native.Trust.from_json(data.decode()), (golden("trust.json"), golden("genesis.json"))
        ),
        "vote log": Parser(in_file("votes", vote_log), (votes,)),
        "want blocks": Parser(
            payload(messages.decode_want_blocks, messages.encode_want_blocks),
            (messages.encode_want_blocks(messages.WantBlocks(7, 2)),),
        ),
        "want part": Parser(
            payload(payloads.decode_want_part, payloads.encode_want_part),
            (payloads.encode_want_part(payloads.WantPart(HASH, 0, 9)),),
        ),
        "want receipt": Parser(payload(payloads.decode_want_receipt, payloads.encode_want_receipt), (bytes(48),)),
    }


def golden_hex(name: str) -> bytes:
    return bytes.fromhex(golden(name).decode())


def part() -> bytes:
    return payloads.encode_part(payloads.Part(HASH, 0, 9, b"123456789"))


def entry(certificate: bytes) -> bytes:
    parsed = keys.parse_certificate(certificate)
    fields = dict.fromkeys(("consensus", "checkpoint", "transaction"), "00" * 32) | {"tls": parsed.public_key.hex()}
    named = {"city": parsed.city, "name": "北京", "peers": "h:1", "http": "h:2", "certificate": certificate.decode()}
    return json.dumps(fields | named).encode()


def journal_lines() -> bytes:
    """Whatever a first line has to say, by the program itself."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as place:
        source = Path(place) / "t.csv"
        with Journal.open(source, {"city": "130100"}) as made:
            made.note_reserved(0, 1_000)
        return source.with_name("t.csv.import.jsonl").read_bytes()


def lines(path: Path) -> object:
    with private_lines.open_private(path) as file:
        return private_lines.read_lines(file, path)


def refused_by_name(parser: Parser, data: bytes, place: Path) -> bool:
    """Whether the parser refused; any exception that is no refusal is a finding."""
    try:
        parser.run(data, place)
    except CityIDError:
        return True
    except UnicodeDecodeError:
        # Some parsers take text: whoever calls them decodes, and says so.
        if is_text(data):
            raise
        return True
    return False


def is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


edits = st.lists(st.tuples(st.integers(0, 1 << 16), st.binary(min_size=0, max_size=6), st.integers(0, 8)), max_size=4)


def edited(good: bytes, changes: list[tuple[int, bytes, int]]) -> bytes:
    """Pieces replaced by others of any length."""
    data = good
    for place, piece, length in changes:
        at = place % (len(data) + 1)
        data = data[:at] + piece + data[at + length :]
    return data


@pytest.mark.parametrize("name", NAMES)
def test_a_parser_returns_or_refuses_by_name(name: str, network: Path, tmp_path: Path) -> None:
    parser = parsers(network)[name]
    for good in parser.good:
        if name not in ("prepared", "no part", "want receipt"):
            assert not refused_by_name(parser, good, tmp_path), "the control: it takes what is good"

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.binary(max_size=300), edits, st.integers(0, 1 << 16), st.sampled_from(parser.good))
    def search(anything: bytes, changes: list[tuple[int, bytes, int]], cut: int, good: bytes) -> None:
        refused_by_name(parser, anything, tmp_path)
        refused_by_name(parser, edited(good, changes), tmp_path)
        refused_by_name(parser, good[: cut % (len(good) + 1)], tmp_path)

    search()
    for deep in (b"[" * DEEP, b'{"a":' * DEEP, b"a = " + b"[" * DEEP, b"\x81" * DEEP, b'[{"op":' + b"[" * DEEP):
        refused_by_name(parser, deep, tmp_path)
    for good in parser.good[:1]:
        refused_by_name(parser, good + good, tmp_path)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1e-999", "9" * 5_000, "NaN"])
def test_numbers_that_no_integer_holds_are_refused_by_name(number: str) -> None:
    status = json.loads(f'{{"height": {number}}}') if len(number) < 100 else {"height": number}
    for data in (RECEIPTS.replace('"7"', number).encode(), RECEIPTS.replace('"7"', f'"{number}"').encode()):
        if number != "1e-999":
            with pytest.raises(MalformedInput):
                replies.receipts(replies.Reply(200, JSON, data))
    if number == "1e-999":
        assert replies.whole_number(status, "height") == 0, "the control"
    else:
        with pytest.raises(MalformedInput):
            replies.whole_number(status, "height")


def test_every_parser_is_searched(network: Path) -> None:
    assert sorted(parsers(network)) == sorted(NAMES)


def test_control_an_exception_that_is_no_refusal_is_found(tmp_path: Path) -> None:
    nothing: dict[bytes, object] = {}
    with pytest.raises(KeyError):
        refused_by_name(Parser(lambda data, _: nothing[data], ()), b"", tmp_path)
    with pytest.raises(AssertionError):
        refused_by_name(Parser(payload(messages.decode_digests, lambda _: b"other"), ()), HASH, tmp_path)
