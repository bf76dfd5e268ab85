"""Intervals contain the truth as often as they say, also where hits are rare."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from cirbench.metrics.intervals import Interval, intervals
from tests.metrics.coverage import (
    OF_INTERVALS,
    OVER_SEEDS,
    Population,
    Trained,
    coverage,
    coverage_over_seeds,
    level_over_seeds,
    shape,
)
from tests.metrics.measured import Measured, sample


def interval_of(values_Q: list[float] | np.ndarray, clusters: list[str] | None = None) -> Interval:
    [found] = intervals([Measured("x", np.array(values_Q, dtype=np.float64))], clusters)
    return found


@given(st.integers(2, 300), st.data())
def test_the_interval_of_hits_is_clopper_and_pearsons(queries: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, queries))
    found = interval_of([1.0] * hits + [0.0] * (queries - hits))
    theirs = scipy.stats.binomtest(hits, queries).proportion_ci(method="exact")
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


@pytest.mark.slow
def test_the_interval_of_other_values_agrees_with_scipys_bootstrap_where_that_holds() -> None:
    values_Q = sample(0, 2000)
    found = interval_of(values_Q)
    theirs = scipy.stats.bootstrap(
        (values_Q,), np.mean, method="BCa", n_resamples=10_000, rng=np.random.default_rng(1)
    ).confidence_interval
    assert found.low == pytest.approx(theirs.low, abs=1e-3)
    assert found.high == pytest.approx(theirs.high, abs=1e-3)


@pytest.mark.parametrize("extreme", [1.0, 0.0])
def test_bounds_are_quantiles_of_the_bayesian_bootstrap_with_one_more_extreme_query(extreme: float) -> None:
    """The beta distribution stands for that of Dirichlet weights, here drawn."""
    values_Q = sample(4, 40)
    weights_RQ = np.random.default_rng(0).dirichlet(np.ones(41), size=40_000)
    quantile = np.quantile(weights_RQ @ [*values_Q, extreme], 0.975 if extreme else 0.025)
    found = interval_of(values_Q)
    assert (found.high if extreme else found.low) == pytest.approx(quantile, abs=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize("population", OF_INTERVALS, ids=lambda each: f"{each.name}, {shape(each)}")
def test_intervals_contain_the_truth_at_least_93_times_in_a_hundred(population: Population) -> None:
    """A shortened `make coverage`: at 97 % of 200 samples, fewer than 180 are out of reach of chance."""
    covered, _ = coverage(population, draws=200)
    assert covered >= 0.93 - 2 * np.sqrt(0.93 * 0.07 / 200)


def test_intervals_are_not_wider_than_that_needs() -> None:
    """In the middle, where the normal interval holds, they are as wide as that one and little more."""
    for population in OF_INTERVALS[:2]:
        _, width = coverage(population, draws=50)
        share = population.mean
        assert 1 <= width / (2 * 1.96 * np.sqrt(share * (1 - share) / sum(population.sizes))) < 1.06


@given(st.floats(0, 1), st.integers(1, 60), st.integers(1, 5))
def test_no_interval_is_without_width_and_each_contains_its_number(value: float, clusters: int, size: int) -> None:
    names = [str(number // size) for number in range(clusters * size)]
    found = interval_of([value] * (clusters * size), names)
    assert 0 <= found.low <= value + 1e-9
    assert value - 1e-9 <= found.high <= 1
    assert found.high - found.low > 1e-3


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30), st.integers(1, 4))
def test_an_interval_contains_its_number(values: list[float], size: int) -> None:
    found = interval_of(values, [str(number // size) for number in range(len(values))])
    assert found.low - 1e-9 <= np.mean(values) <= found.high + 1e-9


def test_queries_that_repeat_each_other_do_not_narrow_an_interval() -> None:
    names = [f"{number:03}" for number in range(60)]
    for values_Q in (sample(1, 60), np.zeros(60), np.ones(60)):
        alone = interval_of(values_Q, names)
        repeated = interval_of(np.repeat(values_Q, 5), np.repeat(names, 5).tolist())
        naive = interval_of(np.repeat(values_Q, 5))
        assert repeated.high - repeated.low == pytest.approx(alone.high - alone.low, rel=0.1)
        assert naive.high - naive.low < 0.6 * (alone.high - alone.low)


def test_the_interval_of_a_mean_over_slices_combines_their_variances() -> None:
    values_Q = sample(3, 4000)
    inside_Q = np.arange(4000) < 1000
    small, large = np.where(inside_Q, values_Q, np.nan), np.where(inside_Q, np.nan, values_Q)
    measures = [Measured("mean", values_Q, ("s", "l")), Measured("s", small), Measured("l", large)]
    widths = [one.high - one.low for one in intervals(measures)]
    assert widths[0] == pytest.approx(np.hypot(widths[1], widths[2]) / 2, rel=0.03)


def test_a_mean_over_slices_contains_the_truth_as_often() -> None:
    """Three slices of unequal size and rate, in clusters of two, as those of FashionIQ: true mean 0.07."""
    generator, covered = np.random.default_rng(5), []
    rates, sizes = (0.02, 0.05, 0.14), (60, 100, 300)
    clusters = [str(number // 2) for number in range(sum(sizes))]
    slices_Q = np.repeat(np.arange(3), sizes)
    for _ in range(300):
        values_Q = (generator.random(sum(sizes)) < np.array(rates)[slices_Q]).astype(np.float64)
        parts = [Measured(str(at), np.where(slices_Q == at, values_Q, np.nan)) for at in range(3)]
        found = intervals([Measured("mean", values_Q, ("0", "1", "2")), *parts], clusters)[0]
        covered.append(found.low <= np.mean(rates) <= found.high)
    assert np.mean(covered) > 0.93 - 2 * np.sqrt(0.93 * 0.07 / 300)


def test_nothing_measured_gives_no_intervals() -> None:
    assert intervals([]) == ()


@pytest.mark.slow
@pytest.mark.parametrize("trained", [each for each in OVER_SEEDS if each.seeds == 3], ids=str)
def test_intervals_over_seeds_contain_the_truth_and_without_them_they_would_not(trained: Trained) -> None:
    """A shortened `make coverage`; seeds are hardest where there are many queries, so that they decide."""
    covered, _, left_out = coverage_over_seeds(trained, draws=200)
    assert covered >= 0.88
    if trained.of_seeds == 0.02 and trained.queries == 2000:
        assert left_out < 0.75


@pytest.mark.slow
@pytest.mark.parametrize("trained", [OVER_SEEDS[5], OVER_SEEDS[14]], ids=str)
def test_methods_that_differ_in_their_seeds_alone_are_rarely_told_apart(trained: Trained) -> None:
    assert level_over_seeds(trained, draws=200) <= 0.10


def test_one_seed_says_nothing_of_seeds() -> None:
    values = sample(0)
    alone, counted = Measured("x", values), Measured("x", values, by_seed=(float(values.mean()),))
    assert intervals([alone]) == intervals([counted])
