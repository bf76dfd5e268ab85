"""Rows of unit length, and a refusal of rows that have no direction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cirbench.errors import MethodFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def unit_rows(features_ND: NDArray[np.floating], names: Sequence[str]) -> NDArray[np.float32]:
    """L2-normalise each row, in float32.

    Args:
        features_ND: One row per name, of any floating type.
        names: What the rows stand for, to be named in messages: ``"gallery item 42"``.

    Raises:
        MethodFailed: A row holds a NaN or an infinity, or only zeros; or there is not one row per name.
    """
    if features_ND.ndim != 2 or len(features_ND) != len(names):
        raise MethodFailed(f"{len(names)} rows of features were expected, and the shape is {features_ND.shape}.")
    rows_ND = np.asarray(features_ND, dtype=np.float32)
    # The largest entry is divided out first, so that no square overflows or vanishes.
    largest_N = np.abs(rows_ND).max(axis=1, initial=0.0)
    broken_N = ~(np.isfinite(largest_N) & (largest_N > 0))
    if broken_N.any():
        first = int(np.flatnonzero(broken_N)[0])
        what = "only zeros" if largest_N[first] == 0 else "NaN or infinite values"
        others = np.count_nonzero(broken_N) - 1
        more = f" (and {others} more)" if others else ""
        raise MethodFailed(
            f"The features of {names[first]}{more} hold {what}, so they have no direction.",
            hint="Check the image or text of this item, and the method's arithmetic.",
        )
    scaled_ND: NDArray[np.float32] = rows_ND / largest_N[:, None]
    lengths_N = np.sqrt(np.einsum("nd,nd->n", scaled_ND, scaled_ND, dtype=np.float64))
    scaled_ND /= lengths_N.astype(np.float32)[:, None]
    return scaled_ND
