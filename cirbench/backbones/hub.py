"""Model folders as transformers saves them: on disk by path, or on the Hugging Face hub by id.

What the hub's cache holds is used without asking the network. A file that is not cached is fetched once, and where that
is impossible the message says what to fetch and what to type.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from cirbench.backbones.images import Preprocessing
from cirbench.backbones.interface import quietly
from cirbench.errors import CorruptFile, MissingData, UsageError, excerpt, quoted, some
from cirbench.support.files import digest, sha256_of_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


T = TypeVar("T")

CONFIG_FILE = "config.json"
PREPROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
"""Either may describe the image preprocessing; transformers 5 writes the second one."""
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
OPEN_CLIP_CONFIG = "open_clip_config.json"
OPEN_CLIP_WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)
_OPTIONAL = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_NOISE = ("_name_or_path", "_commit_hash", "architectures", "dtype", "torch_dtype", "transformers_version")
"""Fields of ``config.json`` that change no feature."""
_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")
_INTERPOLATION = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers, which a preprocessor's file holds."""
_STATED = (
    *("do_resize", "size", "resample", "do_center_crop", "crop_size"),
    *("do_rescale", "rescale_factor", "rescale_offset", "do_normalize", "image_mean", "image_std", "include_top"),
)
"""The fields of an image processor that say what it does."""
_PATIENCE = 5.0
"""Seconds in which the hub has to answer."""


class Config(msgspec.Struct):
    """What is asked of ``config.json`` before transformers reads it."""

    model_type: str = ""
    architectures: list[str] | None = None


@dataclasses.dataclass(frozen=True)
class ModelFolder:
    """The files of one model, all in one folder.

    Attributes:
        name: As typed.
        path: Where they are; for a model of the hub, in the hub's cache.
        repository: Its id on the hub; ``None`` for a folder.
        revision: The branch, tag or commit that was asked for on the hub.
        subfolder: Where they are inside the repository.
    """

    name: str
    path: Path
    repository: str | None = None
    revision: str | None = None
    subfolder: str = ""

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

    def identity(self) -> str:
        """The commit of a model of the hub; of a folder, a sha256 over its files.

        Raises:
            MissingData: It has no weights.
        """
        if self.repository is not None:
            return self.path.name
        names = sorted(path.name for path in self.path.iterdir() if path.suffix in (".json", ".jinja", ".txt"))
        files = {name: sha256_of_file(self.path / name) for name in names}
        return digest([files, weights_digest(self.weights())])

    def preprocessing(self, image_size: int, *, squash: bool = False, declared: bool = False) -> Preprocessing | None:
        """Return the preprocessing that the model was trained for, as the image processor of transformers states it.

        Args:
            image_size: The side in pixels that the image tower reads.
            squash: Scale both sides to it, whatever the processor says.
            declared: The user says how images become square, so that only the rest has to be understood.

        Returns:
            ``None`` where no file of the folder describes it.

        Raises:
            CorruptFile: The processor's file cannot be read.
            UsageError: It asks for what cannot be declared here.
        """
        path = next((self.path / file for file in PREPROCESSOR_FILES if (self.path / file).is_file()), None)
        if path is None:
            return None
        stated = _image_processor(path)
        interpolation = _INTERPOLATION.get(stated.get("resample", 3))
        if interpolation is None:
            raise UsageError(f"{path} wants Pillow's resampling {stated['resample']}, which does not exist here.")
        try:
            shape, resize = ("squash", image_size) if squash else _shape(path, stated, image_size)
        except UsageError:
            if not declared:
                raise
            shape, resize = "clip", image_size
        mean, std = _normalisation(stated)
        words = [f"resize={resize}", interpolation, f"mean={_slashed(mean)}", f"std={_slashed(std)}"]
        return Preprocessing.parse(f"{shape}({', '.join([str(image_size), *words])})")

    def _first_of(self, files: tuple[str, ...]) -> Path:
        if self.repository is not None:
            return fetch(self.repository, self.revision, _inside(self.subfolder, files))
        for file in files:
            if (self.path / file).is_file():
                return self.path / file
        raise MissingData(f"{self.path} has no weights: none of {', '.join(files)}.")


