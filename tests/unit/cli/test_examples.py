"""Every example runs as it is written, as its own process."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from cityid.client import SyncClient, operations
from cityid.keys import generate

EXAMPLES = Path(__file__).parents[3] / "examples"


def run(name: str, *arguments: object, text: str = "") -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("CITYID_")}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *map(str, arguments)],
        input=text, capture_output=True, text=True, timeout=30, env=environment,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.strip()


def test_examples(hand: Any, gateway: str, tmp_path: Path) -> None:
    office = tmp_path / "office.pem"
    signer = generate(office)
    entry = operations.prove_possession(signer, hand.genesis.hash, "MA.156.130100.A7K2")
    with SyncClient(gateway, hand.trust) as client:
        admission = operations.admit_organisation("130100", "A7K2", name="parks", quota=5_000, keys=[entry])
        client.transact([admission], [hand.key("130100")])

    code, verdict = run("register_and_resolve.py", hand.genesis_file, office, "130100", "A7K2", gateway).split()
    assert verdict == "REGISTERED"
    (tmp_path / "answer.cbor").write_bytes(hand.answer(code).to_bytes())
    said = run("verify_offline.py", tmp_path / "answer.cbor", hand.genesis_file, code)
    assert said == f"REGISTERED at height {hand.ledger.height}, signed by 3 of 4 cities"
    mistyped = code[:-1] + ("0" if code[-1] != "0" else "1")
    codes = f"{code}\nMA.156.130100.ZZZZ\n{mistyped}\n"
    counted = run("many_codes.py", hand.genesis_file, gateway, text=codes)
    assert counted == "{'code': 1, 'REGISTERED': 1, 'NOT_REGISTERED': 1}"


def test_many_sealed_codes() -> None:
    issued, size, proven, each = run("hundred_million.py", 501_500).splitlines()
    assert issued.startswith("501500 codes in 2 sealed ranges")
    assert size.split()[0].isdigit()
    assert proven == "1000 present and 1000 absent: all proven"
    assert int(each.split()[3]) <= 3_500


def test_every_example_is_run_here() -> None:
    text = Path(__file__).read_text()
    for path in EXAMPLES.glob("*.py"):
        assert f'run("{path.name}"' in text
