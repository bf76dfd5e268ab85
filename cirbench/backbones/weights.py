"""Weights files: read as tensors or not at all, and fitted to an architecture or refused.

Safetensors, or ``torch.load(weights_only=True)``; a pickle that would run code is never opened any other way.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from typing import TYPE_CHECKING, Any

from cirbench.errors import CorruptFile, MissingData

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

_OPENAI_SCALARS = ("input_resolution", "context_length", "vocab_size")
_SHOWN = 4


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a state dict; a wrapper (``state_dict``) and the prefix of parallel training (``module.``) are taken off.

    Raises:
        MissingData: The file is absent or cannot be read.
        CorruptFile: It is damaged, holds more than tensors, or is a TorchScript archive.
    """
    import torch

    content = read_content(path)
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content or not all(isinstance(key, str) for key in content):
        raise CorruptFile(f"The weights file {path} holds no state dict (tensors by name).")
    tensors = {name.removeprefix("module."): tensor for name, tensor in content.items()}
    strangers = [name for name, tensor in tensors.items() if not isinstance(tensor, torch.Tensor)]
    if strangers:
        raise CorruptFile(f"The weights file {path} holds no tensor under {strangers[0]!r}, so it is not a state dict.")
    return tensors


def read_content(path: Path) -> Any:
    """Read whatever a weights file holds: tensors by name, or whatever its author put around them.

    Raises:
        MissingData: The file is absent or cannot be read.
        CorruptFile: It is damaged, holds more than tensors and plain values, or is a TorchScript archive.
    """
    if not path.is_file():
        raise MissingData(f"The weights file {path} does not exist.")
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise _damaged(path, str(error)) from error
    except OSError as error:
        raise MissingData(f"The weights file {path} cannot be read: {error.strerror or error}.") from error


def _read_torch(path: Path) -> Any:
    import torch

    if _is_torchscript(path):
        raise CorruptFile(
            f"The weights file {path} is a TorchScript archive (as OpenAI published CLIP), which holds a program.",
            hint='Use the tag, for instance --backbone ViT-L-14/openai, or save its "state_dict" as safetensors.',
        )
    try:
        with warnings.catch_warnings():  # torch warns of old pickles that it then reads or refuses
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise MissingData(f"The weights file {path} cannot be read: {error.strerror or error}.") from error
    except pickle.UnpicklingError as error:
        if not _is_pickle(path):
            raise _damaged(path, "it is not a file of tensors") from error
        raise CorruptFile(
            f"The weights file {path} holds more than tensors, and unpickling it could run any code: refused.",
            hint="Save the state dict alone, preferably with safetensors.torch.save_file.",
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        raise _damaged(path, str(error) or "it ends too early") from error


def _damaged(path: Path, why: str) -> CorruptFile:
    return CorruptFile(f"The weights file {path} is damaged: {why.splitlines()[0]}.", hint="Fetch or copy it again.")


def _is_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(1) == pickle.PROTO or zipfile.is_zipfile(path)


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def fit(model: torch.nn.Module, tensors: Mapping[str, torch.Tensor], *, path: Path, architecture: str) -> None:
    """Load tensors into a model of open_clip, all of them and nothing else.

    Published layouts of the same weights are translated (OpenAI's scalars, the text tower with and without a name of
    its own, the shape of the logit scale); nothing is resized or left at its random start.

    Raises:
        CorruptFile: Names or shapes do not fit; the message has the first ones.
    """
    import torch
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    own = model.state_dict()
    given = {name: tensor for name, tensor in tensors.items() if name not in _OPENAI_SCALARS}
    given = dict(convert_state_dict(model, given))
    if "positional_embedding" in given and "positional_embedding" not in own:
        given = convert_to_custom_text_state_dict(given)
    for name in ("logit_scale", "logit_bias"):
        if name in given and name in own and given[name].numel() == own[name].numel() == 1:
            given[name] = given[name].reshape(own[name].shape)
    if "logit_bias" in own and "logit_bias" not in given:
        given["logit_bias"] = torch.zeros_like(own["logit_bias"])
    given.pop("text.transformer.embeddings.position_ids", None)
    place(model, given, path=path, architecture=architecture)


def place(model: torch.nn.Module, given: Mapping[str, torch.Tensor], *, path: Path, architecture: str) -> None:
    """Load tensors into a model under the names that they have, all of them and nothing else.

    Raises:
        CorruptFile: Names or shapes do not fit; the message has the first ones.
    """
    own = model.state_dict()
    problems = [f"{name} is missing" for name in own if name not in given]
    problems += [f"{name} is unknown" for name in given if name not in own]
    problems += [
        f"{name} is {tuple(given[name].shape)} in the file and {tuple(own[name].shape)} in the architecture"
        for name in own
        if name in given and given[name].shape != own[name].shape
    ]
    if problems:
        more = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        guess = guess_architecture(given)
        raise CorruptFile(
            f"The weights file {path} does not fit the architecture {architecture}: "
            f"{'; '.join(problems[:_SHOWN])}{more}.",
            hint=f"Its shapes look like {guess}: try --backbone {guess}." if guess and guess != architecture else None,
        )
    model.load_state_dict(dict(given), strict=True)


def guess_architecture(tensors: Mapping[str, torch.Tensor]) -> str | None:
    """Name the open_clip architecture whose towers have these shapes, the plainest one if there are several."""
    from open_clip import get_model_config, list_models

    patches, positions = tensors.get("visual.conv1.weight"), tensors.get("visual.positional_embedding")
    prefix = "text." if "text.positional_embedding" in tensors else ""
    words = tensors.get(f"{prefix}token_embedding.weight")
    if patches is None or positions is None or words is None or patches.ndim != 4:
        return None
    side = round((len(positions) - 1) ** 0.5) * patches.shape[-1]
    layers = len({name.split(".")[3] for name in tensors if name.startswith("visual.transformer.resblocks.")})
    shape = (patches.shape[0], patches.shape[-1], side, layers, *words.shape)
    matches = []
    for name in list_models():
        config = get_model_config(name)
        vision, text = config["vision_cfg"], config["text_cfg"]
        theirs = [vision.get(key) for key in ("width", "patch_size", "image_size", "layers")]
        if (*theirs, text.get("vocab_size"), text.get("width")) == shape:
            matches.append(str(name))
    return min(matches, key=len, default=None)
