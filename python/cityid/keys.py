"""A city's private keys: one file a purpose, and the port behind which signing happens.

Rules. A key serves one purpose (P17): a consensus key never signs a transaction. A key file is PKCS#8 PEM with mode
0600, optionally encrypted with a passphrase; it is made once and never overwritten; a file that others can read is
refused. Key material is never shown: the representation of a signer holds eight hexadecimal digits of its *public*
key, and it cannot be pickled. Whoever signs depends on `Signer` alone, so a hardware module takes the place of a file
by having the same two members. The TLS key is the exception: OpenSSL reads its file itself.

This module knows nothing of networks; which key belongs to which city stands in the genesis.
"""

import datetime
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cityid.errors import InputError

__all__ = [
    "PURPOSES",
    "Certificate",
    "FileSigner",
    "Signer",
    "generate",
    "key_path",
    "load",
    "next_key_path",
    "parse_certificate",
    "read_private_file",
    "tls_certificate",
]

PURPOSES: Final = ("consensus", "checkpoint", "tls", "transaction")

MAX_FILE_BYTES: Final = 16_384
"""Far above any PKCS#8 Ed25519 key or certificate, far below what could hurt."""


class Signer(Protocol):
    """What signs: an Ed25519 key whose private half is somebody else's business."""

    @property
    def public_key(self) -> bytes:
        """The public key, 32 bytes (RFC 8032)."""

    def sign(self, message: bytes, /) -> bytes:
        """The Ed25519 signature of `message`, 64 bytes."""


@final
class FileSigner:
    """A signer whose private key was read from a file of this module."""

    __slots__ = ("_private", "_public")

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self._public = private.public_key().public_bytes_raw()

    @property
    def public_key(self) -> bytes:
        """The public key, 32 bytes."""
        return self._public

    def sign(self, message: bytes, /) -> bytes:
        """The signature of `message`, 64 bytes."""
        return self._private.sign(message)

    def __repr__(self) -> str:
        return f"FileSigner(public key {self._public[:4].hex()}…)"

    def __reduce__(self) -> str:
        raise TypeError("a signer holds a private key and is never serialised; open the key file again instead")


def key_path(directory: Path, purpose: str) -> Path:
    """Where the key of one of the `PURPOSES` lies in a directory of keys."""
    if purpose not in PURPOSES:
        raise InputError(f"there is no key of purpose {purpose!r}; the purposes are {', '.join(PURPOSES)}")
    return directory / f"{purpose}.pem"


def next_key_path(directory: Path, purpose: str) -> Path:
    """Where the key lies that is to replace the one of `key_path`, while both are needed."""
    return key_path(directory, purpose).with_name(f"{purpose}.next.pem")


def generate(path: Path, *, passphrase: bytes | None = None) -> FileSigner:
    """Makes a new key and its file, durable before this returns.

    Raises `InputError` when the file exists (a key is never overwritten) or the passphrase is empty.
    """
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        if not passphrase:
            raise InputError("the passphrase is empty, which protects nothing; give one or leave it out")
        encryption = serialization.BestAvailableEncryption(passphrase)
    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    try:
        # The mode is given at creation: the key is at no moment readable by others, whatever the umask.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise InputError(
            f"{path} exists, and a key is never overwritten; move it away or choose another name"
        ) from None
    except OSError as error:
        raise InputError(f"{path} cannot be created: {error.strerror}; check the directory and its owner") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    _sync_directory(path.parent)
    return FileSigner(private)


