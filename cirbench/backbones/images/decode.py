"""Decoding: an image is read whole, or it is an error that names the file.

Pixels come back in the mode they were stored in, and EXIF orientation is not applied: what happens to mode and
orientation is a matter of the declared preprocessing (`cirbench.backbones.images.preprocess`).
"""

from __future__ import annotations

import dataclasses
import functools
import io
from typing import TYPE_CHECKING

from PIL import Image, ImageFile, UnidentifiedImageError

from cirbench.errors import CheckFailed, CorruptFile, MissingData
from cirbench.support.files import sha256_of_file

if TYPE_CHECKING:
    from pathlib import Path

MAX_PIXELS = 1 << 27
"""134 million pixels, more than any camera of the benchmarks; a larger image is taken for a decompression bomb."""


def decode(path: Path) -> Image.Image:
    """Read an image whole, in its original mode; of an animation, the first frame.

    Raises:
        MissingData: The file is absent or cannot be read.
        CorruptFile: The file is empty, truncated, undecodable, or larger than `MAX_PIXELS`.
        CheckFailed: Pillow is configured to fill truncated images with grey.
    """
    return _decode(path, str(path))


def decode_bytes(content: bytes, name: str) -> Image.Image:
    """Read an image whole from the bytes of its file, like `decode`; ``name`` is what messages call it."""
    return _decode(io.BytesIO(content), name)


def _decode(file: Path | io.BytesIO, name: str) -> Image.Image:
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise CheckFailed(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on, so truncated images would be filled with grey in silence.",
            hint="Some imported library set it: set it back to False.",
        )
    try:
        with Image.open(file) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise _too_large(name)
            image.load()
            return image
    except (CorruptFile, MemoryError):
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise MissingData(f"The image {name} does not exist.") from None
    except (PermissionError, IsADirectoryError) as error:
        raise MissingData(f"The image {name} cannot be read: {error.strerror}.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(name) from error
    except UnidentifiedImageError as error:
        why = "it is empty" if _is_empty(file) else "it is not an image in a known format"
        raise CorruptFile(f"The image {name} cannot be decoded: {why}.", hint=_FETCH_AGAIN) from error
    except Exception as error:  # Pillow's decoders raise whatever their format's parser meets
        raise CorruptFile(f"The image {name} cannot be decoded whole: {error}.", hint=_FETCH_AGAIN) from error


_FETCH_AGAIN = "Fetch or copy the file again; nothing is skipped or filled in."


def _is_empty(file: Path | io.BytesIO) -> bool:
    return not (file.getbuffer().nbytes if isinstance(file, io.BytesIO) else file.stat().st_size)


def _too_large(name: str) -> CorruptFile:
    return CorruptFile(
        f"The image {name} has more than {MAX_PIXELS:,} pixels and is taken for a decompression bomb.",
        hint="Scale it down, or replace it with the image that the data set describes.",
    )


@dataclasses.dataclass(frozen=True, slots=True)
class FileImage:
    """An image in a file of its own; an `ImageSource`."""

    path: Path

    @property
    def content(self) -> str:
        """Sha256 of the file's bytes.

        Raises:
            MissingData: The file is absent or cannot be read.
        """
        try:
            status = self.path.stat()
            return _sha256(self.path, status.st_size, status.st_mtime_ns)
        except FileNotFoundError:
            raise MissingData(f"The image {self.path} does not exist.") from None
        except OSError as error:
            raise MissingData(f"The image {self.path} cannot be read: {error.strerror}.") from error

    def open(self) -> Image.Image:
        """Decode the image; see `decode`."""
        return decode(self.path)

    def __str__(self) -> str:
        return str(self.path)


@functools.lru_cache(maxsize=1 << 18)
def _sha256(path: Path, size: int, modified_ns: int) -> str:  # size and time are the key: a changed file is read again
    return sha256_of_file(path)
