"""The cities that decide one height, and what follows from how many they are (P35, P36, P69).

A height has one committee for its whole life: the set that the header below names as next. Whoever asks about another
height asks for another committee. Nothing here knows what else a city is: other members follow, and count nowhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Committee:
    """Cities by ascending code, each with its consensus key at the same position."""

    cities: tuple[str, ...]
    keys: tuple[bytes, ...]

    @classmethod
    def of(cls, validators: Sequence[tuple[str, bytes]]) -> "Committee":
        """The committee that `Ledger.validators` lists."""
        return cls(tuple(city for city, _ in validators), tuple(key for _, key in validators))

    @property
    def tolerated(self) -> int:
        """f: so many of them may lie or be silent."""
        return (len(self.cities) - 1) // 3

    @property
    def enough(self) -> int:
        """f + 1: among so many of them one is honest."""
        return self.tolerated + 1

    @property
    def quorum(self) -> int:
        """The least number that is more than two thirds of them (P36)."""
        return len(self.cities) * 2 // 3 + 1

    def key_of(self, city: str) -> bytes | None:
        """The consensus key of a city that decides; None of a follower."""
        return self.keys[self.cities.index(city)] if city in self.cities else None

    def proposer(self, height: int, round_: int) -> int:
        """The position of the city whose turn it is (P35)."""
        return (height + round_) % len(self.cities)
