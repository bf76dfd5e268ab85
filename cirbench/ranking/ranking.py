"""Rank a gallery for every query, exactly, block by block.

A block of the gallery is scored for a tile of queries at a time, approximately and with a bound on the error
(`cirbench.ranking.scores`). A candidate that may belong to the first K, or whose approximate score is closer than the
bound to that of an item whose rank is wanted, gets its exact score; all others are only counted. So the ranking is the
one by exact scores, nothing about the computation can change it, and memory does not grow with the gallery.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from cirbench.errors import MethodFailed
from cirbench.ranking.filter import filtered_scores
from cirbench.ranking.rows import check_finite_rows
from cirbench.ranking.scores import BlockScores, Workspace, product_scores, score_pairs
from cirbench.ranking.task import UNRANKED, Ranking
from cirbench.support.arrays import Ragged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from cirbench.ranking.rows import RowSource
    from cirbench.ranking.task import RankingTask

    Score = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]
    ScorePairs = Callable[[Ragged[np.int64]], NDArray[np.float32]]

T = TypeVar("T", bound=np.generic)

TILE = 512
"""Queries scored together, at most."""

BLOCK = 2048
"""Gallery items scored together, at most."""

UNFILTERED = 16
"""Candidates, as a multiple of the depth, up to which float64 products of all cost less than a filter."""

NO_CANDIDATE = np.uint64(np.iinfo(np.uint64).max)
"""The key of a place that holds no candidate; it sorts behind every other."""

_SIGN = np.uint32(1 << 31)

# None of these changes a result; they bound memory or choose the cheaper of two ways.
_HELD_SCORES = 1 << 22  # scores of a score function that are held at once
_PENDING = 4  # candidates that wait for their exact scores, as a multiple of the depth
_MANY = 16  # one candidate in so many pairs of a block is too many to wait
_NEAR = 128  # rows of a block that are searched at once for scores near a wanted item's
_FEW_BOUNDS = 4  # so many bounds are compared with all scores; more are looked up in sorted scores


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
    norms_Q = _check_queries(queries_QD, tuple(gallery_ND.shape), task)
    workspace = Workspace()
    top_keys_QK = np.full((len(queries_QD), task.depth), NO_CANDIDATE)
    ranks = np.full(len(task.relevant.values), UNRANKED, dtype=np.int64)
    ties = np.zeros(len(task.relevant.values), dtype=np.int64)
    for batch in _batches(task, gallery_ND):
        tiles: Iterable[_Tile]
        if score is None:
            tiles = _ranked_by_products(batch, task, queries_QD, norms_Q, workspace)
        else:
            tiles = _ranked_by_function(batch, task, queries_QD, score, workspace)
        for tile in tiles:
            top_keys_QK[tile.queries] = tile.top_keys_TK
            ranks[tile.wanted_at], ties[tile.wanted_at] = tile.ranks_and_ties()

    item_of_tie_N = np.empty(task.gallery_size, dtype=np.int64)
    item_of_tie_N[task.tie_order_N] = np.arange(task.gallery_size)

    def items(keys_QK: NDArray[np.uint64]) -> NDArray[np.int64]:
        filled_QK = keys_QK != NO_CANDIDATE
        return np.where(filled_QK, item_of_tie_N[np.where(filled_QK, key_ties(keys_QK), 0)], -1)

    group_top_QK = None if task.groups is None else items(_group_keys(queries_QD, gallery_ND, task, task.groups, score))
    return Ranking(
        top_QK=items(top_keys_QK),
        scores_QK=np.where(top_keys_QK != NO_CANDIDATE, key_scores(top_keys_QK), np.float32(np.nan)),
        relevant_ranks=task.relevant.like(ranks),
        relevant_ties=task.relevant.like(ties),
        group_ranks_Q=None if group_top_QK is None else _ranks_of_targets(group_top_QK, task.relevant),
        group_top_QK=group_top_QK,
    )


@dataclasses.dataclass(frozen=True)
class _Batch:
    """Queries that share their candidates.

    Attributes:
        queries: Their numbers, those with the most wanted items first, so that the queries of a tile are alike.
        gallery_ND: All rows.
        positions_N: The gallery positions of the candidates, ascending.
    """

    queries: NDArray[np.int64]
    gallery_ND: RowSource
    positions_N: NDArray[np.int64]

    def tiles(self, size: int) -> list[NDArray[np.int64]]:
        """Split the queries evenly, into tiles of at most ``size``."""
        return np.array_split(self.queries, -(-len(self.queries) // size))

    def blocks(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Give the candidates in blocks: their positions and rows."""
        whole = len(self.positions_N) == self.gallery_ND.shape[0]
        for start in range(0, len(self.positions_N), BLOCK):
            positions_B = self.positions_N[start : start + BLOCK]
            rows_BD = self.gallery_ND[start : start + BLOCK] if whole else self.gallery_ND[positions_B]
            yield positions_B, np.ascontiguousarray(rows_BD, dtype=np.float32)


