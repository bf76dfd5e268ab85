"""A BLIP captioner small enough for a test, with random weights, in the files that transformers saves."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tests.tiny_blip import TEXT, VISION, VOCABULARY

if TYPE_CHECKING:
    from pathlib import Path


def write_captioner(folder: Path, seed: int = 0) -> Path:
    """A model folder, as ``save_pretrained`` writes it."""
    import torch

    transformers: Any = importlib.import_module("transformers")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY))
    tokenizer = transformers.BertTokenizerFast(str(folder / "vocab.txt"))
    text = {**TEXT, "vocab_size": len(VOCABULARY), "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    config = transformers.BlipConfig(vision_config=VISION, text_config=text, image_text_hidden_size=16)
    torch.manual_seed(seed)
    model = transformers.BlipForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():  # so that what is written depends on the image
            parameter.add_(torch.randn_like(parameter) * 0.3)
    model.save_pretrained(folder)
    transformers.BlipProcessor(
        transformers.BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer
    ).save_pretrained(folder)
    return folder
