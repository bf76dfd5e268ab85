"""MAAF (arXiv:2007.00145): attention over the tokens of image and text together, here one token of each.

The published system attends over 245 tokens of a ResNet and the words of an LSTM; a joint space has one feature a side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from cirbench.training.contrastive import composition_loss
from cirbench_methods.composition.method import FeatureComposition, with_trained_weights
from cirbench_methods.composition.train import HeadTraining

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cirbench.backbones.encoder import Encoder
    from cirbench.backbones.interface import Backbone
    from cirbench.protocol import Item
    from cirbench.training.interface import Batch
    from cirbench_methods.composition import CompositionParameters
    from cirbench_methods.heads import MaafTraining

HEADS = 8
BLOCKS = 2
HIDDEN = 128
_EPSILON = 1e-6


class Norm(nn.Module):
    """Layer normalisation as the public code has it: by the unbiased deviation, the epsilon outside the root."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, tokens_BTD: torch.Tensor) -> torch.Tensor:
        """Normalise each token."""
        centred_BTD = tokens_BTD - tokens_BTD.mean(dim=-1, keepdim=True)
        scaled_BTD: torch.Tensor = centred_BTD / (tokens_BTD.std(dim=-1, keepdim=True) + _EPSILON)
        return self.gain * scaled_BTD + self.bias


class Block(nn.Module):
    """Attention and two linear layers, each after a norm and added to what goes in."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([Norm(dim), Norm(dim)])
        self.into = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.forward_layers = nn.Sequential(nn.Linear(dim, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, dim))

    def forward(self, tokens_BTD: torch.Tensor) -> torch.Tensor:
        """Let each token look at all of its own row."""
        shape = (*tokens_BTD.shape[:2], 3, HEADS, -1)
        asked, keys, values = self.into(self.norms[0](tokens_BTD)).reshape(shape).permute(2, 0, 3, 1, 4)
        seen_BHTE = functional.scaled_dot_product_attention(asked, keys, values)
        tokens_BTD = tokens_BTD + self.out(seen_BHTE.transpose(1, 2).flatten(2))
        changed_BTD: torch.Tensor = tokens_BTD + self.forward_layers(self.norms[1](tokens_BTD))
        return changed_BTD


class MaafNetwork(nn.Module):
    """The blocks, the last norm, and the length of unit features."""

    def __init__(self, dim: int, scale: float = 4.0) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block(dim) for _ in range(BLOCKS)))
        self.norm = Norm(dim)
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, images_BD: torch.Tensor, texts_BD: torch.Tensor | None = None) -> torch.Tensor:
        """The mean of what both tokens become; of the image alone, where there is no text, as for a target."""
        tokens = [images_BD] if texts_BD is None else [images_BD, texts_BD]
        pooled_BD: torch.Tensor = self.norm(self.blocks(torch.stack(tokens, dim=1))).mean(dim=1)
        return pooled_BD


class MaafHead(HeadTraining):
    """Its training on features of frozen towers; targets go through the same blocks."""

    module: MaafNetwork

    def __init__(self, backbone: Backbone, parameters: MaafTraining) -> None:
        super().__init__(backbone, parameters, MaafNetwork(backbone.dim, parameters.scale), parameters.scale)

    def loss(self, batch: Batch) -> torch.Tensor:
        """The cross-entropy of dot products of features whose length is learnt."""
        queries_BD = self.module(self.features.references(batch), self.features.texts(batch))
        targets_BD, negatives_BKD = self.features.targets(batch), self.features.negatives(batch)
        if negatives_BKD.shape[1]:
            negatives_BKD = self.module(negatives_BKD.flatten(0, 1)).reshape(negatives_BKD.shape)
        scale = self.module.scale**2
        return composition_loss(queries_BD, self.module(targets_BD), scale, batch, self.parameters, negatives_BKD)


class Maaf(FeatureComposition):
    """MAAF in use: gallery images go through the blocks too."""

    def __init__(self, encoder: Encoder, parameters: CompositionParameters, checkpoint: Path) -> None:
        self.network = MaafNetwork(encoder.backbone.dim)
        with_trained_weights(self.network, checkpoint, f"MAAF's head on {encoder.backbone.identity.name}")
        super().__init__(encoder, parameters, self.network.to(encoder.backbone.device))

    def encode_gallery(self, items: Sequence[Item]) -> NDArray[np.float32]:
        """What the blocks make of the image features."""
        images_ND, device = torch.from_numpy(self.encoder.images(items)), self.encoder.backbone.device
        return self.encoder.rowwise(
            lambda rows: self.network(images_ND[rows].to(device)), np.zeros(len(items), np.int64)
        )
