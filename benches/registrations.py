"""Transactions to measure with: organisations that register items, each in a class and a range of its own.

Everything is signed before a clock starts. A measured transaction is one operation that registers one item, about 250
bytes with its signature, from one of as many signers as there are organisations.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Literal

from cityid.client import operations
from cityid.client.faces import sign
from cityid.client.operations import Item, Operation
from cityid.keys import Signer
from cityid.testing.keys import SeededSigner, seeded_signer

__all__ = ["Organisation", "admissions", "openings", "organisations", "register", "registrations"]

USE: Final = "60"
MODEL: Final = "1"
VALID_UNTIL: Final = 1_900
"""Within the window (P6) of the first block, and as late as it allows: no run has so many blocks."""
PER_ADMISSION: Final = 100
ATTRIBUTE: Final = "plate-and-photos"


@dataclass(frozen=True, slots=True)
class Organisation:
    """One registrar; its class is its own, so its range begins at serial 0."""

    city: str
    org: str
    class_code: str
    number: int

    @property
    def signer(self) -> SeededSigner:
        """Its only transaction key."""
        return seeded_signer("bench", self.number)

    def register(self, items: Sequence[Item]) -> Operation:
        """Registers these items of its."""
        return operations.register_items(
            self.city, self.org, use=USE, class_code=self.class_code, model=MODEL, items=items
        )


def organisations(count: int, cities: Sequence[str]) -> list[Organisation]:
    """So many, spread over the cities."""
    return [
        Organisation(cities[number % len(cities)], f"B{number:05d}", f"{number:06d}", number) for number in range(count)
    ]


def admissions(genesis_hash: bytes, chosen: Sequence[Organisation], cities: Mapping[str, Signer]) -> Iterator[bytes]:
    """Transactions in which each city admits its organisations."""
    for city, signer in cities.items():
        own = [organisation for organisation in chosen if organisation.city == city]
        for start in range(0, len(own), PER_ADMISSION):
            admit = [
                operations.admit_organisation(
                    city,
                    each.org,
                    name=f"Registrar {each.number}",
                    quota=1_000_000,
                    keys=[operations.prove_possession(each.signer, genesis_hash, f"MA.156.{city}.{each.org}")],
                )
                for each in own[start : start + PER_ADMISSION]
            ]
            yield _signed(genesis_hash, admit, signer)


def openings(
    genesis_hash: bytes, chosen: Sequence[Organisation], *, size: Literal[1_000, 1_000_000]
) -> Iterator[bytes]:
    """Transactions in which each organisation asks for its range and registers its category."""
    for each in chosen:
        allocate = operations.allocate_range(each.city, each.org, class_code=each.class_code, size=size)
        category = operations.register_category(
            each.city, each.org, use=USE, class_code=each.class_code, model=MODEL, name="Measured"
        )
        yield _signed(genesis_hash, [allocate, category], each.signer)


def register(genesis_hash: bytes, organisation: Organisation, serials: Sequence[int]) -> bytes:
    """One transaction that registers these items."""
    commitment = {ATTRIBUTE: sha256(serials[0].to_bytes(8, "big")).digest()}
    items = [Item(serial, commitment) for serial in serials]
    return _signed(genesis_hash, [organisation.register(items)], organisation.signer)


def registrations(genesis_hash: bytes, chosen: Sequence[Organisation], count: int) -> list[bytes]:
    """So many transactions of one item each, the organisations taking turns; made on all cores."""
    shares = [(genesis_hash, each, count // len(chosen)) for each in chosen]
    with ProcessPoolExecutor() as pool:
        columns = list(pool.map(_of_one, shares, chunksize=16))
    return [transaction for row in zip(*columns, strict=True) for transaction in row]


def _of_one(share: tuple[bytes, Organisation, int]) -> list[bytes]:
    genesis_hash, organisation, count = share
    signer = organisation.signer
    return [
        _signed(
            genesis_hash,
            [organisation.register([Item(serial, {ATTRIBUTE: sha256(serial.to_bytes(8, "big")).digest()})])],
            signer,
        )
        for serial in range(count)
    ]


def _signed(genesis_hash: bytes, what: Sequence[Operation], signer: Signer) -> bytes:
    return sign(what, [signer], genesis_hash=genesis_hash, valid_until=VALID_UNTIL)[1]
