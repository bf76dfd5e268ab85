"""A source of chance whose stream is the same under every Python version and on every machine.

Only ``random.Random(int).random()`` is used, whose stream Python guarantees; everything else is arithmetic on it.
NumPy promises no such thing for its generators.
"""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")


class Dice:
    """Throws that depend on the seed alone.

    Args:
        seed: Names and numbers that together name the stream, for instance ``("scenes/val", "family", 12)``.
    """

    def __init__(self, *seed: str | int) -> None:
        key = hashlib.sha256("\x1f".join(map(str, seed)).encode()).digest()
        self._random = random.Random(int.from_bytes(key[:8], "big")).random

    def chance(self, probability: float) -> bool:
        """Return True with the given probability."""
        return self._random() < probability

    def below(self, bound: int) -> int:
        """Return one of 0 .. bound - 1."""
        return int(self._random() * bound)

    def pick(self, options: Sequence[T]) -> T:
        """Return one of the options."""
        return options[self.below(len(options))]

    def pick_other(self, options: Sequence[T], taken: Sequence[T]) -> T:
        """Return one of the options that is not taken."""
        return self.pick([option for option in options if option not in taken])

    def weighted(self, options: Sequence[tuple[T, int]]) -> T:
        """Return one of the options, each as likely as its integer weight says."""
        throw = self.below(sum(weight for _, weight in options))
        for option, weight in options:
            throw -= weight
            if throw < 0:
                return option
        raise AssertionError("the weights sum to more than every throw")

    def shuffled(self, options: Sequence[T]) -> list[T]:
        """Return the options in a random order."""
        rest = list(options)
        for last in range(len(rest) - 1, 0, -1):
            other = self.below(last + 1)
            rest[last], rest[other] = rest[other], rest[last]
        return rest
