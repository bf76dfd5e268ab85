"""Rank by queries and items that are several vectors each: late interaction.

All items of a large gallery do not fit in memory (123,403 with 64 vectors of 768 half-precision numbers take 12 GB), so
they are read block by block, once, and each block is scored against all queries. What is kept is a score for each pair,
four bytes, in a temporary file where that is much, in one table for candidates, wanted items and groups, so that each
pair is scored once. The table is then ranked as the scores of any function are.
"""

from __future__ import annotations

import tempfile
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from cirbench.errors import MethodFailed
from cirbench.ranking.ranking import rank_by, scored
from cirbench.ranking.scores import dot_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from cirbench.ranking.scores import RowSource
    from cirbench.ranking.task import Ranking, RankingTask

    Score = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]

BLOCK_BYTES = 32 << 20
"""Bytes of float32 item vectors that are held at once."""
PRODUCTS = 1 << 22
"""Dot products of a tile of queries and a block of items, at most: 32 MiB in float64."""
IN_MEMORY = 128 << 20
"""Bytes of scores that are held in memory; more go into a temporary file."""


def rank_vectors(
    queries_QWE: NDArray[np.floating[Any]], gallery_NVD: RowSource, task: RankingTask, score: Score
) -> Ranking:
    """Rank the gallery for every query by a score of their vectors, higher first, ties by the task's tie order.

    Args:
        queries_QWE: The vectors of each query, (Q, W, E).
        gallery_NVD: Those of each gallery item, (N, V, D): an array, or anything with a shape that gives out items by
            slices and by arrays of positions; float32 or float16.
        task: Candidates, exclusions, depth and the items whose exact rank is wanted.
        score: Scores some queries against some items, (T, W, E) and (B, V, D) in float32 to (T, B). Each pair is scored
            once, in a tile and a block whose sizes should not matter.

    Raises:
        MethodFailed: Arrays have another shape than the task, or a score is NaN or infinite.
    """
    expected, shape = (len(task.relevant), task.gallery_size), tuple(gallery_NVD.shape)
    if queries_QWE.ndim != 3 or len(shape) != 3 or (len(queries_QWE), shape[0]) != expected:
        raise MethodFailed(
            f"Vectors of {expected[0]} queries and {expected[1]} gallery items were expected, several each; the shapes "
            f"are {queries_QWE.shape} and {shape}."
        )
    with tempfile.TemporaryFile() as file:
        large = expected[0] * expected[1] * 4 > IN_MEMORY
        scores_NQ: NDArray[np.float32] = (
            np.memmap(file, np.float32, "w+", shape=expected[::-1]) if large else np.empty(expected[::-1], np.float32)
        )
        for members, positions in _wanted(task):
            _score(queries_QWE, gallery_NVD, members, positions, score, scores_NQ)
        return rank_by(lambda queries, items: scores_NQ[items][:, queries].T, task)


