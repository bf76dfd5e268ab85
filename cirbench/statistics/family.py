"""Several methods on the same queries: every pair compared, with one correction over all of them."""

from __future__ import annotations

import dataclasses
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from cirbench.statistics.intervals import Interval, percentiles
from cirbench.statistics.power import SIGNIFICANCE, resolvable
from cirbench.statistics.resampling import bootstrap_means, sign_flipped_means

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cirbench.statistics.intervals import Measured


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
