"""The other families of open_clip run as backbones of the baselines, each shown by a small one with random weights."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from cirbench.backbones import load_backbone
from cirbench.backbones.encoder import Encoder
from cirbench.backbones.interface import quietly
from cirbench.backbones.openclip import _tokenizer, resolve
from cirbench.backbones.text import PseudoWords
from cirbench.benchmarks.scenes import scenes_protocol
from cirbench.errors import MissingData, UsageError
from cirbench.methods.interface import find_method
from cirbench.methods.loading import build, parse_parameters
from cirbench_methods.pli.train import patch_tower
from tests.backbones.small import CONFIG

if TYPE_CHECKING:
    from pathlib import Path

VISION, TEXT = CONFIG["vision_cfg"], CONFIG["text_cfg"]
CAPTIONS = {"multimodal_cfg": {"context_length": 76, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}}
FAMILIES: dict[str, dict[str, Any]] = {
    "bigG": {**CONFIG, "vision_cfg": {**VISION, "width": 52, "head_width": 26, "mlp_ratio": 4.9231}},
    "RN50": {**CONFIG, "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 32, "patch_size": None}},
    "ConvNeXt": {
        **CONFIG,
        "vision_cfg": {"timm_model_name": "test_convnext", "timm_pool": "", "timm_proj": "linear", "image_size": 64},
    },
    "SigLIP": {
        **CONFIG,
        "custom_text": True,
        "init_logit_bias": -10,
        "embed_dim": 64,
        "vision_cfg": {
            "timm_model_name": "test_vit",
            "timm_pool": "map",
            "timm_proj": "none",
            "image_size": 64,
        },
        "text_cfg": {**TEXT, "context_length": 64, "no_causal_mask": True, "proj_bias": True, "pool_type": "last"},
    },
    "CoCa": {
        **CONFIG,
        **CAPTIONS,
        "custom_text": True,
        "vision_cfg": {**VISION, "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
        "text_cfg": {**TEXT, "context_length": 76, "embed_cls": True, "output_tokens": True},
    },
}
FITS_PLI = {"bigG", "CoCa"}
FITS_WORDS = {"bigG", "RN50", "ConvNeXt"}


def write(folder: Path, family: str) -> Path:
    folder.mkdir(parents=True)
    record = {"model_cfg": FAMILIES[family], "activation": "gelu", "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(record))
    torch.manual_seed(0)
    with quietly():
        model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    if family == "CoCa":
        torch.nn.init.normal_(model.text_decoder.text_projection, std=0.02)  # which open_clip leaves uninitialised
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "model.safetensors")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_runs_the_baselines_and_the_other_methods_say_whether_they_can(family: str, tmp_path: Path) -> None:
    backbone: Any = load_backbone(str(write(tmp_path / family, family)), device="cpu")
    pixels = torch.randn(2, 3, backbone.image_size, backbone.image_size)
    tokens = backbone.tokenize(["make it red", "two dogs of the same breed"])
    with torch.inference_mode():
        images, texts = backbone.encode_images(pixels), backbone.encode_tokens(tokens)
        torch.testing.assert_close(images, backbone.model.encode_image(pixels, normalize=False))
        torch.testing.assert_close(texts, backbone.model.encode_text(tokens, normalize=False), atol=1e-5, rtol=1e-5)
    assert images.shape == texts.shape == (2, backbone.dim)

    spec = find_method("image-text")
    queries = scenes_protocol("tiny").queries[:2]
    method = build(spec, Encoder(backbone, None, batch_size=2), parse_parameters(spec, {}))
    assert np.isfinite(method.encode_queries(queries)).all()

    if family in FITS_PLI:
        tower = patch_tower(backbone)
        assert tower.patches == 16
        assert torch.equal(tower.project_patches(tower.embed_patches(pixels)), backbone.encode_images(pixels))
    else:
        with pytest.raises(UsageError, match="cannot be tuned by masking"):
            patch_tower(backbone)
    if family in FITS_WORDS:
        assert PseudoWords(backbone).width == 32
    else:
        with pytest.raises(UsageError, match="cannot read pseudo-words"):
            PseudoWords(backbone)


def test_a_tokenizer_of_the_hub_that_is_not_at_hand_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingData, match="The tokenizer of 'ViT-B-16-SigLIP/webli' cannot be built") as caught:
        _tokenizer(resolve("ViT-B-16-SigLIP/webli"))
    assert caught.value.hint is not None
    assert "timm/ViT-B-16-SigLIP of huggingface.co" in caught.value.hint
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingData, match="needs the package transformers") as caught:
        _tokenizer(resolve("ViT-B-16-SigLIP/webli"))
    assert caught.value.hint == "pip install 'cirbench[transformers]'"
