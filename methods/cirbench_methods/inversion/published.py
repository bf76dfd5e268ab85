"""The published checkpoints of the methods that invert images, by their layouts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from cirbench.backbones.text import PseudoWords
from cirbench.backbones.weights import published_tensors
from cirbench.errors import UsageError
from cirbench_methods.inversion.phi import Mapping as MappingNetwork
from cirbench_methods.inversion.phi import Phi

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cirbench.backbones.interface import Activation, Backbone

Tensors = dict[str, torch.Tensor]

_PUBLISHED = "Give the file that the method's authors published."
_ACTIVATIONS: dict[int, Activation] = {768: "quick_gelu", 1024: "gelu", 1280: "gelu"}
"""With which LinCIR's backbones were trained (OpenAI's L/14, LAION's H/14 and bigG/14), by the width of features."""
_HALF = 2e-3
"""How far half precision moves a weight, as a share of it."""


def searle(content: Any, backbone: Backbone, file: str) -> Tensors:
    """SEARLE's phi: its tensors under ``Phi``; trained on OpenAI's CLIP alone."""
    tensors = _network(_table(content, "Phi", file), Phi, backbone, file)
    _need_activation("quick_gelu", backbone, "SEARLE's phi were trained on OpenAI's weights,")
    return tensors


def lincir(content: Any, backbone: Backbone, file: str) -> Tensors:
    """LinCIR's phi: its tensors under ``Phi``, or nothing else."""
    tensors = _network(_table(content, "Phi", file), Phi, backbone, file)
    if backbone.dim in _ACTIVATIONS:
        _need_activation(_ACTIVATIONS[backbone.dim], backbone, f"LinCIR's phi for {backbone.dim} numbers was trained")
    return tensors


def pic2word(content: Any, backbone: Backbone, file: str) -> Tensors:
    """Pic2Word's network: its tensors under ``state_dict_img2text``, beside the towers that it was trained with."""
    tensors = _network(_table(content, "state_dict_img2text", file), MappingNetwork, backbone, file)
    _need_activation("quick_gelu", backbone, "Pic2Word's network was trained on OpenAI's weights,")
    towers = _table(content, "state_dict", file) if isinstance(content, dict) and "state_dict" in content else {}
    own = {name.removeprefix("text."): tensor for name, tensor in backbone.model.state_dict().items()}
    for name in ("visual.proj", "text_projection"):
        theirs = towers.get(name)
        if theirs is not None and not (theirs.shape == own[name].shape and _equal(theirs, own[name])):
            raise UsageError(
                f"The towers in {file} are not those of {backbone.identity.name}: {name} differs, so its words would "
                "mean nothing there.",
                hint="Pic2Word's published model is for --backbone ViT-L-14/openai.",
            )
    return tensors


def _table(content: Any, key: str, file: str) -> Tensors:
    """The tensors under ``key``, or those that the file holds in another usual form."""
    return published_tensors(content, file, key=key, hint=_PUBLISHED)


def _network(tensors: Tensors, kind: type[Phi | MappingNetwork], backbone: Backbone, file: str) -> Tensors:
    """The tensors, if they are those of the network that fits the backbone."""
    width = PseudoWords(backbone).width
    with torch.device("meta"):
        own = kind(backbone.dim, width).state_dict()
    if tensors.keys() != own.keys():
        odd = sorted(tensors.keys() ^ own.keys())[0]
        raise UsageError(
            f"{file} does not hold the network of this method: its tensor {odd!r} is {_absent(odd, own)}.",
            hint=_PUBLISHED,
        )
    if {name: tensor.shape for name, tensor in tensors.items()} != {name: tensor.shape for name, tensor in own.items()}:
        (dim, width), (ours, our_width) = _ends(tensors), _ends(own)
        raise UsageError(
            f"The network in {file} makes words of {width} numbers from features of {dim}, and "
            f"{backbone.identity.name} has words of {our_width} and features of {ours}.",
            hint=f"Name the backbone that it was trained on{_likely(dim)}.",
        )
    return tensors


def _absent(name: str, own: Mapping[str, torch.Tensor]) -> str:
    return "missing" if name in own else "not part of it"


def _likely(dim: int) -> str:
    name = {512: "ViT-B-32/openai", 768: "ViT-L-14/openai", 1024: "ViT-H-14/laion2b_s32b_b79k"}.get(dim)
    return "" if name is None else f": probably --backbone {name}"


def _ends(tensors: Mapping[str, torch.Tensor]) -> tuple[int, int]:
    """The lengths of what goes into a network and of what comes out."""
    matrices = [tensor for name, tensor in tensors.items() if name.endswith("weight")]
    return int(matrices[0].shape[1]), int(matrices[-1].shape[0])


def _need_activation(activation: Activation, backbone: Backbone, why: str) -> None:
    if backbone.identity.activation != activation:
        raise UsageError(
            f"{why} with {activation}, and {backbone.identity.name} has {backbone.identity.activation}.",
            hint="Choose the backbone that it was trained on.",
        )


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.allclose(one.float(), other.float(), rtol=_HALF, atol=1e-4)
