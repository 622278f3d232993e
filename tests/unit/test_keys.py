"""Key files and certificates: what is written, what is refused, and that nothing leaks."""

import copy
import os
import pickle
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from cityid import keys
from cityid.errors import InputError


def test_what_is_generated_is_what_is_loaded(tmp_path: Path) -> None:
    made = keys.generate(tmp_path / "key.pem")
    loaded = keys.load(tmp_path / "key.pem")
    assert loaded.public_key == made.public_key
    assert len(made.public_key) == 32
    signature = loaded.sign(b"message")
    # Checked by the library, not by ourselves; verify raises when it does not hold.
    Ed25519PublicKey.from_public_bytes(made.public_key).verify(signature, b"message")


def test_the_file_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        keys.generate(tmp_path / "key.pem")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    keys.generate(tmp_path / "key.pem")
    before = (tmp_path / "key.pem").read_bytes()
    with pytest.raises(InputError, match="never overwritten"):
        keys.generate(tmp_path / "key.pem")
    assert (tmp_path / "key.pem").read_bytes() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o700 | 0o001])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    keys.generate(tmp_path / "key.pem")
    (tmp_path / "key.pem").chmod(mode)
    with pytest.raises(InputError, match=f"mode {mode:04o}.*chmod 600"):
        keys.load(tmp_path / "key.pem")
    (tmp_path / "key.pem").chmod(0o600)
    keys.load(tmp_path / "key.pem")


def test_passphrases(tmp_path: Path) -> None:
    made = keys.generate(tmp_path / "key.pem", passphrase=b"correct horse")
    assert keys.load(tmp_path / "key.pem", passphrase=b"correct horse").public_key == made.public_key
    with pytest.raises(InputError, match="is encrypted"):
        keys.load(tmp_path / "key.pem")
    with pytest.raises(InputError, match="the passphrase is wrong") as refused:
        keys.load(tmp_path / "key.pem", passphrase=b"battery staple")
    assert "staple" not in str(refused.value)
    with pytest.raises(InputError, match="is empty"):
        keys.generate(tmp_path / "other.pem", passphrase=b"")
    keys.generate(tmp_path / "plain.pem")
    with pytest.raises(InputError, match="is not encrypted but"):
        keys.load(tmp_path / "plain.pem", passphrase=b"correct horse")


def test_other_files_are_refused(tmp_path: Path) -> None:
    def write(name: str, data: bytes) -> Path:
        (tmp_path / name).write_bytes(data)
        (tmp_path / name).chmod(0o600)
        return tmp_path / name

    with pytest.raises(InputError, match="does not exist"):
        keys.load(tmp_path / "absent.pem")
    with pytest.raises(InputError, match="not a regular file"):
        keys.load(tmp_path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(InputError, match="not a regular file"):
        keys.load(tmp_path / "pipe")  # and does not wait for a writer
    with pytest.raises(InputError, match="holds no private key"):
        keys.load(write("text.pem", b"hello"))
    with pytest.raises(InputError, match="more than the 16384"):
        keys.load(write("large.pem", bytes(20_000)))
    with pytest.raises(InputError, match="cannot be opened: the file is damaged"):
        keys.load(write("torn.pem", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"))
    other = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(InputError, match="uses Ed25519 only"):
        keys.load(write("p256.pem", other))


def test_a_signer_shows_nothing_private(tmp_path: Path) -> None:
    private = Ed25519PrivateKey.generate()
    signer = keys.FileSigner(private)
    assert repr(signer) == f"FileSigner(public key {signer.public_key.hex()[:8]}…)"
    secret = private.private_bytes_raw()
    assert secret.hex() not in repr(signer) + str(signer)
    assert not hasattr(signer, "__dict__")
    for leak in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="never serialised"):
            leak(signer)


def test_purposes_have_files_of_their_own(tmp_path: Path) -> None:
    assert len({keys.key_path(tmp_path, purpose) for purpose in keys.PURPOSES}) == len(keys.PURPOSES) == 4
    with pytest.raises(InputError, match="no key of purpose 'voting'"):
        keys.key_path(tmp_path, "voting")


def test_a_certificate_is_a_function_of_key_and_city(tmp_path: Path) -> None:
    signer = keys.generate(tmp_path / "tls.pem")
    pem = keys.tls_certificate(signer, "130100")
    assert pem == keys.tls_certificate(keys.load(tmp_path / "tls.pem"), "130100")
    assert pem != keys.tls_certificate(signer, "440300")
    parsed = keys.parse_certificate(pem)
    assert (parsed.city, parsed.public_key) == ("130100", signer.public_key)
    assert keys.parse_certificate(parsed.der) == parsed
    constraints = x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(x509.BasicConstraints)
    assert not constraints.value.ca  # it can vouch for nobody else


@pytest.mark.filterwarnings("ignore:Parsed a serial number")  # refused by its signature a moment later
def test_every_flipped_bit_of_a_certificate_is_refused(tmp_path: Path) -> None:
    genuine = keys.parse_certificate(keys.tls_certificate(keys.generate(tmp_path / "tls.pem"), "130100"))
    accepted = []
    for position in range(len(genuine.der)):
        altered = bytearray(genuine.der)
        altered[position] ^= 1
        try:
            accepted.append((position, keys.parse_certificate(bytes(altered))))
        except InputError:
            continue
    assert accepted == []


@pytest.mark.parametrize("data", [b"", b"-----BEGIN CERTIFICATE-----\n", b"\x30\x82", bytes(20_000)])
def test_what_is_no_certificate_is_refused(data: bytes) -> None:
    with pytest.raises(InputError, match="certificate"):
        keys.parse_certificate(data)
