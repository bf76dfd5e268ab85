"""The regions of images: patches of the image tower in the space of its features."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.functional import adaptive_avg_pool2d, normalize

from cirbench.backbones.store import OwnSpace
from cirbench.errors import UsageError
from cirbench.ranking.vectors import VectorRows
from cirbench.support.files import digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from cirbench.backbones.encoder import Advance, Batch, Encoder
    from cirbench.backbones.interface import Backbone
    from cirbench.protocol import Item

SCHEMA = 1
_TOGETHER = 256
"""Images in a shard: 25 MB of 65 vectors of 768 numbers."""


class Regions:
    """Encodes an image as its whole and grid x grid regions, unit vectors that are kept in half precision.

    Raises:
        UsageError: The backbone's image tower gives out no patches in the space of its features, or too few.
    """

    def __init__(self, encoder: Encoder, grid: int) -> None:
        self.encoder = encoder
        self.grid = grid
        self.visual: Any = getattr(encoder.backbone.model, "visual", encoder.backbone.model)
        sides = getattr(self.visual, "grid_size", (0, 0))
        name = encoder.backbone.identity.name
        usable = getattr(self.visual, "pool_type", None) == "tok" and getattr(self.visual, "proj", None) is not None
        if not usable or self.visual.attn_pool is not None or self.visual.final_ln_after_pool:
            raise UsageError(
                f"The image tower of {name} has no patches in the space of its features.",
                hint="Take a CLIP of open_clip with a vision transformer, such as ViT-B-32/openai.",
            )
        if grid > min(sides):
            raise UsageError(
                f"{grid} x {grid} regions are more than the {sides[0]} x {sides[1]} patches of {name}.",
                hint=f"--set regions={min(sides)}",
            )

    def __call__(self, items: Sequence[Item]) -> VectorRows:
        """Encode images, (N, 1 + grid², D), read from where they are kept as they are sliced; the whole comes first.

        Raises:
            MissingData: An image is absent or cannot be decoded.
            CirbenchError: New rows cannot be kept.
        """
        backbone = self.encoder.backbone
        contents = [item.image.content for item in items]
        image_of = dict(zip(contents, (item.image for item in items), strict=True))
        vectors = 1 + self.grid**2
        recipe = digest({"schema": SCHEMA, "grid": self.grid})
        space = OwnSpace(backbone.identity, "Encoding regions", recipe, vectors * backbone.dim, "float16")

        def make(missing: list[str], advance: Advance) -> NDArray[np.float32]:
            def compute(batch: Batch) -> torch.Tensor:
                return self._encode(backbone, self.encoder.pixels([image_of[missing[place]] for place in batch]))

            with _giving_patches(self.visual):
                return self.encoder.rowwise(compute, np.zeros(len(missing), dtype=np.int64), advance)

        return VectorRows(self.encoder.own_rows(space, contents, make, shard=_TOGETHER), vectors)

    def _encode(self, backbone: Backbone, pixels_B3SS: torch.Tensor) -> torch.Tensor:
        dtype = torch.bfloat16 if backbone.identity.precision == "bf16" else torch.float32
        whole_BD, patches_BPW = self.visual(pixels_B3SS.to(backbone.device, dtype))
        patches_BPD = patches_BPW @ self.visual.proj
        rows, columns = self.visual.grid_size
        map_BDRC = patches_BPD.float().transpose(1, 2).unflatten(2, (rows, columns))
        regions_BGD = adaptive_avg_pool2d(map_BDRC, self.grid).flatten(2).transpose(1, 2)
        vectors_BVD = torch.cat([whole_BD.float()[:, None], regions_BGD], dim=1)
        return normalize(vectors_BVD, dim=2).flatten(1)


@contextlib.contextmanager
def _giving_patches(visual: Any) -> Iterator[None]:
    """Let a tower of open_clip give out its patches beside its feature, until the block ends."""
    before, visual.output_tokens = visual.output_tokens, True
    try:
        yield
    finally:
        visual.output_tokens = before
