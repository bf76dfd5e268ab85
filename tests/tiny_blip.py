"""A BLIP small enough for a test, with random weights, in the files that transformers saves and the hub offers."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from string import ascii_lowercase, digits
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

from cirbench.backbones import load_backbone
from cirbench.backbones.blip import BlipBackbone

if TYPE_CHECKING:
    from collections.abc import Mapping

VOCABULARY = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *(".", ",", "-"),
    *(prefix + letter for prefix in ("", "##") for letter in ascii_lowercase + digits),
    *("left", "of", "red", "green", "blue", "two", "dog"),
]
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
    "initializer_range": 0.02,
}
TEXT = {
    "vocab_size": len(VOCABULARY) + 2,  # the real one knows two tokens that its tokenizer never writes
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 40,
    "bos_token_id": 1,
    "sep_token_id": 3,
}


def blip_model(seed: int = 0) -> Any:
    """A random BLIP in which every tensor matters."""
    from transformers import BlipConfig, BlipForImageTextRetrieval

    config = BlipConfig(vision_config=VISION, text_config=TEXT, image_text_hidden_size=16)
    torch.manual_seed(seed)
    model: Any = BlipForImageTextRetrieval(config)
    model.eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def write_blip(folder: Path, seed: int = 0, *, changes: Mapping[str, Any] | None = None) -> Path:
    """A model folder; ``changes`` are made in its configuration only."""
    folder.mkdir(parents=True, exist_ok=True)
    model = blip_model(seed)
    (folder / "config.json").write_text(json.dumps(model.config.to_dict() | dict(changes or {})))
    preprocessor = {
        "size": {"height": 32, "width": 32},
        "resample": 3,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY))
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "model.safetensors")
    return folder


@cache
def tiny_blip(seed: int = 0) -> BlipBackbone:
    """The small BLIP, loaded as a user would."""
    backbone = load_backbone(str(write_blip(Path(mkdtemp()) / "blip", seed)), device="cpu")
    assert isinstance(backbone, BlipBackbone)
    return backbone
