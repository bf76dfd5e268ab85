"""Train the method of a SPEC on a backbone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cirbench.errors import UsageError
from cirbench.methods.registry import load_object
from cirbench.support.parameters import parse

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cirbench.backbones.interface import Backbone
    from cirbench.methods.interface import MethodSpec
    from cirbench.support.console import Display
    from cirbench.training.data import Source
    from cirbench.training.interface import TrainingParameters
    from cirbench.training.train import Request


def training_parameters(spec: MethodSpec, backbone: str, values: Mapping[str, Any]) -> TrainingParameters:
    """The preset of the SPEC for a backbone, or the defaults, with ``values`` in place of what they set.

    Raises:
        UsageError: The method is not trained, or a value does not fit.
        UnknownName: There is no such parameter.
    """
    if spec.training is None:
        raise UsageError(f"The method {spec.name} is not trained.", hint=f"Run it: cirbench run --method {spec.name}")
    return parse(spec.training, values, owner=f"{spec.name}'s training", base=spec.training_presets.get(backbone))


def training_request(spec: MethodSpec, backbone: Backbone, source: Source, parameters: TrainingParameters) -> Request:
    """Plan the training of a method; the request knows the folder of its checkpoint.

    Raises:
        UsageError: The method is not trained, or cannot train on this backbone or source.
        MethodFailed: Its objective cannot be imported.
    """
    from cirbench.training.train import Request

    if spec.trainer is None:
        raise UsageError(f"The method {spec.name} is not trained.", hint=f"Run it: cirbench run --method {spec.name}")
    objective = load_object(spec.trainer, owner=f"the training of {spec.name}")
    if parameters.samples is not None:
        source = source.first(parameters.samples)
    return Request(spec.name, objective, parameters, backbone, source, spec.trains_on)


def train_method(
    spec: MethodSpec,
    backbone: Backbone,
    source: Source,
    parameters: TrainingParameters,
    *,
    output: Path | None = None,
    display: Display | None = None,
) -> Path:
    """Train a method on what is loaded already; see `training_request` and `cirbench.training.train.train`."""
    from cirbench.training.train import train

    return train(training_request(spec, backbone, source, parameters), folder=output, display=display)
