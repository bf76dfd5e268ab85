"""Plain contrastive pre-training of a CLIP (Radford et al., ICML 2021, figure 3)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from cirbench.training.precision import in_full_precision
from cirbench.training.processes import gather_rows

if TYPE_CHECKING:
    from cirbench.backbones.interface import Backbone
    from cirbench.training.config import TrainingParameters
    from cirbench.training.objective import Batch

MAX_SCALE = 100.0
"""The logit scale is kept from growing beyond this (section 2.5)."""


class Contrastive:
    """Both towers and the temperature, trained to match images with their captions."""

    def __init__(self, backbone: Backbone, parameters: TrainingParameters) -> None:
        self.backbone = backbone
        self.module = backbone.model

    def loss(self, batch: Batch) -> torch.Tensor:
        """The symmetric cross-entropy of a batch."""
        images_BD = self.backbone.encode_images(batch.pixels_B3SS)
        texts_BD = self.backbone.encode_tokens(self.backbone.tokenize(batch.captions))
        log_scale = self.module.get_parameter("logit_scale")
        return contrastive_loss(images_BD, texts_BD, log_scale.clamp(max=math.log(MAX_SCALE)).exp(), batch.first)


@in_full_precision
def contrastive_loss(
    images_BD: torch.Tensor, texts_BD: torch.Tensor, scale: torch.Tensor, first: int = 0
) -> torch.Tensor:
    """CLIP's loss: cosine similarities times ``scale``, cross-entropy over rows and over columns, averaged.

    The other images and texts are those of all processes; the ones here are theirs from ``first`` on.
    """
    images_BD, texts_BD = functional.normalize(images_BD, dim=-1), functional.normalize(texts_BD, dim=-1)
    images_TD, texts_TD = gather_rows(images_BD), gather_rows(texts_BD)
    own_B = torch.arange(first, first + len(images_BD), device=images_BD.device)
    to_texts = functional.cross_entropy(scale * images_BD @ texts_TD.T, own_B)
    return (to_texts + functional.cross_entropy(scale * texts_BD @ images_TD.T, own_B)) / 2
