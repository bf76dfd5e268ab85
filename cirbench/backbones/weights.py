"""Weights files: read as tensors or not at all, fitted to an architecture or refused, with their activation or not.

Safetensors, or ``torch.load(weights_only=True)``; a pickle that would run code is never opened any other way.

GELU and QuickGELU have the same parameters, so weights load without an error under the wrong one, and the features are
only worse. So a file must have its activation stated or recorded, and two statements that contradict each other are an
error.
"""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
import re
import warnings
import zipfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from cirbench.backbones.hub import OPEN_CLIP_CONFIG, read_json
from cirbench.backbones.interface import Activation
from cirbench.errors import CorruptFile, MissingData, UsageError, excerpt, quoted, some
from cirbench.support.console import say_once
from cirbench.support.files import sha256_of_file
from cirbench.support.textfiles import refuse_placeholder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from cirbench.backbones.interface import Backbone

_CARD_FILE = "card.json"
_SHOWN = 4
_OPENAI_SCALARS = ("input_resolution", "context_length", "vocab_size")
_WRAPPERS = ("state_dict", "model_state_dict", "model", "CLIP", "clip", "module", "net", "network", "params", "weights")
"""Under which names training codes save a state dict, beside the epoch, the optimiser and other things."""
_PREFIXES = ("module.", "model.", "ema.", "model_ema.", "ema_model.")
"""What parallel training, trainers and averages put before the name of every tensor."""
_COMPILED = "_orig_mod."
"""What ``torch.compile`` puts before the names of the module it wraps, wherever that is."""
_AVERAGE = re.compile(
    r"((model|net|params|weights|state_dict|clip)_)?ema(_(model|params|weights|state_dict))?(\.|$)", re.I
)
_ALIKE = 0.9
"""The least cosine of a tensor that tuning hardly moves with that from which it was tuned."""
_SWA = "n_averaged"
"""A tensor by which ``torch.optim.swa_utils.AveragedModel`` is known."""


def read_weights(path: Path, *, ema: bool = False) -> tuple[dict[str, torch.Tensor], str]:
    """Read a backbone's weights, and what identifies them: the file's sha256, or with ``ema`` that of what was taken.

    Raises:
        CirbenchError: As `read_tensors`.
    """
    tensors = read_tensors(path, ema=ema)
    return tensors, _sha256_of(tensors) if ema else sha256_of_file(path)


def _sha256_of(tensors: Mapping[str, torch.Tensor]) -> str:
    import torch

    hasher = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        hasher.update(json.dumps([name, str(tensor.dtype), [*tensor.shape]]).encode())
        hasher.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return hasher.hexdigest()


def read_tensors(path: Path, *, ema: bool = False) -> dict[str, torch.Tensor]:
    """Read a state dict, out of the wrappers and without the prefixes that training codes add.

    Averaged weights (EMA) beside others are left out, and that is said; with ``ema`` they are taken instead.

    Raises:
        MissingData: The file is absent or cannot be read.
        CorruptFile: It is damaged, holds more than tensors, is a TorchScript archive, holds no state dict or averaged
            weights alone, or a tensor is not finite.
        UsageError: ``ema`` is set, and there are no averaged weights.
    """
    content = choose_average(read_content(path), path, ema=ema)
    tensors = state_dict_of(content, path)
    require_finite(tensors, path)
    return tensors


def choose_average(content: Any, path: Path, *, ema: bool) -> Any:
    """Leave out the averaged weights (EMA) of what a training code saved, or everything else.

    Raises:
        UsageError: ``ema`` is set, and there are none.
        CorruptFile: ``ema`` is not set, and there are no others.
    """
    plain, averaged = _split(content)
    if ema and not averaged:
        raise UsageError(f"{path} holds no averaged weights (EMA): {_held(content)}.", hint="Leave --ema out.")
    if averaged and not ema:
        if not _holds_tensors(plain):
            raise CorruptFile(
                f"The weights file {path} holds averaged weights (EMA) alone, and they are never taken unasked.",
                hint="Give --ema to take them.",
            )
        say_once(f"{path} holds averaged weights (EMA) too; they are not used.")
    return averaged if ema else plain


def _split(content: Any) -> tuple[Any, Any]:
    """Part what was saved into that which is not averaged and that which is, each in its place."""
    if not isinstance(content, dict):
        return content, {}
    if _SWA in content:
        return {}, {name: value for name, value in content.items() if name != _SWA}
    plain, averaged = {}, {}
    for name, value in content.items():
        if _AVERAGE.match(str(name)) and _holds_tensors(value):
            averaged[name] = value
            continue
        plain[name], inside = _split(value)
        if inside:
            averaged[name] = inside
    return plain, averaged


