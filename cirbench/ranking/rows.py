"""Rows of features: read from files when they are needed, brought to unit length, and refused where they have none."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cirbench.errors import CorruptFile, MethodFailed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_TYPES = {"F16": np.float16, "F32": np.float32}
_BLOCK = 4096


class RowSource(Protocol):
    """Rows that are sliced out when they are needed: an array, a memory map, or files."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, D)."""
        ...

    def __getitem__(self, rows: Any, /) -> NDArray[np.floating]:
        """Return the rows of a slice, or of an array of positions, in any floating type."""
        ...


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


def norms(rows_ND: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the Euclidean norm of each row, never too small by more than the margin of `scores.dot_error`."""
    squares_N = np.einsum("nd,nd->n", rows_ND, rows_ND).astype(np.float64)
    lost_to_underflow = rows_ND.shape[1] * float(np.finfo(np.float32).tiny)
    norms_N: NDArray[np.float64] = np.sqrt(squares_N + lost_to_underflow)
    return norms_N


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


class RowFiles:
    """One tensor in several safetensors files, one after the other, as one array of rows.

    Rows are read with plain reads into fresh buffers, not through a memory map, so that pages of the files do not count
    as memory of this process.

    Args:
        paths: The files, in the order of the rows.
        tensor: The name of the tensor in each.

    Raises:
        CorruptFile: A file is not a safetensors file with such a two-dimensional float tensor, or is cut short.
    """

    def __init__(self, paths: Sequence[Path], tensor: str = "features") -> None:
        self._parts = [_Part(path, tensor) for path in paths]
        widths = {part.width for part in self._parts}
        if len(widths) != 1:
            raise CorruptFile(f"The feature files {', '.join(map(str, paths))} do not have rows of one length.")
        self._starts = np.cumsum([0, *(part.rows for part in self._parts)])
        self.shape = (int(self._starts[-1]), widths.pop())

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> NDArray[np.floating[Any]]:
        """Return the rows of a slice (without a step) or of an array of positions."""
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(self.shape[0])
            return self._run(start, max(start, stop))
        wanted, back = np.unique(rows, return_inverse=True)
        runs = np.split(wanted, 1 + np.flatnonzero(np.diff(wanted) > 1)) if len(wanted) else []
        found = [self._run(int(run[0]), int(run[-1]) + 1) for run in runs]
        return np.concatenate([np.empty((0, self.shape[1]), np.float16), *found])[back]

    def _run(self, start: int, stop: int) -> NDArray[np.floating[Any]]:
        pieces = [
            part.read(max(start - first, 0), min(stop - first, part.rows))
            for part, first in zip(self._parts, self._starts.tolist(), strict=False)
            if start < first + part.rows and stop > first
        ]
        return pieces[0] if len(pieces) == 1 else np.concatenate([np.empty((0, self.shape[1]), np.float16), *pieces])


class _Part:
    def __init__(self, path: Path, tensor: str) -> None:
        self._path = path
        try:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(min(length, path.stat().st_size)))
            entry = header[tensor]
            self._type = np.dtype(_TYPES[entry["dtype"]])
            self.rows, self.width = entry["shape"]
            self._offset = 8 + length + entry["data_offsets"][0]
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptFile(f"{path} is not a safetensors file with rows of features called {tensor!r}.") from error

    def read(self, start: int, stop: int) -> NDArray[np.floating[Any]]:
        size = (stop - start) * self.width
        rows = np.fromfile(
            self._path, self._type, count=size, offset=self._offset + start * self.width * self._type.itemsize
        )
        if len(rows) != size:
            raise CorruptFile(f"{self._path} ends before its rows {start} to {stop}.")
        return rows.reshape(stop - start, self.width)
