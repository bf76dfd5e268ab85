"""PLI at work: tuned towers, and the sum of image and text with the image weighed down."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cirbench.methods.text import sentences
from cirbench.retrieval.units import unit_rows
from cirbench.training.checkpoint import WEIGHTS, read_card

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from cirbench.datasets.protocol import Item, Query
    from cirbench.features.encoder import Encoder
    from cirbench_methods.pli import PliParameters


class PLI:
    """n(w n(v) + n(t)) on the tuned towers, with w as set here or in the training, or else 1 - mask ratio."""

    def __init__(self, encoder: Encoder, parameters: PliParameters, checkpoint: Path) -> None:
        self.encoder = encoder.with_weights(checkpoint / WEIGHTS)
        self.parameters = parameters
        training = read_card(checkpoint).training
        chosen = [parameters.weight, training["weight"], 1 - float(training["mask_ratio"])]
        self.weight: float = next(weight for weight in chosen if weight is not None)

    def encode_gallery(self, items: Sequence[Item]) -> NDArray[np.float32]:
        """The features of the tuned image tower."""
        return self.encoder.images(items)

    def encode_queries(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """The weighted sums."""
        images_QD = self.encoder.images([query.reference for query in queries])
        texts_QD = self.encoder.texts(sentences(queries, self.parameters.prompt))
        if self.parameters.sum == "normalised":
            images_QD = unit_rows(images_QD, [f"reference {query.reference.id}" for query in queries])
            texts_QD = unit_rows(texts_QD, [f"caption of query {query.id}" for query in queries])
        return self.weight * images_QD + texts_QD
