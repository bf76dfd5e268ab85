"""Re-rank the first items of a ranking, and the group of each query, by somebody's judgement.

What is below the first K keeps its place, so a ground truth that the first stage did not find stays unfound. A
group is judged as a list of its own: whether the first K hold its members makes no difference to it.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from cirbench.metrics.functions import UNRANKED
from cirbench.ranking.task import Ranking

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from cirbench.ranking.task import RankingTask

    Judge = Callable[[int, NDArray[np.int64], NDArray[np.float32]], NDArray[np.float32]]


def first_items(ranking: Ranking, k: int, query: int) -> NDArray[np.int64]:
    """The gallery positions of a query's first ``k`` items, fewer where it has fewer."""
    top_K = ranking.top_QK[query, :k]
    return top_K[top_K >= 0]


def group_items(ranking: Ranking, task: RankingTask, query: int) -> NDArray[np.int64]:
    """The gallery positions of a query's group, in the order of the first stage.

    Members that its ranking of the group leaves out come behind, as its list has them, and then by the tie rule.
    """
    assert task.groups is not None
    listed = [] if ranking.group_top_QK is None else [*ranking.group_top_QK[query]]
    place = {item: at for at, item in enumerate([*listed, *ranking.top_QK[query]][::-1]) if item >= 0}
    members = task.groups[query]
    order = sorted(range(len(members)), key=lambda at: (-place.get(members[at], -1), task.tie_order_N[members[at]]))
    return members[order]


def rerank(ranking: Ranking, task: RankingTask, k: int, judge: Judge) -> Ranking:
    """Order the first ``k`` items of each query by judgement, descending, ties as they are.

    The scores of the result are minus the ranks, since those of two stages cannot be compared.

    Args:
        ranking: Of the first stage.
        task: Of which it is the ranking.
        k: At most as deep as the ranking.
        judge: Given a query, by its number, items, best first, and their scores, (K,), gives a finite value for each.
            It is asked for the first ``k`` items of each query and then, where there are groups, for its group.
    """
    top_QK, ranks, ties = (
        ranking.top_QK.copy(),
        ranking.relevant_ranks.values.copy(),
        ranking.relevant_ties.values.copy(),
    )
    groups: list[NDArray[np.int64]] = []
    for query in range(len(top_QK)):
        items, scores_K = first_items(ranking, k, query), ranking.scores_QK[query]
        if len(items):
            judged = judge(query, items, scores_K[: len(items)])
            order = np.argsort(-judged, kind="stable")
            top_QK[query, : len(items)] = items[order]
            own = slice(ranking.relevant_ranks.offsets[query], ranking.relevant_ranks.offsets[query + 1])
            inside = np.flatnonzero(ranks[own] <= len(items)) + own.start
            before = ranks[inside] - 1
            ranks[inside] = 1 + np.argsort(order)[before]
            ties[inside] = [np.count_nonzero(judged == judged[at]) - 1 for at in before]
        if task.groups is not None:
            groups.append(_judged_group(ranking, task, query, judge) if len(items) else np.empty(0, np.int64))
    group_ranks_Q = group_top_QK = None
    if task.groups is not None:
        group_top_QK = np.full((len(groups), max(map(len, groups), default=0)), -1, dtype=np.int64)
        for query, members in enumerate(groups):
            group_top_QK[query, : len(members)] = members
        targets = [_target_rank(task, query, members) for query, members in enumerate(groups)]
        group_ranks_Q = np.array(targets, dtype=np.int64)
    rank_K = np.arange(1, top_QK.shape[1] + 1, dtype=np.float32)
    return Ranking(
        top_QK=top_QK,
        scores_QK=np.where(top_QK >= 0, -rank_K, np.float32(np.nan)),
        relevant_ranks=ranking.relevant_ranks.like(ranks),
        relevant_ties=ranking.relevant_ties.like(ties),
        group_ranks_Q=group_ranks_Q,
        group_top_QK=group_top_QK,
    )


def _judged_group(ranking: Ranking, task: RankingTask, query: int, judge: Judge) -> NDArray[np.int64]:
    members = group_items(ranking, task, query)
    known = dict(zip(ranking.top_QK[query], ranking.scores_QK[query], strict=True))
    scores = np.array([known.get(item, np.nan) for item in members], dtype=np.float32)
    return members[np.argsort(-judge(query, members, scores), kind="stable")]


def _target_rank(task: RankingTask, query: int, members: NDArray[np.int64]) -> int:
    """The rank of the target, which is the first relevant item, among the members of its group."""
    relevant = task.relevant[query]
    found = np.flatnonzero(members == relevant[0]) if len(relevant) else np.empty(0, np.int64)
    return int(found[0]) + 1 if len(found) else UNRANKED


def only(ranking: Ranking, queries: NDArray[np.int64]) -> Ranking:
    """Return the ranking of some queries, by their numbers, ascending."""
    return dataclasses.replace(
        ranking,
        top_QK=ranking.top_QK[queries],
        scores_QK=ranking.scores_QK[queries],
        relevant_ranks=ranking.relevant_ranks.take(queries),
        relevant_ties=ranking.relevant_ties.take(queries),
        group_ranks_Q=None if ranking.group_ranks_Q is None else ranking.group_ranks_Q[queries],
        group_top_QK=None if ranking.group_top_QK is None else ranking.group_top_QK[queries],
    )
