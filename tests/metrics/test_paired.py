"""Several methods: a test that keeps its level, one correction over all pairs, and no invented order."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from cirbench.metrics.intervals import Interval, clustered_mean, intervals
from cirbench.metrics.paired import Pair, _Means, _Resamples, _times_drawn, better_of, compare_all, holm, rank_ranges
from tests.metrics.coverage import (
    OF_DIFFERENCES,
    Population,
    detectable,
    rejected,
    repetitions,
    shape,
)
from tests.metrics.measured import Measured, sample

if TYPE_CHECKING:
    from numpy.typing import NDArray


SHORT = [population for population in OF_DIFFERENCES if len(population.sizes) < 1000]


def sliced(values_Q: NDArray[np.float64], small_Q: NDArray[np.bool_]) -> list[Measured]:
    """A number that is the mean of the means over two slices, and the two."""
    parts = [Measured(name, np.where(mask, values_Q, np.nan)) for name, mask in (("s", small_Q), ("l", ~small_Q))]
    return [Measured("mean", values_Q, ("s", "l")), *parts]


def pair(first: int, second: int, difference: float, corrected: float) -> Pair:
    return Pair(first, second, difference, Interval(0, 0), corrected, corrected, 0, 0, 0, 0, thin=False)


def test_each_pair_gets_what_it_gets_alone_but_for_the_correction() -> None:
    methods = [[Measured("x", sample(seed))] for seed in range(4)]
    clusters = [str(number // 3) for number in range(200)]
    for found in compare_all(methods, clusters, resamples=500, seed=3):
        [alone] = compare_all([methods[found.first], methods[found.second]], clusters, resamples=500, seed=3)
        assert (found.difference, found.p_value) == (alone.difference, alone.p_value)
        assert alone.corrected == alone.p_value <= found.corrected
        assert (found.interval.low, found.interval.high) == pytest.approx((alone.interval.low, alone.interval.high))


def test_a_mean_over_slices_is_compared_as_the_mean_of_their_means() -> None:
    inside_Q = np.arange(400) < 100
    one, other = sample(0, 400), sample(1, 400)
    [found] = compare_all([sliced(one, inside_Q), sliced(other, inside_Q)])
    small, large = (one - other)[inside_Q], (one - other)[~inside_Q]
    error = np.hypot(small.std() / np.sqrt(100), large.std() / np.sqrt(300)) / 2
    assert (found.interval.low + found.interval.high) / 2 == pytest.approx((small.mean() + large.mean()) / 2)
    assert found.interval.high - found.interval.low == pytest.approx(2 * 1.96 * error, rel=0.03)


def test_a_slice_of_few_queries_weighs_in_the_test_as_much_as_one_of_many() -> None:
    """Two queries of one slice and ninety-eight of another: the two decide, and are too few."""
    few_Q = np.arange(100) < 2
    [found] = compare_all([sliced(np.where(few_Q, 1.0, 0.0), few_Q), sliced(np.zeros(100), few_Q)])
    [plain] = compare_all([[Measured("x", np.where(few_Q, 1.0, 0.0))], [Measured("x", np.zeros(100))]])
    assert found.thin
    assert found.interval.low < 0 < found.interval.high
    assert found.interval.high - found.interval.low > 3 * (plain.interval.high - plain.interval.low)
    assert plain.interval.high < 0.1


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
    """Of 20 methods the 190 pairs would each need a p-value below 0.05 / 190, which 999 resamples cannot give."""
    methods = [[Measured("x", np.clip(at / 20 + 0.01 * (sample(at, 300) - 0.3), 0, 1))] for at in range(20)]
    ranges = rank_ranges(20, compare_all(methods, resamples=999))
    assert [str(found) for found in ranges] == [str(20 - at) for at in range(20)]


@given(st.integers(0, 1000), st.floats(0, 0.06))
@settings(max_examples=8, deadline=None)
def test_the_p_value_agrees_with_scipys_t_test_where_that_holds(seed: int, shift: float) -> None:
    """Of 500 differences that are not skewed, both know the same; what is left is the noise of the resamples."""
    first, second = sample(seed, 500), sample(seed + 5000, 500) + shift
    [found] = compare_all([[Measured("x", first)], [Measured("x", second)]])
    theirs = scipy.stats.ttest_rel(first, second)
    assert found.difference == pytest.approx(np.mean(first - second))
    noise = np.sqrt(theirs.pvalue * (1 - theirs.pvalue) / 10_000)
    assert found.p_value == pytest.approx(theirs.pvalue, abs=5 * noise + 0.004)


def test_the_test_is_scipys_bootstrap_of_t() -> None:
    """Few and skewed differences, resampled by SciPy: the share of |t*| that reach the observed |t|."""
    differences_Q = np.random.default_rng(3).exponential(0.2, 40) - 0.15
    centred_Q = differences_Q - differences_Q.mean()

    def t(values_Q: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        errors: NDArray[np.float64] = values_Q.std(axis=axis, ddof=1) / np.sqrt(values_Q.shape[axis])
        found: NDArray[np.float64] = values_Q.mean(axis=axis) / errors
        return found

    theirs = scipy.stats.bootstrap(
        (centred_Q,), t, n_resamples=40_000, method="percentile", rng=np.random.default_rng(0)
    ).bootstrap_distribution
    expected = np.mean(np.abs(theirs) >= abs(t(differences_Q)))
    [found] = compare_all([[Measured("x", differences_Q)], [Measured("x", np.zeros(40))]])
    assert not found.thin
    assert found.p_value == pytest.approx(expected, abs=5 * np.sqrt(expected / 10_000))


@given(st.integers(0, 10_000), st.sampled_from([12, 60, 200]), st.floats(-0.1, 0.1))
@settings(max_examples=30, deadline=None)
def test_an_interval_leaves_out_zero_just_where_the_p_value_is_below_5_percent(
    seed: int, queries: int, shift: float
) -> None:
    generator = np.random.default_rng(seed)
    differences_Q = generator.choice([-0.5, 0.0, 1.0], size=queries, p=[0.2, 0.7, 0.1]) * 0.8 + shift
    [found] = compare_all([[Measured("x", differences_Q)], [Measured("x", np.zeros(queries))]], resamples=999)
    outside = found.interval.low > 0 or found.interval.high < 0
    assert outside == (found.p_value < 0.05)
    assert found.interval.low <= found.difference + 1e-9
    assert found.difference - 1e-9 <= found.interval.high


@pytest.mark.slow
@pytest.mark.parametrize("population", SHORT, ids=lambda each: f"{each.name}, {shape(each)}")
def test_the_test_keeps_its_level_for_skewed_differences_and_clusters(population: Population) -> None:
    """A shortened `make coverage`."""
    assert rejected([*repetitions(population, draws=200)]) <= 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / 200)


@pytest.mark.slow
@pytest.mark.parametrize(
    "population",
    [population for population in SHORT if "0.01" not in population.name and len(population.sizes) > 60],
    ids=lambda each: f"{each.name}, {shape(each)}",
)
def test_the_minimum_detectable_effect_is_detected_in_four_of_five_repetitions(population: Population) -> None:
    for side in (1, -1):
        effect = detectable(population, side, draws=60)
        power = rejected([*repetitions(population, draws=200, effect=effect, seed=1)])
        assert power == pytest.approx(0.8, abs=0.04 + 2.5 * np.sqrt(0.8 * 0.2 / 200))


def test_a_pair_says_where_too_few_queries_differ_to_trust_the_test() -> None:
    """Five wins and no loss of 1,000 queries are thin, twelve are not."""
    zeros = [Measured("x", np.zeros(1000))]
    for wins, thin in ((0, True), (1, True), (5, True), (12, False)):
        [found] = compare_all([[Measured("x", (np.arange(1000) < wins).astype(np.float64))], zeros])
        assert found.thin == thin


def test_a_difference_that_is_the_same_on_every_query_is_believed_as_far_as_others_may_exist() -> None:
    """Without any variance a t-test would be sure; three unseen queries of the other sign would undo 3 of 100."""
    zeros = [Measured("x", np.zeros(100))]
    [small] = compare_all([[Measured("x", np.full(100, 0.01))], zeros])
    [large] = compare_all([[Measured("x", np.full(100, 0.5))], zeros])
    assert small.p_value > 0.05 > large.p_value > 0
    assert small.interval.low < 0 < large.interval.low < 0.5 < large.interval.high


def test_methods_that_do_not_differ_have_a_p_value_of_one_and_an_interval_with_a_width() -> None:
    ones = Measured("x", np.ones(100))
    [same] = compare_all([[ones], [ones]])
    assert (same.p_value, same.difference) == (1, 0)
    assert -0.05 < same.interval.low < 0 < same.interval.high < 0.05


def test_three_clusters_prove_nothing_however_many_queries_they_hold() -> None:
    clusters = [str(number % 3) for number in range(100)]
    [found] = compare_all([[Measured("x", np.full(100, 0.5))], [Measured("x", np.zeros(100))]], clusters)
    assert found.p_value > 0.2


@given(st.integers(1, 400))
@settings(max_examples=10, deadline=None)
def test_the_block_size_and_the_other_pairs_change_nothing(block: int) -> None:
    values_MQ = np.random.default_rng(7).random(size=(4, 25))
    values_MQ[:2] = np.resize([0.0, 0.5, 0.5], 25), np.resize([0.5, 0.5, 0.5, 0.0], 25)  # of few differences
    values_MQ[3, :4] = np.nan
    clusters_Q, parts = np.arange(25), [values_Q[:, None] for values_Q in values_MQ]
    means = _Means.of(parts, clusters_Q)
    pairs_P2 = np.array([(0, 1), (2, 3), (0, 2), (1, 3)])
    differences = [clustered_mean(parts[one] - parts[other], clusters_Q) for one, other in pairs_P2]
    influence_PC = np.stack([mean.influence_C for mean in differences])
    times = _times_drawn(25, 301, seed=3)
    whole = _Resamples(times, means).pairs(influence_PC, pairs_P2)
    cut = _Resamples(_times_drawn(25, 301, seed=3, block=block), means).pairs(influence_PC, pairs_P2)
    for one, other in zip(whole, cut, strict=True):
        assert one.tobytes() == other.tobytes()
    for place in range(4):
        two = _Means.of([parts[method] for method in pairs_P2[place]], clusters_Q)
        alone = _Resamples(times, two).pairs(influence_PC[place : place + 1], np.array([(0, 1)]))
        assert [one[place].tobytes() for one in whole] == [single[0].tobytes() for single in alone]
    others = _Resamples(_times_drawn(25, 301, seed=4), means).pairs(influence_PC, pairs_P2)
    assert others[0].tobytes() != whole[0].tobytes()


@given(st.integers(0, 1000), st.sampled_from([1.0, 1e-3, 1e-6]))
@settings(max_examples=20, deadline=None)
def test_a_pair_moves_by_how_much_more_its_first_method_moves_than_its_second(seed: int, spread: float) -> None:
    generator = np.random.default_rng(seed)
    clusters_Q, times = np.arange(60) // 2, _times_drawn(30, 100, seed=seed)
    means = _Means.of([*(0.3 + spread * generator.random((3, 60, 1)) / 2)], clusters_Q)
    pairs_P2 = np.array([(0, 1), (0, 2), (1, 2)])
    influence_PC = np.stack(
        [means.of_methods[one].influence_C - means.of_methods[other].influence_C for one, other in pairs_P2]
    )
    by_methods = _Resamples(times, means).pairs(influence_PC, pairs_P2)
    apart = dataclasses.replace(means, queries=(b"0", b"1", b"2"))  # as if they had values of other queries
    by_pairs = _Resamples(times, apart).pairs(influence_PC, pairs_P2)
    for found_PR, expected_PR in zip(by_methods, by_pairs, strict=True):
        np.testing.assert_allclose(found_PR, expected_PR, rtol=1e-5, atol=1e-5 * np.abs(influence_PC).max())


@pytest.mark.parametrize("kind", ["hits", "precisions", "slices", "duplicates", "seeds", "other queries"])
def test_which_of_two_is_better_is_what_their_p_value_says(kind: str) -> None:
    """A level near many p-values, so that some pairs are decided by a handful of resamples."""
    generator = np.random.default_rng(5)
    skill_Q = generator.normal(size=150)
    scores_MQ = skill_Q + generator.normal(size=(9, 150)) + np.linspace(0, 0.6, 9)[:, None]
    values_MQ = (scores_MQ > 0).astype(float) if kind != "precisions" else 1 / (1 + np.exp(-scores_MQ))
    if kind == "duplicates":
        values_MQ[1:4] = values_MQ[0]
        values_MQ[2, :3] = 1 - values_MQ[2, :3]
    methods = [[Measured("x", values_Q)] for values_Q in values_MQ]
    if kind == "slices":
        masks = [np.where(np.arange(150) % 3 == part, 1.0, np.nan) for part in range(3)]
        methods = [[whole, *(Measured("x", whole.values_Q * mask) for mask in masks)] for [whole] in methods]
    if kind == "seeds":
        methods[3] = [dataclasses.replace(methods[3][0], by_seed=(0.4, 0.5, 0.6))]
    if kind == "other queries":
        methods[3][0].values_Q[:20] = np.nan
    clusters = [str(number // 2) for number in range(150)]
    for level in (0.005, 0.05):
        found_MM = better_of(methods, clusters, level=level)
        for one, other in itertools.combinations(range(9), 2):
            [pair] = compare_all([methods[one], methods[other]], clusters)
            expected = 0 if pair.p_value >= level else 1 if pair.difference > 0 else -1
            assert found_MM[one, other] == -found_MM[other, one] == expected
        assert (found_MM != 0).any()


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


def test_the_minimum_detectable_effect_is_2_80_standard_errors_of_many_queries() -> None:
    differences_Q = sample(5, 4000) - sample(6, 4000)
    [found] = compare_all([[Measured("x", differences_Q)], [Measured("x", np.zeros(4000))]])
    assert found.detectable == pytest.approx(2.80 * differences_Q.std() / np.sqrt(4000), rel=0.03)


def test_queries_that_repeat_each_other_detect_no_smaller_effect() -> None:
    names = [str(number) for number in range(200)]
    alone, repeated = (
        compare_all(
            [[Measured("x", np.repeat(sample(seed), times))] for seed in (5, 6)], np.repeat(names, times).tolist()
        )
        for times in (1, 4)
    )
    assert repeated[0].detectable == pytest.approx(alone[0].detectable)


def test_one_cluster_detects_nothing() -> None:
    [found] = compare_all([[Measured("x", np.ones(3))], [Measured("x", np.zeros(3))]], ["a", "a", "a"])
    assert np.isnan(found.detectable)
    assert found.p_value == 1
