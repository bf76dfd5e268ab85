"""Dropping patches: which are kept, and that the tower sees those and no others, for CLIP and for BLIP."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import open_clip
import pytest
import torch

from cirbench.backbones.interface import quietly
from cirbench.errors import UsageError
from cirbench_methods.pli.train import draw_kept, keep, kept_count, patch_tower
from tests.tiny_blip import tiny_blip
from tests.tiny_clip import tiny_backbone

if TYPE_CHECKING:
    from collections.abc import Callable

CPU = torch.device("cpu")
BACKBONES = pytest.mark.parametrize("make", [tiny_backbone, tiny_blip], ids=["CLIP", "BLIP"])


def some_pixels(count: int = 4) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_patches_are_kept_as_the_public_code_counts_them() -> None:
    assert [kept_count(49, 0.75), kept_count(256, 0.75), kept_count(196, 0.5), kept_count(49, 0.0)] == [12, 64, 98, 49]


def test_each_image_keeps_patches_of_its_own_drawn_from_all() -> None:
    torch.manual_seed(0)
    kept = draw_kept(2000, 16, 0.75, CPU)
    assert kept.shape == (2000, 4)
    assert bool((kept.diff(dim=1) > 0).all())
    counts = torch.bincount(kept.flatten(), minlength=16)
    assert int(counts.min()) > 400
    assert int(counts.max()) < 600


@BACKBONES
def test_without_a_mask_the_masked_tower_is_the_tower_bit_for_bit(make: Callable[[], Any]) -> None:
    backbone, pixels = make(), some_pixels()
    tower = patch_tower(backbone)
    assert tower.patches == 16
    kept = draw_kept(4, tower.patches, 0.0, CPU)
    found = tower.project_patches(keep(tower.embed_patches(pixels), kept))
    assert torch.equal(found, backbone.encode_images(pixels))


def blind_clip(backbone: Any, tokens: torch.Tensor, unseen: torch.Tensor) -> torch.Tensor:
    visual = backbone.model.visual
    last = visual.transformer(tokens, attn_mask=unseen)
    projected: torch.Tensor = visual._pool(last)[0] @ visual.proj
    return projected


def blind_blip(backbone: Any, tokens: torch.Tensor, unseen: torch.Tensor) -> torch.Tensor:
    """The vision transformer of BLIP written out, for transformers gives it no mask."""
    vision = backbone.model.vision_model
    for layer in vision.encoder.layers:
        attention = layer.self_attn
        heads, width = attention.num_heads, attention.head_dim
        states = attention.qkv(layer.layer_norm1(tokens)).unflatten(-1, (3, heads, width)).permute(2, 0, 3, 1, 4)
        weights = (states[0] @ states[1].mT / math.sqrt(width) + unseen).softmax(dim=-1)
        tokens = tokens + attention.projection((weights @ states[2]).transpose(1, 2).flatten(2))
        tokens = tokens + layer.mlp(layer.layer_norm2(tokens))
    projected: torch.Tensor = backbone.model.vision_proj(vision.post_layernorm(tokens)[:, 0])
    return projected


@pytest.mark.parametrize(
    ("make", "blind"), [(tiny_backbone, blind_clip), (tiny_blip, blind_blip)], ids=["CLIP", "BLIP"]
)
def test_dropping_patches_is_attention_that_cannot_see_them(make: Callable[[], Any], blind: Callable[..., Any]) -> None:
    backbone, pixels = make(), some_pixels()
    tower = patch_tower(backbone)
    kept = draw_kept(4, 16, 0.6, CPU)
    for row in range(4):
        unseen = torch.full((17,), -math.inf)
        unseen[0] = 0
        unseen[kept[row] + 1] = 0
        tokens = tower.embed_patches(pixels[row : row + 1])
        found = tower.project_patches(keep(tokens, kept[row : row + 1]))
        torch.testing.assert_close(found, blind(backbone, tokens, unseen.expand(17, 17)), atol=1e-5, rtol=1e-5)
        everything = torch.zeros(17, 17)
        torch.testing.assert_close(
            backbone.encode_images(pixels[row : row + 1]), blind(backbone, tokens, everything), atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize(
    ("architecture", "tower"),
    [("RN50", "ModifiedResNet"), ("convnext_base", "TimmModel"), ("ViT-B-16-SigLIP", "TimmModel")],
)
def test_a_tower_without_patch_tokens_is_refused_in_one_sentence(architecture: str, tower: str) -> None:
    class Other:
        identity = tiny_backbone().identity
        with quietly(), torch.device("meta"):
            config = open_clip.get_model_config(architecture)
            model = torch.nn.Module()
            model.visual = open_clip.model._build_vision_tower(config["embed_dim"], config["vision_cfg"])

    other: Any = Other()
    with pytest.raises(UsageError, match=rf"\({tower}\) has no patch tokens that could be dropped"):
        patch_tower(other)


def test_a_ratio_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match=r"A mask ratio of 0\.99 leaves none of 16 patches"):
        draw_kept(4, 16, 0.99, CPU)
