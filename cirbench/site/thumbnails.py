"""Small copies of images beside a page, each written once however often it is shown."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING

from cirbench.errors import MissingData
from cirbench.files import write_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from cirbench.datasets.protocol import ImageSource

SIDE = 96
"""Pixels of the longer side; an image that is smaller keeps its size."""

_VERSION = 1  # of what is done to an image; part of each file name


class Thumbnails:
    """A folder of thumbnails, named by what they show.

    Args:
        folder: Where they go.
        href: How a page names that folder.
    """

    def __init__(self, folder: Path, href: str) -> None:
        self._folder = folder
        self._href = href
        self.names: set[str] = set()

    def of(self, image: ImageSource) -> str | None:
        """Write the thumbnail of an image unless it is there; return its address, or ``None`` if the image is not."""
        try:
            name = f"{hashlib.sha256(f'{_VERSION} {SIDE} {image.content}'.encode()).hexdigest()[:20]}.webp"
            if not (self._folder / name).is_file():
                write_bytes(self._folder / name, _encode(image))
        except MissingData:
            return None
        self.names.add(name)
        return f"{self._href}/{name}"


def _encode(image: ImageSource) -> bytes:
    from PIL import Image, ImageOps

    picture = ImageOps.exif_transpose(image.open()).convert("RGB")
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=80, method=6)
    return buffer.getvalue()
