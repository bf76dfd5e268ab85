"""``cirbench train``: train a method, or a small CLIP."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click
import msgspec

from cirbench.errors import MissingData, UsageError
from cirbench.support.parameters import Parameters, pairs, parse, read_toml

if TYPE_CHECKING:
    from cirbench.backbones.features.encoder import Progress
    from cirbench.backbones.interface import Activation, Backbone
    from cirbench.methods.interface import MethodSpec
    from cirbench.training.callbacks import ValidationConfig
    from cirbench.training.data import Source

CLIP = "clip"
SAMPLE_SIZE = 256


class TrainOptions(Parameters, frozen=True):
    """What ``--config`` may hold; options given on the command line win.

    Attributes:
        model: For ``clip``: the folder that describes the model.
        backbone: Name, ``model/tag``, or a model folder.
        weights: A local file with the backbone's weights.
        activation: Of a local weights file.
        data: What to train on; see `cirbench.training.data.open_source`.
        captions: The captions of a folder of images.
        skip_broken: How many samples that cannot be used are left out.
        workers: How many processes decode.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        seed: Of everything random.
        output: The folder of the checkpoint.
        evaluate: Protocols to evaluate on while training.
        every: After how many steps to evaluate; the end of each epoch if not given.
        select: The protocol whose best checkpoint is kept.
        keep_epochs: Keep a checkpoint of each epoch.
        set: Training parameters.
    """

    model: str | None = None
    backbone: str | None = None
    weights: str | None = None
    activation: str | None = None
    data: str | None = None
    captions: str | None = None
    skip_broken: Annotated[int, msgspec.Meta(ge=0)] = 0
    workers: Annotated[int, msgspec.Meta(ge=0)] | None = None
    device: str = "auto"
    seed: int | None = None
    output: str | None = None
    evaluate: tuple[str, ...] = ()
    every: Annotated[int, msgspec.Meta(ge=1)] | None = None
    select: str | None = None
    keep_epochs: bool = False
    set: dict[str, Any] = msgspec.field(default_factory=dict)


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
@click.option("--every", type=click.IntRange(min=1), help="After how many steps.  [default: at the end of each epoch]")
@click.option("--select", metavar="PROTOCOL", help="Keep the checkpoint that is best on a protocol, not the last.")
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
    options = _options(config, {**given, "set": pairs(assignments)})
    if method == CLIP:
        folder = _train_clip(options, restart=not resume)
    else:
        from cirbench.methods.registry import find_method

        folder = _train_method(find_method(method), options, restart=not resume)
    click.echo(folder)


def _train_method(spec: MethodSpec, options: TrainOptions, *, restart: bool) -> Path:
    from cirbench.backbones import load_backbone
    from cirbench.methods.training import train_method, training_parameters

    source = _data(options)
    if options.backbone is None and source.name.split(":")[0] != "scenes":
        raise UsageError("--backbone is missing.", hint="For instance: --backbone ViT-L-14/openai")
    name = options.backbone or "scenes-vit"
    parameters = training_parameters(spec, name, _settings(options))
    activation: Activation | None = options.activation  # type: ignore[assignment]
    backbone = load_backbone(name, weights=_path(options.weights), activation=activation, device=options.device)
    if spec.trains_on in ("pairs", "texts"):
        _say_what_is_cut(source, backbone)
    return train_method(
        spec,
        backbone,
        source,
        parameters,
        output=_path(options.output),
        restart=restart,
        display=_display(),
        watch=_watch(spec, backbone, options),
        skip_broken=options.skip_broken,
        workers=_workers(options, backbone),
    )


def _train_clip(options: TrainOptions, *, restart: bool) -> Path:
    from cirbench.backbones.source import WEIGHTS_FILE
    from cirbench.training.config import CLIP_TRAINING
    from cirbench.training.models import design_folder, random_backbone

    if options.model is None:
        raise UsageError("--model is missing.", hint="Give a folder with open_clip_config.json.")
    source = _data(options)
    parameters = parse(type(CLIP_TRAINING), _settings(options), owner="clip's training", base=CLIP_TRAINING)
    design = design_folder(Path(options.model))
    backbone = random_backbone(design, seed=parameters.seed, device=options.device)

    _say_what_is_cut(source, backbone)

    from cirbench.training.contrastive import Contrastive
    from cirbench.training.train import Request, train

    watch = _watch(None, backbone, options)
    request = Request(
        CLIP,
        Contrastive,
        parameters,
        backbone,
        source,
        weights_file=WEIGHTS_FILE,
        design=design,
        watch=watch,
        skip_broken=options.skip_broken,
    )
    workers = _workers(options, backbone)
    return train(request, folder=_path(options.output), restart=restart, display=_display(), workers=workers)


def _watch(spec: MethodSpec | None, backbone: Backbone, options: TrainOptions) -> ValidationConfig:
    from cirbench.runs.validation import watch

    return watch(
        spec,
        backbone,
        options.evaluate,
        every=options.every,
        select=options.select,
        keep_epochs=options.keep_epochs,
    )


def _workers(options: TrainOptions, backbone: Backbone) -> int:
    from cirbench.training.data.batches import sensible_workers

    return options.workers if options.workers is not None else sensible_workers(backbone.device)


def _display() -> Progress:
    from cirbench.support.console import progress

    return functools.partial(progress, unit="samples")


def _options(config: Path | None, given: dict[str, Any]) -> TrainOptions:
    values: dict[str, Any] = {}
    if config is not None:
        try:
            values = read_toml(config)
        except OSError as error:
            raise MissingData(f"{config} cannot be read: {error.strerror}.") from error
    settings = {**values.pop("set", {}), **given.pop("set")}
    values |= {name: value for name, value in given.items() if value is not None}
    return parse(TrainOptions, {**values, "set": settings}, owner="cirbench train")


def _settings(options: TrainOptions) -> dict[str, Any]:
    return options.set if options.seed is None else {**options.set, "seed": options.seed}


def _data(options: TrainOptions) -> Source:
    from cirbench.support.console import progress, say
    from cirbench.training.data import open_source

    if options.data is None:
        raise UsageError("--data is missing.", hint="For instance: --data scenes, or --data pairs.csv")
    return open_source(options.data, options.captions, display=progress, say=say)


def _say_what_is_cut(source: Source, backbone: Backbone) -> None:
    from cirbench.support.console import say

    captions = source.some_captions(SAMPLE_SIZE)
    cut = int(backbone.overlong(captions).sum())
    if cut:
        say(
            f"{cut} of {len(captions)} captions that were looked at are longer than the {backbone.context_length} "
            f"tokens that {backbone.identity.name} reads; what is too much at their ends is cut."
        )


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
