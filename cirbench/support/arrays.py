"""Rows of different lengths in one flat array, and reproducible ``.npz`` archives.

An archive that somebody else made may claim to hold more than the memory does. What it claims is looked at before
anything is unpacked, and every array must be exactly as large as its own header says.
"""

from __future__ import annotations

import dataclasses
import io
import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from numpy.lib import format as npy

from cirbench.errors import CorruptFile, MissingData

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

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

    @classmethod
    def of_rows(cls, row_of_value: NDArray[np.int64], values: NDArray[T], rows: int) -> Ragged[T]:
        """Take values whose rows are given, ascending."""
        return cls(values, np.searchsorted(row_of_value, np.arange(rows + 1)))

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
        """For each value, its row."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths)

    def where(self, keep: NDArray[np.bool_]) -> Ragged[T]:
        """Return the same rows with those values alone that ``keep`` says."""
        return Ragged.of_rows(self.row_of_value[keep], self.values[keep], len(self))

    def take(self, rows: NDArray[np.int64]) -> Ragged[T]:
        """Return the given rows, in the given order."""
        return Ragged(self.values[self.places(rows)], np.concatenate([[0], np.cumsum(self.lengths[rows])]))

    def places(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the places of the given rows' values in ``values``."""
        lengths = self.lengths[rows]
        shifts = self.offsets[rows] - (np.cumsum(lengths) - lengths)
        places: NDArray[np.int64] = np.arange(int(lengths.sum()), dtype=np.int64) + np.repeat(shifts, lengths)
        return places

    def like(self, values: NDArray[Any]) -> Ragged[Any]:
        """Return the same rows with other values."""
        return Ragged(values, self.offsets)


LIMIT = 1 << 30
"""Bytes of all arrays together."""

DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    tokenize.TokenError,
    ValueError,
    LookupError,
    SyntaxError,
    TypeError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    MemoryError,
    EOFError,
    RuntimeError,
)
"""What zipfile raises on damaged bytes, and numpy on array headers, which it parses as Python."""

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def to_archive(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Write arrays as a compressed ``.npz``; no date and no name of a machine goes into it."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **dict(arrays))  # type: ignore[arg-type]
    return buffer.getvalue()


def read_archive(path: Path, *, limit: int = LIMIT, hint: str | None = None) -> dict[str, NDArray[Any]]:
    """Read every array of an ``.npz``.

    Args:
        path: The archive.
        limit: Of the arrays together, in bytes.
        hint: What helps against damage.

    Raises:
        MissingData: It cannot be read.
        CorruptFile: It is damaged, holds something else than plain arrays, or is larger than ``limit``.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > limit:
                raise CorruptFile(f"{path} unpacks to more than {limit:,} bytes, and is not read.", hint=hint)
            return {member.filename.removesuffix(".npy"): _array(archive, member) for member in members}
    except OSError as error:
        raise MissingData(f"{path} cannot be read: {error.strerror or error}.") from error
    except DAMAGE as error:
        raise CorruptFile(f"{path} is damaged: {error}.", hint=hint) from error


def array_headers(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Return shape and type of each array of an ``.npz``, without reading the arrays; raises what is in `DAMAGE`."""
    found = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            with archive.open(member) as file:
                shape, _, dtype = _HEADERS[npy.read_magic(file)](file)
            found[member.filename.removesuffix(".npy")] = shape, dtype
    return found


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(member) as file:
        content = file.read()
    stream = io.BytesIO(content)
    shape, _, dtype = _HEADERS[npy.read_magic(stream)](stream)
    if dtype.hasobject or any(side < 0 for side in shape):
        raise ValueError(f"{member.filename} is not a plain array")
    if len(content) - stream.tell() != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{member.filename} is not as large as its header says")
    return npy.read_array(io.BytesIO(content), allow_pickle=False)
