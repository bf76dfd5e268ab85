"""Metrics on ranks agree with their definitions, with naive oracles, and with TREC's evaluation where that agrees."""

from __future__ import annotations

import dataclasses
import math
import warnings
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cirbench.metrics import METRICS, Measure, Metric, measure
from cirbench.metrics.functions import (
    UNRANKED,
    Ranks,
    average_precision_at,
    average_precision_drop_at,
    best_rank,
    fractional_recall_at,
    full_average_precision,
    hit_at,
    linguistic_sensitivity,
    ndcg_at,
    negative_recall_at,
    recall_at,
    reciprocal_rank_at,
    soft_recall_at,
    without_negatives,
)
from cirbench.metrics.measure import per_query
from cirbench.metrics.table import CIRR_AVERAGE
from cirbench.support.arrays import Ragged

if TYPE_CHECKING:
    from numpy.typing import NDArray


cutoffs = st.integers(1, 60)
ranked_queries = st.lists(
    st.lists(st.integers(1, 80) | st.just(UNRANKED), max_size=8).map(
        lambda ranks: sorted({rank for rank in ranks if rank < UNRANKED}) + [UNRANKED] * ranks.count(UNRANKED)
    ),
    min_size=1,
    max_size=6,
)


def plain_average_precision(ranks: list[int], k: int) -> float:
    """Walk down the list, as the definition reads."""
    found, total = 0, 0.0
    for position in range(1, k + 1):
        if position in ranks:
            found += 1
            total += found / position
    return total / min(len(ranks), k) if ranks else float("nan")


@given(ranked_queries, cutoffs)
def test_average_precision_agrees_with_walking_down_the_list(queries: list[list[int]], k: int) -> None:
    expected = [plain_average_precision(ranks, k) for ranks in queries]
    found = average_precision_at(Ragged.of([ranks[::-1] for ranks in queries], np.int64), k)
    np.testing.assert_allclose(found, expected, rtol=1e-13)


@pytest.mark.parametrize(("k", "expected"), [(5, (1 + 2 / 3) / 3), (2, 1 / 2)])
def test_the_denominator_is_the_smaller_of_truths_and_cutoff(k: int, expected: float) -> None:
    """Ground truths a, b, c; the list a, x, b, y, z."""
    [found] = average_precision_at(Ragged.of([[1, 3, UNRANKED]], np.int64), k)
    assert found == pytest.approx(expected, abs=1e-15)


def test_a_query_without_ground_truths_has_no_average_precision() -> None:
    found = average_precision_at(Ragged.of([[], [1]], np.int64), 5)
    assert np.isnan(found[0])
    assert found[1] == 1


@given(st.lists(st.integers(1, 80) | st.just(UNRANKED), min_size=1), cutoffs)
def test_recall_says_whether_the_target_is_among_the_first(ranks: list[int], k: int) -> None:
    assert recall_at(np.array(ranks), k).tolist() == [float(rank <= k) for rank in ranks]


