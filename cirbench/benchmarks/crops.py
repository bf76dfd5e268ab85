"""Parts of images that a benchmark shows in place of the whole: with their surroundings, or cut out on white."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from cirbench.support.files import digest

if TYPE_CHECKING:
    from PIL import Image

    from cirbench.benchmarks.images import ImageFiles, LocatedImage

Box = tuple[float, float, float, float]
"""Left, top, width and height in pixels."""

DILATION = 0.7


@dataclasses.dataclass(frozen=True, slots=True)
class SquareCrop:
    """A box, enlarged to the left and the top, cut out and padded with black to a square; an `ImageSource`.

    GeneCIS's public code moves the left and top edges out by 0.7 of the box's size, and then measures 1.7 times the
    size from the moved edges. So context is added on two sides only, unless the image's border stops an edge; there the
    other side gets what is left. Its numbers belong to exactly these crops.
    """

    image: LocatedImage
    box: Box

    @property
    def files(self) -> ImageFiles:
        """Where the whole image is."""
        return self.image.files

    @property
    def content(self) -> str:
        """Sha256 over the file's bytes and the crop.

        Raises:
            MissingData: The file is missing or cannot be read.
        """
        return digest(["black square", DILATION, self.box, self.image.content])

    def open(self) -> Image.Image:
        """Decode the whole image, cut, and pad, in its original mode.

        Raises:
            MissingData: The file is missing, or cannot be decoded whole.
        """
        from PIL import Image

        whole = self.image.open()
        part = whole.crop(enlarged(self.box, whole.size))
        side = max(part.size)
        square = Image.new(part.mode, (side, side))
        if part.mode == "P" and (palette := part.getpalette()) is not None:
            square.putpalette(palette)
        square.paste(part, ((side - part.width) // 2, (side - part.height) // 2))
        return square

    def __str__(self) -> str:
        return f"{self.image}, box {', '.join(f'{side:g}' for side in self.box)}"


def enlarged(box: Box, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of an enlarged box in an image of ``size``; see `SquareCrop`."""
    left, top, width, height = box
    left, top = max(0, left - DILATION * width), max(0, top - DILATION * height)
    return left, top, min(size[0], left + (1 + DILATION) * width), min(size[1], top + (1 + DILATION) * height)


@dataclasses.dataclass(frozen=True, slots=True)
class CutOut:
    """One object on white, cut to its box; an `ImageSource`.

    Attributes:
        image: The whole image.
        box: Cut to whole pixels, towards zero.
        outline: COCO's segmentation: polygons of x and y in turn, or the lengths of runs of 0 and 1, column by column.
    """

    image: LocatedImage
    box: Box
    outline: tuple[tuple[float, ...], ...] | tuple[int, ...]

    @property
    def files(self) -> ImageFiles:
        """Where the whole image is."""
        return self.image.files

    @property
    def content(self) -> str:
        """Sha256 over the file's bytes and the cut.

        Raises:
            MissingData: The file is missing or cannot be read.
        """
        return digest(["on white", self.box, self.outline, self.image.content])

    def open(self) -> Image.Image:
        """Decode the whole image, paint everything but the object white, and cut; RGB.

        Raises:
            MissingData: The file is missing, or cannot be decoded whole.
        """
        from PIL import Image

        whole = self.image.open().convert("RGB")
        white = Image.new("RGB", whole.size, (255, 255, 255))
        left, top, width, height = self.box
        object_on_white = Image.composite(whole, white, _mask(self.outline, whole.size))
        return object_on_white.crop((int(left), int(top), int(left + width), int(top + height)))

    def __str__(self) -> str:
        return f"{self.image}, object in {', '.join(f'{side:g}' for side in self.box)}"


def _mask(outline: tuple[tuple[float, ...], ...] | tuple[int, ...], size: tuple[int, int]) -> Image.Image:
    import numpy as np
    from PIL import Image, ImageDraw

    if outline and isinstance(outline[0], tuple):
        mask = Image.new("L", size)
        for polygon in outline:
            ImageDraw.Draw(mask).polygon(polygon, fill=255)
        return mask
    runs = np.asarray(outline, dtype=np.int64)
    flat = np.repeat(255 * (np.arange(len(runs)) % 2), runs).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(flat.reshape(size).T))
