"""Train the method of a SPEC on a backbone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cirbench.errors import UsageError
from cirbench.methods.registry import load_object
from cirbench.support.parameters import parse

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cirbench.backbones.features.encoder import Progress
    from cirbench.backbones.interface import Backbone
    from cirbench.methods.interface import MethodSpec
    from cirbench.training.callbacks import ValidationConfig
    from cirbench.training.config import TrainingParameters
    from cirbench.training.data import Source
    from cirbench.training.train import Request


def training_parameters(spec: MethodSpec, backbone: str, values: Mapping[str, Any]) -> TrainingParameters:
    """The recipe of the SPEC for a backbone, or the defaults, with ``values`` in place of what they set.

    Raises:
        UsageError: The method is not trained, or a value does not fit.
        UnknownName: There is no such parameter.
    """
    if spec.training is None:
        raise UsageError(f"The method {spec.name} is not trained.", hint=f"Run it: cirbench run --method {spec.name}")
    return parse(spec.training, values, owner=f"{spec.name}'s training", base=spec.training_presets.get(backbone))


def training_request(
    spec: MethodSpec,
    backbone: Backbone,
    source: Source,
    parameters: TrainingParameters,
    *,
    watch: ValidationConfig | None = None,
    skip_broken: int = 0,
) -> Request:
    """Everything that decides what comes out of training a method; it knows the folder where that would lie.

    Raises:
        UsageError: The method is not trained.
        MethodFailed: Its objective cannot be imported.
    """
    from cirbench.training.callbacks import ValidationConfig
    from cirbench.training.train import Request

    if spec.trainer is None:
        raise UsageError(f"The method {spec.name} is not trained.", hint=f"Run it: cirbench run --method {spec.name}")
    objective = load_object(spec.trainer, owner=f"the training of {spec.name}")
    if parameters.samples is not None:
        source = source.first(parameters.samples)
    return Request(
        spec.name,
        objective,
        parameters,
        backbone,
        source,
        spec.trains_on,
        watch=watch or ValidationConfig(),
        skip_broken=skip_broken,
    )


def train_method(
    spec: MethodSpec,
    backbone: Backbone,
    source: Source,
    parameters: TrainingParameters,
    *,
    output: Path | None = None,
    restart: bool = False,
    display: Progress | None = None,
    watch: ValidationConfig | None = None,
    skip_broken: int = 0,
    workers: int = 0,
) -> Path:
    """Train a method and return the folder of its checkpoint; one that exists already is reused.

    Args:
        spec: The method.
        backbone: Where it starts from; it is not changed.
        source: What it is trained on; see `cirbench.training.data.open_source`.
        parameters: See `training_parameters`.
        output: Where the checkpoint goes; a folder of the cache named after the request if not given.
        restart: Replace whatever training ``output`` holds.
        display: Shows how far it is.
        watch: What is looked at on the way, and which weights are kept; the last ones if not given.
        skip_broken: How many samples that cannot be used are left out.
        workers: How many processes decode ahead; the training is the same with any number.

    Raises:
        UsageError: The method is not trained, cannot train on this backbone, or ``output`` holds another training.
        MethodFailed: Its objective cannot be imported.
        CirbenchError: Whatever stops the training; see `cirbench.training.train.train`.
    """
    from cirbench.training.train import train

    request = training_request(spec, backbone, source, parameters, watch=watch, skip_broken=skip_broken)
    return train(request, folder=output, restart=restart, display=display, workers=workers)
