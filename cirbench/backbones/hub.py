"""Model folders as transformers saves them: on disk by path, or on the Hugging Face hub by id.

What the hub's cache holds is used without asking the network. A file that is not cached is fetched once, and where that
is impossible the message says what to fetch and what to type.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import numpy as np

from cirbench.backbones.images.preprocess import CLIP_MEAN, CLIP_STD, Preprocessing
from cirbench.backbones.interface import quietly
from cirbench.errors import CorruptFile, MissingData, UsageError
from cirbench.support.files import digest, sha256_of_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray

T = TypeVar("T")

CONFIG_FILE = "config.json"
PREPROCESSOR_FILE = "preprocessor_config.json"
TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
)
WEIGHTS_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
OPEN_CLIP_WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)
_OPTIONAL = (PREPROCESSOR_FILE, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")
_INTERPOLATION = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers, which a preprocessor's file holds."""


class Config(msgspec.Struct):
    """What is asked of ``config.json`` before transformers reads it."""

    model_type: str = ""
    architectures: list[str] | None = None


class _Preprocessor(msgspec.Struct):
    """The image preprocessing of transformers, where its file states it."""

    do_center_crop: bool | None = None
    size: int | dict[str, int] | None = None
    crop_size: int | dict[str, int] | None = None
    resample: int = 3
    do_normalize: bool = True
    rescale_offset: bool = False
    image_mean: list[float] | None = None
    image_std: list[float] | None = None


@dataclasses.dataclass(frozen=True)
class ModelFolder:
    """The files of one model, all in one folder.

    Attributes:
        name: As typed.
        path: Where they are; for a model of the hub, in the hub's cache.
        repository: Its id on the hub; ``None`` for a folder.
        revision: The branch, tag or commit that was asked for on the hub.
    """

    name: str
    path: Path
    repository: str | None = None
    revision: str | None = None

    def config(self) -> Config:
        """Read what ``config.json`` says first.

        Raises:
            MissingData: It cannot be read.
            CorruptFile: It is damaged.
        """
        return read_json(self.path / CONFIG_FILE, Config)

    def weights(self, files: tuple[str, ...] = WEIGHTS_FILES) -> tuple[Path, ...]:
        """Return the files that hold the weights, fetched where they are not cached.

        Args:
            files: Their names, the preferred form first; the index of a model in parts is one.

        Raises:
            MissingData: There are none, or they cannot be fetched.
        """
        first = self._first_of(files)
        if first.suffix != ".json":
            return (first,)
        parts = sorted(set(read_json(first, dict[str, Any]).get("weight_map", {}).values()))
        return tuple(self._first_of((part,)) for part in parts)

    def preprocessing(self, image_size: int, *, squash: bool = False) -> Preprocessing:
        """Return the preprocessing that the model was trained for.

        Args:
            image_size: The side in pixels that the image tower reads.
            squash: Scale both sides to it, whatever the file says.

        Raises:
            CorruptFile: The preprocessor's file cannot be read.
            UsageError: It asks for what cannot be declared here.
        """
        path = self.path / PREPROCESSOR_FILE
        stated = read_json(path, _Preprocessor) if path.is_file() else _Preprocessor()
        interpolation = _INTERPOLATION.get(stated.resample)
        if interpolation is None:
            raise UsageError(f"{path} wants Pillow's resampling {stated.resample}, which does not exist here.")
        centred = not stated.do_normalize and stated.rescale_offset  # EfficientNet's way to write -1 .. 1
        mean = (0.5,) * 3 if centred else stated.image_mean or CLIP_MEAN
        std = (0.5,) * 3 if centred else stated.image_std or CLIP_STD
        words = [interpolation, "mean=" + "/".join(map(repr, mean)), "std=" + "/".join(map(repr, std))]
        shape = "squash" if squash else self._shape(stated, image_size)
        return Preprocessing.parse(f"{shape}({', '.join([str(image_size), *words])})")

    def _shape(self, stated: _Preprocessor, image_size: int) -> str:
        """How the image becomes square: ``clip`` for the shorter side and a crop, ``squash`` for both sides."""
        size = {"shortest_edge": stated.size} if isinstance(stated.size, int) else stated.size or {}
        crop = stated.crop_size if isinstance(stated.crop_size, dict) else {"height": stated.crop_size}
        cropped = stated.do_center_crop if stated.do_center_crop is not None else "shortest_edge" in size
        if cropped and "shortest_edge" in size:
            sides = {size["shortest_edge"], *(side for side in crop.values() if side is not None)}
            shape = "clip"
        else:
            sides = set(size.values()) | ({side for side in crop.values() if side is not None} if cropped else set())
            shape = "squash"
        if sides <= {image_size}:
            return shape
        raise UsageError(
            f"{self.path / PREPROCESSOR_FILE} scales to {' and '.join(map(str, sorted(sides)))} pixels, and the image "
            f"tower reads {image_size}.",
            hint="Declare how images are prepared, for instance --preprocessing clip or --preprocessing squash.",
        )

    def _first_of(self, files: tuple[str, ...]) -> Path:
        if self.repository is not None:
            return _fetch(self.name, self.repository, self.revision, files)
        for file in files:
            if (self.path / file).is_file():
                return self.path / file
        raise MissingData(f"{self.path} has no weights: none of {', '.join(files)}.")


