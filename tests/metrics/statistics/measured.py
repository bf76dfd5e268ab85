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

    @property
    def value(self) -> float:
        return float(np.nanmean(self.values_Q))


def sample(seed: int, size: int = 200) -> NDArray[np.float64]:
    return np.random.default_rng(seed).beta(2, 5, size)
