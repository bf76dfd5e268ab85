"""Rank candidates from rows that hold all their scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cirbench.ranking.order import first_of_rows, sort_keys

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cirbench.support.arrays import Ragged


def rank_rows(
    scores_TN: NDArray[np.float32],
    tie_order_N: NDArray[np.int64],
    excluded_T: NDArray[np.int64],
    wanted: Ragged[np.int64],
    depth: int,
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]]:
    """Rank the columns of each row; arguments and results are those of `cirbench.ranking.scan.scan`."""
    rows, columns = scores_TN.shape
    candidate_TN = np.arange(columns) != excluded_T[:, None]
    # One more than asked for, since one of them may turn out to be the excluded column.
    at_most = min(depth + 1, columns)
    bounds_T = np.partition(scores_TN, columns - at_most, axis=1)[:, columns - at_most]
    row, column = np.nonzero((scores_TN >= bounds_T[:, None]) & candidate_TN)
    top_TK = first_of_rows(sort_keys(scores_TN[row, column], tie_order_N[column]), row, rows, depth)

    ranks = np.empty(len(wanted.values), dtype=np.int64)
    ties = np.empty(len(wanted.values), dtype=np.int64)
    for target, (row, column) in enumerate(zip(wanted.row_of_value, wanted.values, strict=True)):
        scores_N, candidate_N = scores_TN[row], candidate_TN[row]
        equal = np.flatnonzero((scores_N == scores_N[column]) & candidate_N)
        better = np.count_nonzero((scores_N > scores_N[column]) & candidate_N)
        ranks[target] = 1 + better + np.count_nonzero(tie_order_N[equal] < tie_order_N[column])
        ties[target] = len(equal) - 1
    return top_TK, ranks, ties
