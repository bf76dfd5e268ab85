"""Dual encoders of transformers, small and at random, in the files that transformers saves."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import open_clip
import torch
from PIL import Image

from tests.tiny_blip import VOCABULARY

if TYPE_CHECKING:
    from pathlib import Path

VISION: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT: dict[str, Any] = {**VISION, "vocab_size": len(VOCABULARY), "max_position_embeddings": 40}
CLIP_IMAGES = {
    "size": {"shortest_edge": 32},
    "crop_size": {"height": 32, "width": 32},
    "resample": 3,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
SQUASHED = {
    "size": {"height": 32, "width": 32},
    "do_center_crop": False,
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
}


def save(folder: Path, model: Any, images: dict[str, Any]) -> Path:
    """Save a model as transformers does, with every tensor at random, and the tokenizer's vocabulary beside it."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.eval().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(images))
    return folder


def write_bert_words(folder: Path) -> None:
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))


def write_clip_words(folder: Path) -> None:
    """CLIP's own tokenizer in the files of transformers."""
    tokenizer = open_clip.SimpleTokenizer()
    words = [*list(tokenizer.encoder)[:-2], "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: at for at, word in enumerate(words)}))
    with gzip.open(open_clip.tokenizer.default_bpe()) as file:
        merges = file.read().decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges))
    stated = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": 77,
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(stated))


def clip(folder: Path) -> Path:
    from transformers import CLIPConfig, CLIPModel

    text = {**TEXT, "vocab_size": 49408, "max_position_embeddings": 77, "bos_token_id": 49406, "eos_token_id": 49407}
    config = CLIPConfig(
        text_config=text, vision_config={**VISION, "image_size": 32, "patch_size": 8}, projection_dim=24
    )
    save(folder, CLIPModel(config), CLIP_IMAGES)
    write_clip_words(folder)
    return folder


def siglip(folder: Path) -> Path:
    from transformers import SiglipConfig, SiglipModel

    text = {**TEXT, "max_position_embeddings": 16, "projection_size": 32}
    config = SiglipConfig(text_config=text, vision_config={**VISION, "image_size": 32, "patch_size": 8})
    save(folder, SiglipModel(config), SQUASHED)
    write_bert_words(folder)
    return folder


def align(folder: Path) -> Path:
    from transformers import AlignConfig, AlignModel

    vision: dict[str, Any] = {
        "image_size": 32,
        "depth_divisor": 8,
        "kernel_sizes": [3, 3],
        "in_channels": [32, 16],
        "out_channels": [16, 24],
        "strides": [1, 2],
        "num_block_repeats": [1, 1],
        "expand_ratios": [1, 6],
        "hidden_dim": 64,
    }
    config = AlignConfig(text_config={**TEXT, "hidden_size": 64}, vision_config=vision, projection_dim=48)
    images = {
        "image_processor_type": "EfficientNetImageProcessor",
        "size": {"height": 44, "width": 44},
        "crop_size": {"height": 32, "width": 32},
        "do_center_crop": True,
        "resample": 2,
        "rescale_factor": 1 / 127.5,
        "rescale_offset": True,
        "do_normalize": False,
        "include_top": False,
    }
    save(folder, AlignModel(config), images)
    write_bert_words(folder)
    return folder


def chinese_clip(folder: Path) -> Path:
    from transformers import ChineseCLIPConfig, ChineseCLIPModel

    config = ChineseCLIPConfig(
        text_config=TEXT, vision_config={**VISION, "image_size": 32, "patch_size": 8}, projection_dim=24
    )
    save(folder, ChineseCLIPModel(config), {**CLIP_IMAGES, "size": {"height": 32, "width": 32}})
    write_bert_words(folder)
    return folder


def siglip2(folder: Path) -> Path:
    """SigLIP 2 of fixed resolution, which is a SigLIP with a large vocabulary and bilinear images."""
    from transformers import SiglipConfig, SiglipModel

    text = {**TEXT, "max_position_embeddings": 16, "projection_size": 32}
    config = SiglipConfig(text_config=text, vision_config={**VISION, "image_size": 32, "patch_size": 8})
    images = {"image_processor_type": "SiglipImageProcessor", **SQUASHED, "resample": 2}
    save(folder, SiglipModel(config), images)
    write_gemma_words(folder)
    return folder


def altclip(folder: Path) -> Path:
    from transformers import AltCLIPConfig, AltCLIPModel

    text = {**TEXT, "project_dim": 24, "pad_token_id": 0}
    config = AltCLIPConfig(
        text_config=text, vision_config={**VISION, "image_size": 32, "patch_size": 8}, projection_dim=24
    )
    save(folder, AltCLIPModel(config), CLIP_IMAGES)
    write_bert_words(folder)
    return folder


def write_gemma_words(folder: Path) -> None:
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizers: Any = transformers
    words = {word: at for at, word in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "eos_token": "[SEP]", "bos_token": "[CLS]"}
    tokenizers.GemmaTokenizerFast(tokenizer_object=tokenizer, model_max_length=16, **special).save_pretrained(folder)


def picture(seed: int = 0, width: int = 32, height: int = 40) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))
