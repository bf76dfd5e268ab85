"""Arrays in an ``.npz`` archive: written the same for the same content, read only up to a size.

An archive that somebody else made may claim to hold more than the memory does. What it claims is looked at before
anything is unpacked, and every array must be exactly as large as its own header says.
"""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy

from cirbench.errors import CorruptFile, MissingData

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

LIMIT = 1 << 30
"""Bytes of all arrays together."""

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
    except (zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError, EOFError, zlib.error, KeyError) as error:
        raise CorruptFile(f"{path} is damaged: {error}.", hint=hint) from error


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(member) as file:
        content = file.read()
    stream = io.BytesIO(content)
    shape, _, dtype = _HEADERS[npy.read_magic(stream)](stream)
    if dtype.hasobject or any(side < 0 for side in shape):
        raise ValueError(f"{member.filename} is no plain array")
    if len(content) - stream.tell() != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{member.filename} is not as large as its header says")
    return npy.read_array(io.BytesIO(content), allow_pickle=False)
