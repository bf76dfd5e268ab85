"""What the processes of torchrun run in the tests: trainings, and the encoding of a gallery.

python several.py FOLDER   leaves a checkpoint of each and the features of the gallery below FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

from cirbench import processes
from cirbench.datasets.scenes import scenes_protocol
from cirbench.features import encoder
from cirbench.features.encoder import Encoder
from cirbench.features.store import FeatureStore
from cirbench.training.train import train
from tests.tiny_clip import tiny_backbone
from tests.training.quick import quick_request, trained

CASES: dict[str, tuple[str, dict[str, str]]] = {name: (name, {}) for name in trained()} | {
    "clip in pieces": ("clip", {"accumulate": "2"}),
    "pli in bf16": ("pli", {"precision": "bf16"}),
}


def main(folder: Path) -> None:
    """Train every case and encode 100 images in shards of eight."""
    for case, (name, settings) in CASES.items():
        train(quick_request(name, **settings), folder=folder / case)
    encoder.SHARD = 8
    gallery = scenes_protocol("tiny").gallery
    assert gallery is not None
    Encoder(tiny_backbone(), FeatureStore(folder / "features")).images(gallery.items[:100])


if __name__ == "__main__":
    with processes.joined():
        main(Path(sys.argv[1]))
