"""What a configuration means: methods, parameters and protocol, found and checked before anything heavy is loaded."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from cirbench.benchmarks.catalogue import choose_protocol, find_dataset
from cirbench.errors import MissingData, UsageError
from cirbench.methods.loading import parse_parameters
from cirbench.methods.registry import find_baselines, find_method
from cirbench.methods.training import training_parameters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cirbench.benchmarks.entry import ProtocolEntry
    from cirbench.methods.interface import MethodSpec, Parameters
    from cirbench.runs.config import RunConfig
    from cirbench.training.interface import TrainingParameters

TRAINABLE_DATASET = "scenes"
"""The data set that brings image-caption pairs of its own, so that `run` can train a method by itself."""


@dataclasses.dataclass(frozen=True)
class Entrant:
    """One method of a configuration.

    Attributes:
        reference: What finds the method: its name, ``package.module:Class`` or ``file.py:Class``.
        spec: The method.
        parameters: Its parameters on the backbone that was asked for.
        training: How it is trained before it is evaluated; ``None`` for no training, or for a checkpoint.
    """

    reference: str
    spec: MethodSpec
    parameters: Parameters
    training: TrainingParameters | None


@dataclasses.dataclass(frozen=True)
class Resolved:
    """A configuration of which every name is known.

    Attributes:
        config: What was asked for.
        entry: The protocol, not loaded.
        backbone: The name of the backbone that was asked for, or of the data set's usual one.
        entrants: The untrained baselines, which everything else is compared with, and then what was asked for.
        asked: The names of the methods that were asked for.
        training_data: What methods are trained on; ``None`` where there is nothing.
    """

    config: RunConfig
    entry: ProtocolEntry
    backbone: str
    entrants: tuple[Entrant, ...]
    asked: tuple[str, ...]
    training_data: str | None


def resolve(
    config: RunConfig, given: Mapping[str, MethodSpec] | None = None, entry: ProtocolEntry | None = None
) -> Resolved:
    """Find everything that a configuration names, and check that it fits together.

    Args:
        config: What was asked for.
        given: Methods that need not be installed, by the reference in ``config.method``.
        entry: The protocol, where it is not one of an installed benchmark.

    Raises:
        UnknownName: A method, data set, protocol or parameter does not exist.
        UsageError: The options contradict each other.
        MissingData: A method has to be trained, and there is nothing to train it on.
    """
    entry = entry or choose_protocol(config.dataset, split=config.split, protocol=config.protocol)
    backbone = config.backbone or find_dataset(config.dataset).default_backbone
    asked = {name: (given or {}).get(name) or find_method(name) for name in config.method}
    references = {spec.name: name for name, spec in asked.items()}
    baselines = [spec for spec in find_baselines().values() if entry.labelled or spec.name in references]
    specs = {spec.name: spec for spec in [*baselines, *asked.values()]}
    brought = TRAINABLE_DATASET if config.dataset == TRAINABLE_DATASET else None
    data = config.train_data or brought
    trained = [spec for spec in specs.values() if spec.trainer is not None and config.checkpoint is None]
    if trained and data is None:
        raise MissingData(
            f"The method {trained[0].name} is trained, and no checkpoint is given.",
            hint=f"Give --checkpoint FOLDER, or train one: cirbench train {trained[0].name} --backbone {backbone} "
            "--data PAIRS.csv",
        )
    if config.train and not any(spec.name in references for spec in trained):
        raise UsageError(
            "--train sets how a method is trained, and nothing is trained here.",
            hint="Leave it out, or ask for a trained method without --checkpoint.",
        )
    entrants = []
    for spec in specs.values():
        inference, training = (config.set, config.train) if spec.name in references else ({}, {})
        entrants.append(
            Entrant(
                references.get(spec.name, spec.name),
                spec,
                parse_parameters(spec, inference, backbone),
                training_parameters(spec, backbone, {"seed": config.seed, **training}) if spec in trained else None,
            )
        )
    return Resolved(config, entry, backbone, tuple(entrants), tuple(references), data)
