"""Plain contrastive pre-training of a CLIP (Radford et al., ICML 2021, figure 3)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

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
        return contrastive_loss(images_BD, texts_BD, log_scale.clamp(max=math.log(MAX_SCALE)).exp())


def contrastive_loss(images_BD: torch.Tensor, texts_BD: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """CLIP's loss: cosine similarities times ``scale``, cross-entropy over rows and over columns, averaged."""
    logits_BB = scale * functional.normalize(images_BD, dim=-1) @ functional.normalize(texts_BD, dim=-1).T
    own_B = torch.arange(len(logits_BB), device=logits_BB.device)
    return (functional.cross_entropy(logits_BB, own_B) + functional.cross_entropy(logits_BB.T, own_B)) / 2
