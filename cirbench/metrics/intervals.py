"""Intervals of metrics, which are means of values between 0 and 1 over queries that may come in clusters.

A bootstrap collapses where hits are rare: without a hit in the sample there is none in any resample. The interval here
holds at the edges. For zeros and ones it is Clopper and Pearson's exact interval at the effective number of queries, as
official statistics report it for proportions of clustered samples (Korn and Graubard, Confidence Intervals for
Proportions with Small Expected Number of Positive Counts Estimated from Survey Data, Survey Methodology 24, 1998;
Clopper and Pearson, Biometrika 26, 1934). For other values, such as average precision, the bounds are read as quantiles
of the Bayesian bootstrap's mean (Rubin, Annals of Statistics 9, 1981) after one more query of the most extreme value, 1
for the upper bound and 0 for the lower (Gaffke, Mathematical Methods of Statistics 14, 2005). That mean is taken as the
beta distribution of the same mean and variance, which it is exactly for zeros and ones.

Seeds and queries are crossed: every seed answers every query. The variance of a mean over seeds is that over clusters
of queries, of values averaged over seeds, plus that over seeds, of their numbers divided by how many there are. Its
degrees of freedom are Satterthwaite's (Biometrics Bulletin 2, 1946), as studies of several readers on the same cases
take them (Hillis, Statistics in Medicine 26, 2007). The interaction of both counts twice, on the safe side. ``make
coverage`` simulates how often all these intervals contain the truth.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec
import numpy as np

from cirbench.support import memo

# scipy is imported where it is used: rankings for a test server are written without intervals.
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

T = TypeVar("T")

LEVEL = 0.95
"""How often an interval contains the true number, at least."""

_ROUNDING = 1e-12
"""A standard error, or a variance, below it is one of rounding: nothing varies."""
_CODE = tuple(Path(__file__).with_name(name) for name in ("intervals.py", "paired.py"))
"""The code of the statistics, all of it."""


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

    @property
    def by_seed(self) -> tuple[float, ...]:
        """The number of each seed, where values are means over several; empty otherwise."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class SeedVariance:
    """How far a mean over seeds varies with the choice of seeds.

    Attributes:
        variance: Of the mean; 0 for one seed, of which nothing is known, and where seeds make no difference.
        freedom: Degrees of freedom of that estimate.
    """

    variance: float = 0.0
    freedom: float = math.inf

    @classmethod
    def of(cls, by_seed: Sequence[float]) -> SeedVariance:
        """Estimate it from the number of each seed."""
        seeds = len(by_seed)
        variance = float(np.var(by_seed, ddof=1)) / seeds if seeds > 1 else 0.0
        return cls() if variance < _ROUNDING**2 else cls(variance, seeds - 1.0)

    def __add__(self, other: SeedVariance) -> SeedVariance:
        """Return that of a sum or difference of two independent means; Satterthwaite's degrees of freedom."""
        variance = self.variance + other.variance
        if variance == 0:
            return SeedVariance()
        parts = self.variance**2 / self.freedom + other.variance**2 / other.freedom
        return SeedVariance(variance, variance**2 / parts)

    def scaled(self, factor: float) -> SeedVariance:
        """Return that of the mean times a factor."""
        return SeedVariance(factor**2 * self.variance, self.freedom)


