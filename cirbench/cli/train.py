"""``cirbench train``: train a method, or a small CLIP."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cirbench.support.parameters import pairs, parse, read_options

if TYPE_CHECKING:
    from typing import Any

    from cirbench.runs.training import TrainConfig


@click.command()
@click.argument("method")
@click.option("--model", help="Model to train with clip: a folder with open_clip_config.json (and merges.txt.gz).")
@click.option("-b", "--backbone", help="Backbone: a name, MODEL/TAG or a model folder.")
@click.option("--weights", help="A local file with the backbone's weights.")
@click.option(
    "--activation",
    type=click.Choice(["gelu", "quick_gelu"]),
    help="Activation that a local weights file was trained with.",
)
@click.option(
    "--data",
    help="Training data: scenes, a .csv, .jsonl, .lst or .txt file, a folder of images, or 'shards-{00..99}.tar'.",
)
@click.option(
    "--captions", help="Captions of a folder of images: a folder of .txt, or a .csv, .jsonl or COCO's .json file."
)
@click.option("--skip-broken", type=click.IntRange(min=0), metavar="N", help="Leave out and count N unusable samples.")
@click.option("--workers", type=click.IntRange(min=0), help="Number of processes that decode.  [default: 0 on a CPU]")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Set a training parameter.")
@click.option("--config", type=click.Path(path_type=Path), help="Read options from a TOML file; those given here win.")
@click.option("--device", help="Device: auto, cpu, cuda or cuda:N.")
@click.option("--seed", type=int, help="Random seed of the training.")
@click.option("-o", "--output", help="Folder to write the checkpoint to.  [default: one in the cache]")
@click.option("--evaluate", metavar="PROTOCOL,...", help="Evaluate on protocols while training: --evaluate scenes/tiny")
@click.option(
    "--eval-every", type=click.IntRange(min=1), help="Steps between evaluations.  [default: at the end of each epoch]"
)
@click.option("--monitor", metavar="PROTOCOL", help="Keep the checkpoint that is best on a protocol, not the last.")
@click.option("--keep-epochs", is_flag=True, default=None, help="Keep a checkpoint of each epoch, in epoch-K/.")
@click.option(
    "--resume/--restart", default=True, show_default=True, help="Continue an interrupted training, or start over."
)
def command(
    method: str, assignments: tuple[str, ...], config: Path | None, resume: bool, **given: str | int | None
) -> None:
    """Train METHOD on images, texts or both; `clip` pre-trains a model by the plain contrastive loss.

    The folder of the checkpoint is printed on stdout. A training that is finished already is not repeated.

    \b
    cirbench train pli --backbone ViT-B-32/openai --data pairs.csv --output checkpoints/pli
    cirbench train pli --backbone ViT-B-32/openai --data images/ --captions captions/ --skip-broken 10
    cirbench train pli --backbone scenes-vit --data scenes --set mask_ratio=0.5
    cirbench train clip --model my-model/ --data scenes --output my-model/
    torchrun --nproc-per-node 4 -m cirbench train pli --backbone ViT-L-14/openai --data pairs.csv
    """
    from cirbench.runs.training import execute

    click.echo(execute(_configuration(method, config, {**given, "set": pairs(assignments)}), restart=not resume))


def _configuration(method: str, file: Path | None, given: dict[str, Any]) -> TrainConfig:
    """Combine a TOML file with the options, which win."""
    from cirbench.runs.training import TrainConfig

    values = read_options(file, given, fields=TrainConfig.__struct_fields__, sections=("set",))
    return parse(TrainConfig, {**values, "method": method}, owner="cirbench train")