@given(ranked_queries.filter(lambda queries: all(queries)), st.sampled_from([5, 10, 25, 50]))
def test_trec_evaluation_agrees_where_its_definition_does(queries: list[list[int]], k: int) -> None:
    """TREC divides average precision by all ground truths; recall of one target is the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ir_measures = pytest.importorskip("ir_measures")
        pytest.importorskip("pytrec_eval")
    labels, run = [], []
    for number, ranks in enumerate(queries):
        names = {rank: f"truth{rank}" for rank in ranks if rank < UNRANKED}
        labels += [ir_measures.Qrel(str(number), name, 1) for name in names.values()]
        labels += [ir_measures.Qrel(str(number), f"lost{n}", 1) for n in range(ranks.count(UNRANKED))]
        for position in range(1, 81):
            run.append(ir_measures.ScoredDoc(str(number), names.get(position, f"other{position}"), -position))
    expected = {
        int(value.query_id): value.value
        for value in ir_measures.pytrec_eval.iter_calc([ir_measures.AP @ k], labels, run)
    }
    found = average_precision_at(Ragged.of(queries, np.int64), k)
    for number, ranks in enumerate(queries):
        assert found[number] * min(len(ranks), k) / len(ranks) == pytest.approx(expected[number], abs=1e-9)

    single = [ranks[:1] for ranks in queries if ranks[0] < UNRANKED]
    one_target = [ir_measures.Qrel(str(number), f"truth{rank}", 1) for number, [rank] in enumerate(single)]
    lists = [
        ir_measures.ScoredDoc(str(number), f"truth{position}", -position)
        for number in range(len(single))
        for position in range(1, 81)
    ]
    for value in ir_measures.pytrec_eval.iter_calc([ir_measures.R @ k], one_target, lists):
        assert recall_at(np.array(single[int(value.query_id)]), k)[0] == value.value


RANKS = st.lists(st.lists(st.integers(1, 30) | st.just(UNRANKED), max_size=6), min_size=1, max_size=8)
CUTOFFS = st.integers(1, 30)


@dataclasses.dataclass(frozen=True)
class Ranked:
    relevant_ranks: Ragged[np.int64]
    group_ranks_Q: NDArray[np.int64] | None = None


def ragged(rows: list[list[int]]) -> Ragged[np.int64]:
    return Ragged.of(rows, np.int64)


@given(RANKS, CUTOFFS)
def test_fractional_recall_is_the_share_found_and_zero_without_ground_truths(rows: list[list[int]], k: int) -> None:
    naive = [sum(rank <= k for rank in row) / len(row) if row else 0.0 for row in rows]
    assert fractional_recall_at(ragged(rows), k).tolist() == pytest.approx(naive, abs=1e-12)


@given(RANKS, CUTOFFS)
def test_a_hit_is_any_ground_truth_among_the_first(rows: list[list[int]], k: int) -> None:
    assert hit_at(ragged(rows), k).tolist() == [float(any(rank <= k for rank in row)) for row in rows]


@given(
    st.lists(
        st.lists(st.tuples(st.integers(1, 30) | st.just(UNRANKED), st.sampled_from([1.0, 0.5, 0.2, -1.0])), max_size=6),
        min_size=1,
        max_size=8,
    ),
    CUTOFFS,
)
def test_soft_recall_is_the_largest_label_among_the_first_and_never_negative(
    rows: list[list[tuple[int, float]]], k: int
) -> None:
    ranks = ragged([[rank for rank, _ in row] for row in rows])
    gains = np.array([gain for row in rows for _, gain in row])
    naive = [max([0.0, *(gain for rank, gain in row if rank <= k)]) for row in rows]
    assert soft_recall_at(ranks, gains, k).tolist() == naive


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 5)), min_size=1, max_size=9))
def test_cirr_s_average_is_the_mean_of_recall_at_5_and_subset_recall_at_1(ranks: list[tuple[int, int]]) -> None:
    ranked = Ranked(ragged([[rank] for rank, _ in ranks]), np.array([group for _, group in ranks]))
    naive = [((rank <= 5) + (group <= 1)) / 2 for rank, group in ranks]
    values_Q = per_query(ranked, Measure(CIRR_AVERAGE, 5))
    assert values_Q is not None and values_Q.tolist() == naive
    assert per_query(Ranked(ranked.relevant_ranks), Measure(CIRR_AVERAGE, 5)) is None
    (measured,) = measure(ranked, SimpleNamespace(measures=(Measure(CIRR_AVERAGE, 5),), slices={}, labels=None))
    assert measured.label == "(R@5+Rs@1)/2"


def test_soft_recall_without_soft_labels_is_a_mistake_of_the_protocol() -> None:
    with pytest.raises(ValueError, match="Recall_soft needs soft labels"):
        per_query(Ranked(ragged([[1]])), Measure("Recall_soft", 1))


def test_a_mean_over_slices_stands_first_and_counts_each_slice_once() -> None:
    protocol = SimpleNamespace(
        measures=(Measure("Hit_rate", 1, by="task", macro=True, labels=("b", "a")),),
        slices={"task": (("a",), ("a",), ("a",), ("b",))},
        labels=None,
    )
    found = measure(Ranked(ragged([[1], [2], [3], [1]])), protocol)
    assert [each.label for each in found] == ["Hit_rate@1[mean over task]", "Hit_rate@1[task=b]", "Hit_rate@1[task=a]"]
    assert [each.value for each in found] == pytest.approx([(1 + 1 / 3) / 2, 1, 1 / 3])


def test_every_metric_says_where_it_comes_from() -> None:
    for name, metric in METRICS.all()[0].items():
        assert metric.name == name
        assert metric.source and metric.title.endswith(".")


ROWS = st.lists(st.lists(st.integers(1, 30), max_size=5, unique=True), min_size=1, max_size=6)
CUTOFF = st.integers(1, 40)


@given(ROWS, CUTOFF)
def test_the_discounted_gain_is_that_of_its_definition(rows: list[list[int]], k: int) -> None:
    for value, row in zip(ndcg_at(Ranks(ragged(rows)), k), rows, strict=True):
        if not row:
            assert math.isnan(value)
            continue
        ideal = sum(1 / math.log2(1 + place) for place in range(1, min(len(row), k) + 1))
        assert value == pytest.approx(sum(1 / math.log2(1 + rank) for rank in row if rank <= k) / ideal)


@given(st.lists(st.tuples(st.integers(1, 30), st.sampled_from([1.0, 0.5, 0.2, -1.0])), min_size=1, max_size=6), CUTOFF)
def test_soft_labels_are_its_gains_and_none_is_below_zero(row: list[tuple[int, float]], k: int) -> None:
    gains = np.array([gain for _, gain in row])
    (value,) = ndcg_at(Ranks(ragged([[rank for rank, _ in row]]), gains=gains), k)
    best = sorted((max(gain, 0) for gain in gains), reverse=True)[:k]
    ideal = sum(gain / math.log2(1 + place) for place, gain in enumerate(best, start=1))
    found = sum(max(gain, 0) / math.log2(1 + rank) for rank, gain in row if rank <= k)
    assert math.isnan(value) if ideal == 0 else value == pytest.approx(found / ideal)


@given(ROWS, CUTOFF)
def test_the_reciprocal_and_the_best_rank_are_those_of_the_best_ground_truth(rows: list[list[int]], k: int) -> None:
    ranks = Ranks(ragged(rows))
    for row, reciprocal, best in zip(rows, reciprocal_rank_at(ranks, k), best_rank(ranks, k), strict=True):
        if not row:
            assert math.isnan(reciprocal) and math.isnan(best)
        else:
            assert best == min(row)
            assert reciprocal == (1 / min(row) if min(row) <= k else 0)


def test_what_is_not_ranked_is_infinitely_far_away() -> None:
    ranks = Ranks(ragged([[UNRANKED], [UNRANKED, 2]]))
    assert [*best_rank(ranks, 1)] == [math.inf, 2]
    assert [*reciprocal_rank_at(ranks, METRICS.find("MRR").cutoff(None) or 0)] == [0, 0.5]


@pytest.mark.parametrize("name", ["", "n DCG", "@5", "a,b", "x[y]", "a@b"])
def test_a_metric_whose_name_could_not_be_typed_cannot_be_made(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name of a metric"):
        Metric(name, "Title.", "source", best_rank)


@given(ROWS, st.booleans())
def test_the_average_precision_of_the_whole_ranking_is_the_area_under_its_curve(
    rows: list[list[int]], trapezoidal: bool
) -> None:
    for value, row in zip(full_average_precision(ragged(rows), trapezoidal=trapezoidal), rows, strict=True):
        if not row:
            assert math.isnan(value)
            continue
        area, found, before = 0.0, 0, 1.0
        for rank in range(1, max(row) + 1):  # down the list, item by item
            found += rank in row
            now = found / rank
            if rank in row:
                area += (now + before) / 2 if trapezoidal else now
            before = now
        assert value == pytest.approx(area / len(row))


def test_the_two_flavours_differ_by_a_factor_of_two_for_one_ground_truth_and_never_share_a_label() -> None:
    ranks = ragged([[1], [4], [UNRANKED], [2, UNRANKED]])
    plain, area = (full_average_precision(ranks, trapezoidal=flavour) for flavour in (False, True))
    assert [*plain] == [1, 1 / 4, 0, 1 / 4]
    assert [*area] == [1, 1 / 8, 0, 1 / 8]
    labels = {
        METRICS.find(name).label(METRICS.find(name).cutoff(None) or 0) for name in ("mAP_full", "mAP_trapezoidal")
    }
    assert labels == {"mAP_full", "mAP_trapezoidal"}
    assert METRICS.find("mAP_full").cutoff("10") is None


LISTS = st.lists(st.text("+-.", max_size=12), min_size=1, max_size=5)
"""A ranked list per query: a ground truth, a negative, or anything else in each place."""
HEADS = st.integers(1, 14)


def ranks(lists: list[str], kind: str) -> Ragged[np.int64]:
    return Ragged.of([[at for at, each in enumerate(row, start=1) if each == kind] for row in lists], np.int64)


@given(LISTS, HEADS)
def test_negative_recall_is_the_share_of_negatives_in_the_head(lists: list[str], k: int) -> None:
    for value, row in zip(negative_recall_at(ranks(lists, "-"), k), lists, strict=True):
        if "-" in row:
            assert value == row[:k].count("-") / row.count("-")
        else:
            assert math.isnan(value)


@given(LISTS, HEADS)
def test_the_drop_is_what_the_list_without_its_negatives_gains(lists: list[str], k: int) -> None:
    relevant, negatives = ranks(lists, "+"), ranks(lists, "-")
    rest = [row.replace("-", "") for row in lists]
    assert without_negatives(relevant, negatives).values.tolist() == ranks(rest, "+").values.tolist()
    drop = average_precision_drop_at(relevant, negatives, k)
    expected = average_precision_at(ranks(rest, "+"), k) - average_precision_at(relevant, k)
    np.testing.assert_array_equal(drop, expected)
    assert (drop[~np.isnan(drop)] >= 0).all()


def test_what_is_not_ranked_stays_unranked_and_moves_nothing() -> None:
    relevant, negatives = Ragged.of([[UNRANKED, 3]], np.int64), Ragged.of([[UNRANKED, 1]], np.int64)
    assert without_negatives(relevant, negatives).values.tolist() == [UNRANKED, 2]
    assert negative_recall_at(negatives, 10).tolist() == [0.5]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1) | st.just(math.nan)), min_size=1, max_size=9))
def test_sensitivity_is_the_mean_spread_over_paraphrases(rows: list[tuple[str, float]]) -> None:
    groups = {name: [value for other, value in rows if other == name and not math.isnan(value)] for name, _ in rows}
    spreads = [max(values) - min(values) for values in groups.values() if values]
    values, names = np.array([value for _, value in rows]), [name for name, _ in rows]
    if spreads:
        assert linguistic_sensitivity(values, names) == pytest.approx(np.mean(spreads))
    else:
        with pytest.raises(ValueError, match="no query takes part"):
            linguistic_sensitivity(values, names)


@given(LISTS, HEADS)
def test_items_with_a_soft_label_below_0_are_negatives_and_no_ground_truths(lists: list[str], k: int) -> None:
    rows = [[at for at, each in enumerate(row, start=1) if each != "."] for row in lists]
    gains = np.array([1.0 if each == "+" else -1.0 for row in lists for each in row if each != "."])
    given_ranks = Ranks(Ragged.of(rows, np.int64), gains=gains)
    relevant, negatives = ranks(lists, "+"), ranks(lists, "-")
    assert given_ranks.positives.relevant.values.tolist() == relevant.values.tolist()
    for name, expected in (
        ("NegRecall", negative_recall_at(negatives, k)),
        ("mAP_drop", average_precision_drop_at(relevant, negatives, k)),
    ):
        np.testing.assert_array_equal(METRICS.find(name).function(given_ranks, k), expected)


def test_without_soft_labels_nothing_is_negative() -> None:
    plain = Ranks(Ragged.of([[1, 4], []], np.int64))
    assert plain.positives is plain and plain.negatives.lengths.tolist() == [0, 0]
