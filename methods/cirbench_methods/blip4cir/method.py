"""BLIP4CIR in use: the sum of a reference, as the backbone sees it, and a text, as the tuned tower reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cirbench.training.checkpoint import WEIGHTS, read_card
from cirbench.training.data.triplets import composed_text
from cirbench_methods.blip4cir import FORWARD
from cirbench_methods.blip4cir.train import directed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from cirbench.backbones.encoder import Encoder
    from cirbench.protocol import Item, Query
    from cirbench_methods.composition import CompositionParameters


class Blip4Cir:
    """n(v + t), v of the untouched image tower and t of the tuned text tower, both raw."""

    def __init__(self, encoder: Encoder, parameters: CompositionParameters, checkpoint: Path) -> None:
        self.encoder = encoder
        self.tuned = encoder.with_weights(checkpoint / WEIGHTS)
        self.form = parameters.caption_form
        self.direction = FORWARD if read_card(checkpoint).training.get("backward") else ""

    def encode_gallery(self, items: Sequence[Item]) -> NDArray[np.float32]:
        """The image features of the untouched backbone, which every method on it shares."""
        return self.encoder.images(items)

    def encode_queries(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """The sums."""
        texts = [directed(composed_text(query.captions, self.form), self.direction) for query in queries]
        return self.encoder.images([query.reference for query in queries]) + self.tuned.texts(texts)
