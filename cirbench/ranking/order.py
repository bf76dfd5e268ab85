"""The order of candidates: score descending, then the item's place among ties, as one unsigned integer.

A *sort key* holds the float32 score in its high half and the tie order in its low half, so that ascending keys are
the ranking. Comparing, sorting and counting keys needs no further rule, and no two candidates share a key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T", bound=np.generic)

NO_CANDIDATE = np.uint64(np.iinfo(np.uint64).max)
"""The key of a place that holds no candidate; it sorts behind every other."""

_SIGN = np.uint32(1 << 31)


def sort_keys(scores: NDArray[np.float32], tie_order: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return keys that ascend as the ranking does; ``scores`` are finite and broadcast with ``tie_order``."""
    bits = np.ascontiguousarray(scores + np.float32(0)).view(np.uint32)  # adding zero makes -0.0 equal to 0.0
    descending = np.where(bits & _SIGN, bits, ~(bits | _SIGN))
    return (descending.astype(np.uint64) << np.uint64(32)) | tie_order.astype(np.uint64)


def key_scores(keys: NDArray[np.uint64]) -> NDArray[np.float32]:
    """Return the scores that went into keys."""
    descending = (keys >> np.uint64(32)).astype(np.uint32)
    return np.where(descending & _SIGN, descending, ~(descending | _SIGN)).view(np.float32)


def key_ties(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the tie order that went into keys."""
    return (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)


def padded(values: NDArray[T], row: NDArray[np.int64], rows: int, filling: T) -> NDArray[T]:
    """Lay values out as a table of rows, each as long as the longest; ``row`` ascends."""
    counts = np.bincount(row, minlength=rows)
    table = np.full((rows, int(counts.max(initial=0))), filling)
    table[row, np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)] = values
    return table


def first_of_rows(keys: NDArray[np.uint64], row: NDArray[np.int64], rows: int, depth: int) -> NDArray[np.uint64]:
    """Return the first ``depth`` keys of each row in ascending order, (rows, depth); ``row`` ascends."""
    table = padded(keys, row, rows, NO_CANDIDATE)
    table.sort(axis=1)
    first = np.full((rows, depth), NO_CANDIDATE)
    first[:, : table.shape[1]] = table[:, :depth]
    return first
