"""Small random models, written to disk in the formats that real ones come in."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import open_clip
import torch
from safetensors.torch import save_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CONFIG: dict[str, Any] = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


def model(seed: int = 0, config: Mapping[str, Any] = CONFIG, *, quick_gelu: bool = False) -> open_clip.CLIP:
    """A random CLIP in which every tensor matters, and the activation visibly so."""
    torch.manual_seed(seed)
    clip = open_clip.CLIP(**config, quick_gelu=quick_gelu).eval()
    with torch.no_grad():
        for name, parameter in clip.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            elif "mlp" in name:
                parameter.mul_(5)
    return clip


def state(clip: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone().contiguous() for name, tensor in clip.state_dict().items()}


def write_folder(
    folder: Path,
    seed: int = 0,
    *,
    activation: str | None = "gelu",
    config: Mapping[str, Any] = CONFIG,
    preprocess: Mapping[str, Any] | None = None,
) -> Path:
    """A model folder with random weights."""
    folder.mkdir(parents=True, exist_ok=True)
    record: dict[str, Any] = {"model_cfg": config, "preprocess_cfg": preprocess or {}}
    if activation is not None:
        record["activation"] = activation
    (folder / "open_clip_config.json").write_text(json.dumps(record))
    built = {key: value for key, value in config.items() if key not in ("quick_gelu", "custom_text")}
    save_file(state(model(seed, built)), folder / "model.safetensors")
    return folder


def write_merges(path: Path, count: int) -> int:
    """The first ``count`` merges of CLIP's tokenizer; returns the size of the vocabulary they make."""
    with gzip.open(open_clip.tokenizer.default_bpe()) as file:
        lines = file.read().decode().split("\n")[: count + 1]
    with gzip.open(path, "wb") as file:
        file.write("\n".join(lines).encode())
    return 2 * 256 + count + 2
