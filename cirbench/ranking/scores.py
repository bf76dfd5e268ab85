"""The score of a pair: the exact dot product of its two float32 rows, rounded once to float32, ties to even.

The definition leaves nothing open, so a score depends neither on batch or block sizes nor on the linear algebra
library, its threads or the machine. It is also cheap to compute. The product of two float32 numbers is exact in
float64, so in a float64 dot product only the additions round. In any order of summation, with or without fused
operations, their error is at most gamma_D · sum |q_i g_i| with gamma_D = D·u / (1 - D·u) and u = 2^-53 (Higham,
Accuracy and Stability of Numerical Algorithms, section 3.1), and that sum is at most ‖q‖ · ‖g‖ (Cauchy-Schwarz): 1e-13
for unit rows of 768 numbers. The exact dot product lies within this error of the float64 one, and rounding to float32
is monotonic. Where both ends of the interval round to the same float32, that is therefore the score. Where a rounding
boundary lies between them, once in about 100,000 pairs, the products are added without error and rounded once.

A float32 matrix product takes half the time of a float64 one. By the same bound with u = 2^-24 it is within 4.6e-5 of
the score. That tells most candidates from those that matter, so it serves as a filter: only the pairs that it leaves
open get float64 sums.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from cirbench.ranking.rows import norms
from cirbench.support.arrays import Ragged

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from cirbench.ranking.rows import RowSource

T = TypeVar("T", bound=np.generic)

_MARGIN = 1.001
_PAIRS = 128
"""Pairs of rows whose dot products are computed at once; their float64 copies should stay in the cache."""
_LONG, _LONGEST = 16, 1024
"""Items of a query, on average, from which on it pays to take the queries one by one; and so many of one at once."""
_WORTH_A_PRODUCT = 16
"""A sum of its own takes a pair as long as so many pairs take in a float64 product."""


@dataclasses.dataclass(frozen=True)
class BlockScores:
    """The scores of a tile of queries and a block of gallery items: approximate for all pairs, exact for any.

    Attributes:
        approximate_TB: float32; the receiver may overwrite it.
        error_T: How far an approximate score of each query is from the score, at most.
        apart: So many pairs, at most, are scored one by one; more are looked up among the scores of all.
        exact: Returns the scores of single pairs, given by their rows, ascending, and columns.
    """

    approximate_TB: NDArray[np.float32]
    error_T: NDArray[np.float64]
    apart: int
    exact: Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]]


class Workspace:
    """Arrays by name that are used again for each block: fresh pages would cost more than the arithmetic on them."""

    def __init__(self) -> None:
        self._arrays: dict[str, NDArray[Any]] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: type[T]) -> NDArray[T]:
        """Return an array with undefined content, valid until the name is asked for again."""
        size = math.prod(shape)
        if name not in self._arrays or len(self._arrays[name]) < size:
            self._arrays[name] = np.empty(size, dtype)
        return self._arrays[name][:size].reshape(shape)


def score_block(
    queries_TD: NDArray[np.float32],
    items_BD: NDArray[np.float32],
    lengths_T: NDArray[np.float64],
    workspace: Workspace,
    *,
    filtered: bool,
) -> BlockScores:
    """Score a tile of queries against a block of the gallery.

    Args:
        queries_TD: The queries.
        items_BD: The items.
        lengths_T: At least ‖q‖ · ‖g‖ for each query and any item.
        workspace: Holds the scores; they are valid until the next block is scored.
        filtered: Whether few pairs matter, so that a float32 product is worth its while.
    """

    @functools.cache
    def sums_TB() -> NDArray[np.float64]:
        sums_TB = workspace.array("sums", approximate_TB.shape, np.float64)
        wide_BD = workspace.array("wide items", items_BD.shape, np.float64)
        np.copyto(wide_BD, items_BD)
        return np.matmul(queries_TD.astype(np.float64), wide_BD.T, out=sums_TB)

    def exact(row: NDArray[np.int64], column: NDArray[np.int64]) -> NDArray[np.float32]:
        if len(row) <= apart:
            return score_pairs(queries_TD, items_BD, Ragged.of_rows(row, column, len(queries_TD)), workspace)
        return _rounded_sums(sums_TB()[row, column], lengths_T[row], queries_TD, row, items_BD, column)

    apart = len(queries_TD) * len(items_BD) // _WORTH_A_PRODUCT if filtered else 0
    approximate_TB = workspace.array("scores", (len(queries_TD), len(items_BD)), np.float32)
    if filtered:
        np.matmul(queries_TD, items_BD.T, out=approximate_TB)
    else:
        np.copyto(approximate_TB, sums_TB(), casting="same_kind")
    dtype = np.float32 if filtered else np.float64
    # The scores are rounded to float32 themselves, and a processor may flush denormal products to zero.
    relative = dot_error(queries_TD.shape[1], dtype) + float(np.finfo(np.float32).eps)
    error_T = relative * lengths_T + queries_TD.shape[1] * float(np.finfo(np.float32).tiny)
    return BlockScores(approximate_TB, error_T, apart, exact)


def score_pairs(
    queries_QD: NDArray[np.float32], rows_ND: RowSource, items: Ragged[np.int64], workspace: Workspace
) -> NDArray[np.float32]:
    """Score each query against its own items, given by their rows; flat, in the order of ``items``."""
    query, count = items.row_of_value, len(items.values)
    sums, lengths = np.empty((2, count))
    longest_query = norms(queries_QD).max(initial=0.0)
    # Many items of one query are a matrix and a vector; few items of many queries are pairs of rows.
    long = count >= _LONG * len(items)
    most = max(1, min(count, _LONGEST if long else _PAIRS))
    items_PD = workspace.array("pair items", (most, rows_ND.shape[1]), np.float32)
    wide_PD = workspace.array("wide pair items", items_PD.shape, np.float64)
    spans = itertools.pairwise(items.offsets.tolist() if long else [0, count])
    for start, stop in ((at, min(at + most, end)) for first, end in spans for at in range(first, end, most)):
        part_PD = take_rows(rows_ND, items.values[start:stop], items_PD[: stop - start])
        np.copyto(wide_PD[: stop - start], part_PD)
        if long:
            wide_PD[: stop - start].dot(queries_QD[query[start]].astype(np.float64), out=sums[start:stop])
        else:
            queries_PD = queries_QD[query[start:stop]].astype(np.float64)
            sums[start:stop] = (wide_PD[: stop - start, None, :] @ queries_PD[:, :, None])[:, 0, 0]
        # One cheap bound for all, the norm of these rows together; the 2 covers the rounding errors of the sum.
        lengths[start:stop] = math.sqrt(2 * np.vdot(part_PD, part_PD)) * longest_query
    return _rounded_sums(sums, lengths, queries_QD, query, rows_ND, items.values)


def take_rows(rows_ND: RowSource, numbers: NDArray[np.int64], out_PD: NDArray[np.float32]) -> NDArray[np.float32]:
    """Copy some rows into an array, and return it."""
    if isinstance(rows_ND, np.ndarray) and rows_ND.dtype == np.float32:
        return rows_ND.take(numbers, axis=0, out=out_PD, mode="clip")  # the default mode would copy once more
    out_PD[:] = rows_ND[numbers]
    return out_PD


def _rounded_sums(
    sums: NDArray[np.float64],
    lengths: NDArray[np.float64],
    queries_QD: NDArray[np.float32],
    query: NDArray[np.int64],
    rows_ND: RowSource,
    item: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Round the float64 dot products of pairs; the few that their error leaves open are computed exactly."""
    scores, sure = _rounded(sums, dot_error(queries_QD.shape[1], np.float64) * lengths)
    for pair in np.flatnonzero(~sure):
        row_1D = np.asarray(rows_ND[item[pair : pair + 1]], dtype=np.float32)
        scores[pair] = exact_score(queries_QD[query[pair]], row_1D[0])
    return scores


