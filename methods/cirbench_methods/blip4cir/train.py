"""The training of BLIP4CIR: the text tower learns to lead from the reference to the target, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from cirbench.training.contrastive import composition_loss, gather_rows, in_full_precision, target_loss
from cirbench.training.interface import ParameterGroup
from cirbench_methods.blip4cir import BACKWARD, FORWARD

if TYPE_CHECKING:
    from cirbench.backbones.interface import Backbone
    from cirbench.training.interface import Batch
    from cirbench_methods.blip4cir import Blip4CirTraining

_UNTOUCHED = ("visual", "vision", "images.", "logit_")
"""How the names of an image tower's tensors begin, and those of numbers that only scale."""


def directed(text: str, direction: str) -> str:
    """Put a word for a direction before each caption of a text: ``[FORWARD] is red and [FORWARD] has no sleeves``."""
    return " and ".join(f"{direction} {part}" for part in text.split(" and ")) if direction else text


class TextTuning:
    """A text tower, tuned so that its sum with the reference finds the target; images stay as they are.

    The tower stays in evaluation mode: its dropout would draw other numbers on several processes than on one.
    """

    def __init__(self, backbone: Backbone, parameters: Blip4CirTraining) -> None:
        self.backbone = backbone
        self.module = backbone.model
        self.parameters = parameters
        self.parameter_groups = {"*text_proj*": ParameterGroup(rate=parameters.projection_rate)}
        for name, weights in self.module.named_parameters():
            weights.requires_grad_(not name.startswith(_UNTOUCHED))

    def loss(self, batch: Batch) -> torch.Tensor:
        """The cross-entropy from each sum to its target, and of the way back."""
        assert batch.target_pixels_B3SS is not None
        assert batch.negative_pixels_BK3SS is not None
        self.module.eval()
        parameters, rows = self.parameters, len(batch.pixels_B3SS)
        shown = [batch.pixels_B3SS, batch.target_pixels_B3SS, batch.negative_pixels_BK3SS.flatten(0, 1)]
        with torch.no_grad():
            images_XD = self.backbone.encode_images(torch.cat(shown))
        references_BD, targets_BD = images_XD[:rows], images_XD[rows : 2 * rows]
        negatives_BKD = images_XD[2 * rows :].reshape(rows, -1, images_XD.shape[1])
        there_BD = self._texts(batch, FORWARD if parameters.backward else "")
        loss = composition_loss(
            references_BD + there_BD, targets_BD, parameters.scale, batch, parameters, negatives_BKD
        )
        if parameters.backward:
            logits_BT = backward_logits(references_BD, targets_BD, self._texts(batch, BACKWARD), parameters.scale)
            loss = loss + parameters.backward * target_loss(logits_BT, batch, parameters)
        return loss

    def _texts(self, batch: Batch, direction: str) -> torch.Tensor:
        texts = [directed(text, direction) for text in batch.captions]
        return self.backbone.encode_tokens(self.backbone.tokenize(texts))


@in_full_precision
def backward_logits(
    references_BD: torch.Tensor, targets_BD: torch.Tensor, texts_BD: torch.Tensor, scale: float
) -> torch.Tensor:
    """Scaled cosines of each reference with every target to which the reference's own text is added, (B, T).

    Cosines of T x B sums, from products of their parts: the sums themselves would take B x T x D numbers.

    Args:
        references_BD: Raw features of this process's references.
        targets_BD: Raw features of its targets; they enter the sums with unit length.
        texts_BD: Raw features of its texts, in the backward direction.
        scale: The factor of the cosines.
    """
    references_BD = functional.normalize(references_BD, dim=-1)
    targets_TD = gather_rows(functional.normalize(targets_BD, dim=-1))
    dots_BT = references_BD @ targets_TD.T + (references_BD * texts_BD).sum(dim=1, keepdim=True)
    squares_BT = 1 + 2 * texts_BD @ targets_TD.T + texts_BD.square().sum(dim=1, keepdim=True)
    return scale * dots_BT * squares_BT.clamp(min=1e-12).rsqrt()
