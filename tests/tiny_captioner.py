"""Captioners of both kinds, small enough for a test, with random weights, in the files that transformers saves."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tests.tiny_blip import TEXT, VISION, VOCABULARY

if TYPE_CHECKING:
    from pathlib import Path


def write_captioner(folder: Path, seed: int = 0) -> Path:
    """A model folder, as ``save_pretrained`` writes it."""
    transformers: Any = importlib.import_module("transformers")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY))
    tokenizer = transformers.BertTokenizerFast(str(folder / "vocab.txt"))
    text = {**TEXT, "vocab_size": len(VOCABULARY), "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    config = transformers.BlipConfig(vision_config=VISION, text_config=text, image_text_hidden_size=16)
    _save(transformers.BlipForConditionalGeneration(config), folder, seed)
    transformers.BlipProcessor(
        transformers.BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer
    ).save_pretrained(folder)
    return folder


def write_blip2_captioner(folder: Path, seed: int = 0) -> Path:
    """A BLIP-2 with a small OPT behind it, as ``save_pretrained`` writes it."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    transformers: Any = importlib.import_module("transformers")
    words = ["<pad>", "<s>", "</s>", "<unk>", *VOCABULARY[5:]]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    pictures = transformers.BlipImageProcessor(size={"height": 32, "width": 32})
    processor = transformers.Blip2Processor(pictures, fast, num_query_tokens=4)
    width = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    language = transformers.OPTConfig(
        **width, vocab_size=len(fast), ffn_dim=64, max_position_embeddings=64, word_embed_proj_dim=32, pad_token_id=0
    )
    config = transformers.Blip2Config(
        vision_config=VISION,
        qformer_config={**width, "intermediate_size": 64, "encoder_hidden_size": 32, "vocab_size": 50},
        text_config=language.to_dict(),
        num_query_tokens=4,
        image_text_hidden_size=16,
        image_token_index=len(fast) - 1,
    )
    _save(transformers.Blip2ForConditionalGeneration(config), folder, seed)
    processor.save_pretrained(folder)
    return folder


def _save(model: Any, folder: Path, seed: int) -> None:
    """Save a model with random weights, so large that what it writes depends on the image."""
    import torch

    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    model.save_pretrained(folder)
