"""Image sources whose pixels follow from a number."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import ClassVar

import numpy as np
from PIL import Image

from cirbench.errors import MissingData
from cirbench.protocol import Item


@dataclasses.dataclass(frozen=True)
class Noise:
    """A noise image; counts how often any of them was opened."""

    seed: int
    opened: ClassVar[list[int]] = []

    @property
    def content(self) -> str:
        return hashlib.sha256(f"noise {self.seed}".encode()).hexdigest()

    def open(self) -> Image.Image:
        if self.seed < 0:
            raise MissingData(f"The image {self} is gone.")
        Noise.opened.append(self.seed)
        pixels = np.random.default_rng(self.seed).integers(0, 256, (40, 48, 3), dtype=np.uint8)
        return Image.fromarray(pixels)

    def __str__(self) -> str:
        return f"noise {self.seed}"


def items(*seeds: int) -> list[Item]:
    return [Item(f"item-{seed}", Noise(seed)) for seed in seeds]


def captions(count: int) -> list[str]:
    return [f"number {number} " + "of a row " * (number % 9) for number in range(count)]
