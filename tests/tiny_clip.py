"""A CLIP small enough to train within a test, and pairs to train it on; neither depends on what cirbench ships."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import itertools
import json
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

import open_clip
from PIL import Image

from cirbench.backbones import load_backbone
from cirbench.protocol import ImageTextPair
from cirbench.training.contrastive import write_random_model
from cirbench.training.data import Source, open_source

if TYPE_CHECKING:
    from cirbench.backbones.interface import Backbone

CONFIG = {
    "model_cfg": {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "patch_size": 8, "layers": 2, "width": 32, "head_width": 16},
        "text_cfg": {"context_length": 32, "vocab_size": 1514, "layers": 1, "width": 32, "heads": 2},
    },
    "preprocess_cfg": {"interpolation": "bicubic", "resize_mode": "shortest"},
    "activation": "gelu",
}


def write_design(folder: Path) -> Path:
    """Describe the small CLIP in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps(CONFIG))
    published = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
    merges = gzip.decompress(published.read_bytes()).splitlines(keepends=True)[:1000]
    (folder / "merges.txt.gz").write_bytes(gzip.compress(b"".join(merges), mtime=0))
    return folder


@cache
def tiny_backbone(seed: int = 0) -> Backbone:
    """The small CLIP with random weights."""
    folder = write_design(Path(mkdtemp()) / "tiny")
    write_random_model(folder, folder, seed=seed)
    return load_backbone(str(folder), device="cpu")


@cache
def some_pairs(count: int = 48) -> Source:
    """The first training pairs of scenes."""
    return open_source(f"scenes:{count}")


@cache
def some_triplets(count: int = 48) -> Source:
    """The first training triplets of scenes."""
    return open_source(f"scenes:triplets:{count}")


COLOURS = ("red", "green", "blue", "yellow", "black", "white", "orange", "purple")


@dataclasses.dataclass(frozen=True)
class TwoColours:
    """An image of two halves."""

    left: str
    right: str

    @property
    def content(self) -> str:
        return hashlib.sha256(str(self).encode()).hexdigest()

    def open(self) -> Image.Image:
        image = Image.new("RGB", (32, 32), self.left)
        image.paste(self.right, (16, 0, 32, 32))
        return image

    def __str__(self) -> str:
        return f"{self.left}-{self.right}"


@cache
def coloured_pairs() -> Source:
    """56 images of two colours, each with a caption."""
    pairs = [
        ImageTextPair(TwoColours(left, right), f"{left} left of {right}")
        for left, right in itertools.permutations(COLOURS, 2)
    ]
    return Source("colours", pairs, "0" * 64)
