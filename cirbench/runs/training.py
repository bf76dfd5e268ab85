"""From what a user asks to train to a checkpoint: resolve, plan, execute; the same way for a method and for a CLIP.

Meanwhile an intermediate checkpoint may be evaluated on named protocols, by the method that is trained.
"""

from __future__ import annotations

import dataclasses
import functools
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from cirbench.backbones import load_backbone
from cirbench.backbones.store import FeatureStore, default_store
from cirbench.benchmarks.catalogue import datasets, find_dataset, load_protocol
from cirbench.benchmarks.images import require_images
from cirbench.errors import UsageError
from cirbench.methods.evaluate import evaluate
from cirbench.methods.interface import find_method, reference_baseline
from cirbench.methods.loading import build, parse_parameters
from cirbench.methods.training import training_parameters, training_request
from cirbench.support import console
from cirbench.support.distributed import barrier, get_context
from cirbench.support.parameters import Parameters, parse
from cirbench.training.checkpoint import CheckpointScore, among, count_overlap, read_card, stages_of
from cirbench.training.interface import CLIP, HELD_OUT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cirbench.backbones.interface import Backbone
    from cirbench.methods.interface import Method, MethodSpec
    from cirbench.protocol import EvaluationProtocol
    from cirbench.training.data import Kind, Source
    from cirbench.training.state import ValidationConfig
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
    overlap = refuse_overlap(request, _evaluated_protocols(validation), allowed=config.allow_overlap)
    return dataclasses.replace(request, validation=validation, skip_broken=config.skip_broken, overlap=overlap)


def _method_request(spec: MethodSpec, config: TrainConfig, source: Source) -> Request:
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


def validation_config(
    spec: MethodSpec | None,
    backbone: Backbone,
    protocols: Sequence[str],
    held_out: EvaluationProtocol | None = None,
    *,
    eval_every: int | None = None,
    monitor: str | None = None,
    keep_epochs: bool = False,
) -> ValidationConfig:
    """Plan what is evaluated while a method is trained.

    Args:
        spec: The method; ``None`` where a backbone is trained, which is evaluated by the sum of image and text.
        backbone: Where the training starts from.
        protocols: Ids of protocols to evaluate on; all are opened now, so that a mistake is found before the training.
        held_out: What `HELD_OUT` stands for among them.
        eval_every: Steps between two evaluations; ``None`` for the end of each epoch.
        monitor: The id of the protocol whose best checkpoint is kept; it need not be among ``protocols``.
        keep_epochs: Keep a checkpoint of each epoch.

    Raises:
        UnknownName: There is no such protocol.
        UsageError: A protocol's labels are hidden; there is nothing to evaluate on.
        MissingData: Its files or images are not there.
    """
    from cirbench.training.state import ValidationConfig

    wanted = [*dict.fromkeys([*protocols, *([monitor] if monitor else [])])]
    if eval_every is not None and not wanted:
        raise UsageError(
            "--eval-every says when to evaluate, and --evaluate is missing.", hint="Add --evaluate PROTOCOL."
        )
    opened = {id: _held_out(held_out) if id == HELD_OUT else _opened(id) for id in wanted}
    return ValidationConfig(
        protocols=tuple(protocol.name for protocol in opened.values()),
        evaluate=_Evaluation(spec, backbone, tuple(opened.values())) if opened else None,
        eval_every=eval_every,
        monitor=opened[monitor].name if monitor else None,
        keep_epochs=keep_epochs,
    )


def _evaluated_protocols(validation: ValidationConfig) -> tuple[EvaluationProtocol, ...]:
    """The protocols that a training is evaluated on."""
    return validation.evaluate.protocols if isinstance(validation.evaluate, _Evaluation) else ()


def _held_out(protocol: EvaluationProtocol | None) -> EvaluationProtocol:
    if protocol is None:
        raise UsageError(
            f"--evaluate or --monitor {HELD_OUT} is for a part of the triplets, and none is held out.",
            hint="Of a method that is trained on triplets, hold some out: --set held_out=0.1",
        )
    return protocol


def refuse_overlap(request: Request, protocols: Iterable[EvaluationProtocol], *, allowed: bool) -> dict[str, int]:
    """Count the images of protocols that a training on triplets or its earlier stages look at, by content.

    Args:
        request: The training; other sources than triplets are not looked at.
        protocols: What is to be evaluated.
        allowed: Whether it may be.

    Raises:
        CheckFailed: There are such images, and they are not allowed.
    """
    protocols = [protocol for protocol in protocols if protocol.id != HELD_OUT]
    if not protocols or request.seen is None:
        return {}
    stages = [str(stage) for stage in stages_of(request.parameters)]
    found = {
        protocol.name: count_overlap(
            among(request.seen),
            protocol,
            allowed=allowed,
            trained=f"those of {' and '.join([request.source.name, *stages])}",
            hint="Train on other triplets",
        )
        for protocol in protocols
    }
    return {name: count for name, count in found.items() if count}


def _opened(id: str) -> EvaluationProtocol:
    protocol = load_protocol(id)
    if protocol.labels is None:
        raise UsageError(f"The labels of {protocol.name} are hidden, so no training can be evaluated on it.")
    require_images(protocol)
    return protocol


@dataclasses.dataclass(frozen=True)
class _Evaluation:
    spec: MethodSpec | None
    backbone: Backbone
    protocols: tuple[EvaluationProtocol, ...]

    def __call__(self, checkpoint: Path) -> list[CheckpointScore]:
        """Evaluate a checkpoint on every protocol; the features of its weights are forgotten afterwards."""
        passing = FeatureStore(checkpoint / "features")  # beside the weights, so that all processes see it
        scores = [self._score(checkpoint, protocol, passing) for protocol in self.protocols]
        barrier()
        if get_context().is_main_process:
            shutil.rmtree(passing.root, ignore_errors=True)
        return scores

    def _score(self, checkpoint: Path, protocol: EvaluationProtocol, passing: FeatureStore) -> CheckpointScore:
        headline = evaluate(self._method(checkpoint, passing), protocol, self.backbone.device).measurements[0]
        score = CheckpointScore(
            step=read_card(checkpoint).steps,
            protocol=protocol.name,
            digest=protocol.digest,
            metric=headline.label,
            value=100 * headline.value,
        )
        console.say(f"step {score.step}: {score.protocol} {score.metric} {score.value:.2f} %")
        return score

    def _method(self, checkpoint: Path, passing: FeatureStore) -> Method:
        """The method with the weights of the moment, whose features pass; those of a frozen backbone stay."""
        from cirbench.backbones.encoder import Encoder

        if self.spec is None:
            trained = load_backbone(str(checkpoint), device=str(self.backbone.device))
            plain = find_method(reference_baseline())
            return build(plain, Encoder(trained, passing, progress=console.progress), parse_parameters(plain, {}))
        encoder = Encoder(self.backbone, default_store(), tuned=passing, progress=console.progress)
        return build(self.spec, encoder, parse_parameters(self.spec, {}, self.backbone.identity.name), checkpoint)
