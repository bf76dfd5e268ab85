"""Metrics on ranks agree with their definitions, and with TREC's evaluation where the definitions agree."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cirbench.metrics import average_precision_at, recall_at
from cirbench.ranking import UNRANKED
from cirbench.support.arrays import Ragged

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
