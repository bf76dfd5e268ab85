"""CLIP4Cir in use: the sum of image and text on tuned towers, or what the Combiner makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cirbench.backbones.weights import read_tensors
from cirbench.training.checkpoint import WEIGHTS
from cirbench_methods.clip4cir import TOWERS
from cirbench_methods.clip4cir.combiner import Combiner
from cirbench_methods.composition.method import FeatureComposition, with_trained_weights

if TYPE_CHECKING:
    from pathlib import Path

    from cirbench.backbones.encoder import Encoder
    from cirbench_methods.composition import CompositionParameters


class Clip4Cir(FeatureComposition):
    """n(v + t) on the tuned towers, of raw features."""

    def __init__(self, encoder: Encoder, parameters: CompositionParameters, checkpoint: Path) -> None:
        super().__init__(encoder.with_weights(checkpoint / WEIGHTS), parameters, lambda images, texts: images + texts)


class Combined(FeatureComposition):
    """The Combiner's query, against the images of the towers that it was trained on."""

    def __init__(self, encoder: Encoder, parameters: CompositionParameters, checkpoint: Path) -> None:
        towers = checkpoint / TOWERS
        network = Combiner.for_tensors(read_tensors(checkpoint / WEIGHTS))
        with_trained_weights(network, checkpoint, f"Combiner for {encoder.backbone.identity.name}")
        super().__init__(
            encoder.with_weights(towers) if towers.is_file() else encoder,
            parameters,
            network.to(encoder.backbone.device),
        )
