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

    from cirbench.ranking.candidates import Candidates
    from cirbench.support.arrays import Ragged

_MARGIN = 1.001
_PAIRS = 512


def dot_error(dimension: int, dtype: type[np.floating]) -> float:
    """Bound the error of a dot product of unit rows summed in any order: gamma_D, and a margin for their norms."""
    error = dimension * float(np.finfo(dtype).eps) / 2
    return _MARGIN * error / (1 - error)


def norms(rows_ND: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the Euclidean norm of each row, never too small by more than the margin of `dot_error`."""
    squares_N = np.einsum("nd,nd->n", rows_ND, rows_ND).astype(np.float64)
    lost_to_underflow = rows_ND.shape[1] * float(np.finfo(np.float32).tiny)
    norms_N: NDArray[np.float64] = np.sqrt(squares_N + lost_to_underflow)
    return norms_N


def score_pairs(
    queries_QD: NDArray[np.float32], candidates: Candidates, places: Ragged[np.int64]
) -> NDArray[np.float32]:
    """Score each query against its own candidates; flat, in the order of ``places``."""
    sums, norms_of_pairs = np.empty((2, len(places.values)))
    largest_norm = norms(queries_QD).max(initial=0.0)
    lengths_Q = places.lengths
    at_once = max(1, _PAIRS // max(1, int(lengths_Q.max(initial=0))))
    for start in range(0, len(places), at_once):
        tile = slice(start, start + at_once)
        longest = int(lengths_Q[tile].max())
        queries_TD1 = queries_QD[tile, :, None].astype(np.float64)
        for skipped in range(0, longest, _PAIRS):
            at_TP = places.offsets[:-1][tile, None] + np.arange(skipped, min(longest, skipped + _PAIRS))
            real_TP = at_TP < places.offsets[1:][tile, None]
            rows_PD = candidates.take(places.values.take(at_TP.reshape(-1), mode="clip"))
            sums_TP1 = rows_PD.astype(np.float64).reshape(*at_TP.shape, -1) @ queries_TD1
            real = at_TP[real_TP]
            sums[real] = sums_TP1[real_TP, 0]
            # One cheap bound for all, the norm of these rows together; the 2 covers the rounding errors of the sum.
            norms_of_pairs[real] = math.sqrt(2 * np.vdot(rows_PD, rows_PD)) * largest_norm
    scores, sure = _rounded(sums, dot_error(queries_QD.shape[1], np.float64) * norms_of_pairs)
    unsure = np.flatnonzero(~sure)
    for pair, query in zip(unsure, places.row_of_value[unsure], strict=True):
        scores[pair] = exact_score(queries_QD[query], candidates.take(places.values[pair : pair + 1])[0])
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


def check_finite_rows(rows_BD: NDArray[np.float32], what: str, numbers_B: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the norms of rows, and refuse rows that have none.

    Raises:
        MethodFailed: Naming the first row with NaN, infinite or enormous values by its number.
    """
    norms_B = norms(rows_BD)
    if not np.isfinite(norms_B).all():
        number = numbers_B[np.flatnonzero(~np.isfinite(norms_B))[0]]
        raise MethodFailed(
            f"The features of {what} {number} (counted from 0) hold NaN, infinite or enormous values.",
            hint="Check the image or text of this item, and the method's arithmetic.",
        )
    return norms_B


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


def _rounded(sums: NDArray[np.float64], errors: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Round to float32, and say where the error cannot change what comes out."""
    sure: NDArray[np.bool_] = (sums - errors).astype(np.float32) == (sums + errors).astype(np.float32)
    return sums.astype(np.float32), sure
