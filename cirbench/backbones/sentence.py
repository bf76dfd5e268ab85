"""Models of sentence-transformers that read images and texts, or one of images beside one of texts.

What reads both in one pass of one model is built by `cirbench.backbones.joint`; the others have two towers.

They run by the library's own modules, so that a row is what its ``encode`` returns for one text or for one prepared
image; the architecture's name in the identity says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from cirbench.backbones.hub import (
    PREPROCESSOR_FILES,
    ModelFolder,
    first_line,
    loading,
    open_folder,
    read_configuration,
    read_json,
    required_preprocessing,
    weights_digest,
)
from cirbench.backbones.images import declared_preprocessing
from cirbench.backbones.interface import BackboneIdentity, TwoTowers, find_device
from cirbench.backbones.joint import JointSentenceBackbone, declared_pixels, identify, reads_both
from cirbench.backbones.text import longer_than, masked, masked_lengths
from cirbench.backbones.weights import place, read_weights, recorded_beside, resolve_activation
from cirbench.errors import CorruptFile, MissingData, UsageError, some
from cirbench.support.files import digest
from cirbench.support.needs import require

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from cirbench.backbones.images import Preprocessing
    from cirbench.backbones.interface import Activation, Precision


SENTENCE_OWNER = "sentence-transformers"

SENTENCE_NAMES = ("clip-ViT-B-32", "clip-ViT-B-16", "clip-ViT-L-14", "clip-ViT-B-32-multilingual-v1")
"""The CLIPs of sentence-transformers, as its users call them; the last one reads texts only."""

JOINT_NAMES = ("Qwen/Qwen3-VL-Embedding-2B", "Qwen/Qwen3-VL-Embedding-8B")
"""Models of image and text together that sentence-transformers loads from their owners' repositories."""

MODULES_FILE = "modules.json"
READER_FILE = "sentence_bert_config.json"
"""Beside the configuration of the first module: how many tokens it reads, and whether in lower case."""
_OPTIONAL = ("config_sentence_transformers.json",)
_OF_READER = (READER_FILE, "chat_template.jinja", "chat_template.json", "video_preprocessor_config.json")
PREFIX = "sentence-transformers:"
"""What may be typed before the name of a repository, to say that its model is one of this library."""
_WITHOUT_FILES = ("Pooling", "Normalize")
"""Modules without weights, of which the second kind has no file at all."""


class _Module(msgspec.Struct):
    """A module of a model, as ``modules.json`` lists it."""

    path: str
    type: str

    @property
    def kind(self) -> str:
        return self.type.rpartition(".")[2]


class _Model(msgspec.Struct, frozen=True):
    """The files of a model: a folder for each of its modules, the first of which reads images or texts."""

    name: str
    path: Path
    modules: tuple[tuple[_Module, ModelFolder], ...]

    def weights(self) -> list[str]:
        """The sha256 of each module that has weights."""
        return [
            weights_digest(folder.weights()) for module, folder in self.modules if module.kind not in _WITHOUT_FILES
        ]


def is_sentence_transformers(name: str) -> bool:
    """Say whether a name means a model of sentence-transformers, or two of them joined by ``+``."""
    return name.startswith(PREFIX) or any(_is_model(half) for half in halves(name))


def halves(name: str) -> tuple[str, ...]:
    """The model of images and that of texts, or the one that is both."""
    if Path(name).is_dir():
        return (name,)
    if name.startswith(PREFIX):
        return (name.removeprefix(PREFIX),)
    return tuple(f"{SENTENCE_OWNER}/{half}" if half in SENTENCE_NAMES else half for half in name.split("+", 1))


def _is_model(half: str) -> bool:
    known = half.startswith(f"{SENTENCE_OWNER}/") or half.partition("@")[0] in JOINT_NAMES
    return known or (Path(half) / MODULES_FILE).is_file()


def load(
    name: str,
    *,
    weights: Path | None,
    ema: bool,
    activation: Activation | None,
    preprocessing: str | None,
    precision: Precision,
    device: str,
) -> SentenceBackbone | JointSentenceBackbone:
    """Build a backbone; see `cirbench.backbones.load_backbone`."""
    require("sentence_transformers", extra="sentence-transformers", purpose=f"The backbone {name}")
    files = tuple(_open(half) for half in halves(name))
    return _build(name, files, weights, activation, preprocessing, precision, find_device(device), ema=ema)


def _open(name: str) -> _Model:
    """Find the files of a model, fetched where they are not cached.

    Raises:
        MissingData: It cannot be found, or is not a model of sentence-transformers.
    """
    root = open_folder(name, config=MODULES_FILE, optional=_OPTIONAL, needs_tokenizer=False)
    modules = read_json(root.path / MODULES_FILE, list[_Module])
    if not modules:
        raise CorruptFile(f"{root.path / MODULES_FILE} lists no modules.")
    folders = []
    foreign = [module.type for module in modules if not module.type.startswith("sentence_transformers.")]
    if foreign:
        raise UsageError(
            f"{name} brings code of its own, {some(foreign)}, which is not run here.",
            hint="Name a model that sentence-transformers runs by itself; a method may run any other "
            "(docs/guides/another-backbone.md).",
        )
    for module in modules:
        if module.kind != "Normalize":
            reads = module is modules[0]
            optional = _OF_READER if reads else ()
            folder = open_folder(name, subfolder=module.path, optional=optional, needs_tokenizer=reads)
            folders.append((module, folder))
    return _Model(name, root.path, tuple(folders))


