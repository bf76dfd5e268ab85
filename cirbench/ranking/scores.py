"""Rows of features at unit length, and the score of a pair of them.

The score of a pair is the exact dot product of its two float32 rows, rounded once to float32, ties to even. The
definition leaves nothing open, so a score depends neither on batch or block sizes nor on the linear algebra library,
its threads or the machine. It is also cheap to compute. The product of two float32 numbers is exact in float64, so in a
float64 dot product only the additions round. In any order of summation, with or without fused operations, their error
is at most gamma_D · sum |q_i g_i| with gamma_D = D·u / (1 - D·u) and u = 2^-53 (Higham, Accuracy and Stability of
Numerical Algorithms, section 3.1), and that sum is at most ‖q‖ · ‖g‖ (Cauchy-Schwarz): 1e-13 for unit rows of 768
numbers. The exact dot product lies within this error of the float64 one, and rounding to float32 is monotonic. Where
both ends of the interval round to the same float32, that is therefore the score. Where a rounding boundary lies between
them, once in about 100,000 pairs, the products are added without error and rounded once.

A float32 matrix product takes half the time of a float64 one. By the same bound with u = 2^-24 it is within 4.6e-5 of
the score. That tells most candidates from those that matter, so it serves as a filter: only the pairs that it leaves
open get float64 sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cirbench.errors import MethodFailed
from cirbench.support.device import Arriving, send

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch
    from numpy.typing import NDArray

PAIRS = 256
"""Pairs of rows whose dot products are computed at once; their float64 copies should stay in the cache."""
OPEN = 16
"""Where more than one pair in so many is open, a float64 product of all pairs costs less than a sum for each."""
_BLOCK = 4096


class RowSource(Protocol):
    """Rows that are sliced out when they are needed: an array, a memory map, or files."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, D)."""
        ...

    def __getitem__(self, rows: Any, /) -> NDArray[np.floating]:
        """Return the rows of a slice, or of an array of positions, in any floating type."""
        ...


def unit_rows(features_ND: NDArray[np.floating], names: Sequence[str]) -> NDArray[np.float32]:
    """L2-normalise each row, read as float32, in float64, and round it to float32; a row depends on itself alone.

    Args:
        features_ND: One row per name, of any floating type.
        names: What the rows stand for, as messages should name them: ``"gallery item 42"``.

    Raises:
        MethodFailed: A row holds a NaN or an infinity, or only zeros; or there is not one row per name.
    """
    if features_ND.ndim != 2 or len(features_ND) != len(names):
        raise MethodFailed(f"{len(names)} rows of features were expected, and the shape is {features_ND.shape}.")
    units_ND = np.empty(features_ND.shape, dtype=np.float32)
    for start in range(0, len(names), _BLOCK):
        block_BD = _as_float32(features_ND[start : start + _BLOCK]).astype(np.float64)
        lengths_B = np.sqrt(np.add.reduce(block_BD * block_BD, axis=1))
        if not (np.isfinite(lengths_B) & (lengths_B > 0)).all():
            raise _without_direction(_as_float32(features_ND), names)
        units_ND[start : start + _BLOCK] = block_BD / lengths_B[:, None]
    return units_ND


