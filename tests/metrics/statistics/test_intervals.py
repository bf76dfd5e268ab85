"""Intervals cover as they say, and agree with SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from cirbench.metrics.statistics import intervals
from tests.metrics.statistics.measured import Measured, sample


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
