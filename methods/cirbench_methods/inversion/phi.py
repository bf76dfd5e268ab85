"""The networks that map an image feature to a word: SEARLE's and LinCIR's phi, and Pic2Word's mapping network.

Their tensors have the names of the published checkpoints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from cirbench.backbones.text import PseudoWords
from cirbench.training.contrastive import Dropout

if TYPE_CHECKING:
    import torch

    from cirbench.backbones.interface import Backbone


class Phi(nn.Module):
    """Three linear layers with GELU and dropout between them; the hidden ones are four times as wide as the input.

    Of SEARLE (arXiv:2303.15247) and LinCIR (arXiv:2312.01998).
    """

    def __init__(self, dim: int, width: int, dropout: float = 0.5) -> None:
        super().__init__()
        hidden = 4 * dim
        self.layers = nn.Sequential(
            *(nn.Linear(dim, hidden), nn.GELU(), Dropout(dropout)),
            *(nn.Linear(hidden, hidden), nn.GELU(), Dropout(dropout)),
            nn.Linear(hidden, width),
        )

    @classmethod
    def for_backbone(cls, backbone: Backbone, dropout: float = 0.5) -> Phi:
        """Build it between the joint space of a backbone and the words of its text tower, weights at random."""
        return cls(backbone.dim, PseudoWords(backbone).width, dropout).to(backbone.device)

    def forward(self, features_BD: torch.Tensor) -> torch.Tensor:
        """Map features, not normalised, to words, (B, E)."""
        words_BE: torch.Tensor = self.layers(features_BD)
        return words_BE


class Mapping(nn.Module):
    """Two blocks of a linear layer, dropout and ReLU, and a linear layer (Pic2Word, arXiv:2302.03084).

    In the public code the hidden layers are 512 wide, and dropout comes before the activation.
    """

    def __init__(self, dim: int, width: int, dropout: float = 0.1) -> None:
        super().__init__()
        hidden = 512
        self.layers = nn.Sequential(
            nn.Sequential(nn.Linear(dim, hidden), Dropout(dropout), nn.ReLU()),
            nn.Sequential(nn.Linear(hidden, hidden), Dropout(dropout), nn.ReLU()),
        )
        self.fc_out = nn.Linear(hidden, width)

    @classmethod
    def for_backbone(cls, backbone: Backbone, dropout: float = 0.1) -> Mapping:
        """Build it between the joint space of a backbone and the words of its text tower, weights at random."""
        return cls(backbone.dim, PseudoWords(backbone).width, dropout).to(backbone.device)

    def forward(self, features_BD: torch.Tensor) -> torch.Tensor:
        """Map features, not normalised, to words, (B, E)."""
        words_BE: torch.Tensor = self.fc_out(self.layers(features_BD))
        return words_BE
