"""nDCG, reciprocal and median rank, and average precision of the whole ranking, each against a naive oracle."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cirbench.metrics import METRICS, Metric, Ranks
from cirbench.metrics.functions import UNRANKED, best_rank, full_average_precision, ndcg_at, reciprocal_rank_at
from cirbench.support.arrays import Ragged

ROWS = st.lists(st.lists(st.integers(1, 30), max_size=5, unique=True), min_size=1, max_size=6)
CUTOFF = st.integers(1, 40)


def ragged(rows: list[list[int]]) -> Ragged[np.int64]:
    return Ragged.of(rows, np.int64)


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
