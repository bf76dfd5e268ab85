"""One image file looked at: whole or not, and what is odd about it.

Everything is read from the bytes once. JPEGs are decoded at an eighth of their size: libjpeg then reads every byte of
the compressed data all the same, and so meets every error, and saves most of the arithmetic.
"""

from __future__ import annotations

import dataclasses
import io
import zlib
from typing import TYPE_CHECKING, Literal

from PIL import Image, UnidentifiedImageError

from cirbench.images.decode import MAX_PIXELS

if TYPE_CHECKING:
    from pathlib import Path

State = Literal["whole", "empty", "truncated", "undecodable", "unreadable"]

_MAX_BYTES = 1 << 28
_ORIENTATION = 0x0112


@dataclasses.dataclass(frozen=True, slots=True)
class Inspection:
    """What one image file turned out to be.

    Attributes:
        state: ``"whole"`` if every pixel can be decoded; otherwise what is wrong.
        why: What is wrong, in words.
        size: Bytes.
        crc32: Of the bytes, where they were read. With the size it tells nearly all contents apart, and costs less than
            a cryptographic digest.
        mode: Pillow's name of the pixel format.
        turned: Whether its EXIF data asks to be shown turned or mirrored.
    """

    state: State
    why: str = ""
    size: int = 0
    crc32: int = 0
    mode: str = ""
    turned: bool = False


def inspect(path: Path) -> Inspection:
    """Read and decode one image; nothing is raised, everything is told."""
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            return Inspection("undecodable", f"it has {size} bytes, too many for an image", size)
        content = path.read_bytes()
    except OSError as error:
        return Inspection("unreadable", error.strerror or str(error))
    if not content:
        return Inspection("empty", "it has no bytes")
    crc32 = zlib.crc32(content)
    try:
        with Image.open(io.BytesIO(content)) as image:
            mode, (width, height) = image.mode, image.size
            if width * height > MAX_PIXELS:
                return Inspection("undecodable", f"it has more than {MAX_PIXELS:,} pixels", size, crc32)
            image.draft(None, (1, 1))
            image.load()
            return Inspection("whole", "", size, crc32, mode, _is_turned(image))
    except UnidentifiedImageError:
        return Inspection("undecodable", "it is no image in a known format", size, crc32)
    except Exception as error:  # Pillow's decoders raise whatever their format's parser meets
        cut = "truncated" in str(error).lower() or isinstance(error, EOFError)
        return Inspection("truncated" if cut else "undecodable", str(error) or type(error).__name__, size, crc32)


def _is_turned(image: Image.Image) -> bool:
    try:
        return bool(image.getexif().get(_ORIENTATION, 1) != 1)
    except Exception:  # damaged EXIF data do not touch the pixels
        return False
