"""Find and count the few entries of a large block of float32 scores that pass a bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def below(bounds: NDArray[np.float64]) -> NDArray[np.float32]:
    """Round down, strictly, to float32."""
    return np.nextafter(bounds.astype(np.float32), np.float32(-np.inf))


def above(bounds: NDArray[np.float64]) -> NDArray[np.float32]:
    """Round up, strictly, to float32."""
    return np.nextafter(bounds.astype(np.float32), np.float32(np.inf))


def passing(passes_TB: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows and columns of the true entries, row by row; looks at eight at a time, so B is a multiple of 8."""
    words = passes_TB.view(np.uint64).reshape(-1)
    found = np.flatnonzero(words)
    word, byte = np.nonzero(passes_TB.reshape(-1, 8)[found])
    row, column = np.divmod(found[word] * 8 + byte, passes_TB.shape[1])
    return row, column


def row_counts(passes_TB: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count the true entries of each row; adds eight byte lanes at a time, so B is a multiple of 1024."""
    lanes = passes_TB.view(np.uint64).reshape(len(passes_TB), -1, 128).sum(axis=2)
    counts_T: NDArray[np.int64] = lanes.view(np.uint8).sum(axis=1, dtype=np.int64)
    return counts_T
