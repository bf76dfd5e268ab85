"""The Combiner (arXiv:2308.11485, section 3.3); its tensors have the names of the published checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from cirbench.training.contrastive import Dropout

if TYPE_CHECKING:
    from collections.abc import Mapping


class Combiner(nn.Module):
    """A convex combination of image and text, whose weight is predicted, plus what a network makes of both.

    Args:
        dim: D, of the features.
        projection: The width to which each side is projected.
        hidden: The width of the hidden layers.
        dropout: After each hidden layer.
    """

    def __init__(self, dim: int, projection: int, hidden: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.text_projection_layer = nn.Linear(dim, projection)
        self.image_projection_layer = nn.Linear(dim, projection)
        self.combiner_layer = nn.Linear(2 * projection, hidden)
        self.output_layer = nn.Linear(hidden, dim)
        self.dynamic_scalar = nn.Sequential(
            *(nn.Linear(2 * projection, hidden), nn.ReLU(), Dropout(dropout), nn.Linear(hidden, 1), nn.Sigmoid())
        )
        self.dropout = Dropout(dropout)

    @classmethod
    def for_tensors(cls, tensors: Mapping[str, torch.Tensor]) -> Combiner:
        """Build the network whose weights these are, by their shapes."""
        projection, dim = tensors["text_projection_layer.weight"].shape
        return cls(int(dim), int(projection), int(tensors["combiner_layer.weight"].shape[0]))

    def forward(self, images_BD: torch.Tensor, texts_BD: torch.Tensor) -> torch.Tensor:
        """Combine raw features, (B, D), of unit length."""
        texts_BP = self._hidden(self.text_projection_layer, texts_BD)
        images_BP = self._hidden(self.image_projection_layer, images_BD)
        both_BP = torch.cat([texts_BP, images_BP], dim=-1)
        share_B1 = self.dynamic_scalar(both_BP)
        added_BD = self.output_layer(self._hidden(self.combiner_layer, both_BP))
        return functional.normalize(added_BD + share_B1 * texts_BD + (1 - share_B1) * images_BD, dim=-1)

    def _hidden(self, layer: nn.Linear, rows_BX: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.dropout(functional.relu(layer(rows_BX)))
        return hidden
