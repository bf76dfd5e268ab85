"""The metrics of single benchmarks are what a plain loop over ranks gives."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cirbench.metrics import METRICS, Measure, measure
from cirbench.metrics.functions import fractional_recall_at, hit_at, soft_recall_at
from cirbench.metrics.measure import per_query
from cirbench.metrics.table import CIRR_AVERAGE
from cirbench.support.arrays import Ragged

if TYPE_CHECKING:
    from numpy.typing import NDArray

UNRANKED = int(np.iinfo(np.int64).max)
RANKS = st.lists(st.lists(st.integers(1, 30) | st.just(UNRANKED), max_size=6), min_size=1, max_size=8)
CUTOFFS = st.integers(1, 30)


@dataclasses.dataclass(frozen=True)
class Ranks:
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
    ranked = Ranks(ragged([[rank] for rank, _ in ranks]), np.array([group for _, group in ranks]))
    naive = [((rank <= 5) + (group <= 1)) / 2 for rank, group in ranks]
    values_Q = per_query(ranked, Measure(CIRR_AVERAGE, 5))
    assert values_Q is not None and values_Q.tolist() == naive
    assert per_query(Ranks(ranked.relevant_ranks), Measure(CIRR_AVERAGE, 5)) is None
    (measured,) = measure(ranked, SimpleNamespace(measures=(Measure(CIRR_AVERAGE, 5),), slices={}, labels=None))
    assert measured.label == "(R@5+Rs@1)/2"


def test_soft_recall_without_soft_labels_is_a_mistake_of_the_protocol() -> None:
    with pytest.raises(ValueError, match="Recall_soft needs soft labels"):
        per_query(Ranks(ragged([[1]])), Measure("Recall_soft", 1))


def test_a_mean_over_slices_stands_first_and_counts_each_slice_once() -> None:
    protocol = SimpleNamespace(
        measures=(Measure("Hit_rate", 1, by="task", macro=True, labels=("b", "a")),),
        slices={"task": (("a",), ("a",), ("a",), ("b",))},
        labels=None,
    )
    found = measure(Ranks(ragged([[1], [2], [3], [1]])), protocol)
    assert [each.label for each in found] == ["Hit_rate@1[mean over task]", "Hit_rate@1[task=b]", "Hit_rate@1[task=a]"]
    assert [each.value for each in found] == pytest.approx([(1 + 1 / 3) / 2, 1, 1 / 3])


def test_every_metric_says_where_it_comes_from() -> None:
    for name, metric in METRICS.all()[0].items():
        assert metric.name == name
        assert metric.source and metric.title.endswith(".")
