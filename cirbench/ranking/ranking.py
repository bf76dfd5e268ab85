"""Rank a gallery for every query, exactly, block by block.

A block of the gallery is scored for a tile of queries at a time, approximately and with a bound on the error
(`cirbench.ranking.scores`). A candidate that may belong to the first K, or whose approximate score is closer than the
bound to that of an item whose rank is wanted, gets its exact score; all others are only counted. So the ranking is the
one by exact scores, nothing about the computation can change it, and memory does not grow with the gallery. Where a
query has only a few candidates of its own, each pair gets its exact score at once.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from cirbench.errors import MethodFailed
from cirbench.ranking.rows import check_finite_rows
from cirbench.ranking.scores import BlockScores, Workspace, score_block, score_pairs, take_rows
from cirbench.ranking.task import UNRANKED, Ranking
from cirbench.support.arrays import Ragged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from cirbench.ranking.rows import RowSource
    from cirbench.ranking.task import RankingTask

    Score = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]
    ScoreItems = Callable[[Ragged[np.int64]], NDArray[np.float32]]

T = TypeVar("T", bound=np.generic)

# None of these changes a result; they bound memory or choose the cheaper of two ways.
TILE = 512
"""Queries scored together, at most."""
BLOCK = 4096
"""Gallery items scored together, at most."""
UNFILTERED = 16
"""Candidates, as a multiple of the depth, up to which float64 products of all cost less than a filter."""
LISTED = 256
"""Pairs of a pool's queries and items up to which they are scored one by one."""

_HELD_SCORES = 1 << 22  # scores of a score function that are held at once
_WAITING = 8  # candidates that wait for their exact scores, as a multiple of the depth
_NEAR = 128  # rows of a block that are searched at once for scores near a wanted item's
_FEW_BOUNDS = 4  # so many bounds are compared with all scores; more are looked up in sorted scores

NO_CANDIDATE = np.uint64(np.iinfo(np.uint64).max)
"""The key of a place that holds no candidate; it sorts behind every other."""

_HALF = np.uint64(32)
_SIGN = np.uint32(1 << 31)


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
    _check_shapes(queries_QD.shape, tuple(gallery_ND.shape), task)
    norms_Q = check_finite_rows(queries_QD, "query", np.arange(len(queries_QD)))
    problem = _Problem(queries_QD, norms_Q, gallery_ND, task, score, Workspace())
    keys_QK = np.full((len(queries_QD), task.depth), NO_CANDIDATE)
    ranks = np.full(len(task.relevant.values), UNRANKED, dtype=np.int64)
    ties = np.zeros(len(task.relevant.values), dtype=np.int64)
    for part in problem.ranked():
        keys_QK[part.queries] = part.keys_TK
        ranks[part.wanted_at] = 1 + part.before
        ties[part.wanted_at] = part.equal
    group_ranks_Q = group_top_QK = None
    if task.groups is not None:
        groups = problem.ranked_groups(task.groups)
        group_ranks_Q = np.full(len(queries_QD), UNRANKED)
        group_ranks_Q[groups.wanted_at] = 1 + groups.before
        group_top_QK = _items(groups.keys_TK, task.tie_order_N)
    return Ranking(
        top_QK=_items(keys_QK, task.tie_order_N),
        scores_QK=np.where(keys_QK != NO_CANDIDATE, key_scores(keys_QK), np.float32(np.nan)),
        relevant_ranks=task.relevant.like(ranks),
        relevant_ties=task.relevant.like(ties),
        group_ranks_Q=group_ranks_Q,
        group_top_QK=group_top_QK,
    )


