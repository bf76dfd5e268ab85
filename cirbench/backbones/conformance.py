"""Check a backbone against its interface, by running it on drawn images and a few texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cirbench.support.plugins import Finding, rule

if TYPE_CHECKING:
    from cirbench.backbones.interface import Backbone

TEXTS = ("a red circle", "two green squares on a table", "the same dog, but asleep", "")
TOLERANCE = 1e-4
"""How far a feature may move when others stand in its batch, as a share of the largest number of its row."""


def check_backbone(backbone: Backbone) -> list[Finding]:
    """Hold a loaded backbone to `cirbench.backbones.interface.Backbone`."""
    import torch
    from PIL import Image

    draw = np.random.default_rng(0)
    side = 2 * backbone.image_size
    images = [Image.fromarray(draw.integers(0, 256, (side, side + 8, 3), dtype=np.uint8)) for _ in TEXTS]

    def pixels() -> Any:
        return torch.stack([backbone.preprocess(image) for image in images]).to(backbone.device)

    def prepared() -> str | None:
        found, wanted = tuple(pixels().shape[1:]), (3, backbone.image_size, backbone.image_size)
        return None if found == wanted else f"{found} instead of {wanted}"

    def tokens() -> Any:
        return backbone.tokenize(list(TEXTS)).to(backbone.device)

    def tokenised() -> str | None:
        lengths = backbone.token_lengths(tokens().cpu())
        if tokens().shape != (len(TEXTS), backbone.context_length):
            return f"tokens have the shape {tuple(tokens().shape)}, not {(len(TEXTS), backbone.context_length)}"
        within = ((lengths >= 1) & (lengths <= backbone.context_length)).all()
        return None if within else f"token_lengths gives {list(lengths)}"

    def overlong() -> str | None:
        found = [bool(each) for each in backbone.overlong(["short", "word " * (2 * backbone.context_length)])]
        return None if found == [False, True] else f"a short and a very long text give {found}"

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

    identity = backbone.identity
    gaps = [name for name in ("name", "architecture", "weights", "preprocessing") if not getattr(identity, name)]
    return [
        Finding("the identity is complete", f"no {', '.join(gaps)}" if gaps else None),
        rule("images become (3, S, S)", prepared),
        rule("texts become token ids, with their lengths", tokenised),
        rule("texts that are cut are known", overlong),
        rule(
            "images become finite float32 rows, the same in any batch", lambda: features(backbone.encode_images, pixels)
        ),
        rule(
            "texts become finite float32 rows, the same in any batch", lambda: features(backbone.encode_tokens, tokens)
        ),
    ]
