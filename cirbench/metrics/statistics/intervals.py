"""Intervals for reported numbers."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Protocol

import numpy as np

from cirbench.metrics.statistics.resampling import bootstrap_means

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class Measured(Protocol):
    """A reported number with its value for each query (`cirbench.metrics.Measurement`)."""

    @property
    def label(self) -> str:
        """What it is."""
        ...

    @property
    def values_Q(self) -> NDArray[np.float64]:
        """Per query a fraction, NaN for a query that does not take part."""
        ...

    @property
    def value(self) -> float:
        """The number."""
        ...

    @property
    def mean_of(self) -> tuple[str, ...]:
        """The labels whose unweighted mean it is; empty for a mean over queries."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Interval:
    """A percentile interval, in the unit of the values."""

    low: float
    high: float


def intervals(
    measurements: Sequence[Measured],
    clusters: Sequence[str] | None = None,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> tuple[Interval, ...]:
    """Return the bootstrap percentile interval of each measurement, over queries or clusters of them.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    if not measurements:
        return ()
    values_QM = np.stack([measurement.values_Q for measurement in measurements], axis=1)
    means_RM = bootstrap_means(values_QM, clusters=clusters, resamples=resamples, seed=seed)
    return percentiles(_with_macro_means(means_RM, measurements), level)


def _with_macro_means(means_RM: NDArray[np.float64], measurements: Sequence[Measured]) -> NDArray[np.float64]:
    column = {measurement.label: at for at, measurement in enumerate(measurements)}
    result_RM = means_RM.copy()
    for at, measurement in enumerate(measurements):
        if measurement.mean_of:
            result_RM[:, at] = means_RM[:, [column[part] for part in measurement.mean_of]].mean(axis=1)
    return result_RM


def percentiles(means_RM: NDArray[np.float64], level: float) -> tuple[Interval, ...]:
    """Return the central interval of each column that holds ``level`` of its resamples."""
    tail = (1 - level) / 2
    lows, highs = np.nanquantile(means_RM, [tail, 1 - tail], axis=0)
    return tuple(Interval(float(low), float(high)) for low, high in zip(lows, highs, strict=True))
