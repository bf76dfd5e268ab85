"""The commands that make a run again, from what it recorded, without the folders of the machine that it ran on."""

from __future__ import annotations

import shlex
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import msgspec

from cirbench.datasets.catalogue import datasets
from cirbench.errors import CirbenchError
from cirbench.methods.registry import find_method
from cirbench.methods.training import training_parameters
from cirbench.training.data.source import FIRST

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cirbench.results.config import RunConfig
    from cirbench.results.schema import MethodRecord, Result

_OWN_TRAINING = "scenes"
"""What `cirbench run` trains on by itself."""


def commands(result: Result, config: RunConfig) -> tuple[str, ...]:
    """What to type to make a run again, one command a line.

    FOLDER stands for data of one's own, CHECKPOINT for what a training writes. What is as usual is left out.
    """
    method, backbone = portable_method(result.method), portable(result.backbone.name)
    dataset, protocol = result.protocol.name.partition("/")[0], result.protocol.name.partition("@")[0]
    where = ["--dataset", dataset, "--protocol", protocol] if dataset in datasets() else ["--dataset", "FOLDER"]
    run = ["cirbench", "run", "--method", method.name, *where, "--backbone", backbone]
    for option, usual in (("preprocessing", None), ("activation", None), ("limit", None), ("precision", "fp32")):
        if (value := getattr(config, option)) != usual:
            run += [f"--{option}", str(value)]
    run += ["--seed", str(result.seed)] if result.seed else []
    parameters, training = _usual(method.name, backbone)
    run += _options("--set", method.parameters, parameters)
    if method.checkpoint is None:
        return (shlex.join(run),)
    taught = method.training or {}
    data = (method.trained_on or "DATA").removesuffix(FIRST.format(taught.get("samples")))
    if method.selected_on is None:  # `cirbench run` trains with its own seed
        source = [] if data == dataset == _OWN_TRAINING else ["--train-data", data]
        return (shlex.join([*run, *source, *_options("--train", taught, {**training, "seed": result.seed})]),)
    train = ["cirbench", "train", method.name, "--backbone", backbone, "--data", data, "--select", method.selected_on]
    train += [*_options("--set", taught, training), "--output", "CHECKPOINT"]
    return (shlex.join(train), shlex.join([*run, "--checkpoint", "CHECKPOINT"]))


def portable_method(method: MethodRecord) -> MethodRecord:
    """A method without the folders of the maker's machine."""
    return msgspec.structs.replace(
        method,
        parameters=portable(method.parameters),
        training=portable(method.training),
        trained_on=portable(method.trained_on),
        selected_on=portable(method.selected_on),
    )


def portable(value: Any) -> Any:
    """Cut the folders from every path in a value that leads from the root, or out of where it was typed."""
    if isinstance(value, dict):
        return {key: portable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [portable(each) for each in value]
    path = PurePath(value) if isinstance(value, str) else PurePath()
    return path.name if path.is_absolute() or ".." in path.parts else value


def _usual(method: str, backbone: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters of a method and of its training on a backbone where nobody sets any; none of an unknown method."""
    try:
        spec = find_method(method)
        training = {} if spec.training is None else _as_written(training_parameters(spec, backbone, {}))
    except CirbenchError:  # a plug-in that is not installed here
        return {}, {}
    return _as_written(spec.parameters()), training


def _as_written(parameters: msgspec.Struct) -> dict[str, Any]:
    """Parameters as a file holds them, where a tuple is a list."""
    return msgspec.json.decode(msgspec.json.encode(parameters), type=dict[str, Any])


def _options(name: str, values: Mapping[str, Any], usual: Mapping[str, Any]) -> list[str]:
    """``--set key=value`` for each value that is not the usual one."""
    changed = {key: value for key, value in values.items() if value is not None and usual.get(key) != value}
    plain = {key: ",".join(map(str, value)) if isinstance(value, list) else value for key, value in changed.items()}
    return [part for key, value in plain.items() for part in (name, f"{key}={value}")]
