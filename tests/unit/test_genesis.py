"""Making a network: the files, their modes, and that nothing is overwritten or half made."""

import json
import stat
import tomllib
from pathlib import Path

import pytest

from cityid import genesis, keys
from cityid._native import Genesis
from cityid.errors import InputError
from cityid.node import config

CITIES = [("440300", "深圳市"), ("130100", "石家庄市"), ("110000", "北京市"), ("330100", "杭州市")]
CODES = sorted(code for code, _ in CITIES)


def create(directory: Path, **changes: object) -> Genesis:
    arguments: dict[str, object] = {"name": "测试", "time_ms": 1_790_000_000_000} | changes
    return genesis.create_network(directory, CITIES, **arguments)  # type: ignore[arg-type]


def test_the_genesis_file_is_that_of_the_protocol(tmp_path: Path) -> None:
    made = create(tmp_path / "network", parameters={"heartbeat_ms": 500})
    document = json.loads((tmp_path / "network" / "genesis.json").read_text(encoding="utf-8"))
    assert list(document) == ["cityid", "name", "prefix", "suite", "test", "time_ms", "parameters", "cities"]  # P4
    assert document["cityid"] == "genesis"
    assert (document["prefix"], document["suite"], document["test"]) == ("MA.156", 1, True)
    assert document["time_ms"] == "1790000000000"
    assert [city["city"] for city in document["cities"]] == CODES
    assert document["cities"][0]["name"] == "北京市"
    seen = [city[purpose] for city in document["cities"] for purpose in ("consensus", "checkpoint", "tls")]
    seen += [key for city in document["cities"] for key in city["transaction"]]
    assert len(set(seen)) == 16
    assert all(len(key) == 64 and key == key.lower() for key in seen)

    loaded = genesis.load(tmp_path / "network" / "genesis.json")
    assert loaded.hash == made.hash
    assert loaded.parameters() == dict(genesis.PARAMETERS) | {"heartbeat_ms": 500}  # P6
    assert (loaded.name, loaded.test, loaded.time_ms, loaded.cities) == ("测试", True, 1_790_000_000_000, CODES)


def test_each_city_gets_all_it_needs_and_nobody_elses_keys(tmp_path: Path) -> None:
    made = create(tmp_path / "network")
    root = tmp_path / "network"
    public = set()
    for city in CODES:
        settings = config.load(root / city / "node.toml")
        assert settings.city == city
        assert sorted(settings.peers) == [other for other in CODES if other != city]
        assert all(
            settings.peers[other] == config.load(root / other / "node.toml").listen_peers for other in settings.peers
        )
        assert genesis.load(settings.genesis).hash == made.hash
        for purpose in keys.PURPOSES:
            signer = keys.load(keys.key_path(settings.keys, purpose))
            entry = made.city(city)[purpose]
            assert signer.public_key == (entry[0] if purpose == "transaction" else entry)
            public.add(signer.public_key)
        certificates = genesis.load_certificates(settings.certificates, made)
        assert sorted(certificates) == CODES
        assert sorted(path.name for path in settings.keys.iterdir()) == sorted(f"{name}.pem" for name in keys.PURPOSES)
    assert len(public) == 16


