"""``cirbench train``, ``convert`` and ``caption``: checkpoints trained or converted, and captions to train on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from cirbench.support.console import print_path
from cirbench.support.parameters import pairs, parse, read_options

if TYPE_CHECKING:
    from typing import Any

    from cirbench.backbones.interface import Activation
    from cirbench.runs.training import TrainConfig


@click.command()
@click.argument("method")
@click.option("--model", help="Model to train with clip: a folder with open_clip_config.json (and merges.txt.gz).")
@click.option("-b", "--backbone", help="Backbone: a name, MODEL/TAG or a model folder.")
@click.option("--weights", help="A local file with the backbone's weights.")
@click.option("--ema", is_flag=True, default=None, help="Take the averaged weights (EMA) of the file of --weights.")
@click.option(
    "--activation",
    type=click.Choice(["gelu", "quick_gelu"]),
    help="Activation that a local weights file was trained with.",
)
@click.option(
    "--data",
    help="Training data: a name (`cirbench list sources`), a table, a list, a folder, or 'shards-{00..99}.tar'.",
)
@click.option(
    "--captions", help="Captions of a folder of images: a folder of .txt, or a .csv, .jsonl or COCO's .json file."
)
@click.option("--data-root", help="Folder of the data sets, for data by name.  [default: CIRBENCH_DATA]")
@click.option("--skip-broken", type=click.IntRange(min=0), metavar="N", help="Leave out and count N unusable samples.")
@click.option(
    "--allow-overlap",
    is_flag=True,
    default=None,
    help="Go on where triplets show images of a protocol that is evaluated; the card says so.",
)
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
@click.option("--log", metavar="TRACKER,...", help="Send every step to tensorboard, wandb or trackio.")
@click.option(
    "--resume/--restart", default=True, show_default=True, help="Continue an interrupted training, or start over."
)
def train_command(
    method: str, assignments: tuple[str, ...], config: Path | None, resume: bool, **given: str | int | None
) -> None:
    """Train METHOD on images, texts, pairs or triplets; `clip` pre-trains a model by the plain contrastive loss.

    The folder of the checkpoint is printed on stdout. A training that is finished already is not repeated.

    \b
    cirbench train pli --backbone ViT-B-32/openai --data pairs.csv --output checkpoints/pli
    cirbench train pli --backbone ViT-B-32/openai --data images/ --captions captions/ --skip-broken 10
    cirbench train pli --backbone scenes-vit --data scenes --set mask_ratio=0.5
    cirbench train combiner --backbone ViT-B-32/openai --data fashioniq:train --set held_out=0.1 --monitor held-out
    cirbench train clip --model my-model/ --data scenes --output my-model/
    torchrun --nproc-per-node 4 -m cirbench train pli --backbone ViT-L-14/openai --data pairs.csv
    """
    from cirbench.runs.training import execute

    print_path(execute(_configuration(method, config, {**given, "set": pairs(assignments)}), restart=not resume))


def _configuration(method: str, file: Path | None, given: dict[str, Any]) -> TrainConfig:
    """Combine a TOML file with the options, which win."""
    from cirbench.runs.training import TrainConfig

    values = read_options(file, given, fields=TrainConfig.__struct_fields__, sections=("set",))
    return parse(TrainConfig, {**values, "method": method}, owner="cirbench train")


@click.command()
@click.argument("method")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "-b", "--backbone", required=True, help="Backbone its authors trained on: a name, MODEL/TAG or a model folder."
)
@click.option("--weights", type=click.Path(path_type=Path), help="A local file with the backbone's weights.")
@click.option(
    "--activation",
    type=click.Choice(["gelu", "quick_gelu"]),
    help="Activation that a local weights file was trained with.",
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="State a training parameter that the file does not hold.",
)
@click.option("--ema", is_flag=True, help="Take the averaged weights (EMA) that FILE holds.")
@click.option("--selected-on", metavar="PROTOCOL", help="Protocol on which its authors chose the weights.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Folder to write to.  [default: one in the cache]"
)
def convert_command(
    method: str,
    file: Path,
    backbone: str,
    weights: Path | None,
    activation: Activation | None,
    assignments: tuple[str, ...],
    ema: bool,
    selected_on: str | None,
    output: Path | None,
) -> None:
    """Make a checkpoint of METHOD from FILE, as its authors published it.

    Pickles are read as tensors or refused. The folder of the checkpoint is printed on stdout; give it to `cirbench run
    --checkpoint`. A file that is converted already is not converted again.

    \b
    cirbench convert searle SEARLE_ViT-L14.pt --backbone ViT-L-14/openai
    cirbench convert pic2word pic2word_model.pt --backbone ViT-L-14/openai
    cirbench convert pli epoch_2.pth --backbone ViT-B-32/openai --set mask_ratio=0.75
    """
    from cirbench.methods.interface import find_method
    from cirbench.methods.training import training_parameters

    spec = find_method(method)
    parameters = training_parameters(spec, "", pairs(assignments))

    from cirbench.backbones import load_backbone
    from cirbench.methods.training import convert

    model = load_backbone(backbone, weights=weights, activation=activation, device="cpu")
    print_path(convert(spec, file, model, parameters, output=output, ema=ema, selected_on=selected_on))


@click.command()
@click.option(
    "--images", required=True, type=click.Path(path_type=Path), help="Folder of images; those in subfolders count too."
)
@click.option("--model", required=True, help="BLIP or BLIP-2 captioner: a name on the hub, or a folder.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The .jsonl file to write.")
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=16, show_default=True, help="Number of images in a batch."
)
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True)
@click.option("--device", default="auto", show_default=True, help="Device: auto, cpu, cuda or cuda:N.")
def caption_command(
    images: Path, model: str, output: Path, batch_size: int, precision: Literal["fp32", "bf16"], device: str
) -> None:
    """Describe every image below a folder, for `cirbench train --data` and for the method captioning.

    It may be stopped at any moment and goes on where it was: what was written of an image is kept by the image's
    content and the captioner's files. The path of the file is printed on stdout; beside it lies a card that says who
    wrote the captions. Needs: pip install 'cirbench[transformers]'

    \b
    cirbench caption --images imagenet/test --model Salesforce/blip2-flan-t5-xl --output captions.jsonl
    cirbench train pli --backbone ViT-L-14/openai --data captions.jsonl
    cirbench run --method captioning --set captions=captions.jsonl --dataset circo
    """
    from cirbench.artefacts import describe, kept_captions
    from cirbench.artefacts.captioner import load_captioner
    from cirbench.artefacts.captions import require_jsonl, write_captions
    from cirbench.backbones.images import FileImage
    from cirbench.errors import some
    from cirbench.support import console
    from cirbench.training.data.listed import read_folder

    require_jsonl(output)
    folder = read_folder(images, None)
    if folder.unused:
        console.say(f"{len(folder.unused):,} files are not images and get no caption: {some(folder.unused)}.")
    paths = [folder.folder / name for name in folder.images]
    captioner = load_captioner(model, device=device, precision=precision, batch_size=batch_size)
    sources = [FileImage(path) for path in paths]
    captions = describe(sources, captioner, kept_captions(captioner.maker), console.progress)
    card = write_captions(output, paths, captions, captioner)
    if card.speechless:
        shown = ", ".join(card.speechless[:10])
        console.say(f"The captioner said nothing of {len(card.speechless)} images, which are left out: {shown}")
    print_path(output)