def open_folder(
    name: str,
    *,
    config: str = CONFIG_FILE,
    optional: tuple[str, ...] = (),
    subfolder: str = "",
    needs_tokenizer: bool = True,
) -> ModelFolder:
    """Open a model folder by path or by the id of a repository on the hub, with every file but the weights.

    Args:
        name: A path, or ``owner/model``, or ``owner/model@revision``.
        config: The file that describes the model.
        optional: Further files, fetched from the hub where it has them.
        subfolder: Where its files are inside the folder or repository.
        needs_tokenizer: Whether the text tower's tokenizer has to be among the files.

    Raises:
        MissingData: The files are not cached and cannot be fetched; or the folder has no tokenizer.
    """
    if Path(name).is_dir():
        folder = ModelFolder(name, Path(name).resolve() / subfolder, subfolder=subfolder)
    else:
        repository, _, revision = name.partition("@")
        folder = _of_hub(name, repository, revision or None, config, subfolder, needs_tokenizer=needs_tokenizer)
        for file in _inside(subfolder, optional):
            _found(repository, folder.revision, (file,))
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


def required_preprocessing(folder: ModelFolder, image_size: int, declared: str | None) -> Preprocessing:
    """Return the preprocessing that a model was trained for, or what completes the one that the user declares.

    Raises:
        UsageError: Nothing says it, and nothing is declared; or as `ModelFolder.preprocessing`.
    """
    own = folder.preprocessing(image_size, declared=declared is not None)
    if own is None and declared is None:
        raise UsageError(
            f"{folder.path} has no {PREPROCESSOR_FILES[0]}, so that nothing says how images are prepared.",
            hint="Declare it: --preprocessing clip for the shorter side and a crop, --preprocessing squash for both.",
        )
    return own or Preprocessing(size=image_size)


def read_configuration(folder: ModelFolder) -> dict[str, Any]:
    """Read what ``config.json`` says of a model's features.

    Raises:
        MissingData: It cannot be read.
        CorruptFile: It is damaged.
    """
    stated = read_json(folder.path / CONFIG_FILE, dict[str, Any])
    return {key: value for key, value in stated.items() if key not in _NOISE}


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


def fetch(repository: str, revision: str | None, files: tuple[str, ...]) -> Path:
    """Return the first of ``files`` that a repository of the hub has; what is cached needs no network.

    Args:
        repository: Its id, ``owner/model``.
        revision: A branch, tag or commit; ``None`` for the default branch.
        files: Names of files, the preferred form first.

    Raises:
        UsageError: The hub has no such repository, or does not show it.
        MissingData: None is cached, and the hub cannot be reached or has none.
    """
    path = _found(repository, revision, files)
    if path is None:
        raise MissingData(f"The repository {repository} of the Hugging Face hub has none of {', '.join(files)}.")
    return path


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Keep what transformers says and draws while it loads from files off the terminal."""
    from transformers.utils import logging

    bars: Any = logging
    drawn = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        with quietly():
            yield
    finally:
        if drawn:
            bars.enable_progress_bar()


@contextlib.contextmanager
def brief_offline() -> Iterator[None]:
    """Let a library that loads from the hub use the cache alone where the hub does not answer within seconds.

    Its client would otherwise try each file again and again, for minutes.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    try:
        _require_hub()
    except MissingData:
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _of_hub(
    name: str, repository: str, revision: str | None, config: str, subfolder: str, *, needs_tokenizer: bool
) -> ModelFolder:
    """Fetch every small file of a model that is not cached; what the cache has needs no network."""
    path = fetch(repository, revision, _inside(subfolder, (config,))).parent
    if needs_tokenizer:
        _found(repository, revision, _inside(subfolder, PREPROCESSOR_FILES))
        if not any((path / file).is_file() for file in TOKENIZER_FILES):
            for file in _inside(subfolder, (*_OPTIONAL, *TOKENIZER_FILES)):
                _found(repository, revision, (file,))
    return ModelFolder(name, path, repository, revision, subfolder)


