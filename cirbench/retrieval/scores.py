"""The score of a pair: the exact dot product of its two float32 rows, rounded once to float32.

The definition leaves nothing open, so a score depends neither on batch or block sizes nor on the linear algebra
library, its threads or the machine. It is cheap to meet: a product of two float32 is exact in float64, so a float64
sum in any order is off by at most gamma_D · ‖q‖ · ‖g‖ (Higham, Accuracy and Stability of Numerical Algorithms,
section 3.1), about 1e-13 for unit rows. That decides the float32 unless a rounding boundary lies inside the error,
once in about 100,000 pairs; those few are summed without error.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from cirbench.errors import MethodFailed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cirbench.arrays import Ragged


def dot_error(dimension: int, dtype: type[np.floating]) -> float:
    """Bound the error of a dot product of unit rows summed in any order: gamma_D, and a margin for their norms."""
    error = dimension * float(np.finfo(dtype).eps) / 2
    return 1.001 * error / (1 - error)


def norms(rows_ND: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the Euclidean norm of each row in float64."""
    squares_N: NDArray[np.float64] = np.einsum("nd,nd->n", rows_ND, rows_ND, dtype=np.float64)
    return np.sqrt(squares_N)


def score_block(queries_QD: NDArray[np.float64], gallery_BD: NDArray[np.float32]) -> NDArray[np.float32]:
    """Score every query (float32 values, held as float64) against a block of the gallery, (Q, B)."""
    block_BD = gallery_BD.astype(np.float64)
    error_Q = dot_error(block_BD.shape[1], np.float64) * norms(queries_QD) * norms(block_BD).max(initial=0.0)
    sums_QB = queries_QD @ block_BD.T
    scores_QB = _rounded(sums_QB)
    unsure = _rounded(sums_QB - error_Q[:, None]) != _rounded(sums_QB + error_Q[:, None])
    for row, column in np.argwhere(unsure):
        scores_QB[row, column] = exact_score(queries_QD[row], block_BD[column])
    return scores_QB


def score_pairs(
    queries_QD: NDArray[np.float32], gallery_ND: NDArray[np.float32], columns: Ragged[np.int64]
) -> NDArray[np.float32]:
    """Score each query against its own columns of the gallery; flat, in the order of ``columns``."""
    scores = np.empty(len(columns.values), dtype=np.float32)
    for row, (start, stop) in enumerate(zip(columns.offsets[:-1], columns.offsets[1:], strict=True)):
        if start < stop:
            query_1D = queries_QD[row : row + 1].astype(np.float64)
            scores[start:stop] = score_block(query_1D, gallery_ND[columns.values[start:stop]])[0]
    return scores


def exact_score(query_D: NDArray[np.floating], item_D: NDArray[np.floating]) -> np.float32:
    """Round the exact dot product of two float32 rows once to float32, to nearest, ties to even."""
    products: list[float] = (query_D.astype(np.float64) * item_D.astype(np.float64)).tolist()
    total = math.fsum(products)
    rest = math.fsum([*products, -total])
    # Rounding twice is rounding once if the first rounding is to odd: it never lands on a boundary of the second.
    if rest and not np.float64(total).view(np.int64) & 1:
        total = math.nextafter(total, math.copysign(math.inf, rest))
    return np.float32(total)


def check_finite(scores: NDArray[np.float32], start: int = 0) -> None:
    """Refuse scores that are NaN or infinite.

    Raises:
        MethodFailed: Naming the first such query and gallery position; ``start`` is the position of column 0.
    """
    if not np.isfinite(scores).all():
        row, column = np.argwhere(~np.isfinite(scores))[0]
        raise MethodFailed(
            f"The score of query {row} and gallery item {start + column} is {scores[row, column]}.",
            hint="Scores must be finite; check the features or the method's score function.",
        )


def _rounded(sums: NDArray[np.float64]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return sums.astype(np.float32)
