"""Who the other cities are, by the chain and by the folder; which key files a running node finds."""

from pathlib import Path
from typing import Any

import pytest

from cityid import keys
from cityid.errors import InputError
from cityid.node.committee import Committee
from cityid.node.config import Address
from cityid.node.key_folder import KeyFolder
from cityid.node.roster import certificate_of, peer_address, read_roster

OWN, FOUNDER, JOINED, GONE = "110000", "130100", "320500", "330100"


def make(directory: Path, city: str) -> tuple[keys.FileSigner, bytes]:
    """A TLS key and its certificate (PEM)."""
    signer = keys.generate(directory / f"{city}.key")
    return signer, keys.tls_certificate(signer, city)


def entry(city: str, signer: keys.FileSigner, **fields: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "city": city,
        "status": "active",
        "tls": signer.public_key,
        "certificate": None,
        "services": [],
    }
    return usual | fields


@pytest.fixture
def cities(tmp_path: Path) -> tuple[list[dict[str, Any]], Path]:
    """A founder whose certificate is in the folder, a city that joined with hers on the chain, one that is retired."""
    folder = tmp_path / "certificates"
    folder.mkdir()
    rows = []
    for city in (OWN, FOUNDER, JOINED, GONE):
        signer, pem = make(tmp_path, city)
        if city == JOINED:
            der = keys.parse_certificate(pem).der
            rows.append(entry(city, signer, certificate=der, services=[("peer", "tls://203.0.113.7:27100")]))
        else:
            (folder / f"{city}.pem").write_bytes(pem)
            rows.append(entry(city, signer, status="retired" if city == GONE else "active"))
    return rows, folder


def test_the_chain_says_who_the_others_are(cities: tuple[list[dict[str, Any]], Path]) -> None:
    rows, folder = cities
    roster = read_roster(rows, city=OWN, folder=folder, settings={FOUNDER: Address("a", 1)}, behind=False)
    assert {found.city for found in roster.certificates} == {FOUNDER, JOINED}
    assert roster.addresses == {FOUNDER: Address("a", 1), JOINED: Address("203.0.113.7", 27100)}
    assert roster.own_tls == rows[0]["tls"]
    assert not roster.troubles


def test_settings_come_before_the_record(cities: tuple[list[dict[str, Any]], Path]) -> None:
    rows, folder = cities
    roster = read_roster(rows, city=OWN, folder=folder, settings={JOINED: Address("here", 9)}, behind=False)
    assert roster.addresses[JOINED] == Address("here", 9)


def test_a_node_that_is_behind_lets_in_who_is_in_its_folder(cities: tuple[list[dict[str, Any]], Path]) -> None:
    rows, folder = cities
    settings = {GONE: Address("b", 2)}
    roster = read_roster(rows, city=OWN, folder=folder, settings=settings, behind=True)
    assert {found.city for found in roster.certificates} == {FOUNDER, JOINED, GONE}
    assert roster.addresses[GONE] == Address("b", 2)


def test_a_trouble_with_one_city_keeps_no_other_out(cities: tuple[list[dict[str, Any]], Path]) -> None:
    rows, folder = cities
    (folder / f"{FOUNDER}.pem").unlink()
    rows[2]["certificate"] = b"\x30\x00"
    roster = read_roster(rows, city=OWN, folder=folder, settings={}, behind=False)
    assert not roster.certificates
    assert [code for code in (FOUNDER, JOINED) if any(code in trouble for trouble in roster.troubles)] == [FOUNDER]
    assert len(roster.troubles) == 2
    rows[1]["status"] = "retired"
    assert len(read_roster(rows, city=OWN, folder=folder, settings={}, behind=False).troubles) == 1


def test_a_certificate_of_another_key_is_refused(cities: tuple[list[dict[str, Any]], Path], tmp_path: Path) -> None:
    rows, folder = cities
    other = keys.generate(tmp_path / "other.key")
    with pytest.raises(InputError, match=f"no certificate of {FOUNDER} with the TLS key that the chain names"):
        certificate_of(rows[1] | {"tls": other.public_key}, folder)
    rows[2]["certificate"] = keys.parse_certificate(keys.tls_certificate(other, JOINED)).der
    with pytest.raises(InputError, match="the record of 320500 holds no certificate"):
        certificate_of(rows[2], folder)


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("tls://198.51.100.9:27100", Address("198.51.100.9", 27100)),
        ("tls://[::1]:27100/", Address("::1", 27100)),
        ("tls://node.example:27100", Address("node.example", 27100)),
        ("tls://node.example", None),
        ("tls://node.example:0", None),
        ("https://node.example:1", None),
    ],
)
def test_addresses_of_services(uri: str, address: Address | None) -> None:
    assert peer_address({"services": [("web", "tls://other:1"), ("peer", uri)]}) == address


# ---------------------------------------------------------------- key files


def test_the_next_key_is_found_when_it_is_put_there(tmp_path: Path) -> None:
    complaints: list[str] = []
    folder = KeyFolder(tmp_path, passphrase=None, complain=complaints.append)
    first = keys.generate(tmp_path / "consensus.pem")
    elsewhere = keys.generate(tmp_path / "made")
    assert folder.find("consensus", first.public_key) is not None
    assert folder.find("consensus", elsewhere.public_key) is None
    (tmp_path / "made").rename(tmp_path / "consensus.next.pem")
    found = folder.find("consensus", elsewhere.public_key)
    assert found is not None
    assert found.public_key == elsewhere.public_key
    assert [path.name for path, _ in folder.files("consensus")] == ["consensus.pem", "consensus.next.pem"]
    (tmp_path / "consensus.next.pem").replace(tmp_path / "consensus.pem")
    assert folder.find("consensus", elsewhere.public_key) is not None
    assert folder.find("consensus", first.public_key) is None
    assert not complaints


def test_a_file_that_cannot_be_used_is_named_once(tmp_path: Path) -> None:
    complaints: list[str] = []
    folder = KeyFolder(tmp_path, passphrase=None, complain=complaints.append)
    signer = keys.generate(tmp_path / "tls.pem")
    (tmp_path / "tls.pem").chmod(0o644)
    for _ in range(3):
        assert folder.find("tls", signer.public_key) is None
    assert len(complaints) == 1
    assert "chmod" in complaints[0]
    (tmp_path / "tls.pem").chmod(0o600)
    assert folder.find("tls", signer.public_key) is not None
    with pytest.raises(InputError, match=r"consensus\.pem does not exist"):
        folder.require("consensus")


# ---------------------------------------------------------------- numbers of a committee


@pytest.mark.parametrize(("size", "tolerated", "quorum"), [(4, 1, 3), (5, 1, 4), (6, 1, 5), (7, 2, 5), (100, 33, 67)])
def test_what_follows_from_the_size_of_a_committee(size: int, tolerated: int, quorum: int) -> None:
    cities = [f"{100_000 + number}" for number in range(size)]
    committee = Committee.of([(city, city.encode()) for city in cities])
    assert (committee.tolerated, committee.enough, committee.quorum) == (tolerated, tolerated + 1, quorum)
    assert 3 * committee.quorum > 2 * size >= 3 * (committee.quorum - 1)
    assert committee.key_of(cities[2]) == cities[2].encode()
    assert committee.key_of("999999") is None
    assert [committee.proposer(height, 0) for height in range(size)] == list(range(size))  # P35