def _batches(task: RankingTask, gallery_ND: RowSource) -> Iterator[_Batch]:
    queries = np.argsort(-task.relevant.lengths, kind="stable")
    pools, pool_of_query_Q = task.pools, task.pool_of_query_Q
    if pools is None or pool_of_query_Q is None:
        pools, pool_of_query_Q = (np.arange(task.gallery_size),), np.zeros(len(queries), dtype=np.int64)
    queries = queries[np.argsort(pool_of_query_Q[queries], kind="stable")]
    stops = np.searchsorted(pool_of_query_Q[queries], np.arange(len(pools)), side="right")
    for pool, members in zip(pools, np.split(queries, stops[:-1]), strict=True):
        if len(members) and len(pool):
            yield _Batch(members, gallery_ND, np.sort(pool))


def _ranked_by_products(
    batch: _Batch,
    task: RankingTask,
    queries_QD: NDArray[np.float32],
    norms_Q: NDArray[np.float64],
    workspace: Workspace,
) -> list[_Tile]:
    """Rank by dot products; each row of the gallery is read once, but for the wanted items."""

    def tile_of(queries: NDArray[np.int64]) -> _Tile:
        def score(items: Ragged[np.int64]) -> NDArray[np.float32]:
            return score_pairs(queries_QD[queries], batch.gallery_ND, items, workspace)

        return _Tile(queries, batch.positions_N, task, score)

    tiles = [tile_of(queries) for queries in batch.tiles(TILE)]
    few = len(batch.positions_N) <= UNFILTERED * task.depth
    block_scores = product_scores if few else filtered_scores
    for positions_B, block_BD in batch.blocks():
        longest = check_finite_rows(block_BD, "gallery item", positions_B).max()
        for tile in tiles:
            queries_TD = workspace.rows("tile", queries_QD, tile.queries)
            scores = block_scores(queries_TD, block_BD, norms_Q[tile.queries] * longest, workspace)
            tile.add(scores, positions_B, workspace)
    for tile in tiles:
        tile.settle()
    return tiles


