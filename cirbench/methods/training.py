"""A method's training from its SPEC, and checkpoints converted from files that authors published."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from cirbench.errors import UsageError
from cirbench.support.console import typed
from cirbench.support.files import cache_root, digest, sha256_of_file, utc_now, write_bytes
from cirbench.support.parameters import parse
from cirbench.support.plugins import load_object
from cirbench.training.checkpoint import (
    CARD,
    WEIGHTS,
    Card,
    carry_weights,
    packages,
    read_card,
    seen_by,
    stages_of,
    stages_selected_on,
    verify_weights,
    write_card,
    write_seen,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cirbench.backbones.interface import Backbone
    from cirbench.methods.interface import Converter, MethodSpec
    from cirbench.support.console import NotedDisplay
    from cirbench.training.data import Source
    from cirbench.training.interface import TrainingParameters
    from cirbench.training.train import Request

CONVERTED, OF_EMA = "not stated; converted from ", " (EMA)"
"""How a card names the data of a converted checkpoint: this, the file, and whether its averaged weights were taken."""


def data_named(trained_on: str, samples: object) -> str:
    """Return what ``--data`` was given, from a card's words for the data of a training on so many samples."""
    from cirbench.training.data.source import FIRST

    return trained_on.removesuffix(FIRST.format(samples))


def training_parameters(spec: MethodSpec, backbone: str, values: Mapping[str, Any]) -> TrainingParameters:
    """The preset of the SPEC for a backbone, or the defaults, with ``values`` in place of what they set.

    Raises:
        UsageError: The method is not trained, or a value does not fit.
        UnknownName: There is no such parameter.
    """
    if spec.training is None:
        raise UsageError(
            f"The method {spec.name} is not trained.", hint=f"Run it: cirbench run --method {typed(spec.name)}"
        )
    return parse(spec.training, values, owner=f"{spec.name}'s training", base=spec.training_presets.get(backbone))


def training_request(spec: MethodSpec, backbone: Backbone, source: Source, parameters: TrainingParameters) -> Request:
    """Plan the training of a method; the request knows the folder of its checkpoint.

    Raises:
        UsageError: The method is not trained, or cannot train on this backbone or source.
        PluginFailed: Its objective cannot be imported.
    """
    from cirbench.training.data.triplets import divide
    from cirbench.training.train import Request

    if spec.trainer is None:
        raise UsageError(
            f"The method {spec.name} is not trained.", hint=f"Run it: cirbench run --method {typed(spec.name)}"
        )
    objective = load_object(spec.trainer, owner=f"the training of {spec.name}")
    if parameters.samples is not None:
        source = source.first(parameters.samples)
    division = divide(source, parameters)
    return Request(
        spec.name, objective, parameters, backbone, division.trained, spec.trains_on, held_out=division.held_out
    )


def train_method(
    spec: MethodSpec,
    backbone: Backbone,
    source: Source,
    parameters: TrainingParameters,
    *,
    output: Path | None = None,
    display: NotedDisplay | None = None,
) -> Path:
    """Train a method on what is loaded already; see `training_request` and `cirbench.training.train.train`."""
    from cirbench.training.train import train

    return train(training_request(spec, backbone, source, parameters), folder=output, display=display)


def convert(
    spec: MethodSpec,
    path: Path,
    backbone: Backbone,
    parameters: TrainingParameters,
    *,
    output: Path | None = None,
    ema: bool = False,
    selected_on: str | None = None,
) -> Path:
    """Convert a file that a method's authors published, and return the folder of the checkpoint.

    The card says where the weights come from; of their training it knows what is declared here, and no losses.

    Args:
        spec: The method.
        path: The file: safetensors, or what torch saved, if that holds nothing but tensors and plain values.
        backbone: On which its authors trained it.
        parameters: With which they did, as far as the method reads them in use.
        output: Where the checkpoint goes; a folder of the cache if not given.
        ema: Take the averaged weights that the file holds beside others.
        selected_on: The protocol on which its authors chose the weights.

    Raises:
        UsageError: The method has no such files; the file is another one, or of another backbone; the folder is taken.
        MissingData: The file is absent.
        CorruptFile: The file is damaged, or could run code.
    """
    import torch
    from safetensors.torch import save

    from cirbench.backbones.weights import choose_average, read_content, require_finite

    if spec.converter is None:
        raise UsageError(f"There are no published checkpoints of {spec.name} that cirbench could convert.")
    converter: Converter = load_object(spec.converter, owner=f"the conversion of {spec.name}")
    content = choose_average(read_content(path), path, ema=ema)
    source = sha256_of_file(path)
    training = msgspec.to_builtins(parameters)
    asked = {"converted": source, "method": spec.name, "backbone": backbone.identity.digest, "training": training}
    further = {"ema": ema, "selected_on": selected_on}
    request = digest(asked | {name: value for name, value in further.items() if value})
    folder = output or cache_root() / "checkpoints" / f"{spec.name}-{request[:12]}"
    if (folder / CARD).is_file():
        if read_card(folder).request != request:
            raise UsageError(f"{folder} holds another checkpoint.", hint="Choose another --output.")
        verify_weights(folder, read_card(folder))
        return folder
    tensors = {
        name: tensor.detach().to(torch.float32).contiguous()
        for name, tensor in converter(content, backbone, path.name).items()
    }
    require_finite(tensors, path)
    write_bytes(folder / WEIGHTS, save(tensors, {"format": "pt"}))
    carried, seen = carry_weights(parameters, folder), seen_by(None, stages_of(parameters))
    if seen is not None:
        carried |= write_seen(seen, folder)
    card = Card(
        method=spec.name,
        request=request,
        weights=sha256_of_file(folder / WEIGHTS),
        carried=carried,
        training=training,
        backbone=backbone.identity,
        data=f"{CONVERTED}{path.name}{OF_EMA if ema else ''}",
        data_digest=source,
        data_pairs=0,
        steps=0,
        losses=[],
        seconds=0.0,
        selected_on=selected_on,
        stages_selected_on=stages_selected_on(parameters),
        device="cpu",
        threads=torch.get_num_threads(),
        packages=packages(),
        created=utc_now(),
    )
    write_card(folder, card)
    return folder
