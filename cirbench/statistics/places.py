"""The places that several methods may have: ranks that say no more than the tests do."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cirbench.statistics.family import Pair


@dataclasses.dataclass(frozen=True, slots=True)
class RankRange:
    """The places that a method may have, both ends included; 1 is the best."""

    best: int
    worst: int

    def __str__(self) -> str:
        return str(self.best) if self.best == self.worst else f"{self.best}-{self.worst}"


def rank_ranges(methods: int, pairs: Sequence[Pair]) -> tuple[RankRange, ...]:
    """Return the places that each method may have, given which pairs can be told apart.

    A method stands behind those that are significantly better and before those that are significantly worse: from
    1 + better to n - worse. Methods that cannot be told apart therefore share places, and no order is invented.
    """
    better, worse = [0] * methods, [0] * methods
    for pair in pairs:
        if pair.apart:
            winner, loser = (pair.first, pair.second) if pair.difference > 0 else (pair.second, pair.first)
            better[loser] += 1
            worse[winner] += 1
    return tuple(RankRange(1 + above, methods - below) for above, below in zip(better, worse, strict=True))