def _build(
    name: str,
    files: tuple[_Model, ...],
    weights: Path | None,
    activation: Activation | None,
    preprocessing: str | None,
    precision: Precision,
    device: torch.device,
    *,
    ema: bool = False,
) -> SentenceBackbone | JointSentenceBackbone:
    import torch

    digests = [each.weights() for each in files]  # fetched, so that what is missing is named by our message
    models = [_load(each, precision) for each in files]
    images, texts = models[0], models[-1]
    joint = len(models) == 1 and reads_both(images)
    if not joint:
        _require_towers(name, images, texts)
    model: Any = images if len(models) == 1 else torch.nn.ModuleDict({"images": images, "texts": texts})
    digest_of_weights = digest(digests)
    if weights is not None:
        tensors, digest_of_weights = read_weights(weights, ema=ema)
        place(model, tensors, path=weights, architecture=name)
    vision = images[0].config.vision_config
    folder = files[0].modules[0][1]
    stated = getattr(vision, "hidden_act", None)
    trained_with = resolve_activation(
        name,
        {
            "the option": activation,
            f"{folder.path}": None if stated is None else "quick_gelu" if stated == "quick_gelu" else "gelu",
            **(recorded_beside(weights) if weights is not None else {}),
        },
    )
    if joint:
        prepared, processing = declared_pixels(model, preprocessing, name)
        identity = identify(
            name,
            model,
            _content(files[0], model),
            activation=trained_with,
            weights=digest_of_weights,
            preprocessing=prepared,
            precision=precision,
        )

        def with_weights(path: Path) -> JointSentenceBackbone:
            other = _build(name, files, path, trained_with, prepared, precision, device)
            assert isinstance(other, JointSentenceBackbone)
            return other

        return JointSentenceBackbone(identity, model.eval().to(device), processing, device, with_weights)
    pipeline = declared_preprocessing(
        preprocessing, required_preprocessing(folder, vision.image_size, preprocessing), name
    )
    identity = BackboneIdentity(
        name=name,
        architecture=_architecture(files, models),
        activation=trained_with,
        weights=digest_of_weights,
        preprocessing=str(pipeline),
        precision=precision,
    )
    model = model.eval().to(device, torch.bfloat16 if precision == "bf16" else torch.float32)
    return SentenceBackbone(files, identity, model, images, texts, pipeline, device)


def _load(files: _Model, precision: Precision) -> Any:
    from sentence_transformers import SentenceTransformer

    dtype = "bfloat16" if precision == "bf16" else "float32"  # said here, or what is computed of angles loses bits too
    try:
        with loading():
            model = SentenceTransformer(
                str(files.path), device="cpu", local_files_only=True, model_kwargs={"dtype": dtype}
            )
    except Exception as error:  # whatever a wrong configuration or a damaged file leads to
        reader = files.modules[0][1]
        if not any((reader.path / file).is_file() for file in PREPROCESSOR_FILES):
            raise MissingData(
                f"{reader.path} has neither {' nor '.join(PREPROCESSOR_FILES)}, so that nothing says how images are "
                "prepared.",
                hint="Save that of the model which this one was made of: processor.save_pretrained(FOLDER).",
            ) from error
        raise CorruptFile(
            f"sentence-transformers cannot load the model in {files.path}: {first_line(error)}"
        ) from error
    _require_all_weights(files, model)
    if model.default_prompt_name and not reads_both(model):
        raise UsageError(
            f"{files.name} puts its prompt {model.default_prompt_name!r} before texts, which is not done here."
        )
    return model


def _require_all_weights(files: _Model, model: Any) -> None:
    """Refuse a model of which transformers drew a part at random, since the files lack it; it says so in a log only.

    It marks each parameter that it loaded. A pooler that is missing is one that is not read.
    """
    network = getattr(model[0], "model", None)
    parameters = [] if network is None else list(network.named_parameters())
    missing = [name for name, each in parameters if not getattr(each, "_is_hf_initialized", False)]
    missing = [name for name in missing if "pooler" not in name] if len(missing) < len(parameters) else []
    if missing:
        raise CorruptFile(
            f"The weights in {files.path} lack {some(missing, 3)}, which {type(network).__name__} has.",
            hint="Fetch or save the model again.",
        )


