"""The folder of this city's private keys, as a running node reads it.

For each purpose there is `PURPOSE.pem`, and while a key is being replaced `PURPOSE.next.pem`: the key that counts once
the member cities have agreed (P64). The node signs with whichever the chain names, so both may lie there for as long
as it takes; nothing here is ever written, renamed or deleted. Files are read again when they changed, so that a key
which is put there later is found without a restart.
"""

from collections.abc import Callable
from pathlib import Path

from cityid import keys
from cityid.errors import InputError

__all__ = ["KeyFolder"]

_Stamp = tuple[int, int, int]


class KeyFolder:
    """See the head of the file; the node's `ports.Keyring`. `complain` is told of a file that cannot be used, once."""

    def __init__(
        self, directory: Path, *, passphrase: bytes | None, complain: Callable[[str], None] = lambda why: None
    ) -> None:
        self.directory = directory
        self.passphrase = passphrase
        self._complain = complain
        self._read: dict[Path, tuple[_Stamp, keys.FileSigner | None]] = {}

    def require(self, purpose: str) -> keys.FileSigner:
        """The key of `PURPOSE.pem`. Raises `InputError` as `keys.load`: what is wrong is said at the start."""
        return keys.load(keys.key_path(self.directory, purpose), passphrase=self.passphrase)

    def find(self, purpose: str, public_key: bytes) -> keys.FileSigner | None:
        """The key of a purpose with this public half, if one of the two files holds it."""
        for path in self._paths(purpose):
            if (signer := self._signer(path)) is not None and signer.public_key == public_key:
                return signer
        return None

    def files(self, purpose: str) -> list[tuple[Path, bytes]]:
        """(file, public key) of every usable file of a purpose, the present one first."""
        found = ((path, self._signer(path)) for path in self._paths(purpose))
        return [(path, signer.public_key) for path, signer in found if signer is not None]

    def _paths(self, purpose: str) -> tuple[Path, Path]:
        return keys.key_path(self.directory, purpose), keys.next_key_path(self.directory, purpose)

    def _signer(self, path: Path) -> keys.FileSigner | None:
        try:
            status = path.stat()
        except OSError:
            self._read.pop(path, None)
            return None
        stamp = (status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
        if (known := self._read.get(path)) is not None and known[0] == stamp:
            return known[1]
        signer: keys.FileSigner | None = None
        try:
            signer = keys.load(path, passphrase=self.passphrase)
        except InputError as error:
            self._complain(str(error))
        self._read[path] = (stamp, signer)
        return signer
