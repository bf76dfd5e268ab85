"""What a query may rank: the whole gallery or a part of it, given out in blocks of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class RowSource(Protocol):
    """Rows that are sliced out when they are needed: an array, a memory map, or files."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, D)."""
        ...

    def __getitem__(self, rows: Any, /) -> NDArray[np.floating]:
        """Return the rows of a slice, or of an array of positions, in any floating type."""
        ...


class Candidates:
    """The items of one pool, known by their place in it.

    Args:
        gallery_ND: All rows.
        tie_order_N: Of the gallery's items.
        pool: The gallery positions that are candidates; ``None`` for all.
    """

    def __init__(
        self, gallery_ND: RowSource, tie_order_N: NDArray[np.int64], pool: NDArray[np.int64] | None = None
    ) -> None:
        self._gallery_ND = gallery_ND
        self._pool = pool
        self.tie_order = tie_order_N if pool is None else tie_order_N[pool]

    def __len__(self) -> int:
        return len(self.tie_order)

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return the features of a run of candidates."""
        part = slice(start, min(stop, len(self)))
        return np.ascontiguousarray(self._gallery_ND[part if self._pool is None else self._pool[part]], np.float32)

    def take(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the features of single candidates."""
        return np.ascontiguousarray(self._gallery_ND[places if self._pool is None else self._pool[places]], np.float32)

    def places(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Translate gallery positions to places in the pool; -1 for what is not a candidate, and for -1."""
        if self._pool is None:
            return positions
        order = np.argsort(self._pool, kind="stable")
        ascending = self._pool[order]
        at = np.minimum(np.searchsorted(ascending, positions), len(ascending) - 1)
        return np.where(ascending[at] == positions, order[at], -1)

    def positions(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Translate places in the pool to gallery positions."""
        return places if self._pool is None else self._pool[places]