def open_folder(name: str, *, config: str = CONFIG_FILE, needs_tokenizer: bool = True) -> ModelFolder:
    """Open a model folder by path or by the id of a repository on the hub, with every file but the weights.

    Args:
        name: A path, or ``owner/model``, or ``owner/model@revision``.
        config: The file that describes the model.
        needs_tokenizer: Whether the text tower's tokenizer has to be among the files.

    Raises:
        MissingData: The files are not cached and cannot be fetched; or the folder has no tokenizer.
    """
    if Path(name).is_dir():
        folder = ModelFolder(name, Path(name).resolve())
    else:
        repository, _, revision = name.partition("@")
        folder = _of_hub(name, repository, revision or None, config)
    if needs_tokenizer and not any((folder.path / file).is_file() for file in TOKENIZER_FILES):
        raise MissingData(f"{folder.path} has no tokenizer: none of {', '.join(TOKENIZER_FILES)}.")
    return folder


def is_hub_id(name: str) -> bool:
    """Say whether a name has the form ``owner/model`` or ``owner/model@revision``."""
    return _ID.fullmatch(name) is not None


def weights_digest(files: tuple[Path, ...]) -> str:
    """Return the sha256 of a weights file, or one over those of all parts."""
    parts = [sha256_of_file(file) for file in files]
    return parts[0] if len(parts) == 1 else digest(parts)


def padded_tokens(tokenizer: Any, texts: Sequence[str], length: int) -> torch.Tensor:
    """Turn texts into token ids by a tokenizer of transformers, padded or cut to ``length``, (B, L) int64."""
    import torch

    if not texts:
        return torch.zeros(0, length, dtype=torch.int64)
    cut = {"padding": "max_length", "truncation": True, "max_length": length}
    return torch.tensor(tokenizer(list(texts), verbose=False, **cut)["input_ids"])


def longer_than(tokenizer: Any, texts: Sequence[str], length: int) -> NDArray[np.bool_]:
    """Say which texts have more than ``length`` tokens, (B,)."""
    whole = tokenizer(list(texts), verbose=False)["input_ids"] if texts else []
    return np.asarray([len(tokens) > length for tokens in whole], dtype=np.bool_)


def read_json(path: Path, kind: type[T]) -> T:
    """Decode a JSON file of a model.

    Raises:
        MissingData: It cannot be read.
        CorruptFile: It is damaged.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise MissingData(f"{path} cannot be read: {error.strerror}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptFile(f"{path} cannot be read: {error}.") from error


def _of_hub(name: str, repository: str, revision: str | None, config: str) -> ModelFolder:
    """Fetch every small file of a model that is not cached; what the cache has needs no network."""
    from huggingface_hub.errors import EntryNotFoundError

    path = _fetch(name, repository, revision, (config,)).parent
    has_tokenizer = any((path / file).is_file() for file in TOKENIZER_FILES)
    for file in (PREPROCESSOR_FILE,) if has_tokenizer else (PREPROCESSOR_FILE, *_OPTIONAL, *TOKENIZER_FILES):
        try:
            _fetch(name, repository, revision, (file,))
        except MissingData as error:
            if not isinstance(error.__cause__, EntryNotFoundError):
                raise
    return ModelFolder(name, path, repository, revision)


def _fetch(name: str, repository: str, revision: str | None, files: tuple[str, ...]) -> Path:
    """Return the first of ``files`` that the repository has, from the cache before the network is asked."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError

    known = {file: try_to_load_from_cache(repository, file, revision=revision) for file in files}
    for found in known.values():
        if isinstance(found, str):
            return Path(found)
    reason: Exception = EntryNotFoundError(f"The repository has none of {', '.join(files)}")
    for file in files:
        if known[file] is not None:  # the cache knows that the repository has no such file
            continue
        try:
            with quietly():
                return Path(hf_hub_download(repository, file, revision=revision))
        except EntryNotFoundError as error:
            reason = error
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