def load(path: Path, *, passphrase: bytes | None = None) -> FileSigner:
    """Opens a key file.

    Raises `InputError` when it is missing, readable by others, not an Ed25519 key in PKCS#8 PEM, or when the
    passphrase is wrong, missing or superfluous.
    """
    pem = read_private_file(path)
    if b"-----BEGIN ENCRYPTED PRIVATE KEY-----" in pem:
        if passphrase is None:
            raise InputError(f"{path} is encrypted; give its passphrase (passphrase_file in node.toml)")
    elif b"-----BEGIN PRIVATE KEY-----" not in pem:
        raise InputError(f"{path} holds no private key in PKCS#8 PEM; make one with `cityid keys`")
    elif passphrase is not None:
        raise InputError(f"{path} is not encrypted but a passphrase was given; leave it out, or encrypt the key")
    try:
        private = serialization.load_pem_private_key(pem, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The cause is dropped: nothing that a parser says about key bytes reaches a log.
        why = "the passphrase is wrong or the file is damaged" if passphrase else "the file is damaged"
        raise InputError(f"{path} cannot be opened: {why}; restore it from its backup") from None
    if not isinstance(private, Ed25519PrivateKey):
        raise InputError(f"{path} holds another kind of key; this network uses Ed25519 only")
    return FileSigner(private)


def read_private_file(path: Path) -> bytes:
    """The bytes of a small file that only its owner can read: a key, or the passphrase of one.

    Raises `InputError` when the file is missing, too large, not a regular file, another user's, or readable by others.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; check the path, or make the keys with `cityid keys`") from None
    except OSError as error:
        raise InputError(f"{path} cannot be opened: {error.strerror}; check its owner and its directory") from error
    try:
        # Looked up on the open file, so that what was checked is what is read.
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path} is not a regular file; give the path of the file itself")
        if status.st_mode & 0o077:
            raise InputError(
                f"{path} can be read by others (mode {stat.S_IMODE(status.st_mode):04o}); "
                f"run chmod 600, and replace the key if others may have copied it"
            )
        if status.st_uid not in (0, os.geteuid()):
            raise InputError(f"{path} belongs to another user; run as its owner or change the owner")
        if status.st_size > MAX_FILE_BYTES:
            raise InputError(f"{path} has {status.st_size} bytes, more than the {MAX_FILE_BYTES} of any key file")
        return os.read(descriptor, MAX_FILE_BYTES)
    finally:
        os.close(descriptor)


# ---------------------------------------------------------------- certificates


@dataclass(frozen=True, slots=True)
class Certificate:
    """A self-signed certificate whose signature was checked: city code, public key (32 bytes), and the DER bytes."""

    city: str
    public_key: bytes
    der: bytes


# Fixed, so that a certificate is a function of key and city alone: making it again gives the same bytes (RFC 8032
# signatures are deterministic), and no clock can turn a pinned city away. What ends a key is the chain, not a date.
_NOT_BEFORE: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_NOT_AFTER: Final = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)  # RFC 5280 section 4.1.2.5: none
_SERIAL_NUMBER: Final = 1


def tls_certificate(signer: FileSigner, city: str) -> bytes:
    """The self-signed certificate (PEM) of a city's TLS key; the same bytes every time.

    It is no authority (`CA:FALSE`): it vouches for its own key only, and only because the peers pin it.
    """
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, city)])
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(Ed25519PublicKey.from_public_bytes(signer.public_key))
        .serial_number(_SERIAL_NUMBER)
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
    )
    certificate = builder.sign(signer._private, algorithm=None)
    return certificate.public_bytes(serialization.Encoding.PEM)


def parse_certificate(data: bytes) -> Certificate:
    """Reads one certificate, PEM or DER, and checks that its own key signed it.

    Raises `InputError` when it does not parse, is not Ed25519, names no city, or its signature does not verify.
    """
    if len(data) > MAX_FILE_BYTES:
        raise InputError(f"a certificate of {len(data)} bytes is refused; the limit is {MAX_FILE_BYTES}")
    try:
        pem = data.lstrip().startswith(b"-----BEGIN")
        certificate = x509.load_pem_x509_certificate(data) if pem else x509.load_der_x509_certificate(data)
        public = certificate.public_key()
        names = [attribute.value for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise InputError(f"this is no X.509 certificate ({error}); ask the city for its certificate again") from None
    if not isinstance(public, Ed25519PublicKey):
        raise InputError("the certificate's key is not Ed25519, the only kind that this network uses")
    if len(names) != 1 or not isinstance(names[0], str):
        raise InputError("the certificate names no city (one common name, six digits); ask for it again")
    try:
        certificate.verify_directly_issued_by(certificate)
    except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
        raise InputError(
            f"the certificate of {names[0]!r} is not signed by its own key: it was altered; ask the city for it again"
        ) from None
    der = certificate.public_bytes(serialization.Encoding.DER)
    if not der.endswith(b"\x03\x41\x00" + certificate.signature):
        # The only bits that the signature does not cover: X.690 section 11.2 leaves them one value, parsers leave more.
        raise InputError(f"the certificate of {names[0]!r} is not in its one form (X.690 DER); ask for it again")
    return Certificate(names[0], public.public_bytes_raw(), der)


def _sync_directory(directory: Path) -> None:
    """Makes a new name in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
