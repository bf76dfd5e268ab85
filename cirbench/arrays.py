"""Rows of different lengths in one flat array, and unit rows."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

T = TypeVar("T", bound=np.generic)


@dataclasses.dataclass(frozen=True)
class Ragged(Generic[T]):
    """Rows of different lengths: row ``i`` is ``values[offsets[i]:offsets[i + 1]]``.

    Attributes:
        values: All rows, one after the other.
        offsets: int64, one more than there are rows, starting at 0.
    """

    values: NDArray[T]
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Sequence[Sequence[Any]], dtype: type[T]) -> Ragged[T]:
        """Flatten ``rows``."""
        lengths = np.fromiter((len(row) for row in rows), dtype=np.int64, count=len(rows))
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
        flat = np.fromiter((value for row in rows for value in row), dtype=dtype, count=int(offsets[-1]))
        return cls(flat, offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> NDArray[T]:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def __iter__(self) -> Iterator[NDArray[T]]:
        return (self[row] for row in range(len(self)))

    @property
    def lengths(self) -> NDArray[np.int64]:
        """How many values each row holds."""
        return np.diff(self.offsets)

    @property
    def row_of_value(self) -> NDArray[np.int64]:
        """For each value, the row it stands in."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths)

    def take(self, rows: NDArray[np.int64]) -> Ragged[T]:
        """Return the given rows, in the given order."""
        return Ragged(self.values[self.places(rows)], np.concatenate([[0], np.cumsum(self.lengths[rows])]))

    def places(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where the values of the given rows stand in ``values``."""
        lengths = self.lengths[rows]
        shifts = self.offsets[rows] - (np.cumsum(lengths) - lengths)
        places: NDArray[np.int64] = np.arange(int(lengths.sum()), dtype=np.int64) + np.repeat(shifts, lengths)
        return places

    def like(self, values: NDArray[Any]) -> Ragged[Any]:
        """Return the same rows with other values."""
        return Ragged(values, self.offsets)
