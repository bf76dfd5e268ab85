"""Both stages of CLIP4Cir: towers tuned on the sum of image and text, and the Combiner on frozen ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from cirbench.errors import UsageError
from cirbench.training.checkpoint import open_checkpoint, read_card
from cirbench.training.contrastive import composition_loss
from cirbench_methods.clip4cir.combiner import Combiner
from cirbench_methods.composition.train import HeadTraining

if TYPE_CHECKING:
    from cirbench.backbones.interface import Backbone
    from cirbench.training.interface import Batch
    from cirbench_methods.clip4cir import Clip4CirTraining, CombinerTraining

TUNED = ("clip4cir", "blip4cir", "bi-blip4cir")
"""The methods whose checkpoints hold towers for a Combiner: the first stages of CLIP4Cir and of BLIP4CIR."""
_IMAGE_SIDE = ("visual", "vision")
"""How the names of an image tower's tensors begin, in open_clip, transformers and BLIP."""


class TowerTuning:
    """Towers tuned so that the sum of reference and text finds the target; gradients flow through all three.

    The towers stay in evaluation mode, as in the public code: no dropout, and BatchNorm with the statistics it has.
    """

    def __init__(self, backbone: Backbone, parameters: Clip4CirTraining) -> None:
        self.backbone = backbone
        self.module = backbone.model
        self.parameters = parameters
        for name, weights in self.module.named_parameters():
            side = "image" if name.startswith(_IMAGE_SIDE) else "text"
            weights.requires_grad_(parameters.encoder in ("both", side) and not name.startswith("logit_"))

    def loss(self, batch: Batch) -> torch.Tensor:
        """The cross-entropy from each sum to its target."""
        assert batch.target_pixels_B3SS is not None
        assert batch.negative_pixels_BK3SS is not None
        self.module.eval()
        rows, negatives_BK3SS = len(batch.pixels_B3SS), batch.negative_pixels_BK3SS
        shown_X3SS = torch.cat([batch.pixels_B3SS, batch.target_pixels_B3SS, negatives_BK3SS.flatten(0, 1)])
        with torch.set_grad_enabled(self.parameters.encoder != "text"):
            images_XD = self.backbone.encode_images(shown_X3SS)
        texts_BD = self.backbone.encode_tokens(self.backbone.tokenize(batch.captions))
        return composition_loss(
            images_XD[:rows] + texts_BD,
            images_XD[rows : 2 * rows],
            self.parameters.scale,
            batch,
            self.parameters,
            images_XD[2 * rows :].reshape(rows, -1, images_XD.shape[1]),
        )


class CombinerHead(HeadTraining):
    """The Combiner on the features of the backbone, or of towers that were tuned before."""

    def __init__(self, backbone: Backbone, parameters: CombinerTraining) -> None:
        if parameters.towers is not None:
            folder = Path(parameters.towers)
            method = read_card(folder).method
            card = open_checkpoint(folder, method=method if method in TUNED else TUNED[0], backbone=backbone.identity)
            if card.training.get("backward"):
                raise UsageError(
                    f"The towers in {folder} read words for directions, which a Combiner is not given here.",
                    hint="Give towers of clip4cir, or of blip4cir without a way back.",
                )
            backbone = backbone.with_weights(folder / card.file)
        network = Combiner(backbone.dim, parameters.projection, parameters.hidden, parameters.dropout)
        super().__init__(backbone, parameters, network, parameters.scale)
