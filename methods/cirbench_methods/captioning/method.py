"""Text against images: "a photo of {caption} that {relative}"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cirbench.errors import UsageError
from cirbench.methods.interface import sentences
from cirbench_methods.captioning.describers import choose

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from cirbench.backbones.features.encoder import Encoder
    from cirbench.protocol import Item, Query
    from cirbench_methods.captioning import CaptioningParameters

_PLACES = ("{caption}", "{relative}")


class Captioning:
    """n(t) against n(v), where t is a text with the words for the reference and the relative caption."""

    def __init__(self, encoder: Encoder, parameters: CaptioningParameters, checkpoint: Path | None = None) -> None:
        for place in _PLACES:
            if place not in parameters.prompt:
                raise UsageError(f"The prompt {parameters.prompt!r} has no place for {place}.")
        self.encoder = encoder
        self.prompt = parameters.prompt
        self.describe = choose(encoder, parameters)

    def encode_gallery(self, items: Sequence[Item]) -> NDArray[np.float32]:
        """The image features."""
        return self.encoder.images(items)

    def encode_queries(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """The features of the texts."""
        captions = self.describe([query.reference for query in queries])
        return self.encoder.texts(
            [
                self.prompt.replace("{caption}", caption).replace("{relative}", relative)
                for caption, relative in zip(captions, sentences(queries), strict=True)
            ]
        )
