"""TIRG (arXiv:1812.07119): the reference's feature through a gate, plus a residual, both made of image and text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from cirbench.training.contrastive import BatchNorm, composition_loss
from cirbench_methods.composition.method import FeatureComposition, with_trained_weights
from cirbench_methods.composition.train import HeadTraining

if TYPE_CHECKING:
    from pathlib import Path

    from cirbench.backbones.encoder import Encoder
    from cirbench.backbones.interface import Backbone
    from cirbench.training.interface import Batch
    from cirbench_methods.composition import CompositionParameters
    from cirbench_methods.heads import TirgTraining

SHARES = (1.0, 10.0)
"""Where the learnt weights of the gated feature and of the residual start."""


class TirgNetwork(nn.Module):
    """The gate, the residual, their two weights, and the length of unit features."""

    def __init__(self, dim: int, scale: float = 4.0) -> None:
        super().__init__()
        self.gate = nn.Sequential(BatchNorm(2 * dim), nn.ReLU(), nn.Linear(2 * dim, dim))
        self.residual = nn.Sequential(
            *(BatchNorm(2 * dim), nn.ReLU(), nn.Linear(2 * dim, 2 * dim), nn.ReLU(), nn.Linear(2 * dim, dim))
        )
        self.shares = nn.Parameter(torch.tensor(SHARES))
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, images_BD: torch.Tensor, texts_BD: torch.Tensor) -> torch.Tensor:
        """Compose raw features, (B, D), not normalised."""
        both_BX = torch.cat([images_BD, texts_BD], dim=-1)
        gated_BD = torch.sigmoid(self.gate(both_BX)) * images_BD
        composed_BD: torch.Tensor = self.shares[0] * gated_BD + self.shares[1] * self.residual(both_BX)
        return composed_BD


class TirgHead(HeadTraining):
    """Its training on features of frozen towers, by the softmax loss of the paper."""

    module: TirgNetwork

    def __init__(self, backbone: Backbone, parameters: TirgTraining) -> None:
        super().__init__(backbone, parameters, TirgNetwork(backbone.dim, parameters.scale), parameters.scale)

    def loss(self, batch: Batch) -> torch.Tensor:
        """The cross-entropy of dot products of features whose length is learnt."""
        queries_BD = self.module(self.features.references(batch), self.features.texts(batch))
        targets_BD, negatives_BKD = self.features.targets(batch), self.features.negatives(batch)
        scale = self.module.scale**2
        return composition_loss(queries_BD, targets_BD, scale, batch, self.parameters, negatives_BKD)


class Tirg(FeatureComposition):
    """TIRG in use."""

    def __init__(self, encoder: Encoder, parameters: CompositionParameters, checkpoint: Path) -> None:
        network = TirgNetwork(encoder.backbone.dim)
        with_trained_weights(network, checkpoint, f"TIRG's head on {encoder.backbone.identity.name}")
        super().__init__(encoder, parameters, network.to(encoder.backbone.device))