class VectorRows:
    """Rows that hold several vectors behind each other, (N, V·D), as the vectors that they are, (N, V, D).

    Args:
        rows: Where the rows come from.
        vectors: V.
    """

    def __init__(self, rows: RowSource, vectors: int) -> None:
        self._rows = rows
        self.shape = (rows.shape[0], vectors, rows.shape[1] // vectors)

    def __getitem__(self, items: slice | NDArray[np.int64]) -> NDArray[np.floating[Any]]:
        """Return the vectors of a slice or of an array of positions."""
        return self._rows[items].reshape(-1, *self.shape[1:])


def _wanted(task: RankingTask) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Queries with the items that are scored for them: each pool's, and where there are pools, each query's group."""
    everything = np.arange(len(task.relevant))
    if task.pools is None or task.pool_of_query_Q is None:
        yield everything, np.arange(task.gallery_size)
        return
    for number, pool in enumerate(task.pools):
        yield np.flatnonzero(task.pool_of_query_Q == number), np.sort(pool)
    if task.groups is not None:
        for query, group in zip(everything, task.groups, strict=True):
            yield everything[[query]], np.sort(group)


def _score(
    queries_QWE: NDArray[np.floating[Any]],
    gallery_NVD: RowSource,
    members: NDArray[np.int64],
    positions: NDArray[np.int64],
    score: Score,
    scores_NQ: NDArray[np.float32],
) -> None:
    """Fill in the scores of some queries with some items, reading each item once."""
    (_, vectors, dimension), words = gallery_NVD.shape, queries_QWE.shape[1]
    block = max(1, BLOCK_BYTES // (4 * vectors * dimension))
    whole = len(positions) == gallery_NVD.shape[0]
    for start in range(0, len(positions), block):
        some = positions[start : start + block]
        read = gallery_NVD[slice(start, start + block) if whole else some]
        items_BVD = np.ascontiguousarray(read, dtype=np.float32)
        tile = max(1, PRODUCTS // (words * vectors * len(some)))
        for first in range(0, len(members), tile):
            own = members[first : first + tile]
            scores_NQ[np.ix_(some, own)] = scored(score, queries_QWE[own], items_BVD).T


def max_sim(queries_TWD: NDArray[np.float32], items_BVD: NDArray[np.float32]) -> NDArray[np.float32]:
    """Score by MaxSim (ColBERT, Khattab and Zaharia 2020): for each vector of the query the best vector of the item.

    The score is the sum over the query's vectors of the largest of their exact dot products with the item's, rounded
    once to float32, ties to even. So it depends neither on the tile nor on the block nor on the library. A query with
    fewer vectors than others is filled up with zeros, which add nothing.

    Args:
        queries_TWD: The vectors of each query.
        items_BVD: Those of each item.

    Returns:
        The scores, (T, B).
    """
    found_TWBV = similarities(queries_TWD, items_BVD)
    sums_TB = found_TWBV.max(axis=3).sum(axis=1)
    # A maximum is as near to the exact one as a dot product is, and the sum of W adds rounding errors of its own.
    longest_T, longest_B = (np.sqrt(_squares(rows)).max(axis=1) for rows in (queries_TWD, items_BVD))
    words, dimension = queries_TWD.shape[1:]
    error_TB = words * dot_error(dimension + words, np.float64) * longest_T[:, None] * longest_B
    scores_TB: NDArray[np.float32] = sums_TB.astype(np.float32)
    sure_TB = (sums_TB - error_TB).astype(np.float32) == (sums_TB + error_TB).astype(np.float32)
    for query, item in np.argwhere(~sure_TB & np.isfinite(sums_TB)):
        found_WV = found_TWBV[query, :, item]
        best_WV = found_WV >= found_WV.max(axis=1, keepdims=True) - 2 * error_TB[query, item]
        scores_TB[query, item] = _exact_max_sim(queries_TWD[query], items_BVD[item], best_WV)
    return scores_TB


def similarities(queries_TWD: NDArray[np.float32], items_BVD: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the dot products of all vectors in float64, (T, W, B, V)."""
    (tile, words, dimension), (block, vectors, _) = queries_TWD.shape, items_BVD.shape
    left = queries_TWD.reshape(-1, dimension).astype(np.float64)
    right = items_BVD.reshape(-1, dimension).astype(np.float64)
    return (left @ right.T).reshape(tile, words, block, vectors)


def _squares(rows_XYD: NDArray[np.float32]) -> NDArray[np.float64]:
    wide_XYD = rows_XYD.astype(np.float64)
    squares_XY: NDArray[np.float64] = np.einsum("xyd,xyd->xy", wide_XYD, wide_XYD)
    return squares_XY


def _exact_max_sim(
    query_WD: NDArray[np.float32], item_VD: NDArray[np.float32], best_WV: NDArray[np.bool_]
) -> np.float32:
    """Round the sum of exact maxima once; ``best_WV`` marks the vectors that may be the best."""
    best = (
        max(_exact_dot(word_D, vector_D) for vector_D in item_VD[best_V])
        for word_D, best_V in zip(query_WD, best_WV, strict=True)
    )
    total = sum(best, Fraction(0))
    near = np.float32(float(total))
    if not np.isfinite(near):
        return near
    around = (near, np.nextafter(near, np.float32(-np.inf)), np.nextafter(near, np.float32(np.inf)))
    # Rounded twice, it may be the neighbour; of two that are equally near, the even one.
    return min(around, key=lambda value: (abs(Fraction(float(value)) - total), int(value.view(np.uint32)) & 1))


def _exact_dot(one_D: NDArray[np.float32], other_D: NDArray[np.float32]) -> Fraction:
    products: list[float] = (one_D.astype(np.float64) * other_D.astype(np.float64)).tolist()  # each without error
    return sum(map(Fraction, products), Fraction(0))
