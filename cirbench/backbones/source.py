"""What the name of a backbone means: configuration, weights, and the activation they were trained with.

GELU and QuickGELU have the same parameters, so weights load without an error under the wrong one, and the features are
only worse. Since open_clip 2.29 a plain architecture name builds GELU even for tags that were trained with QuickGELU,
and says so in a warning; for a weights file it says nothing at all. Here a tag decides, a file must have it stated or
recorded, and two statements that contradict each other are an error.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from cirbench.backbones.catalogue import BUNDLED, CONFIG_FILE, bundled_names
from cirbench.backbones.hub import OPEN_CLIP_WEIGHTS, ModelFolder, fetch, open_folder
from cirbench.backbones.images import CLIP_MEAN, CLIP_STD, Preprocessing
from cirbench.backbones.interface import Activation, quietly
from cirbench.errors import CorruptFile, MissingData, UnknownName, UsageError
from cirbench.support.files import digest, sha256_of_file

if TYPE_CHECKING:
    from collections.abc import Mapping


QUICK_GELU_SUFFIX = "-quickgelu"

QUICK_GELU_TAGS: Mapping[str, frozenset[str]] = {
    "openai": frozenset(
        {
            "RN50",
            "RN101",
            "RN50x4",
            "RN50x16",
            "RN50x64",
            "ViT-B-32",
            "ViT-B-16",
            "ViT-L-14",
            "ViT-L-14-336",
        }
    ),
    "yfcc15m": frozenset({"RN50", "RN101"}),
    "cc12m": frozenset({"RN50"}),
    "laion400m_e31": frozenset({"ViT-B-32"}),
    "laion400m_e32": frozenset({"ViT-B-32"}),
    "dfn2b": frozenset({"ViT-B-16", "ViT-L-14"}),
    "dfn5b": frozenset({"ViT-H-14", "ViT-H-14-378"}),
    "metaclip_400m": frozenset({"ViT-B-32", "ViT-B-16", "ViT-L-14"}),
    "metaclip_fullcc": frozenset({"ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-H-14", "ViT-bigG-14"}),
    "metaclip2_worldwide": frozenset({"ViT-H-14-worldwide"}),
}
"""Per pretrained tag, the plain architecture names whose weights were trained with QuickGELU: 27 pairs, each of which
open_clip builds with GELU. `tests/backbones/test_activation.py` holds the table against the installed open_clip."""


def of_tag(architecture: str, tag: str, recorded: Activation) -> Activation:
    """Return the activation that a pretrained tag was trained with.

    Args:
        architecture: With or without ``-quickgelu``.
        tag: A pretrained tag of that architecture.
        recorded: What the installed open_clip records for the tag.
    """
    plain = architecture.removesuffix(QUICK_GELU_SUFFIX)
    return "quick_gelu" if plain in QUICK_GELU_TAGS.get(tag, ()) else recorded


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


HUB = "hf-hub:"
FORMS = (
    "Accepted: a bundled name, ARCHITECTURE/TAG or hf-hub:OWNER/MODEL of open_clip, OWNER/MODEL of transformers or "
    "sentence-transformers, the path of a model folder."
)
WEIGHTS_FILE = "model.safetensors"
MERGES_FILE = "merges.txt.gz"
CARD_FILE = "card.json"


@dataclasses.dataclass(frozen=True)
class ModelSource:
    """Where a backbone comes from, resolved from what the user typed.

    Attributes:
        name: As typed.
        spec: What open_clip is asked for: an architecture, or ``local-dir:`` and a folder.
        config: The model configuration, without the activation.
        preprocess: open_clip's preprocessing configuration of the model; what it leaves out is CLIP's.
        activation: Who states which activation of the weights.
        folder: The model folder, if it is one.
        tag: The pretrained tag, if one was typed.
        on_hub: The files in the cache of the hub, for ``hf-hub:`` names.
    """

    name: str
    spec: str
    config: Mapping[str, Any]
    preprocess: Mapping[str, Any]
    activation: Mapping[str, Activation | None]
    folder: Path | None = None
    tag: str | None = None
    on_hub: ModelFolder | None = None

    @property
    def architecture(self) -> str:
        """The configuration by name and digest; the activation is an identity field of its own."""
        merges = self.merges
        content = {"config": self.config, "merges": sha256_of_file(merges) if merges is not None else None}
        plain = "custom" if self.folder is not None else self.spec.removesuffix(QUICK_GELU_SUFFIX)
        return f"{plain}@{digest(content)[:16]}"

    @property
    def merges(self) -> Path | None:
        """The shortened merges file of a model folder."""
        merges = self.folder / MERGES_FILE if self.folder is not None else None
        return merges if merges is not None and merges.is_file() else None

    def default_weights(self) -> Path:
        """The weights that belong to the name; a tag's are downloaded where they are not cached.

        Raises:
            MissingData: There are none, or they cannot be downloaded.
        """
        if self.on_hub is not None:
            return self.on_hub.weights(OPEN_CLIP_WEIGHTS)[0]
        if self.folder is not None:
            return self.folder / WEIGHTS_FILE
        if self.tag is None:
            raise UsageError(
                f"The backbone {self.name!r} is an architecture without weights.",
                hint=f"Name a pretrained tag, for instance {self.name}/openai, or give --weights FILE.",
            )
        return _download(self.spec, self.tag)


def resolve(name: str) -> ModelSource:
    """Find what a name means.

    Raises:
        UnknownName: It means nothing.
        MissingData: It is a folder, but not a model folder.
        CorruptFile: The configuration of the folder cannot be read.
    """
    if name in bundled_names():
        return _of_folder(name, BUNDLED / name)
    if name.startswith(HUB):
        return _of_hub(name)
    architecture, _, tag = name.partition("/")
    if is_architecture(architecture):
        return _of_open_clip(name, architecture, tag.lower().replace("-", "_"))
    if Path(name).is_dir():
        return _of_folder(name, Path(name).resolve())
    raise UnknownName("backbone", architecture, [*bundled_names(), *architectures()], hint=FORMS)


def is_architecture(name: str) -> bool:
    """Say whether open_clip has an architecture of this name, without importing it."""
    return name in architectures()


def names_architecture(name: str) -> bool:
    """Say whether a name means an architecture of open_clip, though perhaps misspelt: ``ViT-L-15/openai``."""
    architecture, separator, _ = name.partition("/")
    near = difflib.get_close_matches(architecture, architectures(), n=1, cutoff=0.8)
    return is_architecture(architecture) or bool(separator and near)


def architectures() -> frozenset[str]:
    """Return the names of open_clip's architectures, without importing it; where it is imported, also added ones."""
    if loaded := sys.modules.get("open_clip"):
        return frozenset(loaded.list_models())
    spec = importlib.util.find_spec("open_clip")
    folders = [] if spec is None else spec.submodule_search_locations or []
    return frozenset(path.stem for folder in folders for path in (Path(folder) / "model_configs").glob("*.json"))


