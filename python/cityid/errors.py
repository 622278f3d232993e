"""Every exception that cityid raises on purpose.

::

    CityIDError
    ├── InputError(ValueError)     what a caller or peer sent is wrong        400, or drop the peer
    │   ├── MalformedInput         bytes do not parse
    │   ├── CodeError              the code breaks the grammar or its check
    │   └── RuleViolation          well-formed, forbidden by the rule         409 or 403; has .reason
    ├── VerificationError          what was shown does not prove what it claims
    │   ├── SignatureInvalid       signatures do not verify                   has .positions
    │   ├── ProofInvalid           a Merkle proof leads to another root
    │   └── CertificateInvalid     a commit certificate does not count
    ├── Unavailable                right question, wrong moment               503 or 429 with Retry-After
    │   ├── Overloaded             a bound is reached
    │   ├── NotSynced              this node is behind
    │   ├── Pruned                 this node keeps no blocks of that age
    │   └── PeerUnreachable        the other side does not answer
    └── StorageError               this node is hurt: stop signing, keep reading, say so
        └── DamagedStore           it gives back something else than it took

Rules: every message says what is wrong, why, and what to do next. `.reason` and `.positions` are for programs and
stable; messages are for people and may change. That nobody has registered a code is an answer with a proof, never an
exception. The classes live here and are raised from both languages: the Rust side imports them
(`rust/python/src/error.rs`), so this module imports nothing of ours.
"""

from collections.abc import Sequence

__all__ = [
    "CertificateInvalid",
    "CityIDError",
    "CodeError",
    "DamagedStore",
    "InputError",
    "MalformedInput",
    "NotSynced",
    "Overloaded",
    "PeerUnreachable",
    "ProofInvalid",
    "Pruned",
    "RuleViolation",
    "SignatureInvalid",
    "StorageError",
    "Unavailable",
    "VerificationError",
]


class CityIDError(Exception):
    """The base of them all; catch it at the edge of a program, not in the middle."""


class InputError(CityIDError, ValueError):
    """What a caller or a peer sent is wrong, and sending it again will not help."""


class MalformedInput(InputError):
    """Bytes do not parse, exceed a bound, or are not in their one canonical form."""


class CodeError(InputError):
    """A code breaks the grammar, or its check character does not fit (ISO/IEC 7064 MOD 37,36)."""


class RuleViolation(InputError):
    """A well-formed request that the distribution rule forbids.

    `reason` is the stable reason code that also stands in the receipt, for example `stale_version`; `message` says what
    happened and what to do about it.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.args[1]}"


class VerificationError(CityIDError):
    """Something that was shown as evidence does not prove what it claims; nothing may be concluded from it."""


class SignatureInvalid(VerificationError):
    """One or more Ed25519 signatures do not verify (ZIP-215).

    `positions` holds their indexes in the batch that was checked, from 0, ascending; every other signature of that
    batch is valid. `message` says the same to a person.
    """

    def __init__(self, positions: Sequence[int], message: str) -> None:
        super().__init__(positions, message)
        self.positions = tuple(positions)

    def __str__(self) -> str:
        return str(self.args[1])


class ProofInvalid(VerificationError):
    """A Merkle proof (state map, log or sealed table) does not lead to the root that it claims."""


class CertificateInvalid(VerificationError):
    """A commit certificate lacks a quorum, or names another height, value or validator set."""


class Unavailable(CityIDError):
    """The request may be fine, but cannot be served now; it is safe to send the same again later."""


class Overloaded(Unavailable):
    """A written bound is reached: a queue, a quota or a size; the message names it and its value."""


class NotSynced(Unavailable):
    """This node is behind the network and must not answer as if it were not."""


class PeerUnreachable(Unavailable):
    """A node or gateway does not answer, or the connection to it was lost."""


class Pruned(Unavailable):
    """This node dropped the blocks of that height, as its operator wants; an archive node has them."""


class StorageError(CityIDError):
    """This node's own disk fails or holds something else than it acknowledged.

    A node that raises it stops signing, goes on answering reads from memory, and says so in its health.
    """


class DamagedStore(StorageError):
    """A file holds something else than was acknowledged: what it was for has to come from other cities again."""
