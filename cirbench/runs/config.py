"""What a user asks for when running, as one typed value that a TOML file can hold."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec

from cirbench.errors import MissingData, UnknownName, UsageError
from cirbench.support.parameters import read_toml

if TYPE_CHECKING:
    from pathlib import Path


Settings: TypeAlias = dict[str, str | int | float | bool]

_SECTIONS = ("set", "train")


class RunConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Everything that can be asked of ``cirbench run``; field names are the option names.

    Attributes:
        method: Names of methods, or ``package.module:Class``, or ``file.py:Class``.
        dataset: Name of a data set.
        split: Of the data set; its default one if not given.
        protocol: A protocol id, instead of the data set's default one for the split.
        backbone: Name, ``model/tag``, or a model folder; the data set's default one if not given.
        weights: A local file with the backbone's weights.
        activation: Of a local weights file, where nothing beside it says so.
        preprocessing: Of images, as declared; the one the backbone was trained with if not given.
        checkpoint: Folder of a trained method's checkpoint.
        set: Parameters of the methods.
        train: Parameters of the training, for a method that is trained first.
        train_data: What it is trained on; the pairs that come with ``scenes`` if not given there.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: Of the towers.
        batch_size: Images or texts at once; 0 chooses one.
        limit: Evaluate the first so many queries only; the result is marked partial.
        allow_missing: Go on without images that are missing or broken; the result is marked partial.
        seed: Of training and of the bootstrap.
        output: Where run folders go.
        data_root: Where annotations are; CIRBENCH_DATA if not given.
    """

    method: tuple[str, ...]
    dataset: str
    split: str | None = None
    protocol: str | None = None
    backbone: str | None = None
    weights: str | None = None
    activation: Literal["gelu", "quick_gelu"] | None = None
    preprocessing: str | None = None
    checkpoint: str | None = None
    set: Settings = {}
    train: Settings = {}
    train_data: str | None = None
    device: str = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    batch_size: int = 0
    limit: int | None = None
    allow_missing: bool = False
    seed: int = 0
    output: str = "runs"
    data_root: str | None = None


def read_config(file: Path | None, options: dict[str, Any]) -> RunConfig:
    """Combine a TOML file with command-line options; an option wins over the file.

    Raises:
        MissingData: The file does not exist.
        UsageError: It is not TOML, has an unknown key, or a value of the wrong type.
    """
    values: dict[str, Any] = {}
    if file is not None:
        try:
            values = read_toml(file)
        except FileNotFoundError as error:
            raise MissingData(f"There is no configuration file {file}.") from error
        unknown = [key for key in values if key not in RunConfig.__struct_fields__]
        if unknown:
            raise UnknownName(f"key in {file}", unknown[0], RunConfig.__struct_fields__)
    chosen = {section: {**values.pop(section, {}), **options.pop(section, {})} for section in _SECTIONS}
    values |= {key: value for key, value in options.items() if value is not None}
    for required, example in (("method", "pli"), ("dataset", "scenes")):
        if not values.get(required):
            raise UsageError(f"--{required} is missing.", hint=f"For instance: --{required} {example}")
    try:
        return msgspec.convert({**values, **chosen}, RunConfig)
    except msgspec.ValidationError as error:
        raise UsageError(f"The configuration does not fit: {error}.", hint="See `cirbench run --help`.") from error


def to_toml(config: RunConfig) -> str:
    """Write a configuration so that ``--config`` reads it back."""
    values = msgspec.to_builtins(config)
    sections = {section: values.pop(section, {}) for section in _SECTIONS}
    lines = _assignments(values)
    for section, settings in sections.items():
        if settings:
            lines += ["", f"[{section}]", *_assignments({_toml(key): value for key, value in settings.items()})]
    return "\n".join(lines) + "\n"


def _assignments(values: dict[str, Any]) -> list[str]:
    return [f"{key} = {_toml(value)}" for key, value in values.items()]


def _toml(value: Any) -> str:
    """Write a plain value: TOML contains JSON, but for one control character that it wants escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
