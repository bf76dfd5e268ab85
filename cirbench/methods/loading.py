"""From a SPEC to a method that runs: its parameters parsed, its implementation imported, its checkpoint verified."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cirbench.errors import CirbenchError, MethodFailed, UnknownName, UsageError
from cirbench.methods.checked import checked
from cirbench.methods.references import load_object
from cirbench.parameters import parse
from cirbench.training.checkpoint import open_checkpoint

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cirbench.features.encoder import Encoder
    from cirbench.methods.interface import Method, MethodSpec, Parameters


def parse_parameters(spec: MethodSpec, values: Mapping[str, Any], backbone: str | None = None) -> Parameters:
    """Build a method's parameters from texts (``--set key=value``) or TOML values.

    Args:
        spec: The method.
        values: What was set, by name.
        backbone: By name; what was not set is as the SPEC has it for this backbone, or else as by default.

    Raises:
        UnknownName: There is no such parameter.
        UsageError: A value does not fit.
    """
    for name in values:
        fields = spec.parameters.__struct_fields__
        if name not in fields and spec.training is not None and name in spec.training.__struct_fields__:
            raise UnknownName(
                f"parameter of {spec.name} for inference",
                name,
                fields,
                hint=f"It belongs to training: cirbench run --train {name}={values[name]}, or cirbench train "
                f"{spec.name} --set {name}={values[name]}",
            )
    base = None if backbone is None else spec.settings.get(backbone)
    return parse(spec.parameters, values, owner=spec.name, base=base)


def build(spec: MethodSpec, encoder: Encoder, parameters: Parameters, checkpoint: Path | None = None) -> Method:
    """Build a method on an encoder; what it returns is checked from then on.

    Raises:
        UsageError: A checkpoint is needed and not given, or given and not needed, or belongs to another backbone.
        MissingData: The checkpoint is not there.
        CorruptFile: The checkpoint is damaged.
        MethodFailed: The implementation cannot be imported, or fails.
    """
    if spec.trainer is not None and checkpoint is None:
        raise UsageError(
            f"The method {spec.name} has to be trained first.",
            hint=f"Give --checkpoint FOLDER, or train one: cirbench train {spec.name} "
            f"--backbone {encoder.backbone.identity.name} --data FILE.csv",
        )
    if checkpoint is not None:
        if spec.trainer is None:
            raise UsageError(f"The method {spec.name} is not trained, so it takes no checkpoint.")
        open_checkpoint(checkpoint, method=spec.name, backbone=encoder.backbone.identity)
    factory = load_object(spec.implementation, owner=f"the method {spec.name}")
    try:
        method: Method = factory(encoder, parameters, checkpoint)
    except CirbenchError:
        raise
    except Exception as error:
        raise MethodFailed(
            f"The method {spec.name} cannot be built: {type(error).__name__}: {error}",
            hint=f"`cirbench check method {spec.name}` says more.",
        ) from error
    return checked(method, spec.name)
