"""`cityid verify`: every exit status, every forgery of the demo, and that no network is touched or even imported."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cityid._native import make_item_code
from cityid.cli.demo import tamper
from cityid.cli.messages import STATUS, VERDICT
from cityid.cli.output import VERDICT_EXIT
from cityid.client import SyncClient, operations
from cityid.client.operations import Item
from cityid.keys import generate

GUARD = """
import sys
def refuse(event, arguments):
    if event.startswith("socket."):
        raise OSError(f"the program touches the network: {event}")
sys.addaudithook(refuse)
from cityid.cli import main
try:
    main()
finally:
    heavy = {"trio", "httpx", "rocksdict", "anyio", "asyncio", "ssl", "fastapi", "hypercorn"} & set(sys.modules)
    if heavy:
        sys.stderr.write(f"imported: {sorted(heavy)}")
"""
COMMITMENT = bytes(range(32))


def verify(*arguments: object, guard: str = GUARD, **environment: str) -> tuple[int, str, str]:
    """(exit status, stdout, stderr) of a new process without sockets."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CITYID_", "LC_", "LANG"))}
    command = [sys.executable, "-c", guard, "verify", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=clean | environment, timeout=30)
    return done.returncode, done.stdout, done.stderr


def register(hand: Any, gateway: str, directory: Path) -> str:
    """One registered lamp, with a commitment that is known here; its code."""
    office = generate(directory / "office.pem")
    entry = operations.prove_possession(office, hand.genesis.hash, "MA.156.130100.A7K2")
    with SyncClient(gateway, hand.trust) as client:
        admission = operations.admit_organisation("130100", "A7K2", name="office", quota=5_000, keys=[entry])
        client.transact([admission], [hand.key("130100")])
        client.transact(
            [
                operations.allocate_range("130100", "A7K2", class_code="010203"),
                operations.register_category("130100", "A7K2", use="60", class_code="010203", model="1", name="lamp"),
                operations.register_items(
                    "130100", "A7K2", use="60", class_code="010203", model="1", items=[Item(5, {"id": COMMITMENT})]
                ),
            ],
            [office],
        )
    return make_item_code("130100", "A7K2", "60", "010203", "1", 5)


def save(hand: Any, code: str, path: Path) -> Path:
    path.write_bytes(hand.answer(code).to_bytes())
    return path


def test_each_verdict_has_its_exit_status(hand: Any, gateway: str, tmp_path: Path) -> None:
    code = register(hand, gateway, tmp_path)
    trust = ("--trust", hand.genesis_file)
    good = save(hand, code, tmp_path / "good.cbor")
    height = hand.ledger.height

    status, out, err = verify(good, *trust, "--code", code)
    assert (status, err) == (0, "")
    assert out.startswith("REGISTERED (active)")
    assert "3 of 4 cities" in out
    assert "TEST" in out

    absent = make_item_code("130100", "A7K2", "60", "010203", "1", 6)
    other = make_item_code("130100", "B3Q8", "60", "010203", "1", 5)
    cases = [
        (4, "NOT_REGISTERED", absent, ()),
        (4, "MISMATCH", other, ()),
        (6, "NOT_OURS", "MA.156.430121.1006/10.29000000.PG100001", ()),
        (6, "UNKNOWN", code, ("--min-height", str(height + 1))),
        (6, "UNKNOWN", code, ("--max-age", "0")),
    ]
    for expected, verdict, asked, options in cases:
        path = save(hand, asked, tmp_path / "case.cbor")
        status, out, err = verify(path, *trust, "--json", *options)
        assert (status, json.loads(out)["verdict"], err) == (expected, verdict, ""), (verdict, out)

    status, out, _ = verify(good, *trust, "--code", absent)
    assert status == 1
    assert "failed step" in out


def test_max_age_any_says_was_and_claims_nothing_current(hand: Any, gateway: str, tmp_path: Path) -> None:
    code = register(hand, gateway, tmp_path)
    good = save(hand, code, tmp_path / "good.cbor")
    status, out, _ = verify(good, "--trust", hand.genesis_file, "--max-age", "any", "--json")
    assert status == 0
    assert json.loads(out)["current"] is False
    status, out, _ = verify(good, "--trust", hand.genesis_file, "--json")
    assert json.loads(out)["current"] is True


