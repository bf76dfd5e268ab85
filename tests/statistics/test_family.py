"""Several methods: the same figures as two at a time, one correction over all pairs, and no invented order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cirbench.statistics import Interval, Pair, compare, compare_all, holm, rank_ranges
from cirbench.statistics.family import resolvable
from tests.statistics.measured import Measured, sample


def pair(first: int, second: int, difference: float, corrected: float) -> Pair:
    return Pair(first, second, difference, Interval(0, 0), corrected, corrected, 0, 0, 0, 0)


def test_each_pair_gets_the_difference_interval_and_p_value_of_two_methods_compared_alone() -> None:
    methods = [[Measured("x", sample(seed))] for seed in range(4)]
    clusters = [str(number // 3) for number in range(200)]
    for found in compare_all(methods, clusters, resamples=500, seed=3):
        [alone] = compare(methods[found.first], methods[found.second], clusters, resamples=500, seed=3)
        assert (found.difference, found.p_value) == (alone.difference, alone.p_value)
        assert (found.interval.low, found.interval.high) == pytest.approx((alone.interval.low, alone.interval.high))


def test_a_mean_over_slices_is_compared_as_the_mean_of_their_means() -> None:
    inside_Q = np.arange(200) < 20
    methods = []
    for seed in range(3):
        parts = [Measured(name, np.where(inside_Q == (name == "s"), sample(seed), np.nan)) for name in "sl"]
        methods.append([Measured("mean", sample(seed), ("s", "l")), *parts])
    for found in compare_all(methods, resamples=400):
        one, other = methods[found.first], methods[found.second]
        alone = compare(one, other, resamples=400)[0]
        assert found.p_value == alone.p_value
        assert (found.interval.low, found.interval.high) == pytest.approx((alone.interval.low, alone.interval.high))


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


def test_a_family_is_never_too_large_for_its_differences_to_be_seen() -> None:
    """Of 30 methods the 435 pairs would each need a p-value below 0.05 / 435, which 999 flips cannot give."""
    methods = [[Measured("x", np.full(40, at / 30))] for at in range(30)]
    ranges = rank_ranges(30, compare_all(methods, resamples=999))
    assert [str(found) for found in ranges] == [str(30 - at) for at in range(30)]


def test_a_p_value_is_never_zero_however_many_permutations_disagree() -> None:
    [found] = compare_all([[Measured("x", np.ones(500))], [Measured("x", np.zeros(500))]], resamples=99)
    assert found.p_value == 1 / 100


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