def exact_score(query_D: NDArray[np.float32], item_D: NDArray[np.float32]) -> np.float32:
    """Round the exact dot product of two float32 rows once to float32, to nearest, ties to even."""
    products_D = query_D.astype(np.float64) * item_D.astype(np.float64)
    score, sure = _rounded(products_D.sum(), dot_error(len(products_D), np.float64) * np.abs(products_D).sum())
    if sure or not np.isfinite(score):
        return np.float32(score)
    products: list[float] = products_D.tolist()
    total = math.fsum(products)
    rest = math.fsum([*products, -total])
    # Rounding twice is rounding once if the first rounding is to odd: it never lands on a boundary of the second.
    if rest and not np.float64(total).view(np.int64) & 1:
        total = math.nextafter(total, math.copysign(math.inf, rest))
    return np.float32(total)


def dot_error(dimension: int, dtype: type[np.floating]) -> float:
    """Bound the error of a dot product of unit rows summed in any order: gamma_D, and a margin for their norms."""
    error = dimension * float(np.finfo(dtype).eps) / 2
    return _MARGIN * error / (1 - error)


def _rounded(sums: NDArray[np.float64], errors: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Round to float32, and say where the error cannot change what comes out."""
    sure: NDArray[np.bool_] = (sums - errors).astype(np.float32) == (sums + errors).astype(np.float32)
    return sums.astype(np.float32), sure
