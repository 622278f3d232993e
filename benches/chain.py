"""A network in one process: a ledger, and the keys of all its cities to certify what it executes."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from benches import registrations
from benches.registrations import Organisation
from cityid import Ledger
from cityid._native import Candidate, Commit, Genesis, Trust
from cityid.keys import Signer
from cityid.testing.keys import city_codes, seeded_genesis, seeded_signer

__all__ = ["Chain"]

SEED: Final = 1
BLOCK_MS: Final = 1_000
MAX_TRANSACTIONS: Final = 4_096
MAX_BYTES: Final = 1_048_576


class Chain:
    """Executes and commits at once, each height signed by as few cities as suffice.

    `signer` gives a city's key of a purpose; without it, keys and genesis follow from a seed.
    """

    def __init__(
        self, cities: int, *, genesis: Genesis | None = None, signer: Callable[[str, str], Signer] | None = None
    ) -> None:
        self.genesis = genesis or seeded_genesis(city_codes(cities), seed=SEED)
        self.cities = tuple(self.genesis.cities)
        self._signer = signer or (lambda city, purpose: seeded_signer(SEED, city, purpose))
        self.ledger = Ledger(self.genesis)
        self.trust = Trust.from_json(self.genesis.to_json())
        self.commits: list[tuple[Candidate, Commit, bytes]] = []
        """What a store would keep: candidate (for its header), commit, certificate."""

    def open(self, organisations: Sequence[Organisation], *, size: Any) -> None:
        """Admits these organisations, with a range and a category each."""
        signers = {city: self._signer(city, "transaction") for city in self.cities}
        self.commit_all(list(registrations.admissions(self.genesis.hash, organisations, signers)))
        self.commit_all(list(registrations.openings(self.genesis.hash, organisations, size=size)))

    def commit_all(self, transactions: Sequence[bytes]) -> None:
        """One block of these. Raises when one of them is not committed."""
        digests = self.admit(transactions)
        commit = self.commit(self.execute(digests))
        if commit.committed != len(transactions):
            raise RuntimeError(f"{commit.rejected} of {len(transactions)} transactions were rejected")

    def admit(self, transactions: Sequence[bytes]) -> bytes:
        """The digests of the batches that these are in now."""
        refused = [row for row in self.ledger.admit(b"".join(transactions)) if row[1] is not None]
        if refused:
            raise RuntimeError(f"a transaction was refused: {refused[0]}")
        digests = []
        while (sealed := self.ledger.seal(MAX_TRANSACTIONS, MAX_BYTES)) is not None:
            digests.append(sealed[0])
        return b"".join(digests)

    def execute(self, digests: bytes) -> Candidate:
        """The next block."""
        time_ms = self.ledger.time_ms + BLOCK_MS
        return self.ledger.execute(self.ledger.height + 1, time_ms, self.cities[0], digests)

    def commit(self, candidate: Candidate) -> Commit:
        """Makes it the tip."""
        certificate = self._certificate(candidate)
        commit = self.ledger.commit(candidate, certificate)
        self.commits.append((candidate, commit, certificate))
        return commit

    def _certificate(self, candidate: Candidate) -> bytes:
        """P35 and P36: kind, genesis hash, height, round, pol_round, value; then bitmap and signatures."""
        height, validators = candidate.height.to_bytes(8, "big"), len(self.cities)
        no_round = (-1).to_bytes(4, "big", signed=True)
        message = b"cityid/1/V" + self.genesis.hash + height + bytes(4) + no_round + candidate.value
        quorum = self.cities[: validators * 2 // 3 + 1]
        bitmap = bytearray((validators + 7) // 8)
        for index in range(len(quorum)):
            bitmap[index // 8] |= 0x80 >> index % 8
        signatures = [self._signer(city, "consensus").sign(message) for city in quorum]
        return b"".join([height, bytes(4), candidate.value, validators.to_bytes(2, "big"), bitmap, *signatures])
