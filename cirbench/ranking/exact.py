"""Rank a gallery for every query, exactly."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from cirbench.errors import MethodFailed
from cirbench.ranking.candidates import Candidates
from cirbench.ranking.order import NO_CANDIDATE, first_of_rows, key_scores, key_ties, sort_keys
from cirbench.ranking.rows import rank_rows
from cirbench.ranking.scan import CHUNK, TILE, scan
from cirbench.ranking.scores import check_finite_rows, check_finite_scores, score_pairs
from cirbench.ranking.task import UNRANKED, Ranking
from cirbench.support.arrays import Ragged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from cirbench.ranking.candidates import RowSource
    from cirbench.ranking.task import RankingTask

    Score = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]

_FEW = 8
"""So few queries gain nothing from being scored together, where their pool is small."""

_FULL_ROWS = 1 << 22
"""Scores held at once where all of a row are needed."""


@np.errstate(over="ignore", invalid="ignore")  # what is not finite is found, and named
def rank(
    queries_QD: NDArray[np.float32],
    gallery_ND: RowSource,
    task: RankingTask,
    *,
    score: Score | None = None,
) -> Ranking:
    """Rank the gallery for every query: score descending, ties by the task's tie order.

    Without ``score`` the ranking is the same to the last bit whatever the batch and block sizes, the number of
    threads, the linear algebra library and the machine; see `cirbench.ranking.scores` for what a score is.

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
    _check_queries(queries_QD, tuple(gallery_ND.shape), task)
    answer = _Answer.empty(task)
    tile_size = TILE if isinstance(gallery_ND, np.ndarray) else 2 * TILE  # fewer passes over what has to be read
    for rows, pool in _batches(task):
        candidates = Candidates(gallery_ND, task.tie_order_N, pool)
        whole_rows = score is not None or (len(rows) < _FEW and len(candidates) <= CHUNK)
        for tile in _tiles(rows, task, max(1, _FULL_ROWS // len(candidates)) if whole_rows else tile_size):
            queries_TD = queries_QD[tile]
            excluded_T = candidates.places(task.excluded_Q[tile])
            wanted, places = _ranked(task.relevant.take(tile), candidates, excluded_T)
            at = task.relevant.places(tile)[places]
            if whole_rows:
                scores_TN = _all_scores(queries_QD, tile, candidates, score)
                found = rank_rows(scores_TN, candidates.tie_order, excluded_T, wanted, task.depth)
            else:
                found = scan(queries_TD, candidates, excluded_T, wanted, task.depth)
            answer.keys_QK[tile], answer.ranks[at], answer.ties[at] = found
    if task.groups is not None:
        answer.group_keys_QK[:] = _group_keys(queries_QD, Candidates(gallery_ND, task.tie_order_N), task.groups, score)
    return answer.ranking(task)


def _check_queries(queries_QD: NDArray[np.float32], gallery: tuple[int, ...], task: RankingTask) -> None:
    queries, expected = queries_QD.shape, len(task.relevant)
    if len(queries) != 2 or len(gallery) != 2 or queries[0] != expected or gallery[0] != task.gallery_size:
        raise MethodFailed(
            f"Features of {expected} queries and {task.gallery_size} gallery items were expected, one row each; "
            f"the shapes are {queries} and {gallery}."
        )
    check_finite_rows(queries_QD, "query", np.arange(expected))


def _batches(task: RankingTask) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64] | None]]:
    """Give the queries that share a pool, with it."""
    if task.pools is None or task.pool_of_query_Q is None:
        if task.gallery_size:
            yield np.arange(len(task.relevant)), None
        return
    by_pool = np.argsort(task.pool_of_query_Q, kind="stable")
    stops = np.searchsorted(task.pool_of_query_Q[by_pool], np.arange(len(task.pools)), side="right")
    for pool, rows in zip(task.pools, np.split(by_pool, stops[:-1]), strict=True):
        if len(rows) and len(pool):
            yield rows, pool


def _tiles(rows: NDArray[np.int64], task: RankingTask, size: int) -> Iterator[NDArray[np.int64]]:
    """Split queries into even tiles, those with the most relevant items first, so that a tile is alike inside."""
    rows = rows[np.argsort(-task.relevant.lengths[rows], kind="stable")]
    if len(rows):
        yield from np.array_split(rows, -(-len(rows) // size))


def _ranked(
    relevant: Ragged[np.int64], candidates: Candidates, excluded_T: NDArray[np.int64]
) -> tuple[Ragged[np.int64], NDArray[np.int64]]:
    """Keep the relevant items that are candidates, as places; also say which they are."""
    row = relevant.row_of_value
    places = candidates.places(relevant.values)
    kept = np.flatnonzero((places >= 0) & (places != excluded_T[row]))
    offsets = np.searchsorted(row[kept], np.arange(len(relevant) + 1))
    return Ragged(places[kept], offsets), kept


def _all_scores(
    queries_QD: NDArray[np.float32], tile: NDArray[np.int64], candidates: Candidates, score: Score | None
) -> NDArray[np.float32]:
    queries_TD, places_N = queries_QD[tile], np.arange(len(candidates))
    if score is None:
        everything = Ragged(np.tile(places_N, len(tile)), np.arange(len(tile) + 1) * len(places_N))
        scores_TN = score_pairs(queries_TD, candidates, everything).reshape(len(tile), -1)
    else:
        blocks = (candidates.rows(start, start + CHUNK) for start in range(0, len(candidates), CHUNK))
        scores_TN = np.concatenate([_scored(score, queries_TD, block_BD) for block_BD in blocks], axis=1)
    check_finite_scores(scores_TN, tile[:, None], candidates.positions(places_N))
    return scores_TN


def _scored(score: Score, queries_TD: NDArray[np.float32], block_BD: NDArray[np.float32]) -> NDArray[np.float32]:
    """Call a method's score function, and check the shape of what it gives."""
    scores_TB = np.asarray(score(queries_TD, block_BD), dtype=np.float32)
    if scores_TB.shape != (len(queries_TD), len(block_BD)):
        raise MethodFailed(
            f"The score function was given {len(queries_TD)} queries and {len(block_BD)} gallery items, "
            f"and returned the shape {scores_TB.shape}.",
            hint="It must return one row per query and one column per item.",
        )
    return scores_TB


def _group_keys(
    queries_QD: NDArray[np.float32], gallery: Candidates, groups: Ragged[np.int64], score: Score | None
) -> NDArray[np.uint64]:
    if score is None:
        scores = score_pairs(queries_QD, gallery, groups)
    else:
        rows = [_scored(score, queries_QD[q : q + 1], gallery.take(members))[0] for q, members in enumerate(groups)]
        scores = np.concatenate([np.empty(0, np.float32), *rows])
    check_finite_scores(scores, groups.row_of_value, groups.values)
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