def _ranked_by_function(
    batch: _Batch, task: RankingTask, queries_QD: NDArray[np.float32], score: Score, workspace: Workspace
) -> Iterator[_Tile]:
    """Rank by a score function; all scores of a query are held at once, since each is asked for only once."""
    for queries in batch.tiles(max(1, _HELD_SCORES // len(batch.positions_N))):
        blocks = [_scored(score, queries_QD[queries], block_BD) for _, block_BD in batch.blocks()]
        scores_TN = np.concatenate(blocks, axis=1)
        check_finite_scores(scores_TN, queries[:, None], batch.positions_N)
        yield _tile_of_scores(scores_TN, queries, batch, task, workspace)


def _tile_of_scores(
    scores_TN: NDArray[np.float32],
    queries: NDArray[np.int64],
    batch: _Batch,
    task: RankingTask,
    workspace: Workspace,
) -> _Tile:
    def exact(row: NDArray[np.int64], column: NDArray[np.int64]) -> NDArray[np.float32]:
        return scores_TN[row, column]

    def score_wanted(items: Ragged[np.int64]) -> NDArray[np.float32]:
        return exact(items.row_of_value, np.searchsorted(batch.positions_N, items.values))

    tile = _Tile(queries, batch.positions_N, task, score_wanted)
    tile.add(BlockScores(scores_TN, np.zeros(len(queries)), exact, precise=True), batch.positions_N, workspace)
    return tile


class _Tile:
    """A tile of queries: the keys of the first K candidates so far, and how many stand before each wanted item.

    A query's floor is a score that K candidates are known to reach. What cannot reach it, even with the error in its
    favour, is not kept.
    """

    def __init__(
        self, queries: NDArray[np.int64], positions_N: NDArray[np.int64], task: RankingTask, score_pairs: ScorePairs
    ) -> None:
        self.queries = queries
        self._score_pairs = score_pairs
        self._tie_order_N = task.tie_order_N
        self._excluded_T = task.excluded_Q[queries]
        self._depth = task.depth
        self.top_keys_TK = np.full((len(queries), task.depth), NO_CANDIDATE)
        self._floor_T = np.full(len(queries), -np.inf)
        self._error_T = np.zeros(len(queries))
        self._pending: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]] = []

        relevant = task.relevant.take(queries)
        row = relevant.row_of_value
        kept = np.flatnonzero(_find(relevant.values, positions_N)[1] & (relevant.values != self._excluded_T[row]))
        wanted = Ragged(relevant.values[kept], np.searchsorted(row[kept], np.arange(len(relevant) + 1)))
        self.wanted_at = task.relevant.places(queries)[kept]
        scores, row = score_pairs(wanted), row[kept]
        # A query with fewer wanted items than W has +inf in their place, before which no candidate stands.
        self._scores_TW = padded(scores, row, len(queries), np.float32(np.inf))
        self._keys_TW = padded(sort_keys(scores, task.tie_order_N[wanted.values]), row, len(queries), np.uint64(0))
        self._real_TW = np.arange(self._keys_TW.shape[1]) < wanted.lengths[:, None]
        self._before_TW, self._equal_TW = np.zeros((2, *self._keys_TW.shape), dtype=np.int64)

    def add(self, scores: BlockScores, positions_B: NDArray[np.int64], workspace: Workspace) -> None:
        """Take in a block of candidates, given by their gallery positions."""
        column_T, found_T = _find(self._excluded_T, positions_B)
        scores.approximate_TB[found_T, column_T[found_T]] = -np.inf
        self._count(scores, self._tie_order_N[positions_B], workspace)
        self._keep(scores, positions_B, workspace)

    def ranks_and_ties(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the 1-based rank of each wanted item and how many others have exactly its score."""
        return 1 + self._before_TW[self._real_TW], self._equal_TW[self._real_TW] - 1

    def _count(self, scores: BlockScores, ties_B: NDArray[np.int64], workspace: Workspace) -> None:
        """Count the candidates that stand before each wanted item, and those that equal it."""
        own_TW, error_T1 = self._scores_TW.astype(np.float64), scores.error_T[:, None]
        low_TW, high_TW = below(own_TW - error_T1), above(own_TW + error_T1)
        better_TW, likely_TW = _counts(scores.approximate_TB, (high_TW, low_TW), workspace)
        self._before_TW += better_TW
        near_row, near_nth = np.nonzero(likely_TW > better_TW)
        for start in range(0, len(near_row), _NEAR):
            row, nth = near_row[start : start + _NEAR], near_nth[start : start + _NEAR]
            near_PB = workspace.rows("near", scores.approximate_TB, row)
            pair, column = _nonzero((near_PB >= low_TW[row, nth, None]) & (near_PB < high_TW[row, nth, None]))
            row, nth = row[pair], nth[pair]
            exact = scores.exact(row, column)
            before = sort_keys(exact, ties_B[column]) < self._keys_TW[row, nth]
            equal = exact == self._scores_TW[row, nth]
            np.add.at(self._before_TW, (row[before], nth[before]), 1)
            np.add.at(self._equal_TW, (row[equal], nth[equal]), 1)

    def _keep(self, scores: BlockScores, positions_B: NDArray[np.int64], workspace: Workspace) -> None:
        """Keep the candidates that may be among the first K: scored, or where that costs more, waiting to be."""
        approximate_TB, error_T = scores.approximate_TB, scores.error_T
        if (self._floor_T == -np.inf).any() and len(positions_B) >= self._depth:
            kth_T = np.partition(approximate_TB, -self._depth, axis=1)[:, -self._depth]
            self._floor_T = np.maximum(self._floor_T, kth_T - error_T)
        mask_TB = workspace.array("mask", approximate_TB.shape, np.bool_)
        row, column = _nonzero(np.greater(approximate_TB, below(self._floor_T - error_T)[:, None], out=mask_TB))
        if scores.precise or len(row) * _MANY > approximate_TB.size:
            self._merge(row, positions_B[column], scores.exact(row, column))
        else:
            self._pending.append((row, positions_B[column], approximate_TB[row, column]))
            self._error_T = np.maximum(self._error_T, error_T)
            if self._crowded():
                self._prune()
                if self._crowded():
                    self.settle()

    def settle(self) -> None:
        """Score the candidates that wait, as far as they may still be among the first K."""
        if self._pending:
            self._prune()
            [(row, positions, _)] = self._pending
            offsets = np.searchsorted(row, np.arange(len(self.queries) + 1))
            self._merge(row, positions, self._score_pairs(Ragged(positions, offsets)))
            self._pending = []

    def _crowded(self) -> bool:
        return sum(len(row) for row, _, _ in self._pending) > _PENDING * self._depth * len(self.queries)

    def _prune(self) -> None:
        """Raise the floors by the candidates that wait, and drop those that cannot reach them."""
        row, positions, approximate = (np.concatenate(parts) for parts in zip(*self._pending, strict=True))
        by_row = np.argsort(row, kind="stable")
        row, positions, approximate = row[by_row], positions[by_row], approximate[by_row]
        at_least = padded(approximate - self._error_T[row], row, len(self.queries), -np.inf)
        known_TX = np.concatenate([_scores_or_none(self.top_keys_TK), at_least], axis=1)
        self._floor_T = np.maximum(self._floor_T, np.partition(known_TX, -self._depth, axis=1)[:, -self._depth])
        kept = approximate > below(self._floor_T - self._error_T)[row]
        self._pending = [(row[kept], positions[kept], approximate[kept])]

    def _merge(self, row: NDArray[np.int64], positions: NDArray[np.int64], scores: NDArray[np.float32]) -> None:
        keys = padded(sort_keys(scores, self._tie_order_N[positions]), row, len(self.queries), NO_CANDIDATE)
        keys_TX = np.concatenate([self.top_keys_TK, keys], axis=1)
        keys_TX.sort(axis=1)
        self.top_keys_TK = keys_TX[:, : self._depth].copy()
        self._floor_T = np.maximum(self._floor_T, _scores_or_none(self.top_keys_TK)[:, -1])


def _group_keys(
    queries_QD: NDArray[np.float32],
    gallery_ND: RowSource,
    task: RankingTask,
    groups: Ragged[np.int64],
    score: Score | None,
) -> NDArray[np.uint64]:
    """Return the keys of each group's members, best first."""
    if score is None:
        scores = score_pairs(queries_QD, gallery_ND, groups, Workspace())
    else:
        rows = [_scored(score, queries_QD[q : q + 1], gallery_ND[members])[0] for q, members in enumerate(groups)]
        scores = np.concatenate([np.empty(0, np.float32), *rows])
    check_finite_scores(scores, groups.row_of_value, groups.values)
    keys = padded(sort_keys(scores, task.tie_order_N[groups.values]), groups.row_of_value, len(groups), NO_CANDIDATE)
    keys.sort(axis=1)
    return keys


def _ranks_of_targets(group_top_QK: NDArray[np.int64], relevant: Ragged[np.int64]) -> NDArray[np.int64]:
    labelled_Q = relevant.lengths > 0
    target_Q = np.full(len(relevant), -2, dtype=np.int64)  # equal to no position, nor to the filling
    target_Q[labelled_Q] = relevant.values[relevant.offsets[:-1][labelled_Q]]
    hits_QK = group_top_QK == target_Q[:, None]
    return np.where(hits_QK.any(axis=1), 1 + hits_QK.argmax(axis=1) if hits_QK.size else 0, UNRANKED)


def sort_keys(scores: NDArray[np.float32], tie_order: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return keys that ascend as the ranking does: the score in the high half, the tie order in the low half.

    No two candidates of a query share a key, so that comparing, sorting and counting keys needs no further rule.
    ``scores`` are finite.
    """
    bits = np.ascontiguousarray(scores + np.float32(0)).view(np.uint32)  # adding zero makes -0.0 equal to 0.0
    descending = np.where(bits & _SIGN, bits, ~(bits | _SIGN))
    return (descending.astype(np.uint64) << np.uint64(32)) | tie_order.astype(np.uint64)


def key_scores(keys: NDArray[np.uint64]) -> NDArray[np.float32]:
    """Return the scores that went into keys."""
    descending = (keys >> np.uint64(32)).astype(np.uint32)
    return np.where(descending & _SIGN, descending, ~(descending | _SIGN)).view(np.float32)


def key_ties(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the tie order that went into keys."""
    return (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)


def padded(values: NDArray[T], row: NDArray[np.int64], rows: int, filling: T) -> NDArray[T]:
    """Lay values out as a table of rows, each as long as the longest; ``row`` ascends."""
    counts = np.bincount(row, minlength=rows)
    table = np.full((rows, int(counts.max(initial=0))), filling)
    table[row, np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)] = values
    return table


def below(bounds: NDArray[np.float64]) -> NDArray[np.float32]:
    """Round down, strictly, to float32."""
    return np.nextafter(bounds.astype(np.float32), np.float32(-np.inf))


def above(bounds: NDArray[np.float64]) -> NDArray[np.float32]:
    """Round up, strictly, to float32."""
    return np.nextafter(bounds.astype(np.float32), np.float32(np.inf))


def _counts(
    scores_TB: NDArray[np.float32], bounds: tuple[NDArray[np.float32], ...], workspace: Workspace
) -> list[NDArray[np.int64]]:
    """Count the scores of each row that reach its bounds; the bounds are tables of any number of columns (T, W)."""
    bounds_TX = np.concatenate(bounds, axis=1)
    counts_TX = np.empty(bounds_TX.shape, dtype=np.int64)
    if bounds_TX.shape[1] <= _FEW_BOUNDS:
        reached_TB = workspace.array("mask", scores_TB.shape, np.bool_)
        for x in range(bounds_TX.shape[1]):
            np.greater_equal(scores_TB, bounds_TX[:, x, None], out=reached_TB)
            counts_TX[:, x] = reached_TB.sum(axis=1, dtype=np.int32)
    else:
        ascending_TB = workspace.array("ascending", scores_TB.shape, np.float32)
        np.copyto(ascending_TB, scores_TB)
        ascending_TB.sort(axis=1)
        for counts_X, ascending_B, bounds_X in zip(counts_TX, ascending_TB, bounds_TX, strict=True):
            counts_X[:] = len(ascending_B) - ascending_B.searchsorted(bounds_X)
    return np.split(counts_TX, len(bounds), axis=1)


def _scores_or_none(keys: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return the scores that went into keys, and minus infinity where there is no candidate."""
    return np.where(keys == NO_CANDIDATE, -np.inf, key_scores(keys))


def _nonzero(mask_TB: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows and columns of the true entries, row by row; faster than `numpy.nonzero` where they are few."""
    row, column = np.divmod(np.flatnonzero(mask_TB), mask_TB.shape[1])
    return row, column


def _find(values: NDArray[np.int64], ascending: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return where values stand in an ascending array that is not empty, and whether they do."""
    at = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    return at, ascending[at] == values


def _scored(score: Score, queries_TD: NDArray[np.float32], block_BD: NDArray[np.floating]) -> NDArray[np.float32]:
    """Call a method's score function, and check the shape of what it gives."""
    scores_TB = np.asarray(score(queries_TD, np.ascontiguousarray(block_BD, dtype=np.float32)), dtype=np.float32)
    if scores_TB.shape != (len(queries_TD), len(block_BD)):
        raise MethodFailed(
            f"The score function was given {len(queries_TD)} queries and {len(block_BD)} gallery items, "
            f"and returned the shape {scores_TB.shape}.",
            hint="It must return one row per query and one column per item.",
        )
    return scores_TB


def _check_queries(queries_QD: NDArray[np.float32], gallery: tuple[int, ...], task: RankingTask) -> NDArray[np.float64]:
    """Return the norms of the queries."""
    queries, expected = queries_QD.shape, len(task.relevant)
    if len(queries) != 2 or len(gallery) != 2 or queries[0] != expected or gallery[0] != task.gallery_size:
        raise MethodFailed(
            f"Features of {expected} queries and {task.gallery_size} gallery items were expected, one row each; "
            f"the shapes are {queries} and {gallery}."
        )
    return check_finite_rows(queries_QD, "query", np.arange(expected))


def check_finite_scores(scores: NDArray[np.float32], queries: NDArray[np.int64], items: NDArray[np.int64]) -> None:
    """Refuse scores that are NaN or infinite; ``queries`` and ``items`` broadcast with them and number them.

    Raises:
        MethodFailed: Naming the first such query and gallery item.
    """
    finite = np.isfinite(scores)
    if not finite.all():
        first = int(np.flatnonzero(~finite)[0])
        query, item = (np.broadcast_to(numbers, scores.shape).flat[first] for numbers in (queries, items))
        raise MethodFailed(
            f"The score of query {query} and gallery item {item} (counted from 0) is {scores.flat[first]}.",
            hint="Scores must be finite; check the features and the method's score function.",
        )
