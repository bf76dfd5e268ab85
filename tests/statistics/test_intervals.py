"""Intervals cover as they say, and paired tests agree with SciPy's where both define the same."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from cirbench.statistics import compare, intervals
from tests.statistics.measured import Measured, sample


def test_an_interval_agrees_with_scipys_percentile_bootstrap() -> None:
    values_Q = sample(0)
    [found] = intervals([Measured("x", values_Q)])
    theirs = scipy.stats.bootstrap(
        (values_Q,), np.mean, method="percentile", n_resamples=10_000, rng=np.random.default_rng(1)
    ).confidence_interval
    assert found.low == pytest.approx(theirs.low, abs=2e-3)
    assert found.high == pytest.approx(theirs.high, abs=2e-3)


def test_queries_that_repeat_each_other_do_not_narrow_an_interval() -> None:
    values_Q = sample(1, 60)
    names = [f"{number:03}" for number in range(60)]
    [alone] = intervals([Measured("x", values_Q)], names)
    [repeated] = intervals([Measured("x", np.repeat(values_Q, 5))], np.repeat(names, 5).tolist())
    [naive] = intervals([Measured("x", np.repeat(values_Q, 5))])
    assert repeated == alone
    assert naive.high - naive.low < 0.6 * (alone.high - alone.low)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    generator = np.random.default_rng(2)
    measures = [Measured(str(n), (generator.random(400) < 0.3).astype(float)) for n in range(300)]
    covered = [found.low <= 0.3 <= found.high for found in intervals(measures, resamples=1000)]
    assert 0.91 < np.mean(covered) < 0.98


def test_a_mean_over_slices_is_resampled_as_the_mean_of_their_means() -> None:
    values_Q = sample(3)
    inside_Q = np.arange(200) < 20
    small, large = np.where(inside_Q, values_Q, np.nan), np.where(inside_Q, np.nan, values_Q)
    measures = [Measured("s", small), Measured("l", large), Measured("mean", values_Q, ("s", "l"))]
    found = intervals(measures)
    widths = [one.high - one.low for one in found]
    assert widths[2] == pytest.approx(np.hypot(widths[0], widths[1]) / 2, rel=0.1)


def test_a_constant_value_has_an_interval_of_no_width() -> None:
    [found] = intervals([Measured("x", np.full(50, 0.25))])
    assert (found.low, found.high) == (0.25, 0.25)


def test_nothing_measured_gives_no_intervals() -> None:
    assert intervals([]) == ()
    assert compare([], []) == ()


@given(st.integers(0, 1000), st.floats(0, 0.06))
@settings(max_examples=8, deadline=None)
def test_the_p_value_agrees_with_scipys_permutation_test(seed: int, shift: float) -> None:
    first, second = sample(seed), sample(seed + 5000) + shift
    [found] = compare([Measured("x", first)], [Measured("x", second)])
    theirs = scipy.stats.permutation_test(
        (first, second),
        lambda one, other, axis: np.mean(one - other, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=10_000,
        rng=np.random.default_rng(seed),
    )
    assert found.difference == pytest.approx(theirs.statistic)
    assert found.p_value == pytest.approx(theirs.pvalue, abs=4.5 * np.sqrt(0.5 / 10_000))


def test_the_p_value_of_few_queries_is_that_of_all_sign_flips() -> None:
    """Of the 32 ways to flip five differences of one sign, two are as large as the observed one."""
    first, second = np.array([0.5, 0.6, 0.7, 0.9, 1.0]), np.array([0.4, 0.3, 0.5, 0.2, 0.1])
    [found] = compare([Measured("x", first)], [Measured("x", second)])
    assert found.p_value == pytest.approx(2 / 32, abs=0.01)


def test_a_p_value_is_never_zero_and_is_one_where_nothing_differs() -> None:
    ones, zeros = Measured("x", np.ones(100)), Measured("x", np.zeros(100))
    assert compare([ones], [zeros])[0].p_value == 1 / 10_001
    [same] = compare([ones], [ones])
    assert (same.p_value, same.difference, same.interval.low, same.interval.high) == (1, 0, 0, 0)


def test_clusters_are_flipped_together() -> None:
    """A hundred queries in three clusters are three observations: of eight ways to flip, two are as large."""
    differences = np.full(100, 0.5)
    clusters = [str(number % 3) for number in range(100)]
    [found] = compare([Measured("x", differences)], [Measured("x", np.zeros(100))], clusters)
    assert found.p_value == pytest.approx(2 / 8, abs=0.02)


def test_a_paired_interval_is_narrower_than_the_methods_apart() -> None:
    first = sample(9)
    second = first - 0.01 * sample(10)
    [paired] = compare([Measured("x", first)], [Measured("x", second)])
    [apart] = intervals([Measured("x", first)])
    assert paired.interval.low > 0
    assert paired.interval.high - paired.interval.low < 0.1 * (apart.high - apart.low)


def test_different_measures_are_not_compared() -> None:
    with pytest.raises(ValueError, match="only equal measures"):
        compare([Measured("x", sample(0))], [Measured("y", sample(0))])