def test_directories_are_private(tmp_path: Path) -> None:
    create(tmp_path / "network")
    directories = [tmp_path / "network", *(path for path in (tmp_path / "network").rglob("*") if path.is_dir())]
    assert len(directories) == 2 + 4 * 3
    assert {stat.S_IMODE(path.stat().st_mode) for path in directories} == {0o700}


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    create(tmp_path / "network")
    before = (tmp_path / "network" / "genesis.json").read_bytes()
    with pytest.raises(InputError, match="nothing is overwritten"):
        create(tmp_path / "network")
    assert (tmp_path / "network" / "genesis.json").read_bytes() == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="nothing is overwritten"):
        create(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    create(tmp_path / "empty")  # an empty directory is not in the way


def test_a_refused_network_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown parameters: heartbeat"):
        create(tmp_path / "network", parameters={"heartbeat": 1})
    with pytest.raises(InputError):
        genesis.create_network(tmp_path / "network", CITIES[:3], name="three", time_ms=1)  # P4: at least four
    with pytest.raises(InputError, match="named twice: 130100"):
        genesis.create_network(tmp_path / "network", [*CITIES, CITIES[1]], name="twice", time_ms=1)
    with pytest.raises(InputError, match="no city code"):
        genesis.create_network(tmp_path / "network", [*CITIES, ("../etc", "x")], name="escape", time_ms=1)
    with pytest.raises(InputError, match="no address is given for 130100, 330100, 440300"):
        create(tmp_path / "network", addresses={"110000": ("127.0.0.1:1", "127.0.0.1:2")})
    assert list(tmp_path.iterdir()) == []


def test_addresses_and_a_passphrase_reach_the_settings(tmp_path: Path) -> None:
    addresses = {code: (f"node-{code}:1", f"[::1]:{2 + index}") for index, code in enumerate(CODES)}
    create(tmp_path / "network", addresses=addresses, passphrase=b"correct horse")
    settings = config.load(tmp_path / "network" / "110000" / "node.toml")
    assert str(settings.listen_peers) == "node-110000:1"
    assert str(settings.listen_http) == "[::1]:2"
    assert settings.passphrase_file is not None
    settings.passphrase_file.write_text("correct horse\n")
    settings.passphrase_file.chmod(0o600)
    keys.load(keys.key_path(settings.keys, "tls"), passphrase=settings.passphrase())
    with pytest.raises(InputError, match="is encrypted"):
        keys.load(keys.key_path(settings.keys, "tls"))


def test_certificates_are_believed_only_with_the_key_of_the_genesis(tmp_path: Path) -> None:
    made = create(tmp_path / "network")
    directory = tmp_path / "network" / "certificates"
    own = genesis.certificate_file(directory, "110000")
    genuine = own.read_bytes()
    genesis.load_certificates(directory, made)  # the control

    own.write_bytes(genesis.certificate_file(directory, "130100").read_bytes())
    with pytest.raises(InputError, match="is the certificate of '130100', not of 110000"):
        genesis.load_certificates(directory, made)
    own.write_bytes(keys.tls_certificate(keys.generate(tmp_path / "forged.pem"), "110000"))
    with pytest.raises(InputError, match="is for another key than the genesis holds for city 110000"):
        genesis.load_certificates(directory, made)
    own.write_bytes(genuine[:-100])
    with pytest.raises(InputError, match=r"no X\.509 certificate"):
        genesis.load_certificates(directory, made)
    own.unlink()
    with pytest.raises(InputError, match="copy the whole certificates directory"):
        genesis.load_certificates(directory, made)


def test_files_that_are_no_genesis(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        genesis.load(tmp_path / "genesis.json")
    with pytest.raises(InputError, match="cannot be read"):
        genesis.load(tmp_path)
    (tmp_path / "genesis.json").write_bytes(b"\xff")
    with pytest.raises(InputError, match="not UTF-8"):
        genesis.load(tmp_path / "genesis.json")
    (tmp_path / "genesis.json").write_bytes(b" " * 2_000_000)
    with pytest.raises(InputError, match="larger than"):
        genesis.load(tmp_path / "genesis.json")


def test_the_table_of_cities() -> None:
    table = genesis.cities_table()
    assert len(table) == 735
    assert [city.code for city in table] == sorted({city.code for city in table})
    assert all(len(city.code) == 6 and city.code.isdigit() and city.name for city in table)
    names = genesis.member_names()
    assert {code: names[code] for code, _ in CITIES} == dict(CITIES)


@pytest.mark.parametrize("path", ["passphrase", '/etc/城市/a "b" \\c', "tab\t and \x7f delete"])
def test_node_toml_says_what_it_was_given(path: str) -> None:
    text = genesis.node_toml(
        "130100",
        peers="[::1]:1",
        http="h:2",
        others={"130100": "own:1", "110000": "b:3"},
        joins=True,
        passphrase_file=path,
    )
    found = tomllib.loads(text)
    assert (found["city"], found["joins"], found["passphrase_file"]) == ("130100", True, path)
    assert (found["listen"], found["peers"]) == ({"peers": "[::1]:1", "http": "h:2"}, {"110000": "b:3"})
    plain = tomllib.loads(genesis.node_toml("130100", peers="a:1", http="h:2", others={}))
    assert {"joins", "passphrase_file"}.isdisjoint(plain)
