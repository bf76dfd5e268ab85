"""Intervals for reported numbers, and paired comparisons of two methods on the same queries."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Protocol

import numpy as np

from cirbench.statistics.resampling import bootstrap_means, sign_flipped_means

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


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """Two methods on the same queries.

    Attributes:
        label: The measure.
        difference: First minus second.
        interval: Paired bootstrap interval of the difference.
        p_value: Two-sided, of a paired sign-flip permutation test; never 0.
    """

    label: str
    difference: float
    interval: Interval
    p_value: float


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


def compare(
    first: Sequence[Measured],
    second: Sequence[Measured],
    clusters: Sequence[str] | None = None,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> tuple[Comparison, ...]:
    """Compare two methods on each measure, query by query.

    The p-value counts how often flipping the sign of each query's (or cluster's) difference at random gives a mean
    difference at least as large: p = (1 + hits) / (1 + permutations). Source: Smucker, Allan and Carterette, A
    Comparison of Statistical Significance Tests for Information Retrieval Evaluation, CIKM 2007.

    Args:
        first: Measurements of one method.
        second: The same measures of the other, in the same order, on the same queries.
        clusters: Per query its cluster, or ``None``.
        level: Of the interval.
        resamples: Of the bootstrap, and random flips of the test.
        seed: Of both.
    """
    if [one.label for one in first] != [other.label for other in second]:
        raise ValueError("only equal measures of the same queries can be compared")
    if not first:
        return ()
    differences_QM = np.stack([one.values_Q - other.values_Q for one, other in zip(first, second, strict=True)], axis=1)
    means_RM = bootstrap_means(differences_QM, clusters=clusters, resamples=resamples, seed=seed)
    flipped_PM = sign_flipped_means(differences_QM, clusters=clusters, permutations=resamples, seed=seed)
    sizes_PM = np.abs(_with_macro_means(flipped_PM, first))
    p_values_M = np.mean(sizes_PM >= sizes_PM[0], axis=0)  # row 0 is the observation: (1 + hits) / (1 + n)
    found = percentiles(_with_macro_means(means_RM, first), level)
    return tuple(
        Comparison(one.label, one.value - other.value, interval, float(p_value))
        for one, other, interval, p_value in zip(first, second, found, p_values_M, strict=True)
    )


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
