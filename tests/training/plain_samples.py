"""Samples for worker processes, in a module that imports nothing heavy."""

from __future__ import annotations

import dataclasses
import os
import sys
from typing import TYPE_CHECKING

from PIL import Image

from cirbench.errors import CorruptFile

if TYPE_CHECKING:
    from cirbench.protocol import ImageSource


@dataclasses.dataclass(frozen=True)
class Square:
    """An image of one grey, or one that cannot be decoded."""

    grey: int
    broken: bool = False

    @property
    def content(self) -> str:
        return str(self)

    def open(self) -> Image.Image:
        if self.broken:
            raise CorruptFile(f"{self} is torn.")
        return Image.new("RGB", (32, 32), (self.grey,) * 3)

    def __str__(self) -> str:
        return f"square {self.grey}"


@dataclasses.dataclass(frozen=True)
class GreySample:
    """A square that is called by its grey."""

    grey: int
    broken: bool = False

    @property
    def image(self) -> ImageSource:
        return Square(self.grey, self.broken)

    @property
    def caption(self) -> str:
        return f"grey {self.grey}"


@dataclasses.dataclass(frozen=True)
class Process:
    """A sample whose caption tells of the process that reads it."""

    image: None = None

    @property
    def caption(self) -> str:
        return f"{os.getpid()} {'torch' in sys.modules}"


@dataclasses.dataclass(frozen=True)
class Deadly:
    """A sample that ends the process that reads it."""

    image: None = None

    @property
    def caption(self) -> str:
        os._exit(9)


def process_and_torch(caption: str) -> tuple[int, bool]:
    """Say which process reads a caption, and whether it has torch."""
    return os.getpid(), "torch" in sys.modules
