"""One sample made ready for a step: its pixels, its caption, or why it cannot be used."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from cirbench.errors import MissingData
from cirbench.training.data.source import OPENED

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cirbench.images.preprocess import Preprocessing
    from cirbench.training.data.source import Kind, Sample


@dataclasses.dataclass(frozen=True, slots=True)
class Decoder:
    """Makes samples ready; light enough to be sent to another process.

    Attributes:
        kind: What is looked at of a sample.
        preprocessing: The backbone's.
    """

    kind: Kind
    preprocessing: Preprocessing

    def __call__(self, sample: Sample, pixels_3SS: NDArray[np.float32]) -> str | MissingData:
        """Write the pixels of a sample, and return its caption, or why the sample cannot be used.

        Without images or without captions the pixels are left alone or the caption is empty.
        """
        try:
            caption = sample.caption if "caption" in OPENED[self.kind] else ""
            if caption is None or ("caption" in OPENED[self.kind] and not caption.strip()):
                return MissingData("it has no caption.")
            if "image" in OPENED[self.kind]:
                if sample.image is None:
                    return MissingData("it has no image.")
                pixels_3SS[:] = self.preprocessing(sample.image.open())
        except MissingData as error:
            return error
        return caption
