"""Several methods on the same queries: paired tests with one correction, the ranks they allow, and their power."""

from __future__ import annotations

import dataclasses
from itertools import combinations
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from cirbench.metrics.statistics.intervals import Interval, percentiles
from cirbench.metrics.statistics.resampling import bootstrap_means, cluster_sums, sign_flipped_means

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cirbench.metrics.statistics.intervals import Measured

SIGNIFICANCE = 0.05
"""A corrected p-value below it tells two methods apart."""

POWER = 0.8


def resolvable(differences_QM: NDArray[np.float64], clusters: Sequence[str] | None = None) -> float:
    """Return the true difference that this pair's test would find in 80 % of repetitions, at the 5 % level.

    It is (z(0.975) + z(0.8)) · se, with the standard error of the mean paired difference, by linearisation over
    clusters: se² = C/(C-1) · Σ_c (mean over measures of Σ_{q in c} (d_q - mean d) / n)². No correction for several
    pairs is in it. Source: Card et al., With Little Power Comes Great Responsibility, EMNLP 2020, for the notion.

    Args:
        differences_QM: Per query the paired difference, NaN where it does not take part; several columns are slices of
            which the number is the unweighted mean.
        clusters: Per query its cluster, or ``None``.
    """
    sums_CM, counts_CM = cluster_sums(differences_QM, clusters)
    clusters_count = len(sums_CM)
    if clusters_count < 2:
        return float("nan")
    totals_M = counts_CM.sum(axis=0)
    residuals_C = ((sums_CM - counts_CM * (sums_CM.sum(axis=0) / totals_M)) / totals_M).mean(axis=1)
    error = np.sqrt(clusters_count / (clusters_count - 1) * np.sum(residuals_C**2))
    normal = NormalDist()
    return float((normal.inv_cdf(1 - SIGNIFICANCE / 2) + normal.inv_cdf(POWER)) * error)


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """Two of several methods, compared query by query; fractions, first minus second.

    Attributes:
        first: Position of the one.
        second: Position of the other.
        difference: Of their numbers.
        interval: Paired bootstrap interval of the difference.
        p_value: Two-sided, of a paired sign-flip permutation test; never 0.
        corrected: The p-value after Holm's correction over all pairs.
        wins: Queries on which the first is better.
        ties: Queries on which both are equal.
        losses: Queries on which the second is better.
        resolvable: The smallest true difference that a benchmark like this one would find; see `resolvable`.
    """

    first: int
    second: int
    difference: float
    interval: Interval
    p_value: float
    corrected: float
    wins: int
    ties: int
    losses: int
    resolvable: float

    @property
    def apart(self) -> bool:
        """Whether the two can be told apart."""
        return self.corrected < SIGNIFICANCE

    def seen_from(self, place: int) -> Pair:
        """Return the same comparison with the method at ``place`` as the first."""
        if place == self.first:
            return self
        turned = Interval(-self.interval.high, -self.interval.low)
        return dataclasses.replace(
            self,
            first=self.second,
            second=self.first,
            difference=-self.difference,
            interval=turned,
            wins=self.losses,
            losses=self.wins,
        )


def compare_all(
    methods: Sequence[Sequence[Measured]],
    clusters: Sequence[str] | None = None,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> tuple[Pair, ...]:
    """Compare every two of several methods on one number, query by query; all pairs share resamples and sign flips.

    The p-value counts how often flipping the sign of each query's (or cluster's) difference at random gives a mean
    difference at least as large: p = (1 + hits) / (1 + flips). Source: Smucker, Allan and Carterette, A Comparison of
    Statistical Significance Tests for Information Retrieval Evaluation, CIKM 2007.

    Args:
        methods: Per method the number and, where it is an unweighted mean over slices, after it the numbers that it
            averages.
        clusters: Per query its cluster, or ``None``.
        level: Of the intervals.
        resamples: Of the bootstrap, and random flips of the test; more of these where there are so many pairs that
            no corrected p-value could fall below the level of significance.
        seed: Of both.
    """
    pairs = [*combinations(range(len(methods)), 2)]
    if not pairs:
        return ()
    whole_RQ = np.array([measured[0].values_Q for measured in methods])
    parts_RMQ = np.array([[part.values_Q for part in (measured[1:] or measured)] for measured in methods])
    first_P, second_P = np.array(pairs).T
    differences_PMQ = parts_RMQ[first_P] - parts_RMQ[second_P]
    size, parts, queries = differences_PMQ.shape
    flat_QX = differences_PMQ.reshape(-1, queries).T
    means_RX = bootstrap_means(flat_QX, clusters=clusters, resamples=resamples, seed=seed)
    # A p-value is at least 1 / (1 + flips), and Holm multiplies it by up to the number of pairs.
    flips = max(resamples, int(2 / SIGNIFICANCE) * size)
    flipped_SX = sign_flipped_means(flat_QX, clusters=clusters, permutations=flips, seed=seed)
    sizes_SP = np.abs(flipped_SX.reshape(-1, size, parts).mean(-1))
    p_values_P = np.mean(sizes_SP >= sizes_SP[0], axis=0)  # row 0 is the observation: (1 + hits) / (1 + n)
    corrected_P, found_P = holm(p_values_P), percentiles(means_RX.reshape(-1, size, parts).mean(-1), level)
    result = []
    for at, (one, other) in enumerate(pairs):
        difference_Q = whole_RQ[one] - whole_RQ[other]
        result.append(
            Pair(
                first=one,
                second=other,
                difference=methods[one][0].value - methods[other][0].value,
                interval=found_P[at],
                p_value=float(p_values_P[at]),
                corrected=float(corrected_P[at]),
                wins=int(np.count_nonzero(difference_Q > 0)),
                ties=int(np.count_nonzero(difference_Q == 0)),
                losses=int(np.count_nonzero(difference_Q < 0)),
                resolvable=resolvable(differences_PMQ[at].T, clusters),
            )
        )
    return tuple(result)


def holm(p_values_P: NDArray[np.float64]) -> NDArray[np.float64]:
    """Correct p-values for being several, so that the chance of any false finding stays below the level.

    In ascending order, the i-th of m is multiplied by m - i + 1, is at least the one before it, and at most 1.
    Source: Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of Statistics, 1979.
    """
    order_P = np.argsort(p_values_P, kind="stable")
    factors_P = np.arange(len(p_values_P), 0, -1)
    corrected_P = np.empty_like(p_values_P)
    corrected_P[order_P] = np.minimum(1, np.maximum.accumulate(p_values_P[order_P] * factors_P))
    return corrected_P


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
