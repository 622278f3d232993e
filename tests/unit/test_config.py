"""node.toml: what it may say, and that every mistake is named."""

from dataclasses import fields
from pathlib import Path

import pytest

from cityid.errors import InputError
from cityid.node import config
from cityid.node.config import Address, Limits, Timeouts

GOOD = """
city = "130100"

[listen]
peers = "0.0.0.0:27100"
http = "[::1]:28100"

[peers]
110000 = "beijing.example:27100"
440300 = "[2001:db8::1]:27100"
"""


def write(directory: Path, text: str) -> Path:
    (directory / "node.toml").write_text(text)
    return directory / "node.toml"


def test_a_small_file_is_enough(tmp_path: Path) -> None:
    loaded = config.load(write(tmp_path, GOOD))
    assert loaded.city == "130100"
    assert (loaded.genesis, loaded.keys) == (tmp_path / "genesis.json", tmp_path / "keys")
    assert (loaded.certificates, loaded.data) == (tmp_path / "certificates", tmp_path / "data")
    assert loaded.listen_peers == Address("0.0.0.0", 27_100)
    assert loaded.listen_http == Address("::1", 28_100)
    assert str(loaded.peers["440300"]) == "[2001:db8::1]:27100"
    assert (loaded.limits, loaded.timeouts) == (Limits(), Timeouts())
    assert loaded.passphrase() is None


def test_every_setting_can_be_given(tmp_path: Path) -> None:
    text = GOOD.replace('city = "130100"', 'city = "130100"\ndata = "/srv/cityid"\npassphrase_file = "secret"')
    text += (
        '\n[log]\nfile = "node.log"\nlevel = "debug"\n[limits]\nhttp_body_bytes = 100_000\n[timeouts]\nstop_ms = 900\n'
    )
    loaded = config.load(write(tmp_path, text))
    assert loaded.data == Path("/srv/cityid")
    assert (loaded.log_file, loaded.log_level) == (tmp_path / "node.log", "debug")
    assert (loaded.limits.http_body_bytes, loaded.timeouts.stop_ms) == (100_000, 900)
    (tmp_path / "secret").write_text("correct horse\n")
    (tmp_path / "secret").chmod(0o644)
    with pytest.raises(InputError, match="chmod 600"):
        loaded.passphrase()
    (tmp_path / "secret").chmod(0o600)
    assert loaded.passphrase() == b"correct horse"


def test_defaults_are_within_their_own_ranges() -> None:
    for kind in (Limits, Timeouts):
        for setting in fields(kind):
            assert setting.metadata["minimum"] <= setting.default <= setting.metadata["maximum"], setting.name
            # Units end names, except for plain counts.
            assert setting.name.endswith("_ms") is (kind is Timeouts), setting.name


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('city = "130100"', "", "city is missing"),
        ('city = "130100"', "city = 130100", "city is text in quotes"),
        ('city = "130100"', 'city = "1301"', "'1301' is no city code"),
        ('city = "130100"', 'city = "١٣٠١٠٠"', "is no city code"),
        ('city = "130100"', 'city = "130100"\ngenesys = "x"', "genesys is no setting; did you mean genesis?"),
        ("[listen]", "[listen]\nport = 1", "listen.port is no setting; known here: peers, http"),
        ('peers = "0.0.0.0:27100"', "", "listen.peers is missing"),
        ('"0.0.0.0:27100"', '"0.0.0.0"', "listen.peers: '0.0.0.0' is no address; write host:port"),
        ('"0.0.0.0:27100"', '"0.0.0.0:70000"', "is no address"),
        ('"0.0.0.0:27100"', '"0.0.0.0:٢"', "is no address"),
        ('"0.0.0.0:27100"', '"::1:27100"', "ambiguous; write an IPv6 host in brackets"),
        ('"0.0.0.0:27100"', '"a b:1"', "has spaces"),
        ("110000 =", "130100 =", "peers.130100 is this node itself"),
        ("110000 =", "beijing =", "peers: 'beijing' is no city code"),
        ("beijing.example:27100", "beijing.example:0", "peers.110000 has port 0"),
        ("[peers]", "[limits]\nhttp_body_byte = 1\n[peers]", "did you mean limits.http_body_bytes?"),
        ("[peers]", "[limits]\nhttp_body_bytes = 0\n[peers]", "limits.http_body_bytes is a whole number from 65536"),
        ("[peers]", "[limits]\nhttp_body_bytes = true\n[peers]", "limits.http_body_bytes is a whole number"),
        ("[peers]", "[limits]\nhttp_body_bytes = 1e6\n[peers]", "limits.http_body_bytes is a whole number"),
        (
            "[peers]",
            "[timeouts]\nidle_ms = 99999999\n[peers]",
            "timeouts.idle_ms is a whole number from 1000 to 600000",
        ),
        ("[peers]", "[timeouts]\nreconnect_first_ms = 9000\n[peers]", "reconnect_first_ms is above"),
        ("[peers]", '[log]\nlevel = "loud"\n[peers]', "log.level is one of debug, info, warning, error"),
        ("[listen]", "listen = 1\n[other]", "listen is a table"),
        ("[peers]", "[peers", "is not TOML"),
    ],
)
def test_each_mistake_is_named(tmp_path: Path, before: str, after: str, words: str) -> None:
    assert before in GOOD
    with pytest.raises(InputError) as refused:
        config.load(write(tmp_path, GOOD.replace(before, after)))
    assert words in str(refused.value)
    assert str(tmp_path / "node.toml") in str(refused.value)


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("130100", "x").replace("27100", "") + "[limits]\nwrong = 1\n"
    with pytest.raises(InputError) as refused:
        config.load(write(tmp_path, text))
    for words in ("'x' is no city code", "listen.peers", "peers.110000", "peers.440300", "limits.wrong"):
        assert words in str(refused.value)


def test_files_that_cannot_be_settings(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        config.load(tmp_path / "node.toml")
    with pytest.raises(InputError, match="cannot be read"):
        config.load(tmp_path)
    (tmp_path / "node.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="is not TOML"):
        config.load(tmp_path / "node.toml")
    (tmp_path / "node.toml").write_bytes(b"#" * 300_000)
    with pytest.raises(InputError, match="larger than"):
        config.load(tmp_path / "node.toml")
