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
from cirbench.metrics.functions import UNRANKED
from cirbench.ranking.scores import OPEN, Block, norms, product_here, score_pairs
from cirbench.ranking.task import Ranking
from cirbench.support.arrays import Ragged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from cirbench.ranking.scores import Product, RowSource
    from cirbench.ranking.task import RankingTask

    Score = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]
    LookUp = Callable[[NDArray[np.int64], NDArray[np.int64] | slice], NDArray[np.float32]]
    ScorePairs = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]]

T = TypeVar("T", bound=np.generic)

# None of these changes a result; they bound memory or choose the cheaper of two ways.
TILE = 512
"""Queries scored together, at most."""
BLOCK = 4096
"""Gallery items scored together, at most."""
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
    product: Product = product_here,
) -> Ranking:
    """Rank the gallery for every query: score descending, ties by the task's tie order.

    Without ``score`` the ranking is the same to the last bit whatever the batch and block sizes, the number of
    threads, the linear algebra library and the machine; see `cirbench.ranking.scores` for what a score is.

    Args:
        queries_QD: One float32 row per query, usually L2-normalised (`unit_rows`).
        gallery_ND: One row per gallery item: an array, or anything with a shape that gives out rows by slices and by
            arrays of positions, so that a gallery need not fit in memory.
        task: Candidates, exclusions, depth and the items whose exact rank is wanted.
        score: Scores queries against a part of the gallery, (Q, N), in place of the dot product. Each pair is scored
            once; groups are ranked by scores of their own.
        product: Multiplies tiles of queries with blocks of the gallery, here or on a device; the ranking is the same.

    Raises:
        MethodFailed: Features or scores are NaN or infinite, or an array has another shape than the task.
    """
    queries_QD = np.ascontiguousarray(queries_QD, dtype=np.float32)
    _check_shapes(queries_QD.shape, tuple(gallery_ND.shape), task)
    norms_Q = norms(queries_QD, "query", np.arange(len(queries_QD)))
    if score is not None:
        return rank_by(lambda queries, items: scored(score, queries_QD[queries], gallery_ND[items]), task)
    return _ranking(_Problem(task, _Rows(queries_QD, norms_Q, gallery_ND, product)))


@np.errstate(over="ignore", invalid="ignore")
def rank_by(look_up: LookUp, task: RankingTask) -> Ranking:
    """Rank the gallery for every query by scores that are looked up; see `rank`.

    Args:
        look_up: Gives the scores of queries and gallery items, both by their numbers, (T,) and (B,) to (T, B). Each
            pair is asked for once; groups are ranked by scores of their own.
        task: Candidates, exclusions, depth and the items whose exact rank is wanted.

    Raises:
        MethodFailed: A score is NaN or infinite.
    """
    return _ranking(_Problem(task, look_up))


