"""Numbers about negatives and paraphrases, each against a naive oracle on ranked lists."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cirbench.metrics import METRICS
from cirbench.metrics.functions import (
    UNRANKED,
    Ranks,
    average_precision_at,
    average_precision_drop_at,
    linguistic_sensitivity,
    negative_recall_at,
    without_negatives,
)
from cirbench.support.arrays import Ragged

LISTS = st.lists(st.text("+-.", max_size=12), min_size=1, max_size=5)
"""A ranked list per query: a ground truth, a negative, or anything else in each place."""
CUTOFF = st.integers(1, 14)


def ranks(lists: list[str], kind: str) -> Ragged[np.int64]:
    return Ragged.of([[at for at, each in enumerate(row, start=1) if each == kind] for row in lists], np.int64)


@given(LISTS, CUTOFF)
def test_negative_recall_is_the_share_of_negatives_in_the_head(lists: list[str], k: int) -> None:
    for value, row in zip(negative_recall_at(ranks(lists, "-"), k), lists, strict=True):
        if "-" in row:
            assert value == row[:k].count("-") / row.count("-")
        else:
            assert math.isnan(value)


@given(LISTS, CUTOFF)
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


@given(LISTS, CUTOFF)
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