def _of_hub(name: str) -> ModelSource:
    """A model that its owner put on the hub in open_clip's form."""
    files = open_folder(name.removeprefix(HUB), config=CONFIG_FILE, needs_tokenizer=False)
    return dataclasses.replace(_of_folder(name, files.path), on_hub=files)


def _of_open_clip(name: str, architecture: str, tag: str) -> ModelSource:
    import open_clip

    config = open_clip.get_model_config(architecture)
    config.pop("quick_gelu", None)  # what the architecture's name says; the weights decide
    plain = architecture.removesuffix(QUICK_GELU_SUFFIX)
    stated: dict[str, Activation | None] = {"the name": "quick_gelu" if plain != architecture else None}
    if not tag:
        return ModelSource(name, architecture, config, {}, stated)
    known = open_clip.list_pretrained_tags_by_model(plain)
    if tag not in known:
        raise UnknownName(f"pretrained tag of {plain}", tag, known)
    pretrained = open_clip.get_pretrained_cfg(plain, tag)
    stated["the tag"] = of_tag(plain, tag, _activation(pretrained.get("quick_gelu", False)))
    return ModelSource(name, architecture, config, pretrained, stated, tag=tag)


def _of_folder(name: str, folder: Path) -> ModelSource:
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise MissingData(f"{folder} is not a model folder: it has no {CONFIG_FILE}.")
    record = _Record.read(path)
    config = dict(record.model_cfg)
    if not {"embed_dim", "vision_cfg", "text_cfg"} <= config.keys():
        raise CorruptFile(f"{path} describes no model: model_cfg needs embed_dim, vision_cfg and text_cfg.")
    config.pop("quick_gelu", None)
    return ModelSource(name, f"local-dir:{folder}", config, record.preprocess_cfg, record.stated(path), folder=folder)


def recorded_beside(weights: Path) -> dict[str, Activation | None]:
    """What the files beside a weights file say about its activation.

    Raises:
        CorruptFile: One of them cannot be read.
    """
    stated: dict[str, Activation | None] = {}
    for name in (CARD_FILE, CONFIG_FILE):
        path = weights.parent / name
        if path.is_file():
            stated |= _Record.read(path).stated(path)
    return stated


