"""The training of early fusion: the text tower alone learns, and targets are images of the tower as it is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from cirbench.errors import UsageError
from cirbench.training.contrastive import composition_loss, gather_rows, in_full_precision
from cirbench_methods.early_fusion.tower import FusionTower

if TYPE_CHECKING:
    from cirbench.backbones.interface import Backbone
    from cirbench.training.interface import Batch
    from cirbench_methods.early_fusion import EarlyFusionTraining


class FusionTuning:
    """The tuned text tower finds the target among untouched images.

    The tower stays in evaluation mode: its dropout would draw other numbers on several processes than on one.
    """

    def __init__(self, backbone: Backbone, parameters: EarlyFusionTraining) -> None:
        if parameters.loss == "hn-nce" and parameters.negatives:
            raise UsageError("hn-nce weights the other targets of a batch, and no negatives beside them.")
        if parameters.loss == "hn-nce" and parameters.batch_size == parameters.grad_accum_steps:
            raise UsageError("hn-nce compares the triplets of a micro-batch, and one alone has no negatives.")
        self.module = FusionTower(backbone, parameters.temperature)
        self.module.temperature.requires_grad_(parameters.learn_temperature)
        self.backbone = backbone
        self.parameters = parameters
        backbone.model.requires_grad_(False)

    def loss(self, batch: Batch) -> torch.Tensor:
        """The loss of queries against targets."""
        assert batch.target_pixels_B3SS is not None
        assert batch.negative_pixels_BK3SS is not None
        self.module.eval()
        rows = len(batch.pixels_B3SS)
        with torch.no_grad():
            shown_X3SS = torch.cat([batch.target_pixels_B3SS, batch.negative_pixels_BK3SS.flatten(0, 1)])
            images_XD = self.backbone.encode_images(shown_X3SS)
        queries_BD = self.module(self.backbone.tokenize(batch.captions), batch.pixels_B3SS)
        parameters, scale = self.parameters, 1 / self.module.temperature
        if parameters.loss == "hn-nce":
            return hard_negative_loss(queries_BD, images_XD, scale, batch.first, parameters.alpha, parameters.beta)
        negatives_BKD = images_XD[rows:].reshape(rows, -1, images_XD.shape[1])
        return composition_loss(queries_BD, images_XD[:rows], scale, batch, parameters, negatives_BKD)


@in_full_precision
def hard_negative_loss(
    queries_BD: torch.Tensor,
    targets_BD: torch.Tensor,
    scale: torch.Tensor,
    first: int,
    alpha: float,
    beta: float,
) -> torch.Tensor:
    """HN-NCE (arXiv:2301.02280, equations 2 to 4): InfoNCE in both directions, whose harder negatives have more weight.

    With S the scaled cosines, a negative weighs exp(beta S) over the mean of that among the negatives of its row or
    column, and the target alpha.

    Args:
        queries_BD: This process's queries.
        targets_BD: Their targets.
        scale: The factor of the cosines.
        first: Where this process's rows begin in the whole batch.
        alpha: The weight of the target.
        beta: The sharpness of the weights.
    """
    queries_BD, targets_BD = functional.normalize(queries_BD, dim=-1), functional.normalize(targets_BD, dim=-1)
    to_targets_BT = scale * queries_BD @ gather_rows(targets_BD).T
    to_queries_BT = scale * targets_BD @ gather_rows(queries_BD).T
    own_B = torch.arange(first, first + len(queries_BD), device=queries_BD.device)
    return _one_way(to_targets_BT, own_B, alpha, beta) + _one_way(to_queries_BT, own_B, alpha, beta)


def _one_way(logits_BT: torch.Tensor, own_B: torch.Tensor, alpha: float, beta: float) -> torch.Tensor:
    own_logits_B = logits_BT.gather(1, own_B[:, None])[:, 0]
    others_BT = (beta * logits_BT).scatter(1, own_B[:, None], -torch.inf)
    weights_BT = others_BT - others_BT.logsumexp(dim=1, keepdim=True) + math.log(logits_BT.shape[1] - 1)
    weights_BT = weights_BT.scatter(1, own_B[:, None], math.log(alpha) if alpha else -torch.inf)
    return ((weights_BT + logits_BT).logsumexp(dim=1) - own_logits_B).mean()