class UnitRows:
    """The rows of a source, L2-normalised as they are given out.

    Args:
        rows_ND: Where the rows come from.
        names: What they stand for, in messages.
    """

    def __init__(self, rows_ND: RowSource, names: Sequence[str]) -> None:
        self._rows_ND = rows_ND
        self._names = names
        self.shape = rows_ND.shape

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the unit rows of a slice or of an array of positions."""
        names = self._names[rows] if isinstance(rows, slice) else [self._names[row] for row in rows.tolist()]
        return unit_rows(self._rows_ND[rows], names)


@np.errstate(over="ignore")  # a number too large for float32 becomes infinite, and is refused as such
def _as_float32(features_ND: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.asarray(features_ND, dtype=np.float32)


def _without_direction(features_ND: NDArray[np.float32], names: Sequence[str]) -> MethodFailed:
    largest_N = np.abs(features_ND).max(axis=1)
    broken = np.flatnonzero(~np.isfinite(largest_N) | (largest_N == 0))
    what = "only zeros" if largest_N[broken[0]] == 0 else "NaN or infinite values"
    more = f" (and of {len(broken) - 1} more)" if len(broken) > 1 else ""
    return MethodFailed(
        f"The features of {names[broken[0]]}{more} hold {what}, so they have no direction.",
        hint="Check the image or text of this item, and the method's arithmetic.",
    )


def norms(rows_ND: NDArray[np.float32], what: str, numbers_N: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the Euclidean norm of each row, never too small by more than the margin of `dot_error`.

    Raises:
        MethodFailed: Naming the first row with NaN, infinite or enormous values as ``what`` and by its number.
    """
    squares_N = np.einsum("nd,nd->n", rows_ND, rows_ND).astype(np.float64)
    norms_N: NDArray[np.float64] = np.sqrt(squares_N + rows_ND.shape[1] * float(np.finfo(np.float32).tiny))
    if not np.isfinite(norms_N).all():
        number = numbers_N[np.flatnonzero(~np.isfinite(norms_N))[0]]
        raise MethodFailed(
            f"The features of {what} {number} (counted from 0) hold NaN, infinite or enormous values.",
            hint="Check the image or text of this item, and the method's arithmetic.",
        )
    return norms_N


Product = Callable[["NDArray[np.float32]", "NDArray[np.float32]"], "NDArray[np.float32]"]
"""Approximate dot products of queries and items, (T, D) and (B, D) to (T, B), in any order of float32 sums."""


def product_here(queries_TD: NDArray[np.float32], items_BD: NDArray[np.float32]) -> NDArray[np.float32]:
    """Multiply by NumPy."""
    products_TB = np.empty((len(queries_TD), len(items_BD)), dtype=np.float32)
    np.matmul(queries_TD, items_BD.T, out=products_TB)
    return products_TB


def product_on(device: torch.device) -> Product:
    """Multiply on a device of torch, without TF32, whose rounding the error bound does not cover."""
    import torch

    def product(queries_TD: NDArray[np.float32], items_BD: NDArray[np.float32]) -> NDArray[np.float32]:
        writable = (np.require(rows, requirements="W") for rows in (queries_TD, items_BD))
        left, right = (send(torch.from_numpy(rows), device) for rows in writable)
        matmul = torch.backends.cuda.matmul
        before, matmul.allow_tf32 = matmul.allow_tf32, False
        try:
            return Arriving(left @ right.T).read().numpy()
        finally:
            matmul.allow_tf32 = before

    return product