def test_json_answers_and_binary_answers_are_one(hand: Any, gateway: str, tmp_path: Path) -> None:
    code = register(hand, gateway, tmp_path)
    path = tmp_path / "answer.json"
    path.write_text(hand.answer(code).to_json())
    status, out, _ = verify(path, "--trust", hand.genesis_file, "--code", code, "--json")
    assert (status, json.loads(out)["verdict"]) == (0, "REGISTERED")
    path.write_text('{"cityid": "no answer"}')
    status, out, _ = verify(path, "--trust", hand.genesis_file, "--json")
    assert (status, json.loads(out)["verdict"], json.loads(out)["steps"][-1]["passed"]) == (1, "INVALID", False)


def test_every_forgery_of_the_demo_is_refused_and_its_control_passes(hand: Any, gateway: str, tmp_path: Path) -> None:
    code = register(hand, gateway, tmp_path)
    good = hand.answer(code).to_bytes()
    forgeries = {
        "record": tamper.change_record(good, COMMITMENT),
        "proof": tamper.change_proof(good),
        "signatures": tamper.strip_signatures(good, keep=2),
    }
    steps = {}
    for name, forged in forgeries.items():
        assert forged != good
        path = tmp_path / f"{name}.cbor"
        path.write_bytes(forged)
        status, out, _ = verify(path, "--trust", hand.genesis_file, "--code", code, "--json")
        assert status == 1, name
        steps[name] = json.loads(out)["steps"][-1]
        assert steps[name]["passed"] is False
        # Refused by a proof and not by the parser: else the edit was a clumsy one.
        assert steps[name]["name"] != "format", name
    assert "3 are needed" in steps["signatures"]["detail"]
    # Control: the same edits that change nothing are accepted.
    path = tmp_path / "control.cbor"
    path.write_bytes(tamper.strip_signatures(good, keep=3))
    assert path.read_bytes() == good
    assert verify(path, "--trust", hand.genesis_file, "--code", code)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("missing.cbor", "--trust", "GENESIS"), 2, "missing.cbor"),
        (("GENESIS",), 2, "No trust file"),
        (("GENESIS", "--trust", "missing.json"), 2, "missing.json"),
        (("GENESIS", "--trust", "GENESIS", "--max-age", "soon"), 2, "--max-age"),
        (("GENESIS", "--trust", "GENESIS", "--min-height", "-1"), 2, "min-height"),
        (("GENESIS", "--trust", "GENESIS", "--nonsense"), 2, "nonsense"),
        ((), 2, "FILE"),
    ],
)
def test_wrong_usage_is_said_and_is_two(
    hand: Any, tmp_path: Path, arguments: tuple[str, ...], status: int, says: str
) -> None:
    given = [str(hand.genesis_file) if argument == "GENESIS" else argument for argument in arguments]
    found, out, err = verify(*given, XDG_CONFIG_HOME=str(tmp_path))
    assert (found, out) == (status, "")
    assert says in err


def test_the_guard_of_these_tests_catches_a_socket(tmp_path: Path) -> None:
    opens = GUARD.replace("from cityid.cli import main", "import socket; socket.socket(); from cityid.cli import main")
    status, _, err = verify("x", guard=opens)
    assert status == 1
    assert "touches the network" in err


def test_chinese_for_those_who_read_it(hand: Any, gateway: str, tmp_path: Path) -> None:
    good = save(hand, register(hand, gateway, tmp_path), tmp_path / "good.cbor")
    _, out, _ = verify(good, "--trust", hand.genesis_file, LANG="zh_CN.UTF-8")
    assert out.startswith("已登记 (有效)")
    assert "4 城中 3 城签名" in out
    _, out, _ = verify(good, "--trust", hand.genesis_file, LANG="zh_CN.UTF-8", LC_ALL="C.UTF-8")
    assert out.startswith("REGISTERED")


def test_both_languages_say_everything_and_nothing_calls_a_thing_real_or_fake() -> None:
    from string import Formatter

    from cityid.cli.demo.lines import LINES

    assert set(VERDICT) == set(VERDICT_EXIT)
    for table in (VERDICT, STATUS, LINES):
        for key, (chinese, english) in table.items():
            fields = [{name for _, name, _, _ in Formatter().parse(text) if name} for text in (chinese, english)]
            assert fields[0] == fields[1], key
            assert any("\u4e00" <= letter <= "\u9fff" for letter in chinese), key
            assert not any("\u4e00" <= letter <= "\u9fff" for letter in english), key
            for word in ("genuine", "counterfeit", "正品", "假货", "真品"):
                assert word not in (chinese + english).lower(), key