def _holds_tensors(content: Any) -> bool:
    import torch

    if isinstance(content, dict):
        return any(map(_holds_tensors, content.values()))
    return isinstance(content, torch.Tensor)


def state_dict_of(content: Any, path: Path, *, key: str | None = None) -> dict[str, torch.Tensor]:
    """Take a state dict out of what a training code saved, and the prefixes off its names.

    Args:
        content: What was saved.
        path: The file, for messages.
        key: The name under which a method's code saves what is wanted, if it has one of its own.

    Raises:
        CorruptFile: There is none, or more than one; the message says what was found and what was expected.
    """
    import torch

    inner, wrappers = content, (*((key,) if key else ()), *_WRAPPERS)
    while isinstance(inner, dict):
        found = [name for name, value in inner.items() if isinstance(value, dict) and _is_wrapper(name, wrappers)]
        if key in found:
            found = [str(key)]
        if len(found) > 1:
            raise CorruptFile(
                f"The weights file {path} holds several state dicts, under {some(found)}.",
                hint="Save the one that is meant in a file of its own.",
            )
        if not found:
            break
        inner = inner[found[0]]
    if not isinstance(inner, dict) or not inner or not all(isinstance(name, str) for name in inner):
        raise _no_state_dict(path, inner, wrappers)
    if strangers := [name for name, tensor in inner.items() if not isinstance(tensor, torch.Tensor)]:
        raise _no_state_dict(path, inner, wrappers, f"no tensor is under {quoted(strangers[0])}, and ")
    return _without_prefixes(inner, path)


def published_tensors(content: Any, file: str, *, key: str, hint: str) -> dict[str, torch.Tensor]:
    """Take a state dict out of a file that the authors of a method published; see `state_dict_of`.

    Raises:
        UsageError: There is none, or more than one; ``hint`` says which file to give.
    """
    try:
        return state_dict_of(content, Path(file), key=key)
    except CorruptFile as error:
        raise UsageError(error.message, hint=hint) from error


def _is_wrapper(name: object, wrappers: Sequence[str]) -> bool:
    return name in wrappers or bool(_AVERAGE.fullmatch(str(name)))


def _no_state_dict(path: Path, content: Any, wrappers: Sequence[str], why: str = "") -> CorruptFile:
    return CorruptFile(
        f"The weights file {path} holds no state dict: {why}{_held(content)}; expected are tensors by name, or such a "
        f"table under {' or '.join(wrappers)}."
    )


def _held(content: Any) -> str:
    if isinstance(content, dict):
        return f"its keys are {some(list(content))}" if content else "it is empty"
    return f"it is a {type(content).__name__}"