class Block:
    """The scores of a tile of queries and a block of gallery items: approximate for all pairs, exact for any.

    Args:
        queries_TD: The queries.
        items_BD: The items.
        lengths_T: At least ‖q‖ · ‖g‖ for each query and any item.
        product: Multiplies them.

    Attributes:
        approximate_TB: float32; the receiver may overwrite it.
        error_T: How far an approximate score of each query is from the score, at most.
    """

    def __init__(
        self,
        queries_TD: NDArray[np.float32],
        items_BD: NDArray[np.float32],
        lengths_T: NDArray[np.float64],
        product: Product = product_here,
    ) -> None:
        self._queries_TD, self._items_BD, self._lengths_T = queries_TD, items_BD, lengths_T
        self._sums_TB: NDArray[np.float64] | None = None
        self.approximate_TB = product(queries_TD, items_BD)
        # The scores are rounded to float32 themselves, and a processor may flush denormal products to zero.
        relative = dot_error(queries_TD.shape[1], np.float32) + float(np.finfo(np.float32).eps)
        self.error_T = relative * lengths_T + queries_TD.shape[1] * float(np.finfo(np.float32).tiny)

    def exact(self, row: NDArray[np.int64], column: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the scores of single pairs, given by their rows, ascending, and columns."""
        if len(row) <= self.approximate_TB.size // OPEN:
            return score_pairs(self._queries_TD, row, self._items_BD, column)
        if self._sums_TB is None:
            self._sums_TB = np.empty(self.approximate_TB.shape)
            wide_TD, wide_BD = self._queries_TD.astype(np.float64), self._items_BD.astype(np.float64)
            np.matmul(wide_TD, wide_BD.T, out=self._sums_TB)
        scores, sure = _rounded(
            self._sums_TB[row, column], dot_error(self._items_BD.shape[1], np.float64) * self._lengths_T[row]
        )
        for pair in np.flatnonzero(~sure):
            scores[pair] = exact_score(self._queries_TD[row[pair]], self._items_BD[column[pair]])
        return scores


def score_pairs(
    queries_QD: NDArray[np.float32], query: NDArray[np.int64], rows_ND: RowSource, item: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return the scores of single pairs, given by the numbers of their rows; those of the queries ascend.

    Raises:
        MethodFailed: An item's features are NaN, infinite or enormous; it is named by its number.
    """
    sums, lengths = np.empty((2, len(query)))
    own = query[np.diff(query, prepend=-1) > 0]
    longest = norms(queries_QD[own], "query", own).max(initial=0.0)
    for pairs_CX in _batches(query):
        items_PD = np.asarray(rows_ND[item[pairs_CX].ravel()], dtype=np.float32)
        # One cheap bound for all, the norm of these rows together; the 2 covers the rounding errors of the sum, and the
        # rest the squares that are too small for float32.
        together = math.sqrt(2 * np.vdot(items_PD, items_PD) + items_PD.size * float(np.finfo(np.float32).tiny))
        if not math.isfinite(together):
            norms(items_PD, "gallery item", item[pairs_CX].ravel())
        queries_CD1 = queries_QD[query[pairs_CX[:, 0]]].astype(np.float64)[:, :, None]
        sums[pairs_CX] = (items_PD.astype(np.float64).reshape(*pairs_CX.shape, -1) @ queries_CD1)[:, :, 0]
        lengths[pairs_CX] = longest * together
    scores, sure = _rounded(sums, dot_error(queries_QD.shape[1], np.float64) * lengths)
    for pair in np.flatnonzero(~sure):
        row_1D = np.asarray(rows_ND[item[pair : pair + 1]], dtype=np.float32)
        scores[pair] = exact_score(queries_QD[query[pair]], row_1D[0])
    return scores


def _batches(query: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Split pairs into tables with the pairs of one query in a row; where it has fewer, its last is repeated."""
    starts = np.flatnonzero(np.diff(query, prepend=-1))
    counts = np.diff(starts, append=len(query))
    order = np.argsort(-counts, kind="stable")
    at = 0
    while at < len(order):
        longest = counts[order[at]]
        some = order[at : at + max(1, PAIRS // longest)]
        at += len(some)
        for first in range(0, longest, 4 * PAIRS):
            columns = np.arange(first, min(first + 4 * PAIRS, longest))
            yield starts[some, None] + np.minimum(columns, counts[some, None] - 1)


def exact_score(query_D: NDArray[np.float32], item_D: NDArray[np.float32]) -> np.float32:
    """Round the exact dot product of two float32 rows once to float32, to nearest, ties to even."""
    products_D = query_D.astype(np.float64) * item_D.astype(np.float64)
    score, sure = _rounded(products_D.sum(), dot_error(len(products_D), np.float64) * np.abs(products_D).sum())
    if sure:
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
    return 1.001 * error / (1 - error)


def _rounded(sums: NDArray[np.float64], errors: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Round to float32, and say where the error cannot change what comes out."""
    sure: NDArray[np.bool_] = (sums - errors).astype(np.float32) == (sums + errors).astype(np.float32)
    return sums.astype(np.float32), sure
