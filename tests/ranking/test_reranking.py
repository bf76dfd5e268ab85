"""A second stage orders the first items anew, and nothing else moves."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cirbench.ranking import UNRANKED, Ranking, rank
from cirbench.ranking.reranking import first_items, group_items, only, rerank
from cirbench.support.arrays import Ragged
from tests.ranking.cases import Case, cases, random_case


def judgements(case: Case, seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Coarse judgements of every pair, so that many tie."""
    generator = np.random.default_rng(seed)
    return generator.integers(-2, 3, (len(case.queries_QD), case.task.gallery_size)).astype(np.float32)


@given(cases(), st.integers(1, 7), st.integers(0, 99))
def test_the_first_items_are_sorted_by_judgement_and_everything_else_stays(case: Case, k: int, seed: int) -> None:
    first = rank(case.queries_QD, case.gallery_ND, case.task)
    judged_QN = judgements(case, seed)
    second = rerank(first, case.task, k, lambda query, items, _: judged_QN[query, items])
    for query in range(len(case.queries_QD)):
        before, after = ([*row[row >= 0]] for row in (first.top_QK[query], second.top_QK[query]))
        # Python's sort is stable: equal judgements keep their order.
        expected = sorted(before[:k], key=lambda item: -judged_QN[query, item]) + before[k:]
        assert after == expected
        for nth, item in enumerate(case.task.relevant[query]):
            old, new = first.relevant_ranks[query][nth], second.relevant_ranks[query][nth]
            ties = second.relevant_ties[query][nth]
            if item in before[:k]:
                assert new == 1 + after.index(item)
                assert ties == sum(judged_QN[query, each] == judged_QN[query, item] for each in before[:k]) - 1
            else:
                assert (new, ties) == (old, first.relevant_ties[query][nth])


@given(cases(), st.integers(1, 7), st.integers(0, 99))
def test_a_group_is_judged_whole_whatever_the_first_items_hold(case: Case, k: int, seed: int) -> None:
    first = rank(case.queries_QD, case.gallery_ND, case.task)
    judged_QN = judgements(case, seed)
    second = rerank(first, case.task, k, lambda query, items, _: judged_QN[query, items])
    assert first.group_top_QK is not None and second.group_top_QK is not None
    assert second.group_ranks_Q is not None
    for query in range(len(case.queries_QD)):
        if not (first.top_QK[query] >= 0).any():  # nothing is ranked for it
            continue
        before = [*first.group_top_QK[query]]
        expected = sorted(before, key=lambda item: -judged_QN[query, item])
        assert [*second.group_top_QK[query]] == expected
        target = [*case.task.relevant[query]][:1]
        found = 1 + expected.index(target[0]) if target and target[0] in expected else UNRANKED
        assert second.group_ranks_Q[query] == found


@given(cases(), st.integers(1, 7))
def test_a_constant_judgement_changes_nothing(case: Case, k: int) -> None:
    first = rank(case.queries_QD, case.gallery_ND, case.task)
    second = rerank(first, case.task, k, lambda _query, items, _scores: np.zeros(len(items), np.float32))
    assert np.array_equal(first.top_QK, second.top_QK)
    assert np.array_equal(first.relevant_ranks.values, second.relevant_ranks.values)


def test_scores_are_those_of_the_first_stage_where_it_has_any() -> None:
    case = random_case(np.random.default_rng(0), 4, 30, 3, "fine")
    first, seen = rank(case.queries_QD, case.gallery_ND, case.task), []

    def judge(query: int, items: object, scores: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> object:
        seen.append((query, items, scores))
        return np.zeros(len(scores), np.float32)

    rerank(first, case.task, 3, judge)  # type: ignore[arg-type]
    for (query, items, scores), (_, members, of_group) in zip(seen[::2], seen[1::2], strict=True):
        assert np.array_equal(items, first.top_QK[query, :3])  # type: ignore[arg-type]
        assert np.array_equal(scores, first.scores_QK[query, :3])
        known = dict(zip(first.top_QK[query], first.scores_QK[query], strict=True))
        for item, score in zip(members, of_group, strict=True):  # type: ignore[call-overload]
            assert score == known[item] if item in known else np.isnan(score)


def test_a_first_stage_that_ranks_no_groups_gives_them_the_order_of_its_lists_and_then_of_ties() -> None:
    case = random_case(np.random.default_rng(1), 3, 12, 3, "fine")
    first = dataclasses.replace(
        rank(case.queries_QD, case.gallery_ND, case.task), group_top_QK=None, group_ranks_Q=None
    )
    assert case.task.groups is not None
    for query in range(3):
        listed = [item for item in first.top_QK[query] if item in case.task.groups[query]]
        rest = sorted(set(case.task.groups[query]) - set(listed), key=lambda item: case.task.tie_order_N[item])
        assert [*group_items(first, case.task, query)] == [*listed, *rest]


def test_a_query_of_which_nothing_is_ranked_is_not_judged() -> None:
    empty = np.full((1, 4), -1, dtype=np.int64)
    nothing = Ragged.of([[UNRANKED]], np.int64)
    ranking = Ranking(empty, np.full((1, 4), np.nan, np.float32), nothing, Ragged.of([[0]], np.int64))
    case = random_case(np.random.default_rng(2), 1, 6, 2, "fine")
    task = dataclasses.replace(case.task, relevant=Ragged.of([[0]], np.int64))

    def judge(*_: object) -> None:
        raise AssertionError("there is nothing to judge")

    second = rerank(ranking, task, 4, judge)  # type: ignore[arg-type]
    assert second.relevant_ranks.values.tolist() == [UNRANKED]
    assert len(first_items(ranking, 4, 0)) == 0


def test_the_ranking_of_some_queries_is_a_part_of_the_whole() -> None:
    case = random_case(np.random.default_rng(3), 5, 20, 3, "coarse")
    whole = rank(case.queries_QD, case.gallery_ND, case.task)
    part = only(whole, np.array([1, 3]))
    assert np.array_equal(part.top_QK, whole.top_QK[[1, 3]])
    assert [row.tolist() for row in part.relevant_ranks] == [whole.relevant_ranks[at].tolist() for at in (1, 3)]