@dataclasses.dataclass(frozen=True)
class _Ranked:
    """What is known of some queries.

    Attributes:
        queries: Their numbers.
        keys_TK: The keys of their first K candidates, ascending.
        wanted_at: Where their wanted items stand in the task's flat list, for those that are candidates.
        before: For each of these, how many candidates stand before it.
        equal: How many others have exactly its score.
    """

    queries: NDArray[np.int64]
    keys_TK: NDArray[np.uint64]
    wanted_at: NDArray[np.int64]
    before: NDArray[np.int64]
    equal: NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class _Problem:
    """The arguments of `rank`, checked."""

    queries_QD: NDArray[np.float32]
    norms_Q: NDArray[np.float64]
    gallery_ND: RowSource
    task: RankingTask
    score: Score | None
    workspace: Workspace

    def ranked(self) -> Iterator[_Ranked]:
        """Rank each pool for its queries, and small pools of few queries together."""
        pools, pool_of_query_Q = self.task.pools, self.task.pool_of_query_Q
        if pools is None or pool_of_query_Q is None:
            pools = (np.arange(self.task.gallery_size),)
            pool_of_query_Q = np.zeros(len(self.queries_QD), dtype=np.int64)
        # Those with the most wanted items first, so that the queries of a tile are alike.
        queries = np.lexsort((-self.task.relevant.lengths, pool_of_query_Q))
        stops = np.searchsorted(pool_of_query_Q[queries], np.arange(len(pools)), side="right")
        listed = []
        for pool, members in zip(pools, np.split(queries, stops[:-1]), strict=True):
            if not len(members):
                continue
            if self.score is None and len(pool) * len(members) <= LISTED:
                listed.append(members)
            elif self.score is None:
                yield from self._by_products(members, np.sort(pool))
            elif len(pool):
                yield from self._by_function(members, np.sort(pool), self.score)
        if listed:
            by_pool = Ragged(np.concatenate(pools), np.cumsum([0, *map(len, pools)]))
            for members in _tiles(np.concatenate(listed), TILE):
                candidates = by_pool.take(pool_of_query_Q[members])
                row = candidates.row_of_value
                kept = candidates.values != self.task.excluded_Q[members][row]
                candidates = Ragged.of_rows(row[kept], candidates.values[kept], len(members))
                wanted, wanted_at = self.task.relevant.take(members), self.task.relevant.places(members)
                yield self._listed(members, candidates, wanted, wanted_at, self.task.depth)

    def ranked_groups(self, groups: Ragged[np.int64]) -> _Ranked:
        """Rank each query's group; the first of its wanted items is the only one."""
        labelled = np.flatnonzero(self.task.relevant.lengths)
        targets = self.task.relevant.values[self.task.relevant.offsets[labelled]]
        wanted = Ragged.of_rows(labelled, targets, len(groups))
        return self._listed(np.arange(len(groups)), groups, wanted, labelled, int(groups.lengths.max(initial=0)))

    def _listed(
        self,
        queries: NDArray[np.int64],
        candidates: Ragged[np.int64],
        wanted: Ragged[np.int64],
        wanted_at: NDArray[np.int64],
        depth: int,
    ) -> _Ranked:
        """Rank a few candidates of each query; those that are wanted stand at ``wanted_at`` in the task's list."""
        row, wanted_row = candidates.row_of_value, wanted.row_of_value
        keys = sort_keys(self._score_own(queries, candidates), self.task.tie_order_N[candidates.values])
        keys_TX = padded(keys, row, len(queries), NO_CANDIDATE, at_least=max(1, depth))
        items_TX = padded(candidates.values, row, len(queries), np.int64(-1), at_least=max(1, depth))
        is_wanted_WX = items_TX[wanted_row] == wanted.values[:, None]
        found = np.flatnonzero(is_wanted_WX.any(axis=1))
        others_WX = keys_TX[wanted_row[found]]
        key_W1 = others_WX[np.arange(len(found)), is_wanted_WX[found].argmax(axis=1), None]
        before = np.count_nonzero(others_WX < key_W1, axis=1)
        equal = np.count_nonzero(others_WX >> _HALF == key_W1 >> _HALF, axis=1) - 1
        keys_TX.sort(axis=1)
        return _Ranked(queries, keys_TX[:, :depth], wanted_at[found], before, equal)

    def _score_own(self, queries: NDArray[np.int64], items: Ragged[np.int64]) -> NDArray[np.float32]:
        """Return the exact scores of each query's own items, flat."""
        if self.score is None:
            scores = score_pairs(self.queries_QD[queries], self.gallery_ND, items, self.workspace)
            broken = items.values[np.flatnonzero(~np.isfinite(scores))[:1]]
            check_finite_rows(np.asarray(self.gallery_ND[broken], dtype=np.float32), "gallery item", broken)
        else:
            rows = zip(queries, items, strict=True)
            parts = [_scored(self.score, self.queries_QD[[query]], self.gallery_ND[own])[0] for query, own in rows]
            scores = np.concatenate([np.empty(0, np.float32), *parts])
        _check_finite(scores, queries[items.row_of_value], items.values)
        return scores

    def _by_products(self, queries: NDArray[np.int64], positions_N: NDArray[np.int64]) -> list[_Ranked]:
        """Rank a pool by dot products; each row of it is read once, but for the wanted items."""
        tiles = [
            _Tile(tile, positions_N, self.task, functools.partial(self._score_own, tile))
            for tile in _tiles(queries, TILE)
        ]
        filtered = len(positions_N) > UNFILTERED * self.task.depth
        for block in _blocks(len(positions_N)):
            items_BD = np.ascontiguousarray(self._rows(positions_N, block), dtype=np.float32)
            longest = check_finite_rows(items_BD, "gallery item", positions_N[block]).max()
            for tile in tiles:
                queries_TD = self.queries_QD[tile.queries]
                lengths_T = self.norms_Q[tile.queries] * longest
                scores = score_block(queries_TD, items_BD, lengths_T, self.workspace, filtered=filtered)
                tile.add(scores, block, self.workspace)
        for tile in tiles:
            tile.settle()
        return [tile.ranked() for tile in tiles]

    def _by_function(
        self, queries: NDArray[np.int64], positions_N: NDArray[np.int64], score: Score
    ) -> Iterator[_Ranked]:
        """Rank a pool by a score function; all scores of a query are held, since each is asked for only once."""
        for members in _tiles(queries, max(1, _HELD_SCORES // len(positions_N))):
            queries_TD = self.queries_QD[members]
            blocks = (self._rows(positions_N, block) for block in _blocks(len(positions_N)))
            scores_TN = np.concatenate([_scored(score, queries_TD, items_BD) for items_BD in blocks], axis=1)
            _check_finite(scores_TN, members[:, None], positions_N)
            yield self._by_scores(members, positions_N, scores_TN)

    def _by_scores(
        self, queries: NDArray[np.int64], positions_N: NDArray[np.int64], scores_TN: NDArray[np.float32]
    ) -> _Ranked:
        def exact(row: NDArray[np.int64], column: NDArray[np.int64]) -> NDArray[np.float32]:
            return scores_TN[row, column]

        def score_own(items: Ragged[np.int64]) -> NDArray[np.float32]:
            return exact(items.row_of_value, np.searchsorted(positions_N, items.values))

        tile = _Tile(queries, positions_N, self.task, score_own)
        scores = BlockScores(scores_TN, np.zeros(len(queries)), 0, exact)
        tile.add(scores, slice(0, len(positions_N)), self.workspace)
        return tile.ranked()

    def _rows(self, positions_N: NDArray[np.int64], block: slice) -> NDArray[np.floating]:
        whole = len(positions_N) == self.task.gallery_size
        return self.gallery_ND[block if whole else positions_N[block]]


class _Tile:
    """A tile of queries: the keys of the first K candidates so far, and how many stand before each wanted item.

    The wanted items are scored first, counted among each other, and left out of the blocks, so that a block rarely
    holds a score that is too near to a wanted one to be told from it. A query's floor is a score that K candidates are
    known to reach. What cannot reach it, even with the error in its favour, is not kept.
    """

    def __init__(
        self, queries: NDArray[np.int64], positions_N: NDArray[np.int64], task: RankingTask, score: ScoreItems
    ) -> None:
        self.queries = queries
        self._score = score
        self._depth = task.depth
        self._positions_N = positions_N
        self._tie_order_N = task.tie_order_N
        self._keys_TK = np.full((len(queries), task.depth), NO_CANDIDATE)
        self._floor_T = np.full(len(queries), -np.inf)
        self._waiting: list[tuple[NDArray[Any], ...]] = []

        relevant, excluded_T = task.relevant.take(queries), task.excluded_Q[queries]
        row, (place, found) = relevant.row_of_value, _find(relevant.values, positions_N)
        asked = np.flatnonzero(found & (relevant.values != excluded_T[row]))
        self._asked_at = task.relevant.places(queries)[asked]
        # An item may be asked for twice, and stands in the gallery once.
        pairs, self._answer = np.unique(row[asked] * len(positions_N) + place[asked], return_inverse=True)
        row, place = np.divmod(pairs, len(positions_N))
        scores = score(Ragged.of_rows(row, positions_N[place], len(queries)))
        self._keys = self._sort_keys(scores, place)
        self._first_T = np.searchsorted(row, np.arange(len(queries)))
        self._before, self._equal = _among_themselves(row, self._keys)
        self._merge(row, self._keys)
        # A query with fewer wanted items than W has +inf in their place, before which no candidate stands.
        self._wanted_TW = padded(scores, row, len(queries), np.float32(np.inf))
        self._real_TW = self._wanted_TW < np.inf

        excluded_place_T, excluded = _find(excluded_T, positions_N)
        left_out = np.concatenate([place, excluded_place_T[excluded]])
        by_place = np.argsort(left_out)
        self._left_out = left_out[by_place]
        self._left_out_row = np.concatenate([row, np.flatnonzero(excluded)])[by_place]

    def add(self, scores: BlockScores, block: slice, workspace: Workspace) -> None:
        """Take in a block of candidates."""
        some = slice(*np.searchsorted(self._left_out, [block.start, block.stop]))
        scores.approximate_TB[self._left_out_row[some], self._left_out[some] - block.start] = -np.inf
        self._count(scores, block, workspace)
        self._keep(scores, block, workspace)

    def ranked(self) -> _Ranked:
        """Return what all blocks together have shown."""
        before, equal = self._before[self._answer], self._equal[self._answer]
        return _Ranked(self.queries, self._keys_TK, self._asked_at, before, equal)

    def _count(self, scores: BlockScores, block: slice, workspace: Workspace) -> None:
        """Count the candidates that stand before each wanted item, and those that equal it."""
        own_TW, error_T1 = self._wanted_TW.astype(np.float64), scores.error_T[:, None]
        low_TW, high_TW = below(own_TW - error_T1), above(own_TW + error_T1)
        better_TW, likely_TW = _counts(scores.approximate_TB, (high_TW, low_TW), workspace)
        self._before += better_TW[self._real_TW]
        near_row, near_nth = np.nonzero(likely_TW > better_TW)
        for start in range(0, len(near_row), _NEAR):
            row, nth = near_row[start : start + _NEAR], near_nth[start : start + _NEAR]
            near_PB = workspace.array("near", (len(row), scores.approximate_TB.shape[1]), np.float32)
            take_rows(scores.approximate_TB, row, near_PB)
            pair, column = _nonzero((near_PB >= low_TW[row, nth, None]) & (near_PB < high_TW[row, nth, None]))
            wanted = (self._first_T[row] + nth)[pair]
            keys = self._sort_keys(scores.exact(row[pair], column), block.start + column)
            np.add.at(self._before, wanted, keys < self._keys[wanted])
            np.add.at(self._equal, wanted, keys >> _HALF == self._keys[wanted] >> _HALF)

    def _keep(self, scores: BlockScores, block: slice, workspace: Workspace) -> None:
        """Keep the candidates that may be among the first K: scored, or where that costs more, waiting to be."""
        approximate_TB, error_T = scores.approximate_TB, scores.error_T
        if np.isneginf(self._floor_T).any() and approximate_TB.shape[1] >= self._depth:
            kth_T = np.partition(approximate_TB, -self._depth, axis=1)[:, -self._depth]
            self._floor_T = np.maximum(self._floor_T, kth_T - error_T)
        mask_TB = workspace.array("mask", approximate_TB.shape, np.bool_)
        row, column = _nonzero(np.greater(approximate_TB, below(self._floor_T - error_T)[:, None], out=mask_TB))
        only = approximate_TB.shape[1] == len(self._positions_N)
        if only or len(row) > scores.apart:
            self._merge(row, self._sort_keys(scores.exact(row, column), block.start + column))
        else:
            approximate, error = approximate_TB[row, column], error_T[row]
            self._waiting.append((row, block.start + column, approximate - error, approximate + error))
            if sum(len(row) for row, *_ in self._waiting) > _WAITING * self._keys_TK.size:
                self.settle()

    def settle(self) -> None:
        """Score the candidates that wait, as far as they may still be among the first K."""
        if self._waiting:
            parts = [np.concatenate(part) for part in zip(*self._waiting, strict=True)]
            by_row = np.argsort(parts[0], kind="stable")
            row, place, low, high = (part[by_row] for part in parts)
            known_TX = np.concatenate([self._scores_TK(), padded(low, row, len(self.queries), -np.inf)], axis=1)
            floor_T = np.partition(known_TX, -self._depth, axis=1)[:, -self._depth]
            kept = high >= np.maximum(self._floor_T, floor_T)[row]
            row, place = row[kept], place[kept]
            scores = self._score(Ragged.of_rows(row, self._positions_N[place], len(self.queries)))
            self._merge(row, self._sort_keys(scores, place))
            self._waiting = []

    def _sort_keys(self, scores: NDArray[np.float32], place: NDArray[np.int64]) -> NDArray[np.uint64]:
        return sort_keys(scores, self._tie_order_N[self._positions_N[place]])

    def _scores_TK(self) -> NDArray[np.float64]:
        return np.where(self._keys_TK == NO_CANDIDATE, -np.inf, key_scores(self._keys_TK))

    def _merge(self, row: NDArray[np.int64], keys: NDArray[np.uint64]) -> None:
        keys_TX = np.concatenate([self._keys_TK, padded(keys, row, len(self.queries), NO_CANDIDATE)], axis=1)
        keys_TX.sort(axis=1)
        self._keys_TK = keys_TX[:, : self._depth].copy()
        self._floor_T = np.maximum(self._floor_T, self._scores_TK()[:, -1])


def sort_keys(scores: NDArray[np.float32], tie_order: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return keys that ascend as the ranking does: the score in the high half, the tie order in the low half.

    No two candidates of a query share a key, so that comparing, sorting and counting keys needs no further rule.
    ``scores`` are finite.
    """
    bits = np.ascontiguousarray(scores + np.float32(0)).view(np.uint32)  # adding zero makes -0.0 equal to 0.0
    descending = np.where(bits & _SIGN, bits, ~(bits | _SIGN))
    return (descending.astype(np.uint64) << _HALF) | tie_order.astype(np.uint64)


def key_scores(keys: NDArray[np.uint64]) -> NDArray[np.float32]:
    """Return the scores that went into keys."""
    descending = (keys >> _HALF).astype(np.uint32)
    return np.where(descending & _SIGN, descending, ~(descending | _SIGN)).view(np.float32)


def key_ties(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the tie order that went into keys."""
    return (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)


def padded(values: NDArray[T], row: NDArray[np.int64], rows: int, filling: T, *, at_least: int = 0) -> NDArray[T]:
    """Lay values out as a table of rows, each as long as the longest; ``row`` ascends."""
    counts = np.bincount(row, minlength=rows)
    table = np.full((rows, max(at_least, int(counts.max(initial=0)))), filling)
    table[row, np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)] = values
    return table


def below(bounds: NDArray[np.float64]) -> NDArray[np.float32]:
    """Round down, strictly, to float32."""
    return np.nextafter(bounds.astype(np.float32), np.float32(-np.inf))


def above(bounds: NDArray[np.float64]) -> NDArray[np.float32]:
    """Round up, strictly, to float32."""
    return np.nextafter(bounds.astype(np.float32), np.float32(np.inf))


def _items(keys_QK: NDArray[np.uint64], tie_order_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the gallery positions that keys stand for, and -1 for no candidate."""
    filled_QK = keys_QK != NO_CANDIDATE
    return np.where(filled_QK, np.argsort(tie_order_N)[np.where(filled_QK, key_ties(keys_QK), 0)], -1)


def _among_themselves(row: NDArray[np.int64], keys: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each key, count those of its row that come before it, and the others with its score; ``row`` ascends."""
    before, equal = np.empty((2, len(row)), dtype=np.int64)
    order = np.lexsort((keys, row))
    before[order] = np.arange(len(row)) - np.searchsorted(row, row)
    scores = keys[order] >> _HALF
    starts = np.append(True, (np.diff(row) != 0) | (scores[1:] != scores[:-1]))[: len(row)]
    run = np.cumsum(starts) - 1
    equal[order] = np.bincount(run)[run] - 1
    return before, equal


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


def _blocks(size: int) -> Iterator[slice]:
    """Cut a range evenly, into blocks of at most `BLOCK`."""
    length = -(-size // -(-size // BLOCK))
    return (slice(start, min(start + length, size)) for start in range(0, size, length))


def _tiles(queries: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    """Split queries evenly, into tiles of at most ``size``."""
    return np.array_split(queries, -(-len(queries) // size))


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


def _check_shapes(queries: tuple[int, ...], gallery: tuple[int, ...], task: RankingTask) -> None:
    expected = len(task.relevant)
    if len(queries) != 2 or len(gallery) != 2 or queries[0] != expected or gallery[0] != task.gallery_size:
        raise MethodFailed(
            f"Features of {expected} queries and {task.gallery_size} gallery items were expected, one row each; "
            f"the shapes are {queries} and {gallery}."
        )


def _check_finite(scores: NDArray[np.float32], queries: NDArray[np.int64], items: NDArray[np.int64]) -> None:
    """Refuse scores that are NaN or infinite; ``queries`` and ``items`` broadcast with them and number them."""
    finite = np.isfinite(scores)
    if not finite.all():
        first = int(np.flatnonzero(~finite)[0])
        query, item = (np.broadcast_to(numbers, scores.shape).flat[first] for numbers in (queries, items))
        raise MethodFailed(
            f"The score of query {query} and gallery item {item} (counted from 0) is {scores.flat[first]}.",
            hint="Scores must be finite; check the features and the method's score function.",
        )
