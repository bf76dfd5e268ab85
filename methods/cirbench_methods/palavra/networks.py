"""The two networks of PALAVRA (arXiv:2204.01694, section 4): a set encoder, and a map from texts to images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from cirbench.backbones.text import PseudoWords
from cirbench.training.contrastive import Dropout

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cirbench.backbones.interface import Backbone


class EquivariantLayer(nn.Module):
    """Γx - Λm for every row x of a set, where m is the mean of the set; Λ has no bias (Zaheer et al., 2017)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.gamma = nn.Linear(dim, hidden)
        self.lamda = nn.Linear(dim, hidden, bias=False)

    def forward(self, sets_BKD: torch.Tensor) -> torch.Tensor:
        """Map every row of every set, (B, K, H)."""
        mapped_BKH: torch.Tensor = self.gamma(sets_BKD) - self.lamda(sets_BKD.mean(dim=1, keepdim=True))
        return mapped_BKH


class SetEncoder(nn.Module):
    """Sets of unit features to words, whatever the order of a set: the paper's f."""

    def __init__(self, dim: int, hidden: int, width: int, dropout: float) -> None:
        super().__init__()
        self.rows = nn.Sequential(
            *(EquivariantLayer(dim, hidden), nn.ELU()),
            *(EquivariantLayer(hidden, hidden), nn.ELU()),
            *(EquivariantLayer(hidden, hidden), nn.ELU()),
        )
        self.pooled = nn.Sequential(
            *(Dropout(dropout), nn.Linear(hidden, hidden), nn.ELU()),
            *(Dropout(dropout), nn.Linear(hidden, width)),
        )

    def forward(self, sets_BKD: torch.Tensor) -> torch.Tensor:
        """Make a word of each set, (B, E)."""
        words_BE: torch.Tensor = self.pooled(self.rows(sets_BKD).mean(dim=1))
        return words_BE


class TextToImage(nn.Module):
    """Ax = Wx + b + x: where the image of a text would be in the joint space."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, dim)

    def forward(self, units_BD: torch.Tensor) -> torch.Tensor:
        """Map unit features of texts, (B, D), to unit vectors."""
        return functional.normalize(self.linear(units_BD) + units_BD, dim=-1)


class PalavraNetworks(nn.Module):
    """Both of them."""

    def __init__(self, dim: int, hidden: int, width: int, dropout: float) -> None:
        super().__init__()
        self.encoder = SetEncoder(dim, hidden, width, dropout)
        self.map = TextToImage(dim)

    @classmethod
    def for_backbone(cls, backbone: Backbone, hidden: int, dropout: float = 0.0) -> PalavraNetworks:
        """Build them between the joint space of a backbone and the words of its text tower, weights at random."""
        return cls(backbone.dim, hidden, PseudoWords(backbone).width, dropout).to(backbone.device)

    @classmethod
    def for_tensors(cls, tensors: Mapping[str, torch.Tensor], backbone: Backbone) -> PalavraNetworks:
        """Build those whose weights these are; they tell the hidden width."""
        hidden = tensors.get("encoder.rows.0.gamma.bias", torch.empty(1))
        return cls.for_backbone(backbone, len(hidden))