@dataclasses.dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval, in the unit of the values."""

    low: float
    high: float


@dataclasses.dataclass(frozen=True, slots=True)
class ClusteredMean:
    """A weighted mean over queries, and what its variance follows from.

    A plain mean over n queries weighs each by 1/n; an unweighted mean over S slices weighs a query of a slice of n by
    1/(S·n). Weights sum to 1.

    Attributes:
        value: The mean.
        square: The mean, so weighted, of the squared values.
        influence_C: Per cluster, the weighted sum of its residuals from their means, 0 where no query takes part; it is
            how far the mean moves when the cluster counts once more (linearisation: Binder, International Statistical
            Review 51, 1983).
        queries: How many queries take part.
        clusters: How many clusters they come from.
        size: 1 / Σ weight², the number of queries, or fewer where slices give them unequal weights.
        cluster_size: The same with the weights of whole clusters.
        heaviest: The largest weight of a cluster.
        seeds: The variance over seeds, which comes on top of that over queries.
    """

    value: float
    square: float
    influence_C: NDArray[np.float64]
    queries: int
    clusters: int
    size: float
    cluster_size: float
    heaviest: float
    seeds: SeedVariance = SeedVariance()

    @property
    def error(self) -> float:
        """The standard error over queries, √(C/(C-1)·Σ influence²); 0 where nothing varies, NaN for one cluster."""
        if self.clusters < 2:
            return float("nan")
        error = np.sqrt(self.clusters / (self.clusters - 1) * np.sum(self.influence_C**2))
        return float(error) if error >= _ROUNDING else 0.0

    @property
    def variance(self) -> float:
        """The variance of the values."""
        return self.square - self.value**2

    @property
    def carrying(self) -> float:
        """How many clusters carry the variance of the mean: (Σ influence²)² / Σ influence⁴."""
        squares_C = self.influence_C**2
        return float(squares_C.sum() ** 2 / (squares_C @ squares_C)) if self.error > 0 else 0.0

    def effective_size(self) -> float:
        """Return how many independent queries would give a mean of this variance; never more than there are.

        Korn and Graubard's number is the variance of the values over that of their mean, times a factor for few
        clusters. Where few clusters carry the variance it is a coarse estimate, and without any hit there is none. Its
        logarithm is therefore averaged with that of the number for clusters whose queries all agree: the estimate
        weighs as much as the clusters that carry it, the other as one cluster. The variance over seeds is added to that
        which follows from the number.
        """
        if self.clusters < 2:
            return 1.0
        spread = self.queries / (self.queries - 1) * self.variance
        found = min(self.size, spread / self.error**2) if self.error > 0 else 1.0
        carrying, tail = self.carrying, (1 + LEVEL) / 2
        found = math.exp((carrying * math.log(found) + math.log(self.cluster_size)) / (carrying + 1))
        from scipy.special import stdtrit

        freedom = self.clusters - 1.0
        if self.seeds.variance > 0:
            both = SeedVariance(spread / found, freedom) + self.seeds
            found, freedom = spread / both.variance, both.freedom
        return float(found * (stdtrit(self.queries - 1, tail) / stdtrit(freedom, tail)) ** 2)


def clustered_mean(values_QM: NDArray[np.float64], clusters_Q: NDArray[np.intp]) -> ClusteredMean:
    """Take the mean of a column over the queries that have a value; of several columns, the mean of their means.

    Args:
        values_QM: One column per slice, NaN where a query is not in it; each column has a value.
        clusters_Q: Per query the number of its cluster, from `cluster_numbers`.
    """
    inside_QM = ~np.isnan(values_QM)
    weights_QM = inside_QM / (inside_QM.sum(axis=0) * values_QM.shape[1])
    filled_QM = np.where(inside_QM, values_QM, 0.0)
    means_M = (weights_QM * filled_QM).sum(axis=0) * values_QM.shape[1]
    weights_Q = weights_QM.sum(axis=1)
    weights_C = np.bincount(clusters_Q, weights_Q)
    takes_part_Q = weights_Q > 0
    residuals_Q = (weights_QM * (filled_QM - means_M)).sum(axis=1)
    return ClusteredMean(
        value=float(means_M.mean()),
        square=float((weights_QM * filled_QM**2).sum()),
        influence_C=np.bincount(clusters_Q, residuals_Q).astype(np.float64),
        queries=int(takes_part_Q.sum()),
        clusters=len(np.unique(clusters_Q[takes_part_Q])),
        size=float(1 / np.sum(weights_Q**2)),
        cluster_size=float(1 / np.sum(weights_C**2)),
        heaviest=float(weights_C.max()),
    )


def cluster_numbers(clusters: Sequence[str] | None, queries: int) -> NDArray[np.intp]:
    """Number the clusters of queries; without clusters each query is one."""
    if clusters is None:
        return np.arange(queries)
    return np.unique(np.asarray(clusters, dtype=np.str_), return_inverse=True)[1]


def intervals(measurements: Sequence[Measured], clusters: Sequence[str] | None = None) -> tuple[Interval, ...]:
    """Return the 95 % interval of each measurement, which contains it and has a width.

    Args:
        measurements: Metrics between 0 and 1; where one is an unweighted mean over slices, those are among them.
        clusters: Per query its cluster: queries of one cluster are not independent. ``None`` where all are.
    """
    if not measurements:
        return ()
    numbers_Q = cluster_numbers(clusters, len(measurements[0].values_Q))
    by_label = {measurement.label: measurement.values_Q for measurement in measurements}
    columns = [
        np.stack([by_label[part] for part in measurement.mean_of] or [measurement.values_Q], axis=1)
        for measurement in measurements
    ]
    means = (
        dataclasses.replace(clustered_mean(values_QM, numbers_Q), seeds=SeedVariance.of(measurement.by_seed))
        for values_QM, measurement in zip(columns, measurements, strict=True)
    )
    return tuple(bounded_interval(mean) for mean in means)


def intervals_of(measurements: Sequence[Measured], clusters: Sequence[str] | None) -> tuple[Interval, ...]:
    """Return the interval of each number, or recall it; see `intervals`."""
    return recalled(
        lambda: intervals(measurements, clusters), tuple[Interval, ...], [measurements], ("intervals", clusters)
    )


def bounded_interval(mean: ClusteredMean) -> Interval:
    """Return the interval of a mean of values in [0, 1]."""
    tail, size = (1 + LEVEL) / 2, mean.effective_size()
    low = 1 - _quantile(*_with_one_more(1 - mean.value, 1 - 2 * mean.value + mean.square, size), tail)
    high = _quantile(*_with_one_more(mean.value, mean.square, size), tail)
    return Interval(max(0.0, low), min(1.0, high))


def bounded_p_value(mean: ClusteredMean, null: float) -> float:
    """Return the two-sided p-value against a mean of ``null``: below 0.05 where the 95 % interval leaves it out."""
    size = mean.effective_size()
    above = _tail(*_with_one_more(mean.value, mean.square, size), null)
    below = _tail(*_with_one_more(1 - mean.value, 1 - 2 * mean.value + mean.square, size), 1 - null)
    return min(1.0, 2 * min(above, below))


def _with_one_more(value: float, square: float, size: float) -> tuple[float, float]:
    """The beta distribution of the Bayesian bootstrap's mean after one more query of value 1: its two parameters."""
    mean, moment = (size * value + 1) / (size + 1), (size * square + 1) / (size + 1)
    if moment - mean**2 < _ROUNDING:
        return 1.0, 0.0  # every value is 1
    concentration = mean * (1 - mean) / (moment - mean**2) * (size + 2) - 1
    return mean * concentration, (1 - mean) * concentration