class _Stated(msgspec.Struct):
    """An object that may name an activation."""

    activation: Activation | None = None


class _Record(_Stated):
    """What a model's configuration or a checkpoint's card says; other fields are left alone."""

    backbone: _Stated | str | None = None
    model_cfg: dict[str, Any] = {}
    preprocess_cfg: dict[str, Any] = {}

    @classmethod
    def read(cls, path: Path) -> _Record:
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except OSError as error:
            raise MissingData(f"{path} cannot be read: {error.strerror}.") from error
        except msgspec.DecodeError as error:
            raise CorruptFile(f"{path} cannot be read: {error}.") from error

    def stated(self, path: Path) -> dict[str, Activation | None]:
        quick_gelu = self.model_cfg.get("quick_gelu")
        return {
            str(path): self.activation,
            f"the backbone of {path}": self.backbone.activation if isinstance(self.backbone, _Stated) else None,
            f"the model_cfg of {path}": None if quick_gelu is None else _activation(quick_gelu),
        }


def _activation(quick_gelu: bool) -> Activation:
    return "quick_gelu" if quick_gelu else "gelu"


def model_preprocessing(config: Mapping[str, Any], image_size: int | tuple[int, int], name: str) -> Preprocessing:
    """The preprocessing a model was trained for, from its configuration.

    Raises:
        UsageError: It is not one of those that exist here.
    """
    sides = {image_size} if isinstance(image_size, int) else set(image_size)
    shape = {"shortest": "clip", "squash": "squash"}.get(config.get("resize_mode") or "shortest")
    if shape is None or len(sides) > 1:
        raise UsageError(
            f"The backbone {name!r} wants a preprocessing that does not exist here: "
            f"resize mode {config.get('resize_mode')!r}, image size {image_size}."
        )
    default = Preprocessing(mean=_three(config.get("mean"), CLIP_MEAN), std=_three(config.get("std"), CLIP_STD))
    return Preprocessing.parse(f"{shape}({sides.pop()}, {config.get('interpolation') or 'bicubic'})", default)


def declared_preprocessing(declaration: str | None, own: Preprocessing, name: str) -> Preprocessing:
    """The preprocessing that the user declares, completed by the model's own; by default the model's own.

    Raises:
        UnknownName: There is no such preprocessing.
        UsageError: The declaration cannot be understood, or is of another size than the image tower reads.
    """
    pipeline = own if declaration is None else Preprocessing.parse(declaration, own)
    if pipeline.size != own.size:
        raise UsageError(
            f"The image tower of {name!r} reads {own.size} pixels a side, not {pipeline.size}.",
            hint=f'Leave the size out: "{pipeline.shape}".',
        )
    return pipeline


def _three(values: Any, default: tuple[float, float, float]) -> tuple[float, float, float]:
    if values is None:
        return default
    red, green, blue = (values,) * 3 if isinstance(values, int | float) else values
    return float(red), float(green), float(blue)


def _download(architecture: str, tag: str) -> Path:
    """The weights of a tag, out of the cache before a network is asked; safe tensors where its owner has them."""
    import open_clip

    plain = architecture.removesuffix(QUICK_GELU_SUFFIX)
    config = open_clip.get_pretrained_cfg(plain, tag)
    try:
        if on_hub := weights_on_hub(config):
            return fetch(on_hub[0], None, on_hub[1])
        with quietly():
            return Path(open_clip.download_pretrained(config))
    except Exception as error:  # urllib's have no common base
        reason = error.message if isinstance(error, MissingData) else str(error).strip().partition("\n")[0]
        raise MissingData(
            f"The weights {plain}/{tag} are not cached, and could not be downloaded: {reason or type(error).__name__}",
            hint="Connect to a network and run again, or fetch the file elsewhere and give it: "
            f"--backbone {plain}/{tag} --weights FILE.",
        ) from error


def weights_on_hub(config: Mapping[str, Any]) -> tuple[str, tuple[str, ...]] | None:
    """Return the repository that holds the weights of a tag, and their possible names; ``None`` where none does."""
    repository, _, file = config.get("hf_hub", "").rpartition("/")
    return (repository, _forms(file) if file else OPEN_CLIP_WEIGHTS[::2]) if repository else None


def _forms(file: str) -> tuple[str, ...]:
    stem, suffix = Path(file).stem, Path(file).suffix
    return (f"{stem}.safetensors", file) if suffix in (".bin", ".pth") else (file,)
