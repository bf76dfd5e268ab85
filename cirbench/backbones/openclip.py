"""Backbones of open_clip: by architecture and tag, by weights file, or by model folder.

Since open_clip 2.29 a plain architecture name builds GELU even for tags that were trained with QuickGELU, and says so
in a warning; for a weights file there is no warning at all. Here the tag decides, or what is stated of the file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cirbench.backbones.hub import OPEN_CLIP_CONFIG, OPEN_CLIP_WEIGHTS, ModelFolder, brief_offline, fetch, open_folder
from cirbench.backbones.images import CLIP_MEAN, CLIP_STD, Preprocessing, declared_preprocessing
from cirbench.backbones.interface import BackboneIdentity, TwoTowers, find_device, quietly
from cirbench.backbones.text import CausalText
from cirbench.backbones.weights import Record, activation_of, fit, read_weights, recorded_beside, resolve_activation
from cirbench.errors import CorruptFile, MissingData, UnknownName, UsageError
from cirbench.support.device import send
from cirbench.support.files import digest, sha256_of_file
from cirbench.support.needs import require

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from numpy.typing import NDArray

    from cirbench.backbones.interface import Activation, Precision


BUNDLED = Path(__file__).parent / "bundled"

HUB = "hf-hub:"
FORMS = (
    "Accepted: a bundled name, ARCHITECTURE/TAG or hf-hub:OWNER/MODEL of open_clip, OWNER/MODEL of transformers or "
    "sentence-transformers, the path of a model folder."
)
WEIGHTS_FILE = "model.safetensors"
MERGES_FILE = "merges.txt.gz"

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
open_clip builds with GELU. `tests/backbones/test_openclip.py` compares the table with the installed open_clip."""


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


def _of_hub(name: str) -> ModelSource:
    """A model that its owner put on the hub in open_clip's form."""
    files = open_folder(name.removeprefix(HUB), config=OPEN_CLIP_CONFIG, needs_tokenizer=False)
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
    stated["the tag"] = of_tag(plain, tag, activation_of(pretrained.get("quick_gelu", False)))
    return ModelSource(name, architecture, config, pretrained, stated, tag=tag)


def of_tag(architecture: str, tag: str, recorded: Activation) -> Activation:
    """Return the activation that a pretrained tag was trained with.

    Args:
        architecture: With or without ``-quickgelu``.
        tag: A pretrained tag of that architecture.
        recorded: What the installed open_clip records for the tag.
    """
    plain = architecture.removesuffix(QUICK_GELU_SUFFIX)
    return "quick_gelu" if plain in QUICK_GELU_TAGS.get(tag, ()) else recorded


def _of_folder(name: str, folder: Path) -> ModelSource:
    path = folder / OPEN_CLIP_CONFIG
    if not path.is_file():
        raise MissingData(f"{folder} is not a model folder: it has no {OPEN_CLIP_CONFIG}.")
    record = Record.read(path)
    config = dict(record.model_cfg)
    if not {"embed_dim", "vision_cfg", "text_cfg"} <= config.keys():
        raise CorruptFile(f"{path} describes no model: model_cfg needs embed_dim, vision_cfg and text_cfg.")
    config.pop("quick_gelu", None)
    return ModelSource(name, f"local-dir:{folder}", config, record.preprocess_cfg, record.stated(path), folder=folder)


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


def bundled_names() -> list[str]:
    """The model folders that ship with cirbench."""
    return sorted(config.parent.name for config in BUNDLED.glob(f"*/{OPEN_CLIP_CONFIG}"))


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


def _three(values: Any, default: tuple[float, float, float]) -> tuple[float, float, float]:
    if values is None:
        return default
    red, green, blue = (values,) * 3 if isinstance(values, int | float) else values
    return float(red), float(green), float(blue)


def load(
    name: str,
    *,
    weights: Path | None,
    ema: bool,
    activation: Activation | None,
    preprocessing: str | None,
    precision: Precision,
    device: str,
) -> OpenClipBackbone:
    """Build a backbone; see `cirbench.backbones.load_backbone`."""
    source = resolve(name)
    path = weights if weights is not None else source.default_weights()
    beside = recorded_beside(path) if weights is not None else {}
    trained_with = resolve_activation(name, {"the option": activation, **source.activation, **beside})
    return _build(source, path, trained_with, preprocessing, precision, find_device(device), ema=ema)


def _build(
    source: ModelSource,
    path: Path,
    activation: Activation,
    preprocessing: str | None,
    precision: Precision,
    device: torch.device,
    *,
    ema: bool = False,
) -> OpenClipBackbone:
    tensors, weights = read_weights(path, ema=ema)
    model = _architecture(source, activation, precision)
    fit(model, tensors, path=path, architecture=source.architecture.partition("@")[0])
    own = model_preprocessing(source.preprocess, model.visual.image_size, source.name)
    pipeline = declared_preprocessing(preprocessing, own, source.name)
    identity = BackboneIdentity(
        name=source.name,
        architecture=source.architecture,
        activation=activation,
        weights=weights,
        preprocessing=str(pipeline),
        precision=precision,
    )
    return OpenClipBackbone(source, identity, model.eval().to(device), pipeline, device)