def _quantile(alpha: float, beta: float, tail: float) -> float:
    from scipy.special import betaincinv

    return float(betaincinv(alpha, beta, tail)) if beta > 0 else 1.0


def _tail(alpha: float, beta: float, null: float) -> float:
    """The probability of a mean above ``null``."""
    from scipy.special import betainc

    return float(betainc(beta, alpha, 1 - null)) if beta > 0 else 1.0


def recalled(
    find: Callable[[], T], form: Any, methods: Sequence[Sequence[Measured]], settings: tuple[object, ...]
) -> T:
    """Recall what follows from numbers of queries, from settings and from the code of the statistics, or find it.

    What was found before is neither resampled nor does it load scipy.

    Args:
        find: Computes it.
        form: Its type.
        methods: The numbers.
        settings: All else that decides it, with what it is.
    """
    code = [memo.sha256(path) for path in _CODE]
    numbers = [[(each.label, each.value, each.mean_of, each.by_seed) for each in measured] for measured in methods]
    digest = hashlib.sha256(repr((code, numbers, settings)).encode())
    for measured in methods:
        for each in measured:
            digest.update(each.values_Q.astype("<f8").tobytes())
    key = f"statistics {digest.hexdigest()}"
    if (known := memo.recall(key)) is None:
        known = msgspec.to_builtins(find())
        memo.keep(key, known, {})
    found: T = msgspec.convert(known, form)
    return found
