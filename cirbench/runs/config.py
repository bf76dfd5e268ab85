"""What a user asks for when running, as one typed value that a TOML file can hold."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import msgspec

from cirbench.errors import UsageError
from cirbench.support.parameters import read_options, require_numbers

if TYPE_CHECKING:
    from pathlib import Path


Settings: TypeAlias = dict[str, str | int | float | bool]

_SECTIONS = ("set", "train")


class RunConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Everything that can be asked of ``cirbench run``; field names are the option names.

    Attributes:
        method: Names of methods, or ``package.module:Class``, or ``file.py:Class``.
        dataset: Name of a data set, or the folder of your own.
        split: Split of the data set; its default one if not given.
        protocol: A protocol id, instead of the data set's default one for the split.
        backbone: Name, ``model/tag``, or a model folder; the data set's default one if not given.
        weights: A local file with the backbone's weights.
        activation: Activation that a local weights file was trained with, where nothing beside it says so.
        preprocessing: Preprocessing of images; the one the backbone was trained with if not given.
        checkpoint: Folder of a trained method's checkpoint.
        set: Parameters of the methods.
        train: Parameters of the training, for a method that is trained first.
        train_data: What it is trained on; the pairs that come with ``scenes`` if not given there.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: Number format in which the towers compute.
        batch_size: Images or texts at once; 0 chooses one.
        limit: How many queries are evaluated, the first ones; the result is marked partial.
        allow_missing: Go on without images that are missing or broken; the result is marked partial.
        seed: Random seed for training and bootstrap.
        output: Folder for the runs.
        data_root: Folder with the annotations; CIRBENCH_DATA if not given.
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
    batch_size: Annotated[int, msgspec.Meta(ge=0)] = 0
    limit: Annotated[int, msgspec.Meta(ge=1)] | None = None
    allow_missing: bool = False
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0
    output: str = "runs"
    data_root: str | None = None


def read_config(file: Path | None, options: dict[str, Any]) -> RunConfig:
    """Combine a TOML file with command-line options; an option wins over the file.

    Raises:
        MissingData: The file does not exist.
        UsageError: It is not TOML, has an unknown key, or a value of the wrong type.
    """
    values = read_options(file, options, fields=RunConfig.__struct_fields__, sections=_SECTIONS)
    if isinstance(values.get("method"), str):
        values["method"] = [name.strip() for name in values["method"].split(",") if name.strip()]
    for required, example in (("method", "pli"), ("dataset", "scenes")):
        if not values.get(required):
            raise UsageError(f"--{required} is missing.", hint=f"For instance: --{required} {example}")
    try:
        require_numbers(values)
        return msgspec.convert(values, RunConfig)
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
