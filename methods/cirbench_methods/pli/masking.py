"""The image tower on a part of its patches: the others are dropped, not replaced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from open_clip.transformer import VisionTransformer

from cirbench.errors import UsageError

if TYPE_CHECKING:
    from cirbench.backbones.interface import Backbone


def kept_count(patches: int, ratio: float) -> int:
    """How many of L patches are kept: int(L (1 - r)), as the public code counts; 49 become 12, 256 become 64."""
    return int(patches * (1 - ratio))


class MaskedTower:
    """A plain vision transformer of open_clip that reads the class token and some of the patches.

    Raises:
        UsageError: The backbone's image tower is of another kind.
    """

    def __init__(self, backbone: Backbone) -> None:
        visual: Any = backbone.model.visual
        if not isinstance(visual, VisionTransformer):
            raise UsageError(
                f"The image tower of {backbone.identity.name} ({type(visual).__name__}) has no patch tokens that could "
                "be dropped, so it cannot be tuned by masking.",
                hint="Choose a ViT of open_clip, for instance ViT-B-32/openai.",
            )
        self.visual = visual
        self.patches = int(visual.positional_embedding.shape[0]) - 1

    def draw(self, batch: int, ratio: float) -> torch.Tensor:
        """Draw the patches that each image keeps, in order, (B, K), from torch's default generator.

        Raises:
            UsageError: Nothing would be left.
        """
        count = kept_count(self.patches, ratio)
        if not count:
            raise UsageError(f"A mask ratio of {ratio} leaves none of {self.patches} patches.")
        device = self.visual.positional_embedding.device
        shuffled_BL = torch.rand(batch, self.patches, device=device).argsort(dim=1)
        return shuffled_BL[:, :count].sort(dim=1).values

    def __call__(self, pixels_B3SS: torch.Tensor, kept_BK: torch.Tensor) -> torch.Tensor:
        """Project images of which only the patches ``kept_BK`` are seen, (B, D), not normalised.

        Patches are dropped after their position has been added; the class token always stays.
        """
        tokens_BTC = self.visual._embeds(pixels_B3SS)
        first_B1 = torch.zeros_like(kept_BK[:, :1])
        seen_BK = torch.cat([first_B1, kept_BK + 1], dim=1)
        seen_BKC = tokens_BTC.gather(1, seen_BK[:, :, None].expand(-1, -1, tokens_BTC.shape[2]))
        pooled_BC, _ = self.visual._pool(self.visual.transformer(seen_BKC))
        projected: torch.Tensor = pooled_BC if self.visual.proj is None else pooled_BC @ self.visual.proj
        return projected
