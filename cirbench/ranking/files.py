"""Rows of features read from safetensors files when they are needed, for a gallery that does not fit in memory."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from cirbench.errors import CorruptFile

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_TYPES = {"F16": np.float16, "F32": np.float32}


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
