"""Images with a caption each: what vision-language models and methods are trained on."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cirbench.datasets.protocol import ImageSource


@dataclasses.dataclass(frozen=True, slots=True)
class ImageTextPair:
    """One image and one sentence about it."""

    image: ImageSource
    caption: str
