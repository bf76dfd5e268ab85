"""Vision-language models with an identity.

`load_backbone` builds one, `list_backbones` names those that need no more than a name. Neither torch nor open_clip is
imported before a backbone is built.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cirbench.backbones.families import BackboneEntry, family_of, list_backbones
from cirbench.backbones.interface import (
    Activation,
    AskedPrecision,
    Backbone,
    BackboneIdentity,
    Precision,
    settle_precision,
)
from cirbench.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "Activation",
    "AskedPrecision",
    "Backbone",
    "BackboneEntry",
    "BackboneIdentity",
    "Precision",
    "list_backbones",
    "load_backbone",
]


def load_backbone(
    name: str,
    *,
    weights: Path | None = None,
    ema: bool = False,
    activation: Activation | None = None,
    preprocessing: str | None = None,
    precision: AskedPrecision = "fp32",
    device: str = "auto",
) -> Backbone:
    """Build a vision-language model, with weights or not at all.

    Args:
        name: ``"ViT-L-14/openai"`` (open_clip architecture and pretrained tag), ``"ViT-L-14"`` together with
            ``weights``, the name of a bundled model, ``"hf-hub:owner/model"`` of open_clip, or the path of a model
            folder with ``open_clip_config.json``, ``model.safetensors`` and, for a tokenizer of its own,
            ``merges.txt.gz``. Through the extra ``transformers``: ``"owner/model"`` of the hub (CLIP, SigLIP, ALIGN,
            AltCLIP, Chinese-CLIP ...), ``"blip-itm-base-coco"``, or the path of a folder as transformers saves it.
            Through the extra ``sentence-transformers``: ``"clip-ViT-B-32"``, a folder with ``modules.json``, or a model
            of images and one of texts, joined by ``+``. Of a plug-in: its name, or ``"NAME:VARIANT"``.
        weights: A weights file (safetensors, or a ``.pt`` that holds tensors only) to use in place of the model's own.
        ema: Take the averaged weights (EMA) of that file; they are never taken unasked.
        activation: With which the weights were trained. Needed for a weights file unless the tag, the architecture's
            name or a ``card.json`` or ``open_clip_config.json`` beside the file says it.
        preprocessing: A declaration such as ``"targetpad(1.25)"``; see `cirbench.backbones.images`.
            By default what the model was trained for.
        precision: ``"bf16"`` converts the weights; ``"bf16-autocast"`` leaves them, and `Encoder` multiplies in bf16;
            ``"auto"`` is the latter on a GPU that has bf16, and ``"fp32"`` elsewhere. Features are float32 either way.
        device: ``"cpu"``, ``"cuda"``, or ``"auto"`` for the GPU where there is one.

    Raises:
        UnknownName: There is no such architecture, tag or bundled model.
        UsageError: The activation is not known, or contradicts what is recorded; no such device; ``ema`` without
            ``weights``, or with a file that holds no averaged weights.
        MissingData: The weights are not available and could not be downloaded.
        CorruptFile: The weights are damaged, do not fit the architecture, or are a pickle.
    """
    if ema and weights is None:
        raise UsageError("--ema chooses among the weights of a file, and no --weights are given.", hint="Leave it out.")
    return family_of(name).load()(
        name,
        weights=weights,
        ema=ema,
        activation=activation,
        preprocessing=preprocessing,
        precision=settle_precision(precision, device),
        device=device,
    )
