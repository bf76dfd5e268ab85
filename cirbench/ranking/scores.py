"""The score of a pair: the exact dot product of its two float32 rows, rounded once to float32, ties to even.

The definition leaves nothing open, so a score depends neither on batch or block sizes nor on the linear algebra
library, its threads or the machine. It is also cheap to compute. The product of two float32 numbers is exact in
float64, so in a float64 dot product only the additions round. In any order of summation, with or without fused
operations, their error is at most gamma_D · sum |q_i g_i| with gamma_D = D·u / (1 - D·u) and u = 2^-53 (Higham,
Accuracy and Stability of Numerical Algorithms, section 3.1), and that sum is at most ‖q‖ · ‖g‖ (Cauchy-Schwarz): 1e-13
for unit rows of 768 numbers. The exact dot product lies within this error of the float64 one, and rounding to float32
is monotonic. Where both ends of the interval round to the same float32, that is therefore the score. Where a rounding
boundary lies between them, once in about 100,000 pairs, the products are added without error and rounded once.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from cirbench.ranking.rows import RowSource
    from cirbench.support.arrays import Ragged

T = TypeVar("T", bound=np.generic)

_MARGIN = 1.001
_PAIRS = 256
"""Pairs of rows whose dot products are computed at once."""


@dataclasses.dataclass(frozen=True)
class BlockScores:
    """The scores of a tile of queries and a block of gallery items: approximate for all pairs, exact for any.

    Attributes:
        approximate_TB: float32; the receiver may overwrite it.
        error_T: How far an approximate score of each query is from the score, at most.
        exact: Returns the scores of single pairs, given by their rows and columns.
        precise: Whether ``exact`` costs no more than looking them up.
    """

    approximate_TB: NDArray[np.float32]
    error_T: NDArray[np.float64]
    exact: Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]]
    precise: bool


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

    def rows(self, name: str, rows_ND: RowSource, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return a float32 copy of some rows."""
        copy_PD = self.array(name, (len(numbers), rows_ND.shape[1]), np.float32)
        if isinstance(rows_ND, np.ndarray) and rows_ND.dtype == np.float32:
            return rows_ND.take(numbers, axis=0, out=copy_PD, mode="clip")  # the default mode would copy once more
        copy_PD[:] = rows_ND[numbers]
        return copy_PD

    def float64(self, name: str, rows_ND: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return a copy in float64."""
        wide_ND = self.array(name, rows_ND.shape, np.float64)
        np.copyto(wide_ND, rows_ND)
        return wide_ND


def product_scores(
    queries_TD: NDArray[np.float32],
    items_BD: NDArray[np.float32],
    lengths_T: NDArray[np.float64],
    workspace: Workspace,
) -> BlockScores:
    """Score a block by a float64 matrix product.

    Args:
        queries_TD: A tile of queries.
        items_BD: A block of the gallery.
        lengths_T: At least ‖q‖ · ‖g‖ for each query and any item.
        workspace: Holds the scores; they are valid until the next block is scored.
    """
    sums_TB = product_sums(queries_TD, items_BD, workspace)
    rounded_TB = workspace.array("scores", sums_TB.shape, np.float32)
    np.copyto(rounded_TB, sums_TB, casting="same_kind")

    def exact(row: NDArray[np.int64], column: NDArray[np.int64]) -> NDArray[np.float32]:
        return rounded_sums(sums_TB[row, column], lengths_T[row], queries_TD, row, items_BD, column)

    return BlockScores(rounded_TB, score_error(queries_TD.shape[1], np.float64, lengths_T), exact, precise=True)


def product_sums(
    queries_TD: NDArray[np.float32], items_BD: NDArray[np.float32], workspace: Workspace
) -> NDArray[np.float64]:
    """Return the float64 dot products of a block, valid until those of the next block are asked for."""
    sums_TB = workspace.array("sums", (len(queries_TD), len(items_BD)), np.float64)
    wide_TD, wide_BD = workspace.float64("queries", queries_TD), workspace.float64("items", items_BD)
    return np.matmul(wide_TD, wide_BD.T, out=sums_TB)


def score_pairs(
    queries_QD: NDArray[np.float32], rows_ND: RowSource, items: Ragged[np.int64], workspace: Workspace
) -> NDArray[np.float32]:
    """Score each query against its own items, given by their rows; flat, in the order of ``items``."""
    sums, lengths = np.empty((2, len(items.values)))
    counts_Q = items.lengths
    longest_query = norms(queries_QD).max(initial=0.0)
    by_count = np.argsort(-counts_Q, kind="stable")  # queries that are scored together then have about as many items
    start, stop = 0, np.count_nonzero(counts_Q)
    while start < stop:
        most = int(counts_Q[by_count[start]])
        tile = by_count[start : min(stop, start + max(1, _PAIRS // most))]
        wide_TD1 = queries_QD[tile, :, None].astype(np.float64)
        for skipped in range(0, most, _PAIRS):
            # Each query of the tile is given as many items as the first one; what is too much is not read off.
            at_TP = items.offsets[tile, None] + np.arange(skipped, min(most, skipped + _PAIRS))
            real_TP = at_TP < items.offsets[tile + 1, None]
            items_PD = workspace.rows("pairs", rows_ND, items.values.take(at_TP.reshape(-1), mode="clip"))
            wide_TPD = workspace.float64("wide pairs", items_PD).reshape(*at_TP.shape, -1)
            real = at_TP[real_TP]
            sums[real] = (wide_TPD @ wide_TD1)[real_TP, 0]
            # One cheap bound for all, the norm of these rows together; the 2 covers the rounding errors of the sum.
            lengths[real] = math.sqrt(2 * np.vdot(items_PD, items_PD)) * longest_query
        start += len(tile)
    return rounded_sums(sums, lengths, queries_QD, items.row_of_value, rows_ND, items.values)


def rounded_sums(
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


def score_error(dimension: int, dtype: type[np.floating], lengths_T: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bound how far a dot product in ``dtype``, rounded to float32, is from the score; denormals may be flushed."""
    relative = dot_error(dimension, dtype) + float(np.finfo(np.float32).eps)
    return relative * lengths_T + dimension * float(np.finfo(np.float32).tiny)


def norms(rows_ND: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the Euclidean norm of each row, never too small by more than the margin of `dot_error`."""
    squares_N = np.einsum("nd,nd->n", rows_ND, rows_ND).astype(np.float64)
    lost_to_underflow = rows_ND.shape[1] * float(np.finfo(np.float32).tiny)
    norms_N: NDArray[np.float64] = np.sqrt(squares_N + lost_to_underflow)
    return norms_N


def _rounded(sums: NDArray[np.float64], errors: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Round to float32, and say where the error cannot change what comes out."""
    sure: NDArray[np.bool_] = (sums - errors).astype(np.float32) == (sums + errors).astype(np.float32)
    return sums.astype(np.float32), sure
