"""Rank a gallery for every query, exactly."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from cirbench.arrays import Ragged
from cirbench.errors import MethodFailed
from cirbench.retrieval.candidates import Candidates
from cirbench.retrieval.order import NO_CANDIDATE, first_of_rows, key_scores, key_ties, sort_keys
from cirbench.retrieval.rows import rank_rows
from cirbench.retrieval.scan import CHUNK, TILE, scan
from cirbench.retrieval.scores import check_finite, score_pairs
from cirbench.retrieval.task import UNRANKED, Ranking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from cirbench.retrieval.candidates import RowSource
    from cirbench.retrieval.task import RankingTask

    Score = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]

_FEW = 8
_FULL_ROWS = 1 << 22


def rank(
    queries_QD: NDArray[np.float32],
    gallery_ND: RowSource,
    task: RankingTask,
    *,
    score: Score | None = None,
) -> Ranking:
    """Rank the gallery for every query: score descending, ties by the task's tie order.

    Without ``score`` the ranking is the same to the last bit whatever the batch and block sizes, the number of
    threads, the linear algebra library and the machine; see `cirbench.retrieval.scores` for what a score is.

    Args:
        queries_QD: One float32 row per query, usually L2-normalised (`unit_rows`).
        gallery_ND: One row per gallery item: an array, or anything with a shape that gives out rows by slices and by
            arrays of positions (`RowFiles` streams a gallery that does not fit in memory).
        task: Candidates, exclusions, depth and the items whose exact rank is wanted.
        score: Scores queries against a part of the gallery, (Q, N), in place of the dot product. Each pair is scored
            once; groups are ranked by scores of their own.

    Raises:
        MethodFailed: Features or scores are NaN or infinite, or an array has another shape than the task.
    """
    queries_QD = np.ascontiguousarray(queries_QD, dtype=np.float32)
    _check_shapes(queries_QD.shape, tuple(gallery_ND.shape), task)
    answer = _Answer.empty(task)
    for rows, pool in _batches(task):
        candidates = Candidates(gallery_ND, task.tie_order_N, pool)
        few = len(rows) < _FEW
        for tile in _tiles(rows, task, max(1, _FULL_ROWS // len(candidates)) if score or few else TILE):
            queries_TD = queries_QD[tile]
            excluded_T = candidates.places(task.excluded_Q[tile])
            wanted, places = _ranked(task.relevant.take(tile), candidates, excluded_T)
            at = task.relevant.places(tile)[places]
            if score is None and not few:
                found = scan(queries_TD, candidates, excluded_T, wanted, task.depth)
            else:
                scores_TN = _all_scores(queries_TD, candidates, score)
                found = rank_rows(scores_TN, candidates.tie_order, excluded_T, wanted, task.depth)
            answer.keys_QK[tile], answer.ranks[at], answer.ties[at] = found
    if task.groups is not None:
        answer.group_keys_QK[:] = _group_keys(queries_QD, Candidates(gallery_ND, task.tie_order_N), task.groups, score)
    return answer.ranking(task)


def _check_shapes(queries: tuple[int, ...], gallery: tuple[int, ...], task: RankingTask) -> None:
    expected = len(task.relevant)
    if len(queries) != 2 or len(gallery) != 2 or queries[0] != expected or gallery[0] != task.gallery_size:
        raise MethodFailed(
            f"Features of {expected} queries and {task.gallery_size} gallery items were expected, one row each; "
            f"the shapes are {queries} and {gallery}."
        )


def _batches(task: RankingTask) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64] | None]]:
    """Give the queries that share a pool, with it."""
    if task.pools is None or task.pool_of_query_Q is None:
        yield np.arange(len(task.relevant)), None
        return
    by_pool = np.argsort(task.pool_of_query_Q, kind="stable")
    stops = np.searchsorted(task.pool_of_query_Q[by_pool], np.arange(len(task.pools)), side="right")
    for pool, rows in zip(task.pools, np.split(by_pool, stops[:-1]), strict=True):
        if len(rows) and len(pool):
            yield rows, pool


def _tiles(rows: NDArray[np.int64], task: RankingTask, size: int) -> Iterator[NDArray[np.int64]]:
    """Split queries into tiles, those with the most relevant items first, so that a tile is alike inside."""
    rows = rows[np.argsort(-task.relevant.lengths[rows], kind="stable")]
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _ranked(
    relevant: Ragged[np.int64], candidates: Candidates, excluded_T: NDArray[np.int64]
) -> tuple[Ragged[np.int64], NDArray[np.int64]]:
    """Keep the relevant items that are candidates, as places; also say which they are."""
    row = relevant.row_of_value
    places = candidates.places(relevant.values)
    kept = np.flatnonzero((places >= 0) & (places != excluded_T[row]))
    offsets = np.searchsorted(row[kept], np.arange(len(relevant) + 1))
    return Ragged(places[kept], offsets), kept


def _all_scores(queries_TD: NDArray[np.float32], candidates: Candidates, score: Score | None) -> NDArray[np.float32]:
    shape = (len(queries_TD), len(candidates))
    if score is None:
        everything = Ragged(np.tile(np.arange(shape[1]), shape[0]), np.arange(shape[0] + 1) * shape[1])
        scores_TN = score_pairs(queries_TD, candidates, everything).reshape(shape)
        check_finite(scores_TN)
        return scores_TN
    scores_TN = np.empty(shape, dtype=np.float32)
    for start in range(0, shape[1], CHUNK):
        block_BD = candidates.rows(start, start + CHUNK)
        scores_TN[:, start : start + CHUNK] = _scored(score, queries_TD, block_BD)
    return scores_TN


def _scored(score: Score, queries_TD: NDArray[np.float32], block_BD: NDArray[np.float32]) -> NDArray[np.float32]:
    scores_TB = np.asarray(score(queries_TD, block_BD), dtype=np.float32)
    if scores_TB.shape != (len(queries_TD), len(block_BD)):
        raise MethodFailed(
            f"The score function was given {len(queries_TD)} queries and {len(block_BD)} gallery items, "
            f"and returned the shape {scores_TB.shape}.",
            hint="It must return one row per query and one column per item.",
        )
    check_finite(scores_TB)
    return scores_TB


def _group_keys(
    queries_QD: NDArray[np.float32], gallery: Candidates, groups: Ragged[np.int64], score: Score | None
) -> NDArray[np.uint64]:
    if score is None:
        scores = score_pairs(queries_QD, gallery, groups)
    else:
        rows = [_scored(score, queries_QD[q : q + 1], gallery.take(members))[0] for q, members in enumerate(groups)]
        scores = np.concatenate([np.empty(0, np.float32), *rows])
    keys = sort_keys(scores, gallery.tie_order[groups.values])
    return first_of_rows(keys, groups.row_of_value, len(groups), int(groups.lengths.max(initial=0)))


@dataclasses.dataclass(frozen=True)
class _Answer:
    """A ranking in the making."""

    keys_QK: NDArray[np.uint64]
    group_keys_QK: NDArray[np.uint64]
    ranks: NDArray[np.int64]
    ties: NDArray[np.int64]

    @classmethod
    def empty(cls, task: RankingTask) -> _Answer:
        queries = len(task.relevant)
        width = 0 if task.groups is None else int(task.groups.lengths.max(initial=0))
        return cls(
            keys_QK=np.full((queries, task.depth), NO_CANDIDATE),
            group_keys_QK=np.full((queries, width), NO_CANDIDATE),
            ranks=np.full(len(task.relevant.values), UNRANKED, dtype=np.int64),
            ties=np.zeros(len(task.relevant.values), dtype=np.int64),
        )

    def ranking(self, task: RankingTask) -> Ranking:
        item_of_tie_N = np.empty(task.gallery_size, dtype=np.int64)
        item_of_tie_N[task.tie_order_N] = np.arange(task.gallery_size)

        def items(keys_QK: NDArray[np.uint64]) -> NDArray[np.int64]:
            filled_QK = keys_QK != NO_CANDIDATE
            return np.where(filled_QK, item_of_tie_N[np.where(filled_QK, key_ties(keys_QK), 0)], -1)

        group_top_QK = items(self.group_keys_QK)
        return Ranking(
            top_QK=items(self.keys_QK),
            scores_QK=np.where(self.keys_QK != NO_CANDIDATE, key_scores(self.keys_QK), np.float32(np.nan)),
            relevant_ranks=task.relevant.like(self.ranks),
            relevant_ties=task.relevant.like(self.ties),
            group_ranks_Q=None if task.groups is None else _places_of_targets(group_top_QK, task.relevant),
            group_top_QK=None if task.groups is None else group_top_QK,
        )


def _places_of_targets(group_top_QK: NDArray[np.int64], relevant: Ragged[np.int64]) -> NDArray[np.int64]:
    labelled_Q = relevant.lengths > 0
    target_Q = np.full(len(relevant), -2, dtype=np.int64)  # equal to no position, nor to the filling
    target_Q[labelled_Q] = relevant.values[relevant.offsets[:-1][labelled_Q]]
    hits_QK = group_top_QK == target_Q[:, None]
    return np.where(hits_QK.any(axis=1), 1 + hits_QK.argmax(axis=1, keepdims=False) if hits_QK.size else 0, UNRANKED)
