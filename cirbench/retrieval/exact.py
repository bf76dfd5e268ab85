"""Rank a gallery for every query, exactly."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from cirbench.retrieval.order import NO_CANDIDATE, key_scores, key_ties, sort_keys
from cirbench.retrieval.rows import exact_ranks, first_keys, packed
from cirbench.retrieval.scores import check_finite, score_block, score_pairs
from cirbench.retrieval.task import UNRANKED, Ranking

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from cirbench.retrieval.task import RankingTask

    Score = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]

_CHUNK = 2048
_BLOCK = 1 << 21


def rank(
    queries_QD: NDArray[np.float32],
    gallery_ND: NDArray[np.float32],
    task: RankingTask,
    *,
    score: Score | None = None,
) -> Ranking:
    """Rank the gallery for every query by descending score, ties by the task's tie order.

    The result is the same to the last bit for every batch size, block size, thread count and library.

    Args:
        queries_QD: One row per query, usually L2-normalised (`unit_rows`).
        gallery_ND: One row per gallery item.
        task: Candidates, exclusions, depth and the items whose exact rank is wanted.
        score: Scores queries against a chunk of the gallery, (Q, N); the default is the dot product, exact and
            rounded once to float32.

    Raises:
        MethodFailed: A score is NaN or infinite, or ``score`` returned another shape.
    """
    answer = _Answer.empty(len(queries_QD), task)
    pools = (None,) if task.pools is None else task.pools
    pool_of_query_Q = np.zeros(len(queries_QD), np.int64) if task.pool_of_query_Q is None else task.pool_of_query_Q
    for number, pool in enumerate(pools):
        rows = np.flatnonzero(pool_of_query_Q == number)
        columns = task.gallery_size if pool is None else len(pool)
        for block in np.array_split(rows, max(1, -(-len(rows) * columns // _BLOCK))):
            _rank_rows(queries_QD, gallery_ND, task, score, block, pool, answer)
    return answer.ranking(task)


def _rank_rows(
    queries_QD: NDArray[np.float32],
    gallery_ND: NDArray[np.float32],
    task: RankingTask,
    score: Score | None,
    rows: NDArray[np.int64],
    pool: NDArray[np.int64] | None,
    answer: _Answer,
) -> None:
    if not len(rows):
        return
    local = np.arange(task.gallery_size)
    if pool is not None:
        local = np.full(task.gallery_size, -1, dtype=np.int64)
        local[pool] = np.arange(len(pool))
    queries = queries_QD[rows]
    queries64 = queries.astype(np.float64)
    size = task.gallery_size if pool is None else len(pool)
    scores = np.empty((len(rows), size), np.float32)
    for start in range(0, size, _CHUNK):
        part = slice(start, min(start + _CHUNK, size))
        chunk = gallery_ND[part] if pool is None else gallery_ND[pool[part]]
        scores[:, part] = score_block(queries64, chunk) if score is None else score(queries, chunk)
        check_finite(scores[:, part], start)
    excluded = np.where(task.excluded_Q[rows] >= 0, local[task.excluded_Q[rows]], -1)
    tie_order = task.tie_order_N if pool is None else task.tie_order_N[pool]
    answer.keys[rows] = first_keys(scores, tie_order, excluded, task.depth)
    wanted = task.relevant.take(rows)
    ranks, ties = exact_ranks(scores, tie_order, excluded, wanted.like(local[wanted.values]))
    places = task.relevant.places(rows)
    answer.ranks[places], answer.ties[places] = ranks, ties
    if task.groups is not None:
        members = task.groups.take(rows)
        if score is None:
            values = score_pairs(queries, gallery_ND, members)
        else:
            values = np.concatenate(
                [score(queries[i : i + 1], gallery_ND[group])[0] for i, group in enumerate(members)]
            )
        keys = sort_keys(values, task.tie_order_N[members.values])
        answer.group_keys[rows] = packed(members.row_of_value, keys, len(rows), answer.group_keys.shape[1])


@dataclasses.dataclass(frozen=True)
class _Answer:
    keys: NDArray[np.uint64]
    group_keys: NDArray[np.uint64]
    ranks: NDArray[np.int64]
    ties: NDArray[np.int64]

    @classmethod
    def empty(cls, queries: int, task: RankingTask) -> _Answer:
        width = 0 if task.groups is None else int(task.groups.lengths.max(initial=0))
        return cls(
            keys=np.full((queries, task.depth), NO_CANDIDATE),
            group_keys=np.full((queries, width), NO_CANDIDATE),
            ranks=np.full(len(task.relevant.values), UNRANKED, dtype=np.int64),
            ties=np.zeros(len(task.relevant.values), dtype=np.int64),
        )

    def ranking(self, task: RankingTask) -> Ranking:
        item_of_tie = np.empty(task.gallery_size, dtype=np.int64)
        item_of_tie[task.tie_order_N] = np.arange(task.gallery_size)

        def items(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
            there = keys != NO_CANDIDATE
            return np.where(there, item_of_tie[np.where(there, key_ties(keys), 0)], -1)

        group_ranks = group_top = None
        if task.groups is not None:
            group_top = items(self.group_keys)
            first = task.relevant.offsets[:-1]
            labelled = task.relevant.lengths > 0
            target = np.where(labelled, np.append(task.relevant.values, -1)[np.where(labelled, first, -1)], -2)
            hit = group_top == target[:, None]
            group_ranks = np.where(hit.any(axis=1), 1 + hit.argmax(axis=1), UNRANKED)
        return Ranking(
            top_QK=items(self.keys),
            scores_QK=np.where(self.keys != NO_CANDIDATE, key_scores(self.keys), np.float32(np.nan)),
            relevant_ranks=task.relevant.like(self.ranks),
            relevant_ties=task.relevant.like(self.ties),
            group_ranks_Q=group_ranks,
            group_top_QK=group_top,
        )
