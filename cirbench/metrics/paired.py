"""Several methods on the same queries: paired tests with one correction, the ranks they allow, and their power.

The test is a symmetric bootstrap-t of the mean difference over clusters of queries (Hall, On Symmetric Bootstrap
Confidence Intervals, Journal of the Royal Statistical Society B 50, 1988; Davison and Hinkley, Bootstrap Methods and
their Application, 1997, sections 4.4 and 5.4): t = difference / standard error, against |t| of resamples around the
observed difference. Sign flips, studentised or not, and Student's t reject true null hypotheses of skewed differences
too often. Where a handful of clusters carries almost all of the variance, so does every test that knows nothing but the
sample: such a pair is marked as thin and is judged by `bounded_interval`, which allows for values that were not seen.

Where a method is a mean over seeds, its variance over seeds is added to that over queries, in the sample and in each
resample. There are too few seeds to resample: a resample moves the mean by a normal deviate of the estimated variance,
and draws the variance itself from its chi-squared distribution (a parametric bootstrap; Davison and Hinkley, section
2.2). ``make coverage`` measures level and power.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from functools import cached_property
from itertools import combinations
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from cirbench.metrics.intervals import (
    LEVEL,
    Interval,
    SeedVariance,
    bounded_interval,
    bounded_p_value,
    cluster_numbers,
    clustered_mean,
    recalled,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cirbench.metrics.intervals import ClusteredMean, Measured

T = TypeVar("T", np.float32, np.float64)

SIGNIFICANCE = 0.05
"""A corrected p-value below it tells two methods apart."""

POWER = 0.8

ENOUGH = 6
"""Fewer clusters than this that carry the variance of a difference are too few to trust the bootstrap."""

_RESAMPLES = 10_000
_AT_ONCE = 128
"""Pairs whose resamples are held at once."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """Two of several methods, compared query by query; fractions, first minus second.

    Attributes:
        first: Position of the one.
        second: Position of the other.
        difference: Of their numbers.
        interval: Of the difference; it leaves out zero where the p-value is below 0.05.
        p_value: Two-sided, of the paired test; never 0.
        corrected: The p-value after Holm's correction over all pairs that were compared.
        wins: Queries on which the first is better.
        ties: Queries on which both are equal.
        losses: Queries on which the second is better.
        detectable: The minimum detectable effect at 80 % power, before correction: the smallest true difference of
            this sign that the test finds in 80 % of repetitions. NaN where no difference is large enough.
        thin: Whether too few clusters differ to trust the bootstrap, see `ENOUGH`; p-value and interval are then those
            of `bounded_interval`, which are conservative.
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
    detectable: float
    thin: bool

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
    resamples: int = _RESAMPLES,
    seed: int = 0,
    one: int | None = None,
) -> tuple[Pair, ...]:
    """Compare every two of several methods on one number, query by query; all pairs share their resamples.

    Args:
        methods: Per method the number and, where it is an unweighted mean over slices, after it the numbers that it
            averages.
        clusters: Per query its cluster, or ``None``.
        resamples: Of the bootstrap; more of them where there are so many pairs that no corrected p-value could fall
            below the level of significance.
        seed: Of the bootstrap.
        one: Compare only this one with every other; the correction is over these pairs.
    """
    pairs = [pair for pair in combinations(range(len(methods)), 2) if one is None or one in pair]
    if not pairs:
        return ()
    parts = [np.stack([part.values_Q for part in (measured[1:] or measured)], axis=1) for measured in methods]
    clusters_Q = cluster_numbers(clusters, len(parts[0]))
    # Half of a difference and a half more is a value in [0, 1], of which 0.5 says that there is no difference.
    seeds = [SeedVariance.of(measured[0].by_seed) for measured in methods]
    halves = [
        dataclasses.replace(
            clustered_mean((1 + parts[one] - parts[other]) / 2, clusters_Q),
            seeds=(seeds[one] + seeds[other]).scaled(0.5),
        )
        for one, other in pairs
    ]
    # A p-value is at least 1 / (1 + resamples), and Holm multiplies it by up to the number of pairs.
    resamples = max(resamples, int(2 / SIGNIFICANCE) * len(pairs))
    drawn = [
        _seeds_drawn(measured[0].by_seed, each, resamples, seed) for measured, each in zip(methods, seeds, strict=True)
    ]
    drawn_times = _times_drawn(len(halves[0].influence_C), resamples, seed)
    resampled = _Resamples(drawn_times, _Means.of(parts, clusters_Q))
    tests: list[_Test] = []
    for start in range(0, len(pairs), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        found = resampled.pairs(2 * np.stack([half.influence_C for half in halves[some]]), np.array(pairs[some]))
        tests += [
            _test(half, drawn[one], drawn[other], moved_R, errors_R)
            for half, (one, other), moved_R, errors_R in zip(halves[some], pairs[some], *found, strict=True)
        ]
    corrected_P = holm(np.array([test.p_value for test in tests]))
    result = []
    for (one, other), test, corrected in zip(pairs, tests, corrected_P, strict=True):
        difference_Q = methods[one][0].values_Q - methods[other][0].values_Q
        result.append(
            Pair(
                first=one,
                second=other,
                difference=methods[one][0].value - methods[other][0].value,
                interval=test.interval,
                p_value=test.p_value,
                corrected=float(corrected),
                wins=int(np.count_nonzero(difference_Q > 0)),
                ties=int(np.count_nonzero(difference_Q == 0)),
                losses=int(np.count_nonzero(difference_Q < 0)),
                detectable=test.detectable,
                thin=test.thin,
            )
        )
    return tuple(result)


def pairs_of(
    methods: Sequence[Sequence[Measured]], clusters: Sequence[str] | None, *, seed: int, one: int | None = None
) -> tuple[Pair, ...]:
    """Compare every two of several methods, or recall it; see `compare_all`."""
    return recalled(
        lambda: compare_all(methods, clusters, seed=seed, one=one),
        tuple[Pair, ...],
        methods,
        ("pairs", clusters, seed, one),
    )


def better_of(
    methods: Sequence[Sequence[Measured]],
    clusters: Sequence[str] | None = None,
    *,
    level: float,
) -> NDArray[np.int8]:
    """Say which of every two methods is better, (M, M): 1 where the first is, -1 where the second is, else 0.

    One is better where the p-value of `compare_all` for these two alone is below ``level``. That is decided without the
    p-values: `_counts` bounds how many resamples reach t. What it leaves open, thin pairs, and methods whose values are
    not of the same queries or are means over seeds, are tested in full.
    """
    first_P, second_P = np.triu_indices(len(methods), 1)
    apart_P, open_P = np.zeros(len(first_P), dtype=bool), np.ones(len(first_P), dtype=bool)
    parts = [np.stack([part.values_Q for part in (measured[1:] or measured)], axis=1) for measured in methods]
    means = _Means.of(parts, cluster_numbers(clusters, len(parts[0])))
    if len({*means.queries}) == 1 and not any(measured[0].by_seed for measured in methods):
        # The p-value is (1 + resamples that reach t) / (1 + resamples), and below the level for at most so many.
        most = math.ceil(round(level * (_RESAMPLES + 1), 6)) - 2
        surely_P, possibly_P = _counts(means.of_methods, most)
        apart_P, open_P = possibly_P <= most, (surely_P <= most) & (possibly_P > most)
    for place in np.flatnonzero(open_P):
        [pair] = compare_all([methods[first_P[place]], methods[second_P[place]]], clusters)
        apart_P[place] = pair.p_value < level
    values_M = np.array([measured[0].value for measured in methods])
    better_MM = np.zeros((len(methods), len(methods)), dtype=np.int8)
    better_MM[first_P, second_P] = np.where(apart_P, np.sign(values_M[first_P] - values_M[second_P]), 0)
    return better_MM - better_MM.T


def better_of_two(
    methods: Sequence[Sequence[Measured]], clusters: Sequence[str] | None, *, level: float
) -> list[list[int]]:
    """Say which of every two methods is better, or recall it; see `better_of`."""
    return recalled(
        lambda: better_of(methods, clusters, level=level).tolist(),
        list[list[int]],
        methods,
        ("better", clusters, level),
    )


def _counts(means: Sequence[ClusteredMean], most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Bound how many resamples reach the t of each pair: so many surely do, and at most so many do.

    A resample reaches t where moved² ≥ t² error². With squares as the resampled sum of squared influences that is
    moved² ≥ τ squares, for τ = t²k / (1 + t²k/C) and k = C/(C-1). The moves are differences of those of both methods,
    and squares are a float32 product of positive numbers, whose relative error has a simple bound. A pair that surely
    has more than ``most`` is not looked at any further. One that is thin may have any number.
    """
    first_P, second_P = np.triu_indices(len(means), 1)
    influence_MC = np.stack([mean.influence_C for mean in means])
    values_M = np.array([mean.value for mean in means])
    clusters = influence_MC.shape[1]
    times = _times_drawn(clusters, _RESAMPLES, 0)
    moved = [influence_MC @ times_BC.T.astype(np.float64) for times_BC in times]
    # Of the float32 product; of what `_Resamples` rounds to multiples of 2^-32 of the largest, and of a step.
    relative, absolute, steps = 1.01 * (clusters + 16) * 2.0**-24, clusters * 2.0**-32, clusters * _step(means[0])
    surely_P, possibly_P = np.zeros((2, len(first_P)), dtype=np.int64)
    for start in range(0, len(first_P), _AT_ONCE):
        some = np.arange(start, min(start + _AT_ONCE, len(first_P)))
        squares_XC = (influence_MC[first_P[some]] - influence_MC[second_P[some]]) ** 2
        length_X = squares_XC.sum(axis=1)
        error_X = np.sqrt(means[0].clusters / max(means[0].clusters - 1, 1) * length_X)
        carrying_X = length_X**2 / np.maximum((squares_XC**2).sum(axis=1), np.finfo(float).tiny)
        usual_X = (carrying_X > ENOUGH + 1e-6) & (error_X > 1e-9) & (means[0].clusters > 1)
        possibly_P[some[~usual_X]] = most + 1
        some, length_X, error_X = some[usual_X], length_X[usual_X], error_X[usual_X]
        squares_XC = (squares_XC[usual_X] / length_X[:, None]).astype(np.float32)
        tk_X = ((values_M[first_P[some]] - values_M[second_P[some]]) / error_X) ** 2 * clusters / max(clusters - 1, 1)
        tau_X1 = (tk_X / (1 + tk_X / clusters))[:, None]
        scale_X1 = np.sqrt(length_X)[:, None]
        for times_BC, moved_MB in zip(times, moved, strict=True):
            going = np.flatnonzero(surely_P[some] <= most)
            at = some[going]
            sums_XB = (squares_XC[going] @ times_BC.T.astype(np.float32)).astype(np.float64)
            moved_XB = np.abs(moved_MB[first_P[at]] - moved_MB[second_P[at]]) / scale_X1[going]
            rounding_X1 = absolute + steps / scale_X1[going]
            least_XB = np.maximum(moved_XB - rounding_X1, 0) ** 2
            surely_P[at] += (least_XB >= tau_X1[going] * (1 + relative) * (sums_XB + absolute)).sum(axis=1)
            largest_XB = (moved_XB + rounding_X1) ** 2
            possibly_P[at] += (largest_XB >= tau_X1[going] * (1 - relative) * (sums_XB - absolute)).sum(axis=1)
    return surely_P, possibly_P


@dataclasses.dataclass(frozen=True, slots=True)
class _Test:
    """What the paired test finds of one pair; see `Pair`."""

    p_value: float
    interval: Interval
    detectable: float
    thin: bool


@dataclasses.dataclass(frozen=True, slots=True)
class _SeedsDrawn:
    """A method's seeds in each resample: by how much they move its mean, and the variance that they would show."""

    moved_R: NDArray[np.float64] | float
    variance_R: NDArray[np.float64] | float


def _seeds_drawn(by_seed: Sequence[float], seeds: SeedVariance, resamples: int, seed: int) -> _SeedsDrawn:
    """Draw the seeds of a method, from its numbers alone: neither its place nor its rivals decide."""
    if seeds.variance == 0:
        return _SeedsDrawn(0.0, 0.0)
    content = hashlib.sha256(np.array(by_seed, dtype="<f8").tobytes()).digest()
    generator = np.random.default_rng([seed, int.from_bytes(content[:8], "little")])
    moved_R = generator.standard_normal(resamples) * math.sqrt(seeds.variance)
    return _SeedsDrawn(moved_R, generator.chisquare(seeds.freedom, resamples) * (seeds.variance / seeds.freedom))


def _test(
    half: ClusteredMean,
    one: _SeedsDrawn,
    other: _SeedsDrawn,
    moved_R: NDArray[np.float64],
    errors_R: NDArray[np.float64],
) -> _Test:
    """Test a mean of (1 + difference) / 2 against one half.

    The minimum detectable effect is read from the resamples: of those, moved by the effect, 80 % are significant. For
    the notion: Card et al., With Little Power Comes Great Responsibility, EMNLP 2020.

    Args:
        half: The mean.
        one: The seeds of the first method.
        other: Of the second.
        moved_R: By how much the difference moves in each resample of the queries.
        errors_R: Its standard error there.
    """
    difference, error = 2 * half.value - 1, 2 * half.error
    if half.seeds.variance > 0:
        error = 2 * math.hypot(half.error, math.sqrt(half.seeds.variance))
        moved_R = moved_R + one.moved_R - other.moved_R
        errors_R = np.sqrt(errors_R**2 + one.variance_R + other.variance_R)
    if thin := half.carrying < ENOUGH:
        bounds, p_value = bounded_interval(half), bounded_p_value(half, 0.5)
        low, high = 2 * bounds.low - 1, 2 * bounds.high - 1
        detectable = max(high - difference, difference - low) + NormalDist().inv_cdf(POWER) * error
    else:
        p_value, limit = _bootstrap_t(abs(difference) / error, moved_R, errors_R)
        low, high = max(difference - limit * error, -1.0), min(difference + limit * error, 1.0)
        side = -1 if difference < 0 else 1
        detectable = _quantile(limit * errors_R - side * moved_R, POWER) if limit < math.inf else math.inf
    return _Test(p_value, Interval(low, high), detectable if detectable < 1 else math.nan, thin)


def _bootstrap_t(t: float, moved_R: NDArray[np.float64], errors_R: NDArray[np.float64]) -> tuple[float, float]:
    """Return the p-value of |t|, and the limit that it must pass to be significant at ``1 - LEVEL``."""
    sizes_R = np.full_like(moved_R, np.inf)
    np.divide(np.abs(moved_R), errors_R, out=sizes_R, where=errors_R > 0)
    count = len(sizes_R) + 1
    p_value = (1 + np.count_nonzero(sizes_R >= t)) / count
    # p = (1 + larger) / count is below 1 - LEVEL just where |t| is above the size of this rank.
    rank = math.ceil(round((1 - LEVEL) * count, 6)) - 1  # 1 - 0.95 is a little more than 0.05
    limit = np.partition(sizes_R, -rank)[-rank] if rank else np.inf
    return float(p_value), float(limit)


def _quantile(values_R: NDArray[np.float64], share: float) -> float:
    """Return what ``np.quantile`` does, in an eighth of its time: by one partition, not one for each neighbour."""
    place = (len(values_R) - 1) * share
    below = int(place)
    parted_R = np.partition(values_R, below)
    low, high = parted_R[below], parted_R[below + 1 :].min(initial=np.inf)
    part = place - below
    return float(low + (high - low) * part if part < 0.5 else high - (high - low) * (1 - part))


def _times_drawn(clusters: int, resamples: int, seed: int, block: int = 1 << 20) -> list[NDArray[np.unsignedinteger]]:
    """Draw how many times each cluster is in each resample, as tables (B, C) of some resamples each.

    ``block`` bounds the memory that drawing takes.
    """
    generator = np.random.default_rng(seed)
    tables = []
    step = max(1, block // clusters)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = generator.integers(clusters, size=(rows, clusters), dtype=np.int64)
        drawn += np.arange(rows)[:, None] * clusters
        times_BC = np.bincount(drawn.ravel(), minlength=rows * clusters).reshape(rows, clusters)
        tables.append(times_BC.astype(np.min_scalar_type(times_BC.max())))
    return tables


@dataclasses.dataclass(frozen=True)
class _Means:
    """The mean of each method; of two that have values of the same queries, that of differences is the difference.

    Attributes:
        of_methods: The means.
        queries: Which queries each has values of, slice by slice, as bytes to be compared.
    """

    of_methods: tuple[ClusteredMean, ...]
    queries: tuple[bytes, ...]

    @classmethod
    def of(cls, parts: Sequence[NDArray[np.float64]], clusters_Q: NDArray[np.intp]) -> _Means:
        """Take the means of methods, each (Q, slices)."""
        means = tuple(clustered_mean(part, clusters_Q) for part in parts)
        return cls(means, tuple(np.isnan(part).tobytes() for part in parts))


def _step(mean: ClusteredMean) -> float:
    """The power of two that influences of whole methods are rounded to multiples of.

    It follows from the weights of clusters alone, so that it is the same whatever else is compared. An influence is at
    most the heaviest weight, and a float64 holds any sum over as many draws as there are clusters without error.
    """
    return float(2.0 ** (math.frexp(mean.heaviest)[1] + len(mean.influence_C).bit_length() - 52))


@dataclasses.dataclass(frozen=True)
class _Resamples:
    """Resamples of the clusters, and how means move in them.

    Sums are exact: what is summed is rounded to multiples of a power of two, so that a float64 holds any sum of it. The
    result therefore does not depend on the order of summation, on block sizes or on the linear algebra library.

    Attributes:
        times: How many times each cluster is in each resample, from `_times_drawn`.
        means: Those of the methods that are compared.
    """

    times: Sequence[NDArray[np.unsignedinteger]]
    means: _Means

    @cached_property
    def _moved_MR(self) -> NDArray[np.float64]:
        """By how much each method moves in each resample."""
        steps = [(mean.influence_C, _step(mean)) for mean in self.means.of_methods]
        return _products(np.stack([np.rint(influence_C / step) * step for influence_C, step in steps]), self.times)

    def pairs(
        self, influence_PC: NDArray[np.float64], methods_P2: NDArray[np.intp]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return by how much each difference moves in each resample, and its standard error there, both (P, R).

        What is found of a pair does not depend on the others. Of methods with values of the same queries, a pair moves
        by the difference of both, which needs no product of its own.

        Args:
            influence_PC: Of the differences. They are scaled to a largest of 1, and like their squares rounded to
                multiples of 2^-32, so that a float64 holds any sum of up to a million of them.
            methods_P2: The places of both methods.
        """
        clusters = influence_PC.shape[1]
        scale_P = np.abs(influence_PC).max(axis=1)
        scale_P = np.where(scale_P > 0, scale_P, 1.0)
        scaled_PC = influence_PC / scale_P[:, None]
        rounded_PC, squares_PC = (np.rint(each_PC * 2.0**32) * 2.0**-32 for each_PC in (scaled_PC, scaled_PC**2))
        moved_PR, errors_PR = np.empty((2, len(influence_PC), sum(map(len, self.times))))
        few_P = _of_three_values(rounded_PC)
        if few_P.any():
            moved_PR[few_P], errors_PR[few_P] = _sums_of_three(rounded_PC[few_P], squares_PC[few_P], self.times)
        if not few_P.all():
            errors_PR[~few_P] = _products(squares_PC[~few_P], self.times)
            queries = self.means.queries
            same_P = np.array([queries[one] == queries[other] for one, other in methods_P2])
            for place in np.flatnonzero(~few_P & same_P):
                one, other = methods_P2[place]
                np.subtract(self._moved_MR[one], self._moved_MR[other], out=moved_PR[place])
                moved_PR[place] /= scale_P[place]
            if (alone_P := ~few_P & ~same_P).any():
                moved_PR[alone_P] = _products(rounded_PC[alone_P], self.times)
        for moved_R, errors_R, scale in zip(moved_PR, errors_PR, scale_P, strict=True):  # one by one, within the cache
            variance_R = np.maximum(errors_R - moved_R**2 / clusters, 0.0) * clusters / max(clusters - 1, 1)
            np.multiply(np.sqrt(variance_R), scale, out=errors_R)
            moved_R *= scale
        return moved_PR, errors_PR


def _of_three_values(values_PC: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Say which rows have at most three values."""
    high_P1, low_P1 = values_PC.max(axis=1, keepdims=True), values_PC.min(axis=1, keepdims=True)
    between_PC = (values_PC != high_P1) & (values_PC != low_P1)
    middle_P1 = np.take_along_axis(values_PC, between_PC.argmax(axis=1, keepdims=True), axis=1)
    found_P: NDArray[np.bool_] = (~between_PC | (values_PC == middle_P1)).all(axis=1)
    return found_P


def _sums_of_three(
    values_PC: NDArray[np.float64], squares_PC: NDArray[np.float64], times: Sequence[NDArray[np.unsignedinteger]]
) -> NDArray[np.float64]:
    """Return the sums of values and of squares in each resample, (2, P, R), of rows with at most three values each.

    Two methods differ on a query by a hit, by a miss or not at all. Both sums then follow from how often the highest
    and the lowest value are drawn. One product counts both, in the low and the high bits of its numbers, and of fewer
    than 2^12 clusters in float32, which holds numbers up to 2^24 exactly and takes half the time.
    """
    rows, clusters = np.arange(len(values_PC)), values_PC.shape[1]
    ends = values_PC.argmax(axis=1), values_PC.argmin(axis=1)
    is_high_PC, is_low_PC = (values_PC == values_PC[rows, end, None] for end in ends)
    middles = (~is_high_PC & ~is_low_PC).argmax(axis=1)
    unit = float(1 << clusters.bit_length())
    both_PC = is_high_PC + unit * is_low_PC
    both_PR: NDArray[Any] = _products(both_PC.astype(np.float32) if unit <= 1 << 12 else both_PC, times)
    sums = np.empty((2, *both_PR.shape))
    for row in rows:
        both_R = both_PR[row].astype(np.float64)
        low_R = np.floor(both_R / unit)
        high_R = both_R - unit * low_R
        middle_R = clusters - high_R - low_R
        for each_PC, sums_PR in zip((values_PC, squares_PC), sums, strict=True):
            high, low, middle = (each_PC[row, at[row]] for at in (*ends, middles))
            sums_PR[row] = high * high_R + low * low_R + middle * middle_R
    return sums


def _products(rows_XC: NDArray[T], times: Sequence[NDArray[np.unsignedinteger]]) -> NDArray[T]:
    return np.concatenate([rows_XC @ times_BC.T.astype(rows_XC.dtype) for times_BC in times], axis=1)


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
    """The ranks that a method may have, both ends included; 1 is the best."""

    best: int
    worst: int

    def __str__(self) -> str:
        return str(self.best) if self.best == self.worst else f"{self.best}-{self.worst}"


def rank_ranges(methods: int, pairs: Sequence[Pair]) -> tuple[RankRange, ...]:
    """Return the ranks that each method may have, given which pairs can be told apart.

    A method ranks behind those that are significantly better and before those that are significantly worse: from
    1 + better to n - worse. Methods that cannot be told apart therefore share ranks, and no order is invented.
    """
    better, worse = [0] * methods, [0] * methods
    for pair in pairs:
        if pair.apart:
            winner, loser = (pair.first, pair.second) if pair.difference > 0 else (pair.second, pair.first)
            better[loser] += 1
            worse[winner] += 1
    return tuple(RankRange(1 + above, methods - below) for above, below in zip(better, worse, strict=True))
