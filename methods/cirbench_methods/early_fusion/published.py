"""The checkpoints that CoVR's authors published for BLIP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from cirbench.backbones.weights import published_tensors
from cirbench.errors import UsageError
from cirbench_methods.early_fusion.tower import FusionTower

if TYPE_CHECKING:
    from cirbench.backbones.interface import Backbone

_PUBLISHED = "Give a checkpoint of CoVR with BLIP; those of CoVR-2 are of BLIP-2."
_FROZEN = ("vision_proj.weight", "vision_proj.bias")
"""Tensors that CoVR left as they were, by which the weights that it started from are recognised."""
_IMAGE_SIDE = ("visual_encoder.", "vision_proj.")
_HALF = 2e-3
"""How far half precision moves a weight, as a share of it."""


def covr(content: Any, backbone: Backbone, file: str) -> dict[str, torch.Tensor]:
    """The tuned text tower of CoVR, saved under ``model`` by the names of BLIP's own code, which transformers kept.

    Raises:
        UsageError: The file holds something else, or was tuned from other weights than the backbone's.
    """
    tensors = published_tensors(content, file, key="model", hint=_PUBLISHED)
    expected = FusionTower(backbone, 0.07).state_dict()
    tower = {
        name: tensor
        for name, tensor in tensors.items()
        if not name.startswith(_IMAGE_SIDE) and not name.endswith("position_ids")
    }
    tower["temperature"] = tower.pop("temp", expected["temperature"]).reshape(())  # a constant in CoVR's code
    if odd := sorted(tower.keys() ^ expected.keys()):
        what = "missing" if odd[0] in expected else "not part of it"
        raise UsageError(f"{file} does not hold a tuned text tower of BLIP: {odd[0]!r} is {what}.", hint=_PUBLISHED)
    if wrong := [name for name in expected if tower[name].shape != expected[name].shape]:
        raise UsageError(
            f"{file} is for a BLIP of another size than {backbone.identity.name}: {wrong[0]} is "
            f"{tuple(tower[wrong[0]].shape)}, not {tuple(expected[wrong[0]].shape)}.",
            hint="CoVR's are for --backbone blip-itm-large-coco.",
        )
    own = backbone.model.state_dict()
    for name in _FROZEN:
        if name in tensors and not torch.allclose(tensors[name].float(), own[name].cpu(), rtol=_HALF, atol=1e-6):
            raise UsageError(
                f"{file} was tuned beside other images than those of {backbone.identity.name}: {name} differs.",
                hint="Name the backbone that it was tuned on.",
            )
    return tower
