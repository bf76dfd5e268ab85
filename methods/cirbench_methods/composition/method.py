"""Supervised composition in use: rows of the gallery, and of queries from a reference and a text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from cirbench.backbones.weights import place, read_tensors
from cirbench.training.checkpoint import WEIGHTS
from cirbench.training.data.triplets import composed_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cirbench.backbones.encoder import Encoder
    from cirbench.protocol import Item, Query
    from cirbench_methods.composition import CompositionParameters


class FeatureComposition:
    """Queries from the raw features of a reference and a text, against the image features of the gallery.

    Args:
        encoder: Encodes.
        parameters: How texts are made.
        compose: Turns features of references and texts, (B, D) each, into query rows.
    """

    def __init__(
        self,
        encoder: Encoder,
        parameters: CompositionParameters,
        compose: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    ) -> None:
        self.encoder = encoder
        self.form = parameters.caption_form
        self.compose = compose

    def encode_gallery(self, items: Sequence[Item]) -> NDArray[np.float32]:
        """The image features."""
        return self.encoder.images(items)

    def encode_queries(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """The composed features."""
        images_QD = torch.from_numpy(self.encoder.images([query.reference for query in queries]))
        texts_QD = torch.from_numpy(self.encoder.texts([composed_text(query.captions, self.form) for query in queries]))
        device = self.encoder.backbone.device
        return self.encoder.rowwise(
            lambda rows: self.compose(images_QD[rows].to(device), texts_QD[rows].to(device)),
            np.zeros(len(queries), np.int64),
        )


def with_trained_weights(network: torch.nn.Module, checkpoint: Path, owner: str) -> torch.nn.Module:
    """Load a checkpoint's weights into a network, to be used and not trained.

    Raises:
        CorruptFile: The checkpoint is damaged, or of another network.
    """
    path = checkpoint / WEIGHTS
    place(network, read_tensors(path), path=path, architecture=owner)
    return network.eval()
