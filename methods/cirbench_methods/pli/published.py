"""Tuned CLIPs as PLI's public code saves them: one state dict, or one of each tower."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from cirbench.backbones.weights import fit_tuned
from cirbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cirbench.backbones.interface import Backbone

Tensors = dict[str, torch.Tensor]

_IMAGE, _TEXT = "class_embedding", "token_embedding.weight"
"""Tensors by which a tower is recognised, whatever prefix their names have."""
_UNUSED = "vision_mask_token"
"""A tensor of the public code that nothing reads."""


def clip(content: Any, backbone: Backbone, file: str) -> Tensors:
    """Both tuned towers, under the names of the backbone's own model.

    Raises:
        UsageError: A tower is missing, or was tuned from other weights.
        CorruptFile: A tower has another shape than the backbone's.
    """
    image, text = _tower(content, _IMAGE, file), _tower(content, _TEXT, file)
    tensors = {f"visual.{name}": tensor for name, tensor in image.items()}
    tensors |= {name: tensor for name, tensor in text.items() if not name.startswith(("visual.", "logit_"))}
    tensors["logit_scale"] = backbone.model.state_dict()["logit_scale"]  # the public code neither tunes nor uses it
    return fit_tuned(backbone, tensors, file, marks=(_IMAGE, _TEXT))


def _tower(content: Any, mark: str, file: str) -> Tensors:
    """The tensors of one tower, by their names in OpenAI's model."""
    for table in _tables(content):
        for name in table:
            if name == mark or name.endswith("." + mark):
                start = name.removesuffix(mark)
                return {
                    key.removeprefix(start): value
                    for key, value in table.items()
                    if key.startswith(start) and not key.endswith(_UNUSED)
                }
    raise UsageError(
        f"{file} holds no tuned CLIP: {mark} is missing.", hint="Give the file that PLI's code saved of its models."
    )


def _tables(content: Any) -> Iterator[Tensors]:
    """Every table of tensors in what was saved, however deep."""
    if isinstance(content, dict):
        yield {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)}
        for part in content.values():
            yield from _tables(part)
