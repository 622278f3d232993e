"""The other commands, as processes or in-process, against one ledger behind HTTP: what they do, print and exit with."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cityid import cli
from cityid._native import Trust

LAMP = ("--city", "130100", "--org", "A7K2", "--use", "60", "--class", "010203", "--model", "1")


class Shell:
    """Runs `cityid` in this process; what it prints and its exit status."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys = capsys
        self._monkeypatch = monkeypatch
        self.err = ""

    def __call__(self, *arguments: object, status: int = 0) -> str:
        self._monkeypatch.setattr(sys, "argv", ["cityid", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, self.err = self._capsys.readouterr()
        assert caught.value.code == status, f"{arguments}: {out} {self.err}"
        return out

    def json(self, *arguments: object, status: int = 0) -> Any:
        """The one JSON object on stdout."""
        return json.loads(self(*arguments, "--json", status=status))


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Shell:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG", "CITYID_AT", "CITYID_TRUST", "CITYID_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return Shell(capsys, monkeypatch)


@pytest.fixture
def office(shell: Shell, hand: Any, gateway: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An admitted office with its category; its key file. Gateway and trust come from the environment."""
    monkeypatch.setenv("CITYID_AT", gateway)
    monkeypatch.setenv("CITYID_TRUST", str(hand.genesis_file))
    key = tmp_path / "office.pem"
    shell("keys", "new", key)
    proof = shell("keys", "possession", key, "--subject", "MA.156.130100.A7K2").strip()
    shell(
        "org", "admit", "--key", hand.key_file("130100"), "--city", "130100", "--org", "A7K2", "--name", "照明",
        "--quota", 5_000, "--holder", proof,
    )  # fmt: skip
    shell("item", "category", "register", "--key", key, *LAMP, "--name", "路灯")
    return key


def test_keys_are_private_never_printed_and_never_overwritten(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "k.pem"
    public = shell("keys", "new", path).strip()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    assert shell.json("keys", "show", path) == {"file": str(path), "public_key": public}
    shell("keys", "new", path, status=2)
    assert "never overwritten" in shell.err
    assert path.read_bytes() == before
    path.chmod(0o644)
    found = shell.json("keys", "show", path, status=2)
    assert found["error"]["type"] == "InputError"


def test_trust_is_pinned_by_its_words_only(shell: Shell, hand: Any, tmp_path: Path) -> None:
    shown = shell.json("trust", "show", hand.genesis_file)
    assert set(shown) == {"words", "genesis_hash", "height", "time_ms", "test", "validators"}
    shell("trust", "pin", hand.genesis_file, "--words", "one two three four five six", status=1)
    assert "differ" in shell.err
    assert not (tmp_path / "config").exists()
    shell("trust", "pin", hand.genesis_file, "--words", shown["words"].replace(" ", "-").upper())
    pinned = tmp_path / "config" / "cityid" / "trust.json"
    assert Trust.load(str(pinned)).words == shown["words"]
    assert shell.json("trust", "show")["genesis_hash"] == shown["genesis_hash"]
    shell("trust", "update", "--trust", hand.genesis_file, "--at", "http://127.0.0.1:1", status=2)
    assert "genesis file" in shell.err


def test_trust_is_fetched_compared_pinned_and_advanced(shell: Shell, hand: Any, gateway: str, tmp_path: Path) -> None:
    fetched = tmp_path / "fetched.json"
    words = shell.json("trust", "fetch", "--at", gateway, "--out", fetched)["words"]
    assert "Not believed yet" in shell.err
    assert words == hand.trust.words
    shell("trust", "pin", fetched, "--words", words)
    advanced = shell.json("trust", "update", "--at", gateway)
    assert int(advanced["height"]) == hand.ledger.height > 0
    assert advanced["genesis_hash"] == hand.genesis.hash.hex()
    assert advanced["words"] != words  # they say the height, too
    shell("trust", "pin", fetched, "--words", words, status=2)
    assert "never goes back" in shell.err
    pinned = shell.json("trust", "show")
    forged = bytearray.fromhex(hand.newest["certificate"])
    forged[-1] ^= 1
    hand.decide()
    hand.newest["certificate"] = forged.hex()
    assert shell.json("trust", "update", "--at", gateway, status=1)["error"]["type"] == "CertificateInvalid"
    assert shell.json("trust", "show") == pinned


def test_one_item_from_admission_to_retirement(shell: Shell, hand: Any, office: Path, tmp_path: Path) -> None:
    given = shell.json("range", "allocate", "--key", office, "--city", "130100", "--org", "A7K2", "--class", "010203")
    assert given["outputs"] == [{"base": 0, "size": 1_000}]
    disclosures = tmp_path / "d.jsonl"
    made = shell.json(
        "item",
        "register",
        "--key",
        office,
        *LAMP,
        "--serial",
        7,
        "--attribute",
        "名称=路灯",
        "--disclosures",
        disclosures,
    )
    code = made["subject"]
    assert stat.S_IMODE(disclosures.stat().st_mode) == 0o600
    assert json.loads(disclosures.read_text())["code"] == code
    shown = shell.json("item", "show", code)
    assert (shown["verdict"], shown["status"], shown["code"]) == ("REGISTERED", "active", code)
    shell("item", "suspend", code, "--expected-version", 1, "--key", office)
    shell("item", "reinstate", code, "--expected-version", 1, "--key", office, status=2)
    assert "stale_version" in shell.err
    shell("item", "update", code, "--expected-version", 2, "--key", office)
    shell("item", "reinstate", code, "--key", office)
    shell("item", "update", code, "--service", "web=https://lamp.example/7", "--key", office)
    record = shell.json("item", "show", code)["record"]
    assert (record["version"], list(record["commitments"])) == ("5", ["名称"])
    assert record["services"] == [["web", "https://lamp.example/7"]]
    shell("item", "update", code, "--drop", "名称", "--drop", "web", "--key", office)
    record = shell.json("item", "show", code)["record"]
    assert (record["version"], "commitments" in record, "services" in record) == ("6", False, False)
    shell("item", "retire", code, "--key", office)
    assert shell.json("item", "show", code)["status"] == "retired"
    shell("item", "show", "MA.156.130100.A7K2", status=2)
    assert shell.json("org", "show", "--city", "130100", "--org", "A7K2")["verdict"] == "REGISTERED"
    shell("org", "show", "--city", "130100", "--org", "ZZZZ", status=4)


def test_attributes_need_a_place_for_their_salts(shell: Shell, hand: Any, office: Path) -> None:
    before = len(hand.submitted)
    shell("item", "register", "--key", office, *LAMP, "--serial", 7, "--attribute", "name=lamp", status=2)
    assert "--disclosures" in shell.err
    assert len(hand.submitted) == before


def test_a_wrong_credit_code_is_refused_before_it_is_committed_to(shell: Shell, hand: Any, office: Path) -> None:
    before = len(hand.submitted)
    proof = shell("keys", "possession", office, "--subject", "MA.156.130100.B3Q8").strip()
    shell(
        "org", "admit", "--key", hand.key_file("130100"), "--city", "130100", "--org", "B3Q8", "--name", "x",
        "--quota", 1, "--holder", proof, "--uscc", "91310115MA1G4L1WXK", status=2,
    )  # fmt: skip
    assert len(hand.submitted) == before


def test_resolve_verifies_saves_and_says_the_verdict(shell: Shell, hand: Any, office: Path, tmp_path: Path) -> None:
    out = tmp_path / "answer.cbor"
    code = "MA.156.130100.A7K2"
    text = shell("resolve", f"https://label.example/{code}", "--out", out)
    assert text.splitlines()[:2] == [code, "REGISTERED (active)"]
    assert shell("verify", out, "--code", code).startswith("REGISTERED")
    assert shell.json("resolve", "MA.156.130100.ZZZZ", status=4)["verdict"] == "NOT_REGISTERED"
    assert shell.json("resolve", "MA.156.430121.1006", status=6)["verdict"] == "NOT_OURS"
    assert shell.json("resolve", code, "--min-height", 10**6, status=6)["was"] == "REGISTERED"
    hand.mood = "lying"
    assert shell.json("resolve", code, status=1)["error"]["type"] == "ProofInvalid"
    hand.mood = "mute"
    assert shell.json("resolve", code, status=3)["error"]["type"] == "PeerUnreachable"
    shell("resolve", code, "--at", "http://127.0.0.1:1", status=3)


def test_import_and_import_again(shell: Shell, hand: Any, office: Path, tmp_path: Path) -> None:
    register = tmp_path / "lamps.csv"
    register.write_text("编号,名称,经度\nL1,灯,114.5\nL2,灯,514.5\nL3,灯,114.6\n", encoding="utf-8-sig")
    first = shell.json("import", register, "--key", office, *LAMP)
    assert "编号 → id" in shell.err
    assert "line 3" in shell.err
    assert (first["read"], first["imported"], first["rejected"]) == (3, 2, 1)
    assert first["ranges"] == [{"base": 0, "size": 1_000}]
    records = hand.ledger.records
    again = shell.json("import", register, "--key", office, *LAMP)
    assert (again["imported"], again["already"], again["rejected"]) == (0, 2, 1)
    assert hand.ledger.records == records
    shell("import", register, "--key", office, *LAMP, "--map", "名称=", status=2)
    assert "another mapping" in shell.err
    shell("import", register, "--key", office, *LAMP, "--map", "名称", status=2)
    shell("import", register, "--key", office, *LAMP, "--datum", "BD09", status=2)
    code = json.loads((tmp_path / "lamps.csv.disclosures.jsonl").read_text().splitlines()[0])["code"]
    assert shell.json("resolve", code)["verdict"] == "REGISTERED"


def test_import_stops_with_the_reason_when_the_category_is_missing(
    shell: Shell, hand: Any, office: Path, tmp_path: Path
) -> None:
    register = tmp_path / "l.csv"
    register.write_text("id\nL1\n")
    other = ("--city", "130100", "--org", "A7K2", "--use", "60", "--class", "010203", "--model", "9")
    found = shell.json("import", register, "--key", office, *other, status=2)
    assert found["error"]["reason"] == "no_category"
    assert shell.json("import", register, "--key", office, *other, "--category-name", "灯")["imported"] == 1


def test_the_ceremony_gives_every_city_the_same_words(shell: Shell, tmp_path: Path) -> None:
    cities = ("130100", "110000", "440300", "330100")
    for index, city in enumerate(cities):
        shell("init", city, "--dir", tmp_path / city, "--peers", f"127.0.0.1:{20_000 + index}")
    shell("init", "130100", "--dir", tmp_path / "130100", status=2)
    entries = [tmp_path / city / "entry.json" for city in cities]
    words = []
    for number, order in enumerate((entries, entries[::-1])):
        out = tmp_path / f"out{number}"
        made = shell.json("genesis", *order, "--name", "test", "--out", out, "--time-ms", 1_790_000_000_000)
        words.append(made["words"])
        assert made["cities"] == sorted(cities)
    assert words[0] == words[1]
    from cityid.node.config import load

    node = tmp_path / "130100"
    (node / "node.toml").write_bytes((tmp_path / "out0" / "130100.node.toml").read_bytes())
    assert set(load(node / "node.toml").peers) == set(cities) - {"130100"}
    entry = json.loads(entries[0].read_text())
    entries[0].write_text(json.dumps(entry | {"tls": entry["consensus"]}))
    shell("genesis", *entries, "--name", "test", "--out", tmp_path / "out2", "--time-ms", 1, status=2)


def test_status_says_who_answers_and_three_when_nobody_does(shell: Shell, hand: Any, gateway: str) -> None:
    found = shell.json("status", "--at", gateway, "--at", "http://127.0.0.1:1")
    assert [row.get("city") for row in found["gateways"]] == ["130100", None]
    assert "error" in found["gateways"][1]
    shell("status", "--at", "http://127.0.0.1:1", status=3)
    shell("status", status=2)


def test_a_closed_pipe_is_no_accident(hand: Any) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "cityid", "trust", "show", str(hand.genesis_file)]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=30)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_node_takes_all_descriptors_that_the_system_allows() -> None:
    """In a process of its own, because a limit that was lowered for a test would be lowered for all."""
    program = (
        "import resource as r; most = r.getrlimit(r.RLIMIT_NOFILE)[1]; r.setrlimit(r.RLIMIT_NOFILE, (64, most));"
        "from cityid.cli.network import use_all_descriptors; before = r.getrlimit(r.RLIMIT_NOFILE)[0];"
        "use_all_descriptors(); print(before, r.getrlimit(r.RLIMIT_NOFILE)[0] == most)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "64 True\n"
