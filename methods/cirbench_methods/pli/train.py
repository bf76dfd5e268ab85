"""Masked tuning: a masked image and its caption together must find the whole image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from cirbench.training.contrastive import gather_rows, in_full_precision
from cirbench_methods.pli.masking import draw_kept, keep, patch_tower

if TYPE_CHECKING:
    from cirbench.backbones.interface import Backbone
    from cirbench.training.interface import Batch
    from cirbench_methods.pli import PliTraining


class MaskedTuning:
    """Both towers, tuned on (masked image + text) against the images unmasked; gradients flow through all three."""

    def __init__(self, backbone: Backbone, parameters: PliTraining) -> None:
        self.backbone = backbone
        self.module = backbone.model
        self.parameters = parameters
        self.tower = patch_tower(backbone)

    def loss(self, batch: Batch) -> torch.Tensor:
        """The cross-entropy of a batch, one direction: from the composed query to its image."""
        tower, ratio = self.tower, self.parameters.mask_ratio
        kept_BK = batch.local_shard(draw_kept(batch.total, tower.patches, ratio, batch.pixels_B3SS.device))
        whole_BTC = tower.embed_patches(batch.pixels_B3SS)
        masked_BD = tower.project_patches(keep(whole_BTC, kept_BK))
        targets_BD = tower.project_patches(whole_BTC)
        texts_BD = self.backbone.encode_tokens(self.backbone.tokenize(batch.captions))
        return masked_tuning_loss(masked_BD, texts_BD, targets_BD, self.parameters, batch.first)


@in_full_precision
def masked_tuning_loss(
    masked_BD: torch.Tensor, texts_BD: torch.Tensor, targets_BD: torch.Tensor, parameters: PliTraining, first: int = 0
) -> torch.Tensor:
    """InfoNCE over the batch; see `PliTraining.variant` for where paper and public code differ.

    The targets of all processes are told apart; the ones here are theirs from ``first`` on.
    """
    queries_BD = masked_BD + texts_BD
    if parameters.variant == "paper":  # a cosine does not see the difference between the average and the sum
        queries_BD = functional.normalize(queries_BD / 2, dim=-1)
    if parameters.variant != "code":
        targets_BD = functional.normalize(targets_BD, dim=-1)
    logits_BT = queries_BD @ gather_rows(targets_BD).T / parameters.temperature
    own_B = torch.arange(first, first + len(logits_BT), device=logits_BT.device)
    return functional.cross_entropy(logits_BT, own_B)