def _architecture(source: ModelSource, activation: Activation, precision: Precision) -> Any:
    """The model with the activation its weights were trained with, and weights at random.

    open_clip would only warn that it builds another activation than the tag's; here the tag's is built.
    """
    import open_clip

    quick_gelu = activation == "quick_gelu"
    if quick_gelu and "timm_model_name" in source.config["vision_cfg"]:
        raise UsageError(f"{source.name!r} has an image tower of timm, which cannot run with quick_gelu.")
    dtype = "bf16" if precision == "bf16" else "fp32"
    of_hub = "hf_model_name" in source.config["text_cfg"]  # whose configuration is fetched
    try:
        with quietly(), brief_offline() if of_hub else contextlib.nullcontext():
            return open_clip.create_model(
                source.spec, load_weights=False, pretrained_text=False, precision=dtype, quick_gelu=quick_gelu
            )
    except Exception as error:  # whatever a wrong configuration, an absent package or an absent network leads to
        if source.folder is not None:
            raise CorruptFile(
                f"open_clip cannot build the model that {source.folder / OPEN_CLIP_CONFIG} describes: {error}."
            ) from error
        raise MissingData(f"open_clip cannot build {source.spec}: {error}") from error


class OpenClipBackbone(TwoTowers):
    """A model of open_clip; a `Backbone`."""

    def __init__(
        self,
        source: ModelSource,
        identity: BackboneIdentity,
        model: torch.nn.Module,
        preprocessing: Preprocessing,
        device: torch.device,
    ) -> None:
        super().__init__(identity, model, preprocessing, device)
        self.dim = int(source.config["embed_dim"])
        self._source = source
        self._tokenizer = _tokenizer(source)
        self._text = CausalText.of(model)
        self.context_length = int(self._tokenizer.context_length)

    def encode_images(self, pixels_B3HW: torch.Tensor) -> torch.Tensor:
        """Project images, (B, D) float32, not normalised."""
        import torch

        dtype = torch.bfloat16 if self.identity.precision == "bf16" else torch.float32
        features: torch.Tensor = self.model.encode_image(pixels_B3HW.to(self.device, dtype), normalize=False)
        return features.float()

    def tokenize(self, texts: Sequence[str]) -> torch.Tensor:
        """Turn texts into token ids, (B, L) int64."""
        tokens: torch.Tensor = self._tokenizer(list(texts))
        return tokens

    def overlong(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Say which texts have to be cut, (B,): those that fill one position more."""
        if not texts:
            return np.zeros(0, dtype=np.bool_)
        wider = self._tokenizer(list(texts), context_length=self.context_length + 1)
        return np.asarray((wider[:, -1] != self._padding).numpy())

    def encode_tokens(self, tokens_BL: torch.Tensor) -> torch.Tensor:
        """Project tokenised texts, (B, D) float32, not normalised; padding is left out where it cannot matter."""
        if self._text is not None:
            return self._text(tokens_BL).float()
        features: torch.Tensor = self.model.encode_text(send(tokens_BL, self.device), normalize=False)
        return features.float()

    def token_lengths(self, tokens_BL: torch.Tensor) -> NDArray[np.int64]:
        """How many leading tokens of each row are read when it is alone in its batch, (B,)."""
        if self._text is None:
            return np.full(len(tokens_BL), tokens_BL.shape[1], dtype=np.int64)
        return self._text.lengths(tokens_BL)

    def with_weights(self, weights: Path) -> OpenClipBackbone:
        """Load other weights of the same architecture, activation, preprocessing, precision and device."""
        identity = self.identity
        resolve_activation(identity.name, {"the backbone": identity.activation, **recorded_beside(weights)})
        return _build(
            self._source, weights, identity.activation, identity.preprocessing, identity.precision, self.device
        )

    @property
    def _padding(self) -> int:
        inner = getattr(self._tokenizer, "tokenizer", None)
        return 0 if inner is None else int(inner.pad_token_id)


def _tokenizer(source: ModelSource) -> Any:
    import open_clip

    text = source.config["text_cfg"]
    of_hub = text.get("hf_tokenizer_name")
    if of_hub is not None:
        require("transformers", extra="transformers", purpose=f"The tokenizer of {source.name}")
    try:
        with quietly(), brief_offline() if of_hub is not None else contextlib.nullcontext():
            if source.merges is None:
                return open_clip.get_tokenizer(source.spec)
            options = text.get("tokenizer_kwargs", {})
            tokenizer = open_clip.SimpleTokenizer(
                str(source.merges), context_length=text.get("context_length", 77), **options
            )
    except Exception as error:  # an absent package, an absent network, a damaged merges file
        reason = str(error).strip().partition("\n")[0]
        raise MissingData(
            f"The tokenizer of {source.name!r} cannot be built: {reason}",
            hint=of_hub and f"It is {of_hub} of huggingface.co, which is kept once it was fetched: run with a network.",
        ) from error
    if tokenizer.vocab_size > text.get("vocab_size", tokenizer.vocab_size):
        raise CorruptFile(
            f"{source.merges} makes a vocabulary of {tokenizer.vocab_size} tokens, "
            f"and the text tower knows {text['vocab_size']}."
        )
    return tokenizer
