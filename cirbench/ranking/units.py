"""Rows of unit length, and a refusal of rows that have no direction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cirbench.errors import MethodFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cirbench.ranking.candidates import RowSource

_BLOCK = 4096


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
