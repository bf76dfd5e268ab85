"""The checkpoints that CLIP4Cir's authors published: tuned towers, and Combiners."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from cirbench.backbones.weights import fit_tuned, published_tensors
from cirbench.errors import UsageError
from cirbench_methods.clip4cir.combiner import Combiner

if TYPE_CHECKING:
    from cirbench.backbones.interface import Backbone

Tensors = dict[str, torch.Tensor]

_START = "token_embedding.weight"
"""A tensor that tuning hardly moves, by which the weights that it started from are recognised."""
_PUBLISHED = "Give the file that CLIP4Cir's code saved."


def towers(content: Any, backbone: Backbone, file: str) -> Tensors:
    """Both tuned towers, saved under ``CLIP`` by OpenAI's names, under the names of the backbone's own model.

    Raises:
        UsageError: The file holds something else, or was tuned from other weights.
        CorruptFile: The towers have another shape than the backbone's.
    """
    found = published_tensors(content, file, key="CLIP", hint=_PUBLISHED)
    tensors = {name: tensor.float() for name, tensor in found.items()}
    if _START not in tensors:
        raise UsageError(f"{file} holds no tuned CLIP: {_START} is missing.", hint=_PUBLISHED)
    return fit_tuned(backbone, tensors, file, marks=(_START,))


def combiner(content: Any, backbone: Backbone, file: str) -> Tensors:
    """A Combiner, saved under ``Combiner``.

    Raises:
        UsageError: The file holds something else, or a Combiner for features of another width.
    """
    tensors = published_tensors(content, file, key="Combiner", hint=_PUBLISHED)
    with torch.device("meta"):
        expected = Combiner(1, 1, 1).state_dict().keys()
    if odd := sorted(tensors.keys() ^ expected):
        what = "missing" if odd[0] in expected else "not part of it"
        raise UsageError(f"{file} does not hold a Combiner: its tensor {odd[0]!r} is {what}.", hint=_PUBLISHED)
    width = int(tensors["output_layer.weight"].shape[0])
    if width != backbone.dim:
        raise UsageError(
            f"The Combiner in {file} is for features of {width} numbers, and {backbone.identity.name} has "
            f"{backbone.dim}.",
            hint="Name the backbone that it was trained on: for 640 numbers RN50x4/openai.",
        )
    return tensors
