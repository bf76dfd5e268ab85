"""Where a BLIP comes from: a folder as transformers saves it, or the hub; and what its files say."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from cirbench.backbones.catalogue import BLIP_NAMES, BLIP_OWNER
from cirbench.backbones.quiet import quietly
from cirbench.backbones.source import WEIGHTS_FILE, model_preprocessing
from cirbench.errors import CorruptFile, MissingData, UsageError

if TYPE_CHECKING:
    from cirbench.backbones.interface import Activation
    from cirbench.images.preprocess import Preprocessing

T = TypeVar("T")

CONFIG_FILE = "config.json"
PREPROCESSOR_FILE = "preprocessor_config.json"
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt")
_WEIGHTS = (WEIGHTS_FILE, "pytorch_model.bin")
_OPTIONAL = (PREPROCESSOR_FILE, "tokenizer_config.json", "special_tokens_map.json", *TOKENIZER_FILES)
_ARCHITECTURE = "BlipForImageTextRetrieval"
_INTERPOLATION = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers, which the preprocessor's file has."""


class _Config(msgspec.Struct):
    """What is asked of ``config.json`` before transformers reads it."""

    model_type: str = ""
    architectures: list[str] | None = None


class _Preprocessor(msgspec.Struct):
    """The image preprocessing of transformers; both sides are always scaled to the tower's size."""

    image_mean: list[float] | None = None
    image_std: list[float] | None = None
    resample: int = 3


@dataclasses.dataclass(frozen=True)
class BlipSource:
    """A BLIP's files, all in one folder.

    Attributes:
        name: As typed; a model of the hub has the same name with its owner and without.
        folder: Where they lie; for a model of the hub, in its cache.
        on_hub: The repository, if it is one's.
    """

    name: str
    folder: Path
    on_hub: str | None = None

    def default_weights(self) -> Path:
        """The weights that belong to the name; the hub's are downloaded where they are not cached.

        Raises:
            MissingData: There are none, or they cannot be downloaded.
        """
        if self.on_hub is not None:
            return _download(self.name, self.on_hub, _WEIGHTS)
        for file in _WEIGHTS:
            if (self.folder / file).is_file():
                return self.folder / file
        raise MissingData(f"{self.folder} has no weights: neither {' nor '.join(_WEIGHTS)}.")

    def preprocessing(self, image_size: int) -> Preprocessing:
        """What the model was trained for: both sides scaled, whatever the shape.

        Raises:
            CorruptFile: The preprocessor's file cannot be read.
            UsageError: It wants an interpolation that does not exist here.
        """
        path = self.folder / PREPROCESSOR_FILE
        stated = _read(path, _Preprocessor) if path.is_file() else _Preprocessor()
        interpolation = _INTERPOLATION.get(stated.resample)
        if interpolation is None:
            raise UsageError(f"{path} wants Pillow's resampling {stated.resample}, which does not exist here.")
        own = {
            "resize_mode": "squash",
            "interpolation": interpolation,
            "mean": stated.image_mean,
            "std": stated.image_std,
        }
        return model_preprocessing(own, image_size, self.name)


def is_blip(name: str) -> bool:
    """Whether a backbone's name stands for a BLIP: one of the hub's, or a folder whose configuration says so.

    Raises:
        CorruptFile: The configuration cannot be read.
    """
    path = Path(name) / CONFIG_FILE
    return _hub_name(name) is not None or (path.is_file() and _read(path, _Config).model_type == "blip")


def find_blip(name: str) -> BlipSource:
    """Find the files that a name stands for, but for the weights.

    Raises:
        MissingData: They are not cached, and could not be downloaded; or the folder has no tokenizer.
        UsageError: The folder holds another kind of BLIP, for captions or answers.
        CorruptFile: The configuration cannot be read.
    """
    on_hub = _hub_name(name)
    folder = Path(name).resolve()
    if on_hub is not None:
        folder = _of_hub(name, on_hub)
    config = _read(folder / CONFIG_FILE, _Config)
    if config.architectures is not None and _ARCHITECTURE not in config.architectures:
        raise UsageError(
            f"{name} is a {config.architectures[0]}, whose towers do not end in one space.",
            hint=f"Use a {_ARCHITECTURE}, for instance --backbone {BLIP_NAMES[0]}.",
        )
    if not any((folder / file).is_file() for file in TOKENIZER_FILES):
        raise MissingData(f"{folder} has no tokenizer: neither {' nor '.join(TOKENIZER_FILES)}.")
    return BlipSource(name.removeprefix(f"{BLIP_OWNER}/") if on_hub is not None else name, folder, on_hub)


def stated_activation(folder: Path, config: Any) -> dict[str, Activation | None]:
    """What a model's configuration says about the activation of its towers.

    Raises:
        CorruptFile: It is none of those that exist here.
    """
    stated: dict[str, Activation | None] = {}
    for tower in ("vision_config", "text_config"):
        activation = getattr(config, tower).hidden_act
        if activation not in ("gelu", "quick_gelu"):
            raise CorruptFile(f"{folder / CONFIG_FILE} has the activation {activation!r}, not gelu or quick_gelu.")
        stated[f"the {tower} of {folder / CONFIG_FILE}"] = activation
    return stated


def _hub_name(name: str) -> str | None:
    plain = name.removeprefix(f"{BLIP_OWNER}/")
    return f"{BLIP_OWNER}/{plain}" if plain in BLIP_NAMES else None


def _read(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise MissingData(f"{path} cannot be read: {error.strerror}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptFile(f"{path} cannot be read: {error}.") from error


def _of_hub(name: str, repository: str) -> Path:
    """The folder of the hub's cache that holds every file of a model but its weights."""
    from huggingface_hub.errors import EntryNotFoundError

    folder = _download(name, repository, (CONFIG_FILE,)).parent
    for file in _OPTIONAL:
        try:
            _download(name, repository, (file,))
        except MissingData as error:
            if not isinstance(error.__cause__, EntryNotFoundError):
                raise
    return folder


def _download(name: str, repository: str, files: tuple[str, ...]) -> Path:
    """The first of ``files`` that the repository has."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    reason: Exception | None = None
    for file in files:
        try:
            with quietly():
                return Path(hf_hub_download(repository, file))
        except EntryNotFoundError as error:
            reason = reason or error
        except Exception as error:  # requests, httpx and the hub's own have no common base
            reason = error
            break
    said = str(reason).strip().splitlines() or [type(reason).__name__]
    raise MissingData(
        f"The file {files[0]} of {repository} is not cached, and could not be downloaded: "
        f"{said[-1].partition('. ')[0]}",
        hint=f"Connect to a network and run again, or fetch https://huggingface.co/{repository} elsewhere and name its "
        f"folder in place of {name}: --backbone FOLDER.",
    ) from reason