def _require_towers(name: str, images: Any, texts: Any) -> None:
    """Refuse what has no tower of images of a fixed size, or none of texts."""
    for model, modality, method in ((images, "image", "get_image_features"), (texts, "text", None)):
        way = getattr(model[0], "modality_config", {}).get(modality)
        if way is None:
            raise UsageError(
                f"{name} reads no {modality}s."
                if images is texts
                else f"The half of {name} for {modality}s reads none.",
                hint="Join a model of images and one of texts: --backbone clip-ViT-B-32+clip-ViT-B-32-multilingual-v1; "
                f"or name one that reads both together: --backbone {JOINT_NAMES[0]}.",
            )
        if method is not None and way["method"] != method:
            raise UsageError(f"{name} has no image tower of its own: images pass through its {way['method']}.")
    if not isinstance(getattr(images[0].config.vision_config, "image_size", None), int):
        raise UsageError(f"The image tower of {name} has no fixed size in pixels, which a backbone needs here.")


def _architecture(files: Sequence[_Model], models: Sequence[Any]) -> str:
    """A digest of the modules, their configurations and the tokens they read, wherever the files lie."""
    content = [_content(each, model) for each, model in zip(files, models, strict=True)]
    kinds = "+".join(str(model[0].config.model_type) for model in models)
    return f"sentence-transformers:{kinds}@{digest(content)[:16]}"


def _content(files: _Model, model: Any) -> dict[str, Any]:
    return {
        "modules": [module.kind for module, _ in files.modules],
        "configurations": [read_configuration(folder) for _, folder in files.modules],
        "normalised": any(type(module).__name__ == "Normalize" for module in model),
        "reader": _reader(files.modules[0][1]),
        "vocabulary": model.tokenizer.get_vocab(),
        "length": model.max_seq_length,
    }


def _reader(folder: ModelFolder) -> dict[str, Any]:
    path = folder.path / READER_FILE
    return read_json(path, dict[str, Any]) if path.is_file() else {}


class SentenceBackbone(TwoTowers):
    """A model of images and one of texts of sentence-transformers, or one that is both; a `Backbone`."""

    def __init__(
        self,
        files: tuple[_Model, ...],
        identity: BackboneIdentity,
        model: torch.nn.Module,
        images: Any,
        texts: Any,
        preprocessing: Preprocessing,
        device: torch.device,
    ) -> None:
        import torch

        super().__init__(identity, model, preprocessing, device)
        self._files = files
        self._images = images
        self._texts = texts
        self._tokenizer: Any = texts.tokenizer
        self.context_length = int(texts.max_seq_length)
        with torch.inference_mode():
            shape = (1, 3, self.image_size, self.image_size)
            seen, read = self.encode_images(torch.zeros(shape)), self.encode_tokens(self.tokenize(["a"]))
        if seen.shape != read.shape:
            raise UsageError(
                f"The towers of {identity.name} do not end in one space: an image has {seen.shape[1]} numbers, a text "
                f"{read.shape[1]}.",
                hint="Join models that were trained for each other.",
            )
        self.dim = int(read.shape[1])

    def encode_images(self, pixels_B3HW: torch.Tensor) -> torch.Tensor:
        """Project images, (B, D) float32, not normalised unless the model has a module for it."""
        pixels = pixels_B3HW.to(self.device, next(self.model.parameters()).dtype)
        return self._rows(self._images, {"pixel_values": pixels, "modality": "image"})

    def tokenize(self, texts: Sequence[str]) -> torch.Tensor:
        """Turn texts into token ids, (B, L) int64."""
        import torch

        if not texts:
            return torch.zeros(0, self.context_length, dtype=torch.int64)
        tokens_Bl: torch.Tensor = self._texts.preprocess(list(texts))["input_ids"]
        missing = self.context_length - tokens_Bl.shape[1]
        return torch.nn.functional.pad(tokens_Bl, (0, missing), value=int(self._tokenizer.pad_token_id))

    def overlong(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Say which texts have to be cut, (B,)."""
        return longer_than(self._tokenizer, list(texts), self.context_length)

    def encode_tokens(self, tokens_BL: torch.Tensor) -> torch.Tensor:
        """Project tokenised texts, (B, D) float32; padding is not attended to."""
        tokens_Bl, mask_Bl = masked(tokens_BL, self._tokenizer, self.device)
        return self._rows(self._texts, {"input_ids": tokens_Bl, "attention_mask": mask_Bl, "modality": "text"})

    def token_lengths(self, tokens_BL: torch.Tensor) -> NDArray[np.int64]:
        """How many leading tokens of each row are read when it is alone in its batch, (B,)."""
        return masked_lengths(tokens_BL, self._tokenizer)

    def with_weights(self, weights: Path) -> SentenceBackbone:
        """Load other weights of the same architecture, activation, preprocessing, precision and device."""
        identity = self.identity
        settings = (identity.activation, identity.preprocessing, identity.precision, self.device)
        other = _build(identity.name, self._files, weights, *settings)
        assert isinstance(other, SentenceBackbone)
        return other

    def _rows(self, model: Any, features: Mapping[str, Any]) -> torch.Tensor:
        rows_BD: torch.Tensor = model(dict(features))["sentence_embedding"]
        return rows_BD.float()
