"""From what a user asks to train to a checkpoint: resolve, plan, execute; the same way for a method and for a CLIP."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from cirbench.benchmarks.catalogue import datasets, find_dataset
from cirbench.errors import UsageError
from cirbench.methods.interface import find_method
from cirbench.methods.training import training_parameters, training_request
from cirbench.support import console
from cirbench.support.parameters import Parameters, parse
from cirbench.training.interface import CLIP

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cirbench.backbones.interface import Backbone
    from cirbench.methods.interface import MethodSpec
    from cirbench.training.data import Kind, Source
    from cirbench.training.train import Request

SAMPLE_SIZE = 256
"""Captions whose length is looked at before a training."""


class TrainConfig(Parameters, frozen=True):
    """Everything that can be asked of ``cirbench train``; field names are the option names.

    Attributes:
        method: The method to train, or ``clip`` to pre-train a model.
        model: With ``clip``, the folder that describes the model.
        backbone: Name, ``model/tag``, or a model folder.
        weights: A local file with the backbone's weights.
        ema: Take the averaged weights (EMA) of that file.
        activation: Activation function of a local weights file.
        data: Training data; see `cirbench.training.data.open_source`.
        captions: The captions of a folder of images.
        data_root: Folder of the data sets, for data by name; CIRBENCH_DATA if not given.
        skip_broken: How many samples that cannot be used may be left out.
        allow_overlap: Go on where triplets show images of a protocol that is evaluated on the way.
        workers: Processes that decode images.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        seed: Random seed of the training.
        output: The folder of the checkpoint; one in the cache if not given.
        evaluate: Protocols to evaluate on during training.
        eval_every: Steps between two evaluations; the end of each epoch if not given.
        monitor: The protocol whose best checkpoint is kept.
        keep_epochs: Keep a checkpoint of each epoch.
        log: Trackers: tensorboard, wandb or trackio.
        set: Training parameters.
    """

    method: str = ""
    model: str | None = None
    backbone: str | None = None
    weights: str | None = None
    ema: bool = False
    activation: Literal["gelu", "quick_gelu"] | None = None
    data: str | None = None
    captions: str | None = None
    data_root: str | None = None
    skip_broken: Annotated[int, msgspec.Meta(ge=0)] = 0
    allow_overlap: bool = False
    workers: Annotated[int, msgspec.Meta(ge=0)] | None = None
    device: str = "auto"
    seed: int | None = None
    output: str | None = None
    evaluate: tuple[str, ...] = ()
    eval_every: Annotated[int, msgspec.Meta(ge=1)] | None = None
    monitor: str | None = None
    keep_epochs: bool = False
    log: tuple[str, ...] = ()
    set: dict[str, Any] = msgspec.field(default_factory=dict)


def train(
    method: str,
    *,
    data: str | Path,
    backbone: str | Path | None = None,
    parameters: Mapping[str, Any] | None = None,
    output: str | Path | None = None,
    restart: bool = False,
    captions: str | Path | None = None,
    data_root: str | Path | None = None,
    skip_broken: int = 0,
    allow_overlap: bool = False,
    evaluate: Sequence[str] = (),
    eval_every: int | None = None,
    monitor: str | None = None,
    keep_epochs: bool = False,
    log: Sequence[str] = (),
    model: str | Path | None = None,
    weights: str | Path | None = None,
    ema: bool = False,
    activation: Literal["gelu", "quick_gelu"] | None = None,
    device: str = "auto",
    seed: int | None = None,
    workers: int | None = None,
) -> Path:
    """Train a method, or pre-train a CLIP, and return the folder of the checkpoint.

    The same training is not done twice: a finished one is returned, and an interrupted one is continued.

    Args:
        method: A method's name, ``package.module:Class`` or ``file.py:Class``; or ``clip`` to pre-train a model.
        data: A table of images and captions, a list, a folder of images, tar shards, or ``scenes``.
        backbone: Where the training starts from: a name, ``model/tag``, or a model folder.
        parameters: Training parameters by name; see ``cirbench show METHOD``.
        output: The folder of the checkpoint; one in the cache if not given.
        restart: Replace whatever training ``output`` holds.
        captions: The captions of a folder of images.
        data_root: Folder of the data sets, for data by name; CIRBENCH_DATA if not given.
        skip_broken: How many samples that cannot be used may be left out.
        allow_overlap: Go on where triplets show images of a protocol that is evaluated on the way; the card says so.
        evaluate: Ids of protocols to evaluate on during training.
        eval_every: Steps between two evaluations; the end of each epoch if not given.
        monitor: The id of the protocol whose best checkpoint is kept instead of the last one.
        keep_epochs: Keep a checkpoint of each epoch.
        log: Trackers that every step is sent to: ``tensorboard``, ``wandb`` or ``trackio``.
        model: With ``clip``, the folder that describes the model.
        weights: A local file with the backbone's weights.
        ema: Take the averaged weights (EMA) of that file.
        activation: Activation function of a local weights file.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        seed: Random seed of the training.
        workers: Processes that decode images; chosen by the device if not given.

    Raises:
        UnknownName: There is no such method, backbone, protocol or parameter.
        UsageError: What was given does not fit together, or ``output`` holds another training.
        MissingData: Data, a model or a weights file is missing.
        CirbenchError: Whatever stops the training; see `cirbench.training.train.train`.
    """
    options: dict[str, Any] = {
        "model": model,
        "backbone": backbone,
        "weights": weights,
        "ema": ema,
        "activation": activation,
        "data": data,
        "captions": captions,
        "data_root": data_root,
        "skip_broken": skip_broken,
        "allow_overlap": allow_overlap,
        "workers": workers,
        "device": device,
        "seed": seed,
        "output": output,
        "evaluate": (*evaluate,),
        "eval_every": eval_every,
        "monitor": monitor,
        "keep_epochs": keep_epochs,
        "log": (*log,),
        "set": dict(parameters or {}),
    }
    given = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
    return execute(parse(TrainConfig, {"method": method, **given}, owner="cirbench.train"), restart=restart)


def execute(config: TrainConfig, *, restart: bool = False) -> Path:
    """Train what a configuration asks for; see `train`."""
    request = plan(config)
    from cirbench.training import train as training
    from cirbench.training.data.batches import sensible_workers

    workers = sensible_workers(request.backbone.device) if config.workers is None else config.workers
    return training.train(
        request,
        folder=None if config.output is None else Path(config.output),
        restart=restart,
        display=functools.partial(console.progress, unit="samples"),
        workers=workers,
        log=config.log,
    )


def plan(config: TrainConfig) -> Request:
    """Resolve a configuration against what there is, and check all of it; nothing is written."""
    from cirbench.training.data.source import OPENED
    from cirbench.training.log import require_trackers

    # What needs no torch comes first, so that what is wrong with it is said at once.
    require_trackers(config.log)
    spec = None if config.method == CLIP else find_method(config.method)
    source = _source(config, None if spec is None else spec.trains_on)
    request = _clip_request(config, source) if spec is None else _method_request(spec, config, source)
    from cirbench.runs.validation import evaluated_protocols, refuse_overlap, validation_config

    validation = validation_config(
        spec,
        request.backbone,
        config.evaluate,
        request.held_out,
        eval_every=config.eval_every,
        monitor=config.monitor,
        keep_epochs=config.keep_epochs,
    )
    if "caption" in OPENED[request.kind]:
        _say_truncation(source, request.backbone)
    overlap = refuse_overlap(request, evaluated_protocols(validation), allowed=config.allow_overlap)
    return dataclasses.replace(request, validation=validation, skip_broken=config.skip_broken, overlap=overlap)


def _method_request(spec: MethodSpec, config: TrainConfig, source: Source) -> Request:
    from cirbench.backbones import load_backbone

    _refuse(config, ("model",), "a method is trained from a --backbone; --model is for `cirbench train clip`")
    name = config.backbone or _usual_backbone(source)
    parameters = training_parameters(spec, name, _settings(config))
    backbone = load_backbone(
        name, weights=_path(config.weights), ema=config.ema, activation=config.activation, device=config.device
    )
    return training_request(spec, backbone, source, parameters)


def _clip_request(config: TrainConfig, source: Source) -> Request:
    from cirbench.training.contrastive import CLIP_TRAINING, clip_request

    unused = ("backbone", "weights", "ema", "activation")
    _refuse(config, unused, f"`cirbench train {CLIP}` starts from random weights of the model that --model describes")
    if config.model is None:
        raise UsageError("--model is missing.", hint="Give a folder with open_clip_config.json.")
    parameters = parse(type(CLIP_TRAINING), _settings(config), owner=f"{CLIP}'s training", base=CLIP_TRAINING)
    return clip_request(Path(config.model), source, parameters, device=config.device)


def _source(config: TrainConfig, kind: Kind | None) -> Source:
    from cirbench.training.data import open_source

    if config.data is None:
        raise UsageError("--data is missing.", hint="For instance: --data scenes, or --data pairs.csv")
    root = _path(config.data_root)
    return open_source(
        config.data, config.captions, data_root=root, kind=kind, display=console.progress, say=console.say
    )


def _usual_backbone(source: Source) -> str:
    """The backbone of the data set that brings these samples."""
    name = source.name.partition(":")[0]
    if name not in datasets():
        raise UsageError("--backbone is missing.", hint="For instance: --backbone ViT-L-14/openai")
    return find_dataset(name).default_backbone


def _settings(config: TrainConfig) -> dict[str, Any]:
    if config.seed is None:
        return config.set
    if "seed" in config.set:
        raise UsageError("--seed and --set seed=... exclude each other.", hint="Leave out one of them.")
    return {**config.set, "seed": config.seed}


def _refuse(config: TrainConfig, options: Iterable[str], why: str) -> None:
    """Refuse options that would have no effect."""
    for option in options:
        if getattr(config, option) not in (None, False):
            raise UsageError(f"--{option} would have no effect: {why}.", hint=f"Leave out --{option}.")


def _say_truncation(source: Source, backbone: Backbone) -> None:
    captions = source.some_captions(SAMPLE_SIZE)
    cut = int(backbone.overlong(captions).sum())
    if cut:
        console.say(
            f"{cut} of {len(captions)} captions that were looked at are longer than the {backbone.context_length} "
            f"tokens that {backbone.identity.name} reads; what is too much at their ends is cut."
        )


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
