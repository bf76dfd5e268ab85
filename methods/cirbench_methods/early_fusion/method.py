"""Early fusion in use: queries of the tuned text tower, against the image features of the backbone as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cirbench.training.data.triplets import composed_text
from cirbench_methods.composition.method import with_trained_weights
from cirbench_methods.early_fusion.tower import FusionTower

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from cirbench.backbones.encoder import Encoder
    from cirbench.protocol import Item, Query
    from cirbench_methods.composition import CompositionParameters


class EarlyFusion:
    """n(W_t h), h the first token of the text after it has read the reference."""

    def __init__(self, encoder: Encoder, parameters: CompositionParameters, checkpoint: Path) -> None:
        self.encoder = encoder
        self.form = parameters.caption_form
        self.tower = FusionTower(encoder.backbone)
        with_trained_weights(self.tower, checkpoint, f"the text tower of {encoder.backbone.identity.name}")

    def encode_gallery(self, items: Sequence[Item]) -> NDArray[np.float32]:
        """The image features of the untouched backbone, which every method on it shares."""
        return self.encoder.images(items)

    def encode_queries(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """What the tuned text tower makes of each text and its reference."""
        texts = [composed_text(query.captions, self.form) for query in queries]
        return self.encoder.fused([query.reference for query in queries], texts, self.tower)
