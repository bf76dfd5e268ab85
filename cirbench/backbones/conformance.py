"""Check a backbone against its interface, by running it on drawn images and a few texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cirbench.backbones.interface import JointBackbone
from cirbench.errors import UsageError
from cirbench.support.plugins import Finding, rule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

    from cirbench.backbones.interface import Backbone

TEXTS = ("a red circle", "two green squares on a table", "the same dog, but asleep", "")
TOLERANCE = 1e-4
"""How far a feature may move when others are in its batch, as a share of the largest number of its row."""


def check_backbone(backbone: Backbone) -> list[Finding]:
    """Hold a loaded backbone to `cirbench.backbones.interface.Backbone`, and to `JointBackbone` where it is one."""
    if isinstance(backbone, JointBackbone):
        return _check_joint(backbone, backbone)
    import torch

    images = _drawn(2 * backbone.image_size)

    def pixels() -> Any:
        return torch.stack([backbone.preprocess(image) for image in images]).to(backbone.device)

    def prepared() -> str | None:
        found, wanted = tuple(pixels().shape[1:]), (3, backbone.image_size, backbone.image_size)
        if found != wanted:
            return f"{found} instead of {wanted}"
        preprocessing = backbone.preprocessing
        declared = torch.stack([torch.from_numpy(preprocessing.levels(image)) for image in images])
        same = torch.equal(pixels().cpu(), preprocessing.normalize(declared))
        return None if same else "`preprocess` and `preprocessing` differ; features are computed by the latter"

    def tokens() -> Any:
        return backbone.tokenize(list(TEXTS)).to(backbone.device)

    def tokenised() -> str | None:
        lengths = backbone.token_lengths(tokens().cpu())
        if tokens().shape != (len(TEXTS), backbone.context_length):
            return f"tokens have the shape {tuple(tokens().shape)}, not {(len(TEXTS), backbone.context_length)}"
        within = ((lengths >= 1) & (lengths <= backbone.context_length)).all()
        return None if within else f"token_lengths gives {list(lengths)}"

    def features(encode: Any, inputs: Any) -> str | None:
        with torch.no_grad():
            together, again = encode(inputs()), encode(inputs())
            alone = torch.cat([encode(inputs()[at : at + 1]) for at in range(len(TEXTS))])
        if tuple(together.shape) != (len(TEXTS), backbone.dim):
            return f"features have the shape {tuple(together.shape)}, not {(len(TEXTS), backbone.dim)}"
        if together.dtype != torch.float32 or not torch.isfinite(together).all():
            return f"features are {together.dtype}, and not all finite float32"
        if not torch.equal(together, again):
            return "two runs differ"
        moved = ((together - alone).abs().amax(1) / together.abs().amax(1)).max().item()
        return None if moved <= TOLERANCE else f"a feature depends on its batch: it moves by {moved:.1e}"

    return [
        _identity(backbone),
        rule("images become (3, S, S)", prepared),
        rule("texts become token ids, with their lengths", tokenised),
        rule("texts that are cut are known", lambda: _overlong(backbone)),
        rule(
            "images become finite float32 rows, the same in any batch", lambda: features(backbone.encode_images, pixels)
        ),
        rule(
            "texts become finite float32 rows, the same in any batch", lambda: features(backbone.encode_tokens, tokens)
        ),
    ]


def _check_joint(backbone: Backbone, joint: JointBackbone) -> list[Finding]:
    import torch

    images = _drawn(128)

    def rows(images: Sequence[Image.Image | None], texts: Sequence[str | None], instruction: str = "") -> str | None:
        inputs = [joint.read(image, text, instruction) for image, text in zip(images, texts, strict=True)]
        with torch.no_grad():
            alone, again = (torch.cat([joint.encode([each]) for each in inputs]) for _ in range(2))
            beside = torch.cat([joint.encode([each, each])[1:] for each in inputs])
        if tuple(alone.shape) != (len(inputs), backbone.dim):
            return f"features have the shape {tuple(alone.shape)}, not {(len(inputs), backbone.dim)}"
        if alone.dtype != torch.float32 or not torch.isfinite(alone).all():
            return f"features are {alone.dtype}, and not all finite float32"
        if not torch.equal(alone, again):
            return "two runs differ"
        moved = ((alone - beside).abs().amax(1) / alone.abs().amax(1)).max().item()
        return None if moved <= TOLERANCE else f"a feature depends on its batch: it moves by {moved:.1e}"

    def instructed() -> str | None:
        inputs = [joint.read(images[0], TEXTS[0], instruction) for instruction in ("", "Find the image.")]
        with torch.no_grad():
            one, other = (joint.encode([each]) for each in inputs)
        return "a feature is the same with an instruction and without" if torch.equal(one, other) else None

    def readable() -> str | None:
        joint.require_readable(TEXTS)
        marks = [mark for mark in ("<|image_pad|>", "<image>", "<|im_end|>", "</s>") if _is_refused(joint, mark)]
        return None if marks else "no mark that stands for an image or an end is refused in a text"

    nothing = [None] * len(TEXTS)
    return [
        _identity(backbone),
        rule("texts that are cut are known", lambda: _overlong(backbone)),
        rule("marks of the model in a text are refused", readable),
        rule("images become finite float32 rows, the same in any batch", lambda: rows(images, nothing)),
        rule("texts become finite float32 rows, the same in any batch", lambda: rows(nothing, TEXTS)),
        rule(
            "images with texts become finite float32 rows, the same in any batch", lambda: rows(images, TEXTS, "Look.")
        ),
        rule("an instruction is read", instructed),
    ]


def _is_refused(joint: JointBackbone, text: str) -> bool:
    try:
        joint.require_readable([text])
    except UsageError:
        return True
    return False


def _drawn(side: int) -> list[Image.Image]:
    """An image of noise for each of `TEXTS`."""
    from PIL import Image

    draw = np.random.default_rng(0)
    return [Image.fromarray(draw.integers(0, 256, (side, side + 8, 3), dtype=np.uint8)) for _ in TEXTS]


def _identity(backbone: Backbone) -> Finding:
    gaps = [
        name for name in ("name", "architecture", "weights", "preprocessing") if not getattr(backbone.identity, name)
    ]
    return Finding("the identity is complete", f"no {', '.join(gaps)}" if gaps else None)


def _overlong(backbone: Backbone) -> str | None:
    found = [bool(each) for each in backbone.overlong(["short", "word " * (2 * backbone.context_length)])]
    return None if found == [False, True] else f"a short and a very long text give {found}"
