"""Metrics as pure functions on 1-based ranks; each gives one fraction per query, NaN where it has no answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cirbench.support.arrays import Ragged


def recall_at(ranks_Q: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Say for each query whether its target is among the first ``k``: 1.0 or 0.0."""
    return (ranks_Q <= k).astype(np.float64)


def average_precision_at(ranks: Ragged[np.int64], k: int) -> NDArray[np.float64]:
    """Return the average precision over the first ``k`` candidates of each query.

    AP@K = 1/min(n, K) · sum of the precision at each of the n ground truths found in the first K; the denominator
    is CIRCO's (Baldrati et al., ICCV 2023, section 5.1), not the number of all ground truths as in TREC's evaluation.

    Args:
        ranks: Per query, the ranks of all its ground truths, in any order.
        k: The cut-off.

    Returns:
        (Q,) fractions; NaN for a query without ground truths.
    """
    row = ranks.row_of_value
    ascending = ranks.values[np.lexsort((ranks.values, row))]
    found_so_far = 1 + np.arange(len(row)) - ranks.offsets[row]
    precision = np.where(ascending <= k, found_so_far / ascending, 0.0)
    total_Q = np.bincount(row, weights=precision, minlength=len(ranks))
    attainable_Q = np.minimum(ranks.lengths, k).astype(np.float64)
    values_Q = np.full(len(ranks), np.nan)
    np.divide(total_Q, attainable_Q, out=values_Q, where=attainable_Q > 0)
    return values_Q


def fractional_recall_at(ranks: Ragged[np.int64], k: int) -> NDArray[np.float64]:
    """Return the share of each query's ground truths that is among the first ``k``; 0.0 where it has none.

    Pic2Word's public evaluation (Saito et al., CVPR 2023) also counts queries without ground truths as 0. It adds 1e-5
    to the number of ground truths, which moves no value by more than its 1e-5th part, and is left out here.
    """
    found_Q = np.bincount(ranks.row_of_value, weights=ranks.values <= k, minlength=len(ranks))
    return found_Q / np.maximum(ranks.lengths, 1)


def hit_at(ranks: Ragged[np.int64], k: int) -> NDArray[np.float64]:
    """Say for each query whether any of its ground truths is among the first ``k``: 1.0 or 0.0, also without any."""
    found_Q = np.bincount(ranks.row_of_value, weights=ranks.values <= k, minlength=len(ranks))
    return (found_Q > 0).astype(np.float64)


def soft_recall_at(ranks: Ragged[np.int64], gains: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Return the largest gain among the first ``k`` candidates of each query, and at least 0.0.

    Args:
        ranks: Per query, the ranks of all its soft targets.
        gains: The soft label of each, in the order of ``ranks.values``.
        k: The cut-off.
    """
    values_Q = np.zeros(len(ranks))
    np.maximum.at(values_Q, ranks.row_of_value, np.where(ranks.values <= k, gains, 0.0))
    return values_Q


def target_ranks(ranks: Ragged[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the rank of each query's target, its first ground truth, and which queries have one."""
    labelled_Q = ranks.lengths > 0
    ranks_Q = np.zeros(len(ranks), dtype=np.int64)
    ranks_Q[labelled_Q] = ranks.values[ranks.offsets[:-1][labelled_Q]]
    return ranks_Q, labelled_Q
