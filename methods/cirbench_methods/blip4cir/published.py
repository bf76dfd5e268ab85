"""The text towers that BLIP4CIR's authors published."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cirbench.backbones.blip import BlipBackbone
from cirbench.backbones.weights import published_tensors
from cirbench.errors import UsageError

if TYPE_CHECKING:
    import torch

    from cirbench.backbones.interface import Backbone

_PUBLISHED = "Give a file tuned_blip_*.pt of BLIP4CIR."


def text_tower(content: Any, backbone: Backbone, file: str) -> dict[str, torch.Tensor]:
    """A tuned text tower, saved under ``BLIPTextEncoder``, beside the images of the backbone.

    Raises:
        UsageError: The file holds something else, or the backbone is not a BLIP of its size.
    """
    if not isinstance(backbone, BlipBackbone):
        raise UsageError(f"{file} is for BLIP, and {backbone.identity.name} is none.", hint="Name a BLIP.")
    found = published_tensors(content, file, key="BLIPTextEncoder", hint=_PUBLISHED)
    tower = {name: tensor for name, tensor in found.items() if not name.endswith("position_ids")}
    own = backbone.model.state_dict()
    expected = {name for name in own if name.startswith(("text_encoder.", "text_proj."))}
    if odd := sorted(tower.keys() ^ expected):
        what = "missing" if odd[0] in expected else "not part of it"
        raise UsageError(f"{file} does not hold a text tower of BLIP: {odd[0]!r} is {what}.", hint=_PUBLISHED)
    if wrong := [name for name in expected if tower[name].shape != own[name].shape]:
        raise UsageError(f"{file} is for a BLIP of another size than {backbone.identity.name}: {min(wrong)} differs.")
    return {name: tensor.cpu() for name, tensor in own.items()} | tower
