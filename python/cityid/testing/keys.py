"""Keys and a genesis that follow from a seed: the same seed gives the same network, anywhere.

Only for tests: whoever knows the seed knows every private key.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cityid._native import Genesis
from cityid.genesis import PARAMETERS

PURPOSES = ("consensus", "checkpoint", "tls", "transaction")
CITIES = ("130100", "320500", "430100", "610100", "330100", "440300", "510100")
GENESIS_TIME_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z


@dataclass(frozen=True, slots=True)
class SeededSigner:
    """An Ed25519 key that follows from a text."""

    private: Ed25519PrivateKey
    public_key: bytes

    def sign(self, message: bytes, /) -> bytes:
        """An Ed25519 signature; deterministic (RFC 8032)."""
        return self.private.sign(message)


@lru_cache(maxsize=4_096)
def seeded_signer(*parts: object) -> SeededSigner:
    """The key that follows from these."""
    private = Ed25519PrivateKey.from_private_bytes(sha256(repr(parts).encode()).digest())
    return SeededSigner(private, private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))


def city_codes(count: int) -> list[str]:
    """So many city codes, ascending."""
    more = (f"{110_000 + 100 * position}" for position in range(1, 100))
    codes = list(CITIES)
    while len(codes) < count:
        codes.append(next(code for code in more if code not in codes))
    return sorted(codes[:count])


def seeded_genesis(cities: Sequence[str], *, seed: int, parameters: Mapping[str, int] | None = None) -> Genesis:
    """A genesis of these cities, with keys that follow from the seed (P4)."""

    def key(city: str, purpose: str) -> str:
        return seeded_signer(seed, city, purpose).public_key.hex()

    document = {
        "cityid": "genesis",
        "name": "simulation",
        "prefix": "MA.156",
        "suite": 1,
        "test": True,
        "time_ms": str(GENESIS_TIME_MS),
        "parameters": {name: str(value) for name, value in (dict(PARAMETERS) | dict(parameters or {})).items()},
        "cities": [
            {
                "city": city,
                "name": f"City {city}",
                **{purpose: key(city, purpose) for purpose in PURPOSES[:3]},
                "transaction": [key(city, "transaction")],
            }
            for city in sorted(cities)
        ],
    }
    return Genesis.from_json(json.dumps(document))
