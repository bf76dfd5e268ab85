"""Masked tuning: a masked image and its caption together must find the whole image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from open_clip.transformer import VisionTransformer
from torch.nn import functional

from cirbench.errors import UsageError
from cirbench.training.contrastive import gather_rows, in_full_precision

if TYPE_CHECKING:
    from cirbench.backbones.interface import Backbone
    from cirbench.training.interface import Batch
    from cirbench_methods.pli import PliTraining


class MaskedTuning:
    """Both towers, tuned on (masked image + text) against the images unmasked; gradients flow through all three."""

    def __init__(self, backbone: Backbone, parameters: PliTraining) -> None:
        self.backbone = backbone
        self.module = backbone.model
        self.parameters = parameters
        self.tower = patch_tower(backbone)

    def loss(self, batch: Batch) -> torch.Tensor:
        """The cross-entropy of a batch, one direction: from the composed query to its image."""
        tower, ratio = self.tower, self.parameters.mask_ratio
        kept_BK = batch.local_shard(draw_kept(batch.total, tower.patches, ratio, batch.pixels_B3SS.device))
        whole_BTC = tower.embed_patches(batch.pixels_B3SS)
        masked_BD = tower.project_patches(keep(whole_BTC, kept_BK))
        targets_BD = tower.project_patches(whole_BTC)
        texts_BD = self.backbone.encode_tokens(self.backbone.tokenize(batch.captions))
        return masked_tuning_loss(masked_BD, texts_BD, targets_BD, self.parameters, batch.first)


@in_full_precision
def masked_tuning_loss(
    masked_BD: torch.Tensor, texts_BD: torch.Tensor, targets_BD: torch.Tensor, parameters: PliTraining, first: int = 0
) -> torch.Tensor:
    """InfoNCE over the batch; see `PliTraining.variant` for where paper and public code differ.

    The targets of all processes are compared; those of this process begin at ``first``.
    """
    queries_BD = masked_BD + texts_BD
    if parameters.variant == "paper":  # a cosine does not see the difference between the average and the sum
        queries_BD = functional.normalize(queries_BD / 2, dim=-1)
    if parameters.variant != "code":
        targets_BD = functional.normalize(targets_BD, dim=-1)
    logits_BT = queries_BD @ gather_rows(targets_BD).T / parameters.temperature
    own_B = torch.arange(first, first + len(logits_BT), device=logits_BT.device)
    return functional.cross_entropy(logits_BT, own_B)


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
