"""The untrained baselines: features of the backbone, alone and added."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cirbench.methods.interface import STRIPPED, sentences
from cirbench.ranking import unit_rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from cirbench.backbones.encoder import Encoder
    from cirbench.methods.interface import Parameters
    from cirbench.protocol import Item, Query
    from cirbench_methods.baselines import SumParameters, TextParameters


class _Baseline:
    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder

    def encode_gallery(self, items: Sequence[Item]) -> NDArray[np.float32]:
        """The image features."""
        return self.encoder.images(items)


class ImageOnly(_Baseline):
    """The reference image: n(v)."""

    def __init__(self, encoder: Encoder, parameters: Parameters, checkpoint: Path | None = None) -> None:
        super().__init__(encoder)

    def encode_queries(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """The features of the references."""
        return self.encoder.images([query.reference for query in queries])


class TextOnly(_Baseline):
    """The relative caption: n(t)."""

    def __init__(self, encoder: Encoder, parameters: TextParameters, checkpoint: Path | None = None) -> None:
        super().__init__(encoder)
        self.prompt = parameters.prompt

    def encode_queries(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """The features of the captions."""
        return self.encoder.texts(sentences(queries, self.prompt))


class ImageText(_Baseline):
    """Both: n(w n(v) + n(t)), or n(w v + t)."""

    def __init__(self, encoder: Encoder, parameters: SumParameters, checkpoint: Path | None = None) -> None:
        super().__init__(encoder)
        self.parameters = parameters
        published = STRIPPED if parameters.sum == "raw" else ""
        self.strip = published if parameters.strip is None else parameters.strip

    def encode_queries(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """The weighted sums."""
        images_QD = self.encoder.images([query.reference for query in queries])
        texts_QD = self.encoder.texts(sentences(queries, self.parameters.prompt, self.strip))
        if self.parameters.sum == "normalised":
            images_QD = unit_rows(images_QD, [f"reference {query.reference.id}" for query in queries])
            texts_QD = unit_rows(texts_QD, [f"caption of query {query.id}" for query in queries])
        return self.parameters.weight * images_QD + texts_QD
