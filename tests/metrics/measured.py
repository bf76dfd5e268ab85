"""Numbers with their values for each query, as methods would leave them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True)
class Measured:
    label: str
    values_Q: NDArray[np.float64]
    mean_of: tuple[str, ...] = ()
    by_seed: tuple[float, ...] = ()

    @property
    def value(self) -> float:
        return float(np.nanmean(self.values_Q))


def over_seeds(label: str, values_SQ: NDArray[np.float64]) -> Measured:
    """A number over several seeds: per query the mean, and the number of each seed."""
    return Measured(label, values_SQ.mean(axis=0), by_seed=tuple(map(float, values_SQ.mean(axis=1))))


def sample(seed: int, size: int = 200) -> NDArray[np.float64]:
    return np.random.default_rng(seed).beta(2, 5, size)