def _without_prefixes(given: Mapping[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    names = [name.replace(_COMPILED, "").removeprefix("module.") for name in given]
    while (
        prefix := next((each for each in _PREFIXES if all(name.startswith(each) for name in names)), None)
    ) is not None:
        names = [name.removeprefix(prefix) for name in names]
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise CorruptFile(f"The weights file {path} holds {quoted(twice)} twice, under different prefixes.")
    return dict(zip(names, given.values(), strict=True))


def require_finite(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Refuse weights of which a number is NaN or infinite.

    Raises:
        CorruptFile: One is; the message names the file and its tensors.
    """
    broken = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not _is_finite(tensor)]
    if broken:
        raise CorruptFile(
            f"The weights file {path} holds NaN or infinite numbers, in {some(broken, 3)}.",
            hint="Its training diverged, or the file is damaged: take an earlier checkpoint, or fetch it again.",
        )


def _is_finite(tensor: torch.Tensor) -> bool:
    wide = tensor.float() if tensor.element_size() == 1 else tensor  # torch has no test for numbers of 8 bits
    return bool(wide.isfinite().all())


def read_content(path: Path) -> Any:
    """Read all that a weights file holds: tensors by name, or what its author put around them.

    Raises:
        MissingData: The file is absent or cannot be read.
        CorruptFile: It is damaged, holds more than tensors and plain values, or is a TorchScript archive.
    """
    if not path.is_file():
        raise MissingData(f"The weights file {path} does not exist.")
    refuse_placeholder(path, "weights file")
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
    return CorruptFile(
        f"The weights file {path} is damaged: {excerpt(why.splitlines()[0])}.", hint="Fetch or copy it again."
    )


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


def fit_tuned(
    backbone: Backbone, tensors: Mapping[str, torch.Tensor], file: str, *, marks: tuple[str, ...]
) -> dict[str, torch.Tensor]:
    """Fit tensors into a copy of an open_clip backbone's model from which they were tuned; return its state dict.

    Args:
        backbone: It is not changed.
        tensors: Both towers.
        file: The file, for messages.
        marks: How the names of tensors end which tuning hardly moves, by which the weights that it started from are
            recognised.

    Raises:
        UsageError: They were tuned from other weights.
        CorruptFile: Names or shapes do not fit.
    """
    import torch

    model = copy.deepcopy(backbone.model)
    fit(model, tensors, path=Path(file), architecture=backbone.identity.name)
    tuned, own = model.state_dict(), backbone.model.state_dict()
    for name in own:
        if name.endswith(marks):
            one, other = tuned[name].float().flatten(), own[name].float().flatten()
            if torch.nn.functional.cosine_similarity(one, other, dim=0) < _ALIKE:
                raise UsageError(
                    f"{file} was not tuned from {backbone.identity.name}: {name} is another one.",
                    hint="Name the backbone that it was tuned from.",
                )
    return tuned


def place(model: torch.nn.Module, given: Mapping[str, torch.Tensor], *, path: Path, architecture: str) -> None:
    """Load tensors into a model under the names that they have, all of them and nothing else.

    Raises:
        CorruptFile: Names or shapes do not fit; the message has the first ones.
    """
    own = model.state_dict()
    missing, unknown = [name for name in own if name not in given], [name for name in given if name not in own]
    problems = [f"expected and not found: {some(missing, _SHOWN)}"] if missing else []
    problems += [f"found and not expected: {some(unknown, _SHOWN)}"] if unknown else []
    shapes = [
        f"{name} is {tuple(given[name].shape)} in the file and {tuple(own[name].shape)} in the architecture"
        for name in own
        if name in given and given[name].shape != own[name].shape
    ]
    problems += [some(shapes, 2)] if shapes else []
    if problems:
        guess = guess_architecture(given)
        raise CorruptFile(
            f"The weights file {path} does not fit the architecture {architecture}: {'; '.join(problems)}.",
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


def resolve_activation(name: str, statements: Mapping[str, Activation | None]) -> Activation:
    """Return the one activation that all statements name.

    Args:
        name: Of the backbone, for messages.
        statements: Who says what; ``None`` where nothing is said.

    Raises:
        UsageError: Nobody says anything, or two contradict each other.
    """
    said = {who: activation for who, activation in statements.items() if activation is not None}
    if not said:
        raise UsageError(
            f"The activation of the weights of {name!r} is neither stated nor recorded, and weights load under the "
            "wrong one without an error.",
            hint="Add --activation gelu or --activation quick_gelu (OpenAI's weights and what was tuned from them: "
            'quick_gelu), or record it beside the file: card.json with "activation".',
        )
    if len(set(said.values())) > 1:
        listed = ", ".join(f"{who} says {activation}" for who, activation in said.items())
        raise UsageError(
            f"The activation of the weights of {name!r} is contradictory: {listed}.",
            hint="Leave out the statement that is wrong; the record of the weights is usually right.",
        )
    return next(iter(said.values()))


def recorded_beside(weights: Path) -> dict[str, Activation | None]:
    """What the files beside a weights file say about its activation.

    Raises:
        CorruptFile: One of them cannot be read.
    """
    stated: dict[str, Activation | None] = {}
    for name in (_CARD_FILE, OPEN_CLIP_CONFIG):
        path = weights.parent / name
        if path.is_file():
            stated |= Record.read(path).stated(path)
    return stated


class _Stated(msgspec.Struct):
    """An object that may name an activation."""

    activation: Activation | None = None


class Record(_Stated):
    """What a model's configuration or a checkpoint's card says; other fields are left alone."""

    backbone: _Stated | str | None = None
    model_cfg: dict[str, Any] = {}
    preprocess_cfg: dict[str, Any] = {}

    @classmethod
    def read(cls, path: Path) -> Record:
        """Read such a file.

        Raises:
            MissingData: It cannot be read.
            CorruptFile: It is damaged.
        """
        return read_json(path, cls)

    def stated(self, path: Path) -> dict[str, Activation | None]:
        """Who in it, whose path is ``path``, says which activation."""
        quick_gelu = self.model_cfg.get("quick_gelu")
        return {
            str(path): self.activation,
            f"the backbone of {path}": self.backbone.activation if isinstance(self.backbone, _Stated) else None,
            f"the model_cfg of {path}": None if quick_gelu is None else activation_of(quick_gelu),
        }


def activation_of(quick_gelu: bool) -> Activation:
    """The activation by what open_clip records of it."""
    return "quick_gelu" if quick_gelu else "gelu"
