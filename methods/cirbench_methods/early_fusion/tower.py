"""BLIP's text tower, tuned to read a text in the light of an image."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import nn

from cirbench.backbones.blip import BlipBackbone
from cirbench.errors import UsageError

if TYPE_CHECKING:
    from cirbench.backbones.interface import Backbone


class FusionTower(nn.Module):
    """The text tower with cross-attention, its projection, and the temperature of the loss; a copy of a backbone's.

    Args:
        backbone: A BLIP, which is not changed and encodes images.
        temperature: What similarities are divided by in training.

    Raises:
        UsageError: The backbone is not a BLIP.
    """

    def __init__(self, backbone: Backbone, temperature: float = 1.0) -> None:
        super().__init__()
        if not isinstance(backbone, BlipBackbone):
            raise UsageError(
                f"The text tower of {backbone.identity.name} cannot read a text in the light of an image.",
                hint="Use BLIP: --backbone blip-itm-base-coco.",
            )
        self.text_encoder = copy.deepcopy(backbone.model.text_encoder)
        self.text_proj = copy.deepcopy(backbone.model.text_proj)
        self.temperature = nn.Parameter(torch.tensor(temperature, device=backbone.device))
        self.requires_grad_(True)
        self._backbone = backbone

    def forward(self, tokens_BL: torch.Tensor, pixels_B3SS: torch.Tensor) -> torch.Tensor:
        """Project the first token of each text that has read its image, (B, D) float32."""
        with torch.no_grad():
            seen_BTC = self._backbone.image_tokens(pixels_B3SS)
        first_BE = self._backbone.fuse(tokens_BL, seen_BTC, self.text_encoder)[:, 0]
        rows_BD: torch.Tensor = self.text_proj(first_BE)
        return rows_BD.float()
