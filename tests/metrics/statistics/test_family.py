"""Several methods: tests that agree with SciPy's, one correction over all pairs, and no invented order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from cirbench.metrics.statistics import Interval, Pair, compare_all, holm, intervals, rank_ranges, resolvable
from tests.metrics.statistics.measured import Measured, sample

if TYPE_CHECKING:
    from numpy.typing import NDArray


def sliced(values_Q: NDArray[np.float64], small_Q: NDArray[np.bool_]) -> list[Measured]:
    """A number that is the mean of the means over two slices, and the two."""
    parts = [Measured(name, np.where(mask, values_Q, np.nan)) for name, mask in (("s", small_Q), ("l", ~small_Q))]
    return [Measured("mean", values_Q, ("s", "l")), *parts]


def pair(first: int, second: int, difference: float, corrected: float) -> Pair:
    return Pair(first, second, difference, Interval(0, 0), corrected, corrected, 0, 0, 0, 0)


def test_each_pair_gets_what_it_gets_alone_but_for_the_correction() -> None:
    methods = [[Measured("x", sample(seed))] for seed in range(4)]
    clusters = [str(number // 3) for number in range(200)]
    for found in compare_all(methods, clusters, resamples=500, seed=3):
        [alone] = compare_all([methods[found.first], methods[found.second]], clusters, resamples=500, seed=3)
        assert (found.difference, found.p_value) == (alone.difference, alone.p_value)
        assert alone.corrected == alone.p_value <= found.corrected
        assert (found.interval.low, found.interval.high) == pytest.approx((alone.interval.low, alone.interval.high))


def test_a_mean_over_slices_is_compared_as_the_mean_of_their_means() -> None:
    """The interval of a difference is that of the differences, measured in the same way."""
    inside_Q = np.arange(200) < 20
    methods = [sliced(sample(seed), inside_Q) for seed in range(2)]
    [found] = compare_all(methods, resamples=400)
    apart = [
        Measured(one.label, one.values_Q - other.values_Q, one.mean_of) for one, other in zip(*methods, strict=True)
    ]
    expected = intervals(apart, resamples=400)[0]
    assert (found.interval.low, found.interval.high) == pytest.approx((expected.low, expected.high))


def test_a_slice_of_few_queries_weighs_in_the_test_as_much_as_one_of_many() -> None:
    """Two queries of one slice and ninety-eight of another: flipping the two decides."""
    few_Q = np.arange(100) < 2
    [found] = compare_all([sliced(np.where(few_Q, 1.0, 0.0), few_Q), sliced(np.zeros(100), few_Q)])
    assert found.p_value == pytest.approx(2 / 4, abs=0.03)
    assert found.interval.high == pytest.approx(0.5)


def test_wins_ties_and_losses_count_the_queries_that_take_part() -> None:
    nan = float("nan")
    one = Measured("x", np.array([1.0, 0.5, 0.2, 0.0, nan]))
    other = Measured("x", np.array([0.0, 0.5, 0.1, 0.3, nan]))
    [found] = compare_all([[one], [other]], resamples=10)
    assert (found.wins, found.ties, found.losses) == (2, 1, 1)
    turned = found.seen_from(1)
    assert (turned.wins, turned.ties, turned.losses) == (1, 1, 2)
    assert (turned.first, turned.second, turned.difference) == (1, 0, -found.difference)
    assert (turned.interval.low, turned.interval.high) == (-found.interval.high, -found.interval.low)
    assert turned.seen_from(0) == found


def test_one_method_has_nobody_to_be_compared_with() -> None:
    assert compare_all([[Measured("x", sample(0))]]) == ()
    assert [str(range_) for range_ in rank_ranges(1, ())] == ["1"]


@pytest.mark.slow
def test_a_family_is_never_too_large_for_its_differences_to_be_seen() -> None:
    """Of 30 methods the 435 pairs would each need a p-value below 0.05 / 435, which 999 flips cannot give."""
    methods = [[Measured("x", np.full(40, at / 30))] for at in range(30)]
    ranges = rank_ranges(30, compare_all(methods, resamples=999))
    assert [str(found) for found in ranges] == [str(30 - at) for at in range(30)]


@pytest.mark.slow
@given(st.integers(0, 1000), st.floats(0, 0.06))
@settings(max_examples=8)
def test_the_p_value_agrees_with_scipys_permutation_test(seed: int, shift: float) -> None:
    first, second = sample(seed), sample(seed + 5000) + shift
    [found] = compare_all([[Measured("x", first)], [Measured("x", second)]])
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
    [found] = compare_all([[Measured("x", first)], [Measured("x", second)]])
    assert found.p_value == pytest.approx(2 / 32, abs=0.01)


def test_a_p_value_is_never_zero_and_is_one_where_nothing_differs() -> None:
    ones, zeros = Measured("x", np.ones(100)), Measured("x", np.zeros(100))
    assert compare_all([[ones], [zeros]])[0].p_value == 1 / 10_001
    [same] = compare_all([[ones], [ones]])
    assert (same.p_value, same.difference, same.interval.low, same.interval.high) == (1, 0, 0, 0)


def test_clusters_are_flipped_together() -> None:
    """A hundred queries in three clusters are three observations: of eight ways to flip, two are as large."""
    differences = np.full(100, 0.5)
    clusters = [str(number % 3) for number in range(100)]
    [found] = compare_all([[Measured("x", differences)], [Measured("x", np.zeros(100))]], clusters)
    assert found.p_value == pytest.approx(2 / 8, abs=0.02)


def test_a_paired_interval_is_narrower_than_the_methods_apart() -> None:
    first = sample(9)
    second = first - 0.01 * sample(10)
    [paired] = compare_all([[Measured("x", first)], [Measured("x", second)]])
    [apart] = intervals([Measured("x", first)])
    assert paired.interval.low > 0
    assert paired.interval.high - paired.interval.low < 0.1 * (apart.high - apart.low)


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=8))
def test_holm_agrees_with_its_definition(p_values: list[float]) -> None:
    """A hypothesis is rejected at a level if every p-value up to its own, in order, is below level / (those left)."""
    ascending = sorted(range(len(p_values)), key=lambda at: p_values[at])
    corrected = holm(np.array(p_values))
    running = 0.0
    for step, at in enumerate(ascending):
        running = max(running, min(1.0, (len(p_values) - step) * p_values[at]))
        assert corrected[at] == pytest.approx(running)
    assert (corrected >= np.array(p_values) - 1e-15).all()


def test_holm_gives_the_example_of_the_textbook() -> None:
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_methods_that_cannot_be_told_apart_share_their_places() -> None:
    """A is better than C and D; B only than D: A 1-2, B 1-3, C 2-4, D 3-4."""
    pairs = [
        pair(0, 1, 0.1, 0.9),
        pair(0, 2, 0.2, 0.01),
        pair(0, 3, 0.3, 0.01),
        pair(1, 2, 0.1, 0.4),
        pair(1, 3, 0.2, 0.02),
        pair(3, 2, -0.1, 0.3),
    ]
    assert [str(found) for found in rank_ranges(4, pairs)] == ["1-2", "1-3", "2-4", "3-4"]


def test_methods_that_are_all_apart_have_one_place_each() -> None:
    levels = (0.2, 0.8, 0.5)
    methods = [[Measured("x", np.clip(level + 0.01 * sample(7), 0, 1))] for level in levels]
    assert [str(found) for found in rank_ranges(3, compare_all(methods, resamples=999))] == ["3", "1", "2"]


@given(st.integers(2, 6), st.randoms(use_true_random=False))
def test_a_range_holds_the_place_that_the_plain_numbers_give(methods: int, random: object) -> None:
    values = np.random.default_rng(random.randrange(2**32)).random(methods)  # type: ignore[attr-defined]
    pairs = [
        pair(one, other, values[one] - values[other], float(random.random() < 0.5))  # type: ignore[attr-defined]
        for one in range(methods)
        for other in range(one + 1, methods)
    ]
    places = {int(at): place for place, at in enumerate(np.argsort(-values), start=1)}
    for at, found in enumerate(rank_ranges(methods, pairs)):
        assert found.best <= places[at] <= found.worst


def test_the_resolvable_difference_is_2_80_standard_errors() -> None:
    differences_Q = sample(5) - sample(6)
    expected = 2.8015852 * differences_Q.std(ddof=1) / np.sqrt(200)
    assert resolvable(differences_Q[:, None]) == pytest.approx(expected, rel=1e-6)


def test_queries_that_repeat_each_other_resolve_no_smaller_difference() -> None:
    differences_Q = sample(5) - sample(6)
    names = [str(number) for number in range(200)]
    repeated = resolvable(np.repeat(differences_Q, 4)[:, None], np.repeat(names, 4).tolist())
    assert repeated == pytest.approx(resolvable(differences_Q[:, None], names))


def test_the_resolvable_difference_is_found_in_four_of_five_repetitions() -> None:
    """Simulated: differences with a true mean of just that size, tested at 5 %."""
    generator = np.random.default_rng(0)
    size = resolvable(generator.normal(0, 0.3, (400, 1)))
    draws = generator.normal(size, 0.3, (2000, 400))
    errors = draws.std(axis=1, ddof=1) / 20
    assert np.mean(np.abs(draws.mean(axis=1)) / errors > 1.96) == pytest.approx(0.8, abs=0.05)


def test_one_cluster_resolves_nothing() -> None:
    assert np.isnan(resolvable(np.ones((3, 1)), ["a", "a", "a"]))
