"""A process that encodes, to be killed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from cirbench.backbones import encoder as module
from cirbench.backbones import load_backbone
from cirbench.backbones.encoder import Encoder
from cirbench.backbones.store import FeatureStore
from tests.backbones.sources import captions, items

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event

IMAGES, TEXTS, SHARD = 300, 200, 8


def encode(model: str, store: str, begun: Event) -> None:
    """Encode a gallery, queries and captions in small shards, as an evaluation would."""
    torch.set_num_threads(1)
    module.SHARD = SHARD
    encoder = Encoder(load_backbone(model, device="cpu"), FeatureStore(Path(store)), batch_size=4)
    begun.set()
    encoder.images(items(*range(IMAGES)))
    encoder.images(items(*range(50, IMAGES + 30, 7)))
    encoder.texts(captions(TEXTS))
