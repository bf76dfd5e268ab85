"""Image towers on a part of their patches: the others are dropped, not replaced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from open_clip.transformer import VisionTransformer

from cirbench.errors import UsageError

if TYPE_CHECKING:
    from cirbench.backbones.interface import Backbone


@runtime_checkable
class PatchTower(Protocol):
    """An image tower in two halves, between which patches can be dropped; a BLIP is one itself.

    Attributes:
        patches: L, how many an image has.
    """

    patches: int

    def embed_patches(self, pixels_B3HW: torch.Tensor) -> torch.Tensor:
        """The class token and the patches of images with their positions added, (B, 1 + L, C)."""
        ...

    def project_patches(self, tokens_BTC: torch.Tensor) -> torch.Tensor:
        """Run the tower on a class token and any of the patches, and project it, (B, D), not normalised."""
        ...


class OpenClipPatches:
    """A plain vision transformer of open_clip; a `PatchTower`."""

    def __init__(self, visual: VisionTransformer) -> None:
        self.visual: Any = visual
        self.patches = int(self.visual.positional_embedding.shape[0]) - 1

    def embed_patches(self, pixels_B3HW: torch.Tensor) -> torch.Tensor:
        """See `PatchTower.embed_patches`."""
        tokens_BTC: torch.Tensor = self.visual._embeds(pixels_B3HW)
        return tokens_BTC

    def project_patches(self, tokens_BTC: torch.Tensor) -> torch.Tensor:
        """See `PatchTower.project_patches`."""
        pooled_BC, _ = self.visual._pool(self.visual.transformer(tokens_BTC))
        projected: torch.Tensor = pooled_BC if self.visual.proj is None else pooled_BC @ self.visual.proj
        return projected


def patch_tower(backbone: Backbone) -> PatchTower:
    """The image tower of a backbone, as one from which patches can be dropped.

    Raises:
        UsageError: It is of another kind.
    """
    if isinstance(backbone, PatchTower):
        return backbone
    visual = getattr(backbone.model, "visual", backbone.model)
    if not isinstance(visual, VisionTransformer):
        raise UsageError(
            f"The image tower of {backbone.identity.name} ({type(visual).__name__}) has no patch tokens that could "
            "be dropped, so it cannot be tuned by masking.",
            hint="Choose a ViT of open_clip, for instance ViT-B-32/openai, or BLIP: blip-itm-base-coco.",
        )
    return OpenClipPatches(visual)


def kept_count(patches: int, ratio: float) -> int:
    """How many of L patches are kept: int(L (1 - r)), as the public code counts; 49 become 12, 256 become 64.

    Raises:
        UsageError: Nothing would be left.
    """
    count = int(patches * (1 - ratio))
    if not count:
        raise UsageError(f"A mask ratio of {ratio} leaves none of {patches} patches.")
    return count


def draw_kept(batch: int, patches: int, ratio: float, device: torch.device) -> torch.Tensor:
    """Draw the patches that each image keeps, in order, (B, K), from torch's default generator.

    Raises:
        UsageError: Nothing would be left.
    """
    shuffled_BL = torch.rand(batch, patches, device=device).argsort(dim=1)
    return shuffled_BL[:, : kept_count(patches, ratio)].sort(dim=1).values


def keep(tokens_BTC: torch.Tensor, kept_BK: torch.Tensor) -> torch.Tensor:
    """The class token and the patches ``kept_BK`` of each image, (B, 1 + K, C)."""
    seen_BK = torch.cat([torch.zeros_like(kept_BK[:, :1]), kept_BK + 1], dim=1)
    return tokens_BTC.gather(1, seen_BK[:, :, None].expand(-1, -1, tokens_BTC.shape[2]))