def _ranking(problem: _Problem) -> Ranking:
    task, queries = problem.task, len(problem.task.relevant)
    keys_QK = np.full((queries, task.depth), NO_CANDIDATE)
    ranks = np.full(len(task.relevant.values), UNRANKED, dtype=np.int64)
    ties = np.zeros(len(task.relevant.values), dtype=np.int64)
    for part in problem.ranked():
        keys_QK[part.queries] = part.keys_TK
        ranks[part.wanted_at] = 1 + part.before
        ties[part.wanted_at] = part.equal
    group_ranks_Q = group_top_QK = None
    if task.groups is not None:
        # The first of a query's wanted items is its target.
        labelled = np.flatnonzero(task.relevant.lengths)
        targets = Ragged.of_rows(labelled, task.relevant.values[task.relevant.offsets[labelled]], queries)
        depth = int(task.groups.lengths.max(initial=0))
        groups = problem.listed(np.arange(queries), task.groups, targets, labelled, depth)
        group_ranks_Q = np.full(queries, UNRANKED)
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
        wanted_at: The places of their wanted items in the task's flat list, for those that are candidates.
        before: For each of these, how many candidates come before it.
        equal: How many others have exactly its score.
    """

    queries: NDArray[np.int64]
    keys_TK: NDArray[np.uint64]
    wanted_at: NDArray[np.int64]
    before: NDArray[np.int64]
    equal: NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class _Rows:
    """The rows whose dot products are the scores."""

    queries_QD: NDArray[np.float32]
    norms_Q: NDArray[np.float64]
    gallery_ND: RowSource
    product: Product


@dataclasses.dataclass(frozen=True)
class _Problem:
    """What is to be ranked, and where its scores come from."""

    task: RankingTask
    source: _Rows | LookUp

    def ranked(self) -> Iterator[_Ranked]:
        """Rank each pool for its queries, and small pools of few queries together."""
        pools, pool_of_query_Q = self.task.pools, self.task.pool_of_query_Q
        if pools is None or pool_of_query_Q is None:
            pools = (np.arange(self.task.gallery_size),)
            pool_of_query_Q = np.zeros(len(self.task.relevant), dtype=np.int64)
        # Those with the most wanted items first, so that the queries of a tile are alike.
        queries = np.lexsort((-self.task.relevant.lengths, pool_of_query_Q))
        stops = np.searchsorted(pool_of_query_Q[queries], np.arange(len(pools)), side="right")
        listed = []
        for pool, members in zip(pools, np.split(queries, stops[:-1]), strict=True):
            if not len(members) or not len(pool):
                continue
            if not isinstance(self.source, _Rows):
                yield from self._by_scores(members, np.sort(pool), self.source)
            elif len(pool) * len(members) > LISTED:
                yield from self._by_products(members, np.sort(pool), self.source)
            else:
                listed.append(members)
        if listed:
            by_pool = Ragged(np.concatenate(pools), np.cumsum([0, *map(len, pools)]))
            for members in _tiles(np.concatenate(listed), TILE):
                candidates = by_pool.take(pool_of_query_Q[members])
                row = candidates.row_of_value
                kept = candidates.values != self.task.excluded_Q[members][row]
                candidates = Ragged.of_rows(row[kept], candidates.values[kept], len(members))
                wanted, wanted_at = self.task.relevant.take(members), self.task.relevant.places(members)
                yield self.listed(members, candidates, wanted, wanted_at, self.task.depth)

    def listed(
        self,
        queries: NDArray[np.int64],
        candidates: Ragged[np.int64],
        wanted: Ragged[np.int64],
        wanted_at: NDArray[np.int64],
        depth: int,
    ) -> _Ranked:
        """Rank a few candidates of each query; those that are wanted are at ``wanted_at`` in the task's list."""
        row, wanted_row = candidates.row_of_value, wanted.row_of_value
        if isinstance(self.source, _Rows):
            scores = score_pairs(self.source.queries_QD, queries[row], self.source.gallery_ND, candidates.values)
        else:
            parts = [self.source(query, own)[0] for query, own in zip(queries[:, None], candidates, strict=True)]
            scores = np.concatenate([np.empty(0, np.float32), *parts])
            _check_finite(scores, queries[row], candidates.values)
        keys = sort_keys(scores, self.task.tie_order_N[candidates.values])
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

    def _by_products(self, queries: NDArray[np.int64], positions_N: NDArray[np.int64], rows: _Rows) -> list[_Ranked]:
        """Rank a pool by dot products; each row of it is read once, but for those that are scored exactly."""

        def pairs(members: NDArray[np.int64], row: NDArray[np.int64], place: NDArray[np.int64]) -> NDArray[np.float32]:
            return score_pairs(rows.queries_QD, members[row], rows.gallery_ND, positions_N[place])

        tiles = [_Tile(tile, positions_N, self.task, functools.partial(pairs, tile)) for tile in _tiles(queries, TILE)]
        for block in _blocks(len(positions_N)):
            items_BD = np.ascontiguousarray(rows.gallery_ND[self._items(positions_N, block)], dtype=np.float32)
            longest = norms(items_BD, "gallery item", positions_N[block]).max()
            for tile in tiles:
                lengths_T = rows.norms_Q[tile.queries] * longest
                scores = Block(rows.queries_QD[tile.queries], items_BD, lengths_T, rows.product)
                tile.add(scores, block.start)
        return [tile.ranked() for tile in tiles]

    def _by_scores(
        self, queries: NDArray[np.int64], positions_N: NDArray[np.int64], look_up: LookUp
    ) -> Iterator[_Ranked]:
        """Rank a pool by scores that are looked up; all of a query are held, since each is asked for only once."""
        for members in _tiles(queries, max(1, _HELD_SCORES // len(positions_N))):
            parts = [look_up(members, self._items(positions_N, block)) for block in _blocks(len(positions_N))]
            scores_TN = np.concatenate(parts, axis=1)
            _check_finite(scores_TN, members[:, None], positions_N)
            held = _Held(scores_TN)
            tile = _Tile(members, positions_N, self.task, held.exact)
            tile.add(held, 0)
            yield tile.ranked()

    def _items(self, positions_N: NDArray[np.int64], block: slice) -> NDArray[np.int64] | slice:
        """The gallery items of a block of a pool; of the whole gallery as a slice, which is read without a copy."""
        return block if len(positions_N) == self.task.gallery_size else positions_N[block]


class _Held:
    """Scores that a function gave, in the form of a `Block`: the approximate ones are the exact ones."""

    def __init__(self, scores_TB: NDArray[np.float32]) -> None:
        self._scores_TB = scores_TB
        self.approximate_TB = scores_TB.copy()
        self.error_T = np.zeros(len(scores_TB))

    def exact(self, row: NDArray[np.int64], column: NDArray[np.int64]) -> NDArray[np.float32]:
        """Look up the scores of single pairs."""
        return self._scores_TB[row, column]


class _Tile:
    """A tile of queries: the keys of the first K candidates so far, and how many come before each wanted item.

    The wanted items are scored first. A query's floor is a score that K candidates are known to reach. What cannot
    reach it, even with the error in its favour, is not kept. Candidates are given by their places in the pool, and
    queries by their rows in the tile.
    """

    def __init__(
        self, queries: NDArray[np.int64], positions_N: NDArray[np.int64], task: RankingTask, score: ScorePairs
    ) -> None:
        self.queries = queries
        self._score = score
        self._depth = task.depth
        self._tie_order_N = task.tie_order_N[positions_N]
        self._keys_TK = np.full((len(queries), task.depth), NO_CANDIDATE)
        self._floor_T = np.full(len(queries), -np.inf)
        self._waiting: list[tuple[NDArray[Any], ...]] = []
        excluded_T = task.excluded_Q[queries]
        place_T, found_T = _find(excluded_T, positions_N)
        self._excluded_T = np.where(found_T, place_T, -1)
        wanted = task.relevant.take(queries)
        row, (place, found) = wanted.row_of_value, _find(wanted.values, positions_N)
        ranked = found & (wanted.values != excluded_T[row])
        self._wanted_at = task.relevant.places(queries)[ranked]
        row, place = row[ranked], place[ranked]
        scores = score(row, place)
        # A query with fewer wanted items than W has +inf in their place, before which no candidate comes.
        self._own_TW = padded(scores, row, len(queries), np.float32(np.inf))
        self._own_key_TW = padded(self._sort_keys(scores, place), row, len(queries), NO_CANDIDATE)
        self._own_place_TW = padded(place, row, len(queries), np.int64(-1))
        self._before_TW, self._equal_TW = np.zeros((2, *self._own_TW.shape), dtype=np.int64)

    def add(self, block: Block | _Held, start: int) -> None:
        """Take in the scores of a block of candidates that begins at a place."""
        column_T = self._excluded_T - start
        row = np.flatnonzero((column_T >= 0) & (column_T < block.approximate_TB.shape[1]))
        block.approximate_TB[row, column_T[row]] = -np.inf
        self._count(block, start)
        self._keep(block, start)

    def ranked(self) -> _Ranked:
        """Return what all blocks together have shown."""
        self._settle()
        ranked_TW = self._own_place_TW >= 0
        return _Ranked(
            self.queries, self._keys_TK, self._wanted_at, self._before_TW[ranked_TW], self._equal_TW[ranked_TW]
        )

    def _count(self, block: Block | _Held, start: int) -> None:
        """Count the candidates that come before each wanted item, and those that equal it."""
        approximate_TB, error_T1 = block.approximate_TB, block.error_T[:, None]
        own_TW = self._own_TW.astype(np.float64)
        low_TW, high_TW = below(own_TW - error_T1), above(own_TW + error_T1)
        better_TW, likely_TW = _counts(approximate_TB, high_TW, low_TW)
        self._before_TW += better_TW
        itself_TW = (self._own_place_TW >= start) & (self._own_place_TW < start + approximate_TB.shape[1])
        rows, nths = np.nonzero(likely_TW - better_TW > itself_TW)
        for first in range(0, len(rows), _NEAR):
            row, nth = rows[first : first + _NEAR], nths[first : first + _NEAR]
            near_PB = approximate_TB[row]
            pair, column = _nonzero((near_PB >= low_TW[row, nth, None]) & (near_PB < high_TW[row, nth, None]))
            row, nth, place = row[pair], nth[pair], start + column
            other = place != self._own_place_TW[row, nth]
            row, nth, column, place = row[other], nth[other], column[other], place[other]
            keys, own_keys = self._sort_keys(block.exact(row, column), place), self._own_key_TW[row, nth]
            np.add.at(self._before_TW, (row, nth), keys < own_keys)
            np.add.at(self._equal_TW, (row, nth), keys >> _HALF == own_keys >> _HALF)

    def _keep(self, block: Block | _Held, start: int) -> None:
        """Keep the candidates that may be among the first K: waiting to be scored, or where they are many, scored."""
        approximate_TB, error_T = block.approximate_TB, block.error_T
        if np.isneginf(self._floor_T).any() and approximate_TB.shape[1] >= self._depth:
            kth_T = np.partition(approximate_TB, -self._depth, axis=1)[:, -self._depth]
            self._floor_T = np.maximum(self._floor_T, kth_T - error_T)
        row, column = _nonzero(approximate_TB > below(self._floor_T - error_T)[:, None])
        if len(row) > approximate_TB.size // OPEN:
            self._merge(row, self._sort_keys(block.exact(row, column), start + column))
        else:
            approximate, error = approximate_TB[row, column], error_T[row]
            self._waiting.append((row, start + column, approximate - error, approximate + error))
            if sum(len(row) for row, *_ in self._waiting) > _WAITING * self._keys_TK.size:
                self._settle()

    def _settle(self) -> None:
        """Score the candidates that wait, as far as they may still be among the first K."""
        if self._waiting:
            parts = [np.concatenate(part) for part in zip(*self._waiting, strict=True)]
            by_row = np.argsort(parts[0], kind="stable")
            row, place, low, high = (part[by_row] for part in parts)
            known_TX = np.concatenate([self._scores_TK(), padded(low, row, len(self.queries), -np.inf)], axis=1)
            floor_T = np.partition(known_TX, -self._depth, axis=1)[:, -self._depth]
            kept = high >= np.maximum(self._floor_T, floor_T)[row]
            row, place = row[kept], place[kept]
            self._merge(row, self._sort_keys(self._score(row, place), place))
            self._waiting = []

    def _sort_keys(self, scores: NDArray[np.float32], place: NDArray[np.int64]) -> NDArray[np.uint64]:
        return sort_keys(scores, self._tie_order_N[place])

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


def _counts(scores_TB: NDArray[np.float32], *bounds: NDArray[np.float32]) -> list[NDArray[np.int64]]:
    """Count the scores of each row that reach its bounds; the bounds are tables of any number of columns (T, W)."""
    bounds_TX = np.concatenate(bounds, axis=1)
    counts_TX = np.empty(bounds_TX.shape, dtype=np.int64)
    if bounds_TX.shape[1] <= _FEW_BOUNDS:
        for x in range(bounds_TX.shape[1]):
            counts_TX[:, x] = [np.count_nonzero(reached_B) for reached_B in scores_TB >= bounds_TX[:, x, None]]
    else:
        for counts_X, ascending_B, bounds_X in zip(counts_TX, np.sort(scores_TB, axis=1), bounds_TX, strict=True):
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
    """Return the places of values in an ascending array that is not empty, and whether they do."""
    at = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    return at, ascending[at] == values


def scored(score: Score, queries: NDArray[Any], items: NDArray[Any]) -> NDArray[np.float32]:
    """Call a method's score function in float32, and check the shape of what it gives.

    Raises:
        MethodFailed: It is not one row per query and one column per item.
    """
    given = (np.ascontiguousarray(rows, dtype=np.float32) for rows in (queries, items))
    scores_TB = np.asarray(score(*given), dtype=np.float32)
    if scores_TB.shape != (len(queries), len(items)):
        raise MethodFailed(
            f"The score function was given {len(queries)} queries and {len(items)} gallery items, "
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
