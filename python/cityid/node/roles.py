"""What this city is at a height: one of the committee, which signs, or a follower, which verifies everything and signs
nothing; and which of its keys it signs with.

The committed state says which consensus and checkpoint key a city has (P64, P69). The node signs with a key only while
the state names it, from the height on at which it does; the file of a key that will count later may lie there before
(`Keyring`). A city of the committee whose key is not here follows, says so, and looks again every second. A height has
one engine for its whole life: the key never changes within one, and an engine without a key cannot vote.
"""

from hashlib import sha256

from cityid._native import NEWEST_PROTOCOL, Consensus, Ledger
from cityid.node.committee import Committee
from cityid.node.outbox import Outbox
from cityid.node.ports import Keyring, Settings, Signer


class Observer:
    """The signer of an engine that follows: a key that no committee holds, and no private half of it."""

    def __init__(self, seed: bytes) -> None:
        self.public_key = sha256(b"observer" + seed).digest()

    def sign(self, message: bytes, /) -> bytes:
        """Refuses: a follower never signs."""
        raise RuntimeError("a follower was asked to sign; it is in no committee")


class Roles:
    """Holds the engine of the running height, and says what this city may do in it."""

    def __init__(
        self, genesis_hash: bytes, city: str, keyring: Keyring, out: Outbox, *, seed: bytes, settings: Settings
    ) -> None:
        self._genesis_hash = genesis_hash
        self._city = city
        self._keyring = keyring
        self._out = out
        self._seed = seed
        self._settings = settings
        self._observer = Observer(seed)
        self._engine: Consensus | None = None
        self._engine_key = b""
        self._engines = 0
        self._decided_for = -1  # the height for which role and engine are settled
        self._missing: dict[str, bytes] = {}  # purpose → the key that the chain names and that is not here
        self._told: tuple[bool, str] | None = None
        self.silent_until = 0
        """Up to this height this city may have voted and does not know what: it signs nothing there, ever again."""
        self.votes = False
        """Whether this city signs at this height."""
        self.why = "not_started"
        """Why it does not: `not_in_committee`, `key_missing` or `votes_lost`; empty when it does."""

    @property
    def lacks_keys(self) -> bool:
        """Whether the chain names a key of this city that is not here."""
        return bool(self._missing)

    def look_again(self) -> None:
        """Look for missing key files before the next height starts."""
        self._decided_for = -1

    def engine_for(self, height: int, committee: Committee) -> Consensus:
        """The engine to run a height with; the one of the height before as long as the key is the same."""
        if self._engine is not None and self._decided_for == height:
            return self._engine
        self._decided_for = height
        signer: Signer = self._observer
        wanted = committee.key_of(self._city)
        lost = height <= self.silent_until
        if wanted is not None and not lost and (found := self._find("consensus", wanted)) is not None:
            signer = found
        elif wanted is None:
            self._missing.pop("consensus", None)
        self.votes = signer is not self._observer
        self.why = (
            "" if self.votes else "not_in_committee" if wanted is None else "votes_lost" if lost else "key_missing"
        )
        if self._told != (self.votes, self.why):
            self._told = (self.votes, self.why)
            role = "validator" if self.votes else "follower"
            self._out.log("info", "role", role=role, why=self.why, height=height)
        if self._engine is None or signer.public_key != self._engine_key:
            self._engine, self._engine_key = self._make(signer), signer.public_key
        return self._engine

    def renew(self) -> None:
        """Make a new engine for the next height: one that can recover from a vote log."""
        self._decided_for, self._engine = -1, None

    def checkpoint_signer(self, public_key: bytes | None) -> Signer | None:
        """What cosigns checkpoints under the key that the chain names; None for a follower."""
        if public_key is None:
            self._missing.pop("checkpoint", None)
            return None
        return self._find("checkpoint", public_key)

    def _find(self, purpose: str, public_key: bytes) -> Signer | None:
        found = self._keyring.find(purpose, public_key)
        if found is not None:
            self._missing.pop(purpose, None)
        elif self._missing.get(purpose) != public_key:
            self._missing[purpose] = public_key
            self._out.log(
                "warning", "key_missing", purpose=purpose, key=public_key.hex(),
                next=f"The chain names this {purpose} key for {self._city}: put its file into the keys folder as "
                f"{purpose}.pem or {purpose}.next.pem. The node looks every second.",
            )  # fmt: skip
        return found

    def _make(self, signer: Signer) -> Consensus:
        self._engines += 1
        return Consensus(
            signer.public_key,
            signer,
            self._genesis_hash,
            sha256(self._seed + self._engines.to_bytes(4, "big")).digest(),
            propose_ms=self._settings.propose_ms,
            step_ms=self._settings.step_ms,
            precommit_ms=self._settings.precommit_ms,
            delta_ms=self._settings.delta_ms,
        )


def upcoming_protocols(ledger: Ledger) -> list[tuple[int, int]]:
    """(version, height) of the protocol versions that are scheduled and do not hold yet, ascending (P67)."""
    return [(version, height) for version, height in ledger.protocols() if height > ledger.height + 1]


def unknown_protocol(ledger: Ledger, newest: int = NEWEST_PROTOCOL) -> str | None:
    """Why this software cannot go on to the next height, if it cannot (P67)."""
    version = ledger.protocol
    if version <= newest:
        return None
    return (
        f"from height {ledger.height + 1} on the network runs protocol version {version}, and this software knows "
        f"versions up to {newest}. Install a version that knows it and start this node again: nothing is lost"
    )
