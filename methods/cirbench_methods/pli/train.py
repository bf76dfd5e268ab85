"""Masked tuning: a masked image and its caption together must find the whole image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from cirbench_methods.pli.masking import MaskedTower

if TYPE_CHECKING:
    from cirbench.backbones.interface import Backbone
    from cirbench.training.objective import Batch
    from cirbench_methods.pli import PliTraining


class MaskedTuning:
    """Both towers, tuned on (masked image + text) against the images unmasked; gradients flow through all three."""

    def __init__(self, backbone: Backbone, parameters: PliTraining) -> None:
        self.backbone = backbone
        self.module = backbone.model
        self.parameters = parameters
        self.masked = MaskedTower(backbone)

    def loss(self, batch: Batch) -> torch.Tensor:
        """The cross-entropy of a batch, one direction: from the composed query to its image."""
        kept_BK = batch.own(self.masked.draw(batch.total, self.parameters.mask_ratio))
        masked_BD = self.masked(batch.pixels_B3SS, kept_BK)
        texts_BD = self.backbone.encode_tokens(self.backbone.tokenize(batch.captions))
        targets_BD = self.backbone.encode_images(batch.pixels_B3SS)
        return masked_tuning_loss(masked_BD, texts_BD, targets_BD, self.parameters)


def masked_tuning_loss(
    masked_BD: torch.Tensor, texts_BD: torch.Tensor, targets_BD: torch.Tensor, parameters: PliTraining
) -> torch.Tensor:
    """InfoNCE over the batch; see `PliTraining.variant` for where paper and public code differ."""
    queries_BD = masked_BD + texts_BD
    if parameters.variant == "paper":  # a cosine does not see the difference between the average and the sum
        queries_BD, targets_BD = functional.normalize(queries_BD / 2, dim=-1), functional.normalize(targets_BD, dim=-1)
    logits_BB = queries_BD @ targets_BD.T / parameters.temperature
    return functional.cross_entropy(logits_BB, torch.arange(len(logits_BB), device=logits_BB.device))
