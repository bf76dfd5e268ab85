"""Decoding: an image is read whole, or it is an error that names the file.

Pixels come back in the mode they were stored in, and EXIF orientation is not applied: what happens to mode and
orientation is a matter of the declared preprocessing (`cirbench.backbones.images.preprocess`). Only depth is settled
here: 16 bits a channel become 8 by their upper byte, grey as well as RGB, since every later step would clip them to
white; numbers of no declared range (32-bit integers, floats) are refused by name.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import os
from typing import TYPE_CHECKING

import numpy as np

from cirbench.errors import CheckFailed, CorruptFile, MissingData, excerpt, excerpt_of_path
from cirbench.support import memo
from cirbench.support.textfiles import HEAD, placeholder

# Pillow is imported where an image is opened: lists are scored, and finished runs shown, without.
if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

MAX_PIXELS = 1 << 27
"""134 million pixels, more than any camera of the benchmarks; a larger image is taken for a decompression bomb."""


_PREFERRED = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_NOT_PIXELS = {"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"}
"""Formats that Pillow recognises and hands to other programs, or does not decode at all."""
_CERTAIN = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000")
"""Formats that their first bytes tell without doubt."""


@functools.cache
def image_suffixes() -> tuple[str, ...]:
    """Return the suffixes, in lower case, of every format that the installed Pillow decodes, the usual ones first."""
    from PIL import Image

    formats = Image.registered_extensions()
    known = {suffix for suffix, name in formats.items() if name in Image.OPEN and name not in _NOT_PIXELS}
    return (*_PREFERRED, *sorted(known.difference(_PREFERRED)))


def is_image(path: Path | str) -> bool:
    """Whether a file is an image by its suffix; where it has none, by its first bytes."""
    _, dot, suffix = os.path.basename(path).rpartition(".")  # noqa: PTH119 - a Path for each of a million names takes its time
    if dot:
        return f".{suffix.lower()}" in image_suffixes()
    from PIL import Image

    try:
        with Image.open(path, formats=_CERTAIN):
            return True
    except Exception:  # whatever Pillow's parsers meet in a file that is not an image
        return False


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
    from PIL import Image, ImageFile, UnidentifiedImageError

    name = excerpt_of_path(name)
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
            return _in_8_bits(image, name)
    except (CorruptFile, MemoryError):
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise MissingData(f"The image {name} does not exist.") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(name) from error
    except UnidentifiedImageError as error:
        head = _head(file)
        if (found := placeholder(head)) is not None:
            raise CorruptFile(f"The image {name} is {found[0]}.", hint=found[1]) from error
        why = "it is not in a known image format" if head else "it is empty"
        raise CorruptFile(f"The image {name} cannot be decoded: {why}.", hint=_FETCH_AGAIN) from error
    except Exception as error:  # Pillow's decoders raise whatever their format's parser meets
        if isinstance(error, OSError) and error.errno is not None:
            raise MissingData(f"The image {name} cannot be read: {error.strerror}.") from error
        raise CorruptFile(f"The image {name} cannot be decoded whole: {excerpt(error)}.", hint=_FETCH_AGAIN) from error


_FETCH_AGAIN = "Fetch or copy the file again; nothing is skipped or filled in."


def _head(file: Path | io.BytesIO) -> bytes:
    if isinstance(file, io.BytesIO):
        return file.getvalue()[:HEAD]
    with file.open("rb") as opened:
        return opened.read(HEAD)


def undeclared_range(image: Image.Image) -> str | None:
    """Say why nobody can tell which number of an image is white, or return ``None``."""
    if image.mode not in ("I", "F") or _is_16_bits(image):
        return None
    numbers = "32-bit integers" if image.mode == "I" else "floating-point numbers"
    return f"it holds {numbers}, and nothing says which of them is white"


def _is_16_bits(image: Image.Image) -> bool:
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))


def _in_8_bits(image: Image.Image, name: str) -> Image.Image:
    """Scale 16 bits of grey to 8 by their upper byte, as Pillow itself reads 16 bits of RGB."""
    if (why := undeclared_range(image)) is not None:
        raise CorruptFile(
            f"The image {name} cannot be used: {why}.",
            hint="Save it with 8 or 16 bits a channel, scaled as it is meant.",
        )
    if not _is_16_bits(image):
        return image
    from PIL import Image

    scaled = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    scaled.info = image.info  # with EXIF, which may turn the image
    return scaled


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
            return memo.sha256(self.path)
        except FileNotFoundError:
            raise MissingData(f"The image {excerpt_of_path(self.path)} does not exist.") from None
        except OSError as error:
            raise MissingData(f"The image {excerpt_of_path(self.path)} cannot be read: {error.strerror}.") from error

    def open(self) -> Image.Image:
        """Decode the image; see `decode`."""
        return decode(self.path)

    def __str__(self) -> str:
        return str(self.path)
