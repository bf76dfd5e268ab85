"""What the processes of torchrun run in the tests: trainings, the encoding of a gallery, and commands.

python several.py FOLDER   leaves a checkpoint of each, the features of the gallery and a run below FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path
from unittest import mock

from cirbench.backbones import encoder
from cirbench.backbones.encoder import Encoder
from cirbench.backbones.store import FeatureStore
from cirbench.benchmarks.scenes import scenes_protocol
from cirbench.cli import execute
from cirbench.support import distributed
from cirbench.training.contrastive import write_random_model
from cirbench.training.train import train
from tests.tiny_clip import tiny_backbone, write_design
from tests.training.quick import quick_request, trained

CASES: dict[str, tuple[str, dict[str, str]]] = {name: (name, {}) for name in trained()} | {
    "clip in micro-batches": ("clip", {"grad_accum_steps": "2"}),
    "pli in bf16": ("pli", {"precision": "bf16"}),
    "pli with losses read late": ("pli", {}),
    "pli compiled": ("pli", {"compile": "true"}),
}


def commands(folder: Path) -> list[list[str]]:
    """Command lines that write below a folder, on the model in it."""
    model = ["--backbone", str(folder / "model")]
    train = ["train", "pli", *model, "--data", "scenes:64", "--set", "batch_size=16", "--set", "steps=4"]
    run = ["run", "--method", "image-text", *model, "--dataset", "scenes", "--split", "tiny"]
    return [
        [*train, "--evaluate", "scenes/tiny", "--output", str(folder / "checkpoint")],
        [*run, "--output", str(folder / "runs")],
    ]


def main(folder: Path) -> None:
    """Train every case, encode 100 images in shards of eight, and run the commands."""
    for case, (name, settings) in CASES.items():
        late = "late" in case  # as on a GPU; and then the state is saved as often as can be, which needs agreement
        with (
            mock.patch("cirbench.training.train.steps_ahead", lambda device, late=late: int(late)),
            mock.patch("cirbench.training.loop.BACKEND", "aot_eager"),  # what is compiled is run as it is
        ):
            train(quick_request(name, **settings), folder=folder / case, save_seconds=0.0 if late else 60.0)
    encoder.SHARD = 8
    gallery = scenes_protocol("tiny").gallery
    assert gallery is not None
    Encoder(tiny_backbone(), FeatureStore(folder / "features")).images(gallery.items[:100])
    if distributed.get_context().is_main_process:
        write_random_model(write_design(folder / "model"), folder / "model", seed=0)
    distributed.barrier()
    for command in commands(folder):
        assert execute(command) == 0


if __name__ == "__main__":
    with distributed.init_distributed():
        main(Path(sys.argv[1]))