def _inside(subfolder: str, files: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{subfolder}/{file}" for file in files) if subfolder else files


def _found(repository: str, revision: str | None, files: tuple[str, ...]) -> Path | None:
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, RepositoryNotFoundError

    known = {file: try_to_load_from_cache(repository, file, revision=revision) for file in files}
    for found in known.values():
        if isinstance(found, str):
            return Path(found)
    for file in (file for file in files if known[file] is None):  # the cache knows what the repository has not
        try:
            _require_hub()
            with quietly():
                return Path(hf_hub_download(repository, file, revision=revision))
        except RepositoryNotFoundError as error:
            raise UsageError(
                f"The Hugging Face hub has no repository {quoted(repository)}, or shows it to its members only.",
                hint="Look the name up, or sign in with `hf auth login`.",
            ) from error
        except Exception as error:  # the client of the hub, httpx or requests, and the disk have no common base
            if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
                continue
            why = error.message if isinstance(error, MissingData) else first_line(error)
            raise MissingData(
                f"The file {file} of {repository} is not cached: {why}",
                hint=f"Run again with a network, or fetch https://huggingface.co/{repository} elsewhere and give "
                "its folder in place of the name.",
            ) from error
    return None


def _require_hub() -> None:
    """Ask the hub once for a sign of life; its client would try again for minutes.

    Raises:
        MissingData: It does not answer, or must not be asked.
    """
    from huggingface_hub import constants, utils

    client: Any = utils
    if constants.HF_HUB_OFFLINE:
        raise MissingData("HF_HUB_OFFLINE forbids to ask the hub.")
    try:
        with quietly():
            client.get_session().head(constants.ENDPOINT, timeout=_PATIENCE)
    except Exception as error:  # of httpx or requests, by the version of the hub's client
        raise MissingData(f"{constants.ENDPOINT} does not answer ({first_line(error)}).") from error


def first_line(error: Exception) -> str:
    """The beginning of what an error of a library says, or its kind where it has no text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _image_processor(path: Path) -> dict[str, Any]:
    """What the image processor of a folder does, with the defaults of its class where the file is silent."""
    import transformers

    auto: Any = transformers
    read_json(path, dict[str, Any])
    try:
        with quietly():
            processor = auto.AutoImageProcessor.from_pretrained(path.parent, local_files_only=True)
    except Exception as error:  # an unknown class, a field of another kind
        raise CorruptFile(f"transformers cannot read {path}: {excerpt(first_line(error))}") from error
    return {name: getattr(processor, name, None) for name in _STATED}


def _shape(path: Path, stated: Mapping[str, Any], image_size: int) -> tuple[str, int]:
    """How the image becomes square, and the side to which it is scaled before the crop to what the tower reads."""
    size, crop = _sides(stated["size"]), _sides(stated["crop_size"])
    if stated["do_resize"] is False:
        raise _undeclarable(path, "does not scale images")
    if stated["do_center_crop"] and "shortest_edge" in size:
        shape, scaled = "clip", size
    elif "shortest_edge" not in size:
        shape, scaled = "squash", size
    else:
        raise _undeclarable(path, "leaves images oblong")
    sides, cut = sorted(set(scaled.values())), sorted(set(crop.values()) if stated["do_center_crop"] else ())
    if len(sides) == 1 and (cut or sides) == [image_size]:
        return shape, sides[0]
    crops = f" and crops to {some(cut)}" if cut else ""
    raise UsageError(
        f"{path} scales to {some(sides)} pixels{crops}, and the image tower reads {image_size}.",
        hint="Declare how images are prepared, for instance --preprocessing clip or --preprocessing squash.",
    )


def _sides(size: Any) -> dict[str, int]:
    """A size in pixels by what it is of; transformers has dicts of its own kind for it."""
    given = {} if size is None else dict(size)
    return {name: int(side) for name, side in given.items() if side is not None}


def _normalisation(stated: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    """Mean and deviation of values in 0..1 that amount to what the processor does to values in 0..255."""
    scale = round(255 * stated["rescale_factor"], 6) if stated["do_rescale"] is not False else 255.0
    offset = 1.0 if stated["rescale_offset"] else 0.0  # EfficientNet's, to reach -1 .. 1
    means = stated["image_mean"] if stated["do_normalize"] else (0.0,) * 3
    deviations = stated["image_std"] if stated["do_normalize"] else (1.0,) * 3
    again = stated["image_std"] if stated["include_top"] else (1.0,) * 3  # of EfficientNet too
    return (
        [(offset + float(mean)) / scale for mean in means],
        [float(one) * float(two) / scale for one, two in zip(deviations, again, strict=True)],
    )


def _slashed(values: Sequence[float]) -> str:
    return "/".join(repr(float(value)) for value in values)


def _undeclarable(path: Path, what: str) -> UsageError:
    return UsageError(
        f"{path} {what}, which does not exist here.",
        hint="Declare how images are prepared, for instance --preprocessing clip or --preprocessing squash.",
    )
