"""Rank candidates from rows that hold all their scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cirbench.retrieval.order import NO_CANDIDATE, sort_keys
from cirbench.retrieval.task import UNRANKED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cirbench.arrays import Ragged


def first_keys(
    scores_QN: NDArray[np.float32], tie_order_N: NDArray[np.int64], excluded_Q: NDArray[np.int64], depth: int
) -> NDArray[np.uint64]:
    """Return the sort keys of the best candidates of each row, (Q, depth), best first.

    Args:
        scores_QN: Finite scores.
        tie_order_N: Of the columns.
        excluded_Q: The column of each row that is no candidate, or -1.
        depth: How many to keep; rows with fewer candidates are filled with `NO_CANDIDATE`.
    """
    rows, columns = scores_QN.shape
    # One more than asked for, since one of them may turn out to be the excluded column.
    at_most = min(depth + 1, columns)
    bounds_Q = np.partition(scores_QN, columns - at_most, axis=1)[:, columns - at_most]
    row, column = np.nonzero(scores_QN >= bounds_Q[:, None])
    candidate = column != excluded_Q[row]
    row, column = row[candidate], column[candidate]
    return packed(row, sort_keys(scores_QN[row, column], tie_order_N[column]), rows, depth)


def packed(row: NDArray[np.int64], keys: NDArray[np.uint64], rows: int, depth: int) -> NDArray[np.uint64]:
    """Sort the keys of each row (``row`` ascends) and keep ``depth`` of them, (rows, depth)."""
    counts = np.bincount(row, minlength=rows)
    starts = np.cumsum(counts) - counts
    width = max(depth, int(counts.max(initial=0)))
    table = np.full((rows, width), NO_CANDIDATE)
    table[row, np.arange(len(row)) - starts[row]] = keys
    table.sort(axis=1)
    return table[:, :depth]


def exact_ranks(
    scores_QN: NDArray[np.float32],
    tie_order_N: NDArray[np.int64],
    excluded_Q: NDArray[np.int64],
    wanted: Ragged[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the 1-based rank of each wanted column among its row's candidates, and how many others tie with it.

    A wanted column of -1, or one that is excluded, is `UNRANKED`.
    """
    ranks = np.full(len(wanted.values), UNRANKED, dtype=np.int64)
    ties = np.zeros(len(wanted.values), dtype=np.int64)
    for row, (start, stop) in enumerate(zip(wanted.offsets[:-1], wanted.offsets[1:], strict=True)):
        scores_N, excluded = scores_QN[row], excluded_Q[row]
        for place in range(start, stop):
            column = wanted.values[place]
            if column in (-1, excluded):
                continue
            equal = np.flatnonzero(scores_N == scores_N[column])
            equal = equal[equal != excluded]
            better = np.count_nonzero(scores_N > scores_N[column])
            if excluded >= 0:
                better -= int(scores_N[excluded] > scores_N[column])
            ranks[place] = 1 + better + np.count_nonzero(tie_order_N[equal] < tie_order_N[column])
            ties[place] = len(equal) - 1
    return ranks, ties
