"""Backbones of open_clip: by architecture and tag, by weights file, or by model folder."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cirbench.backbones.activation import QUICK_GELU_SUFFIX, agree, of_tag
from cirbench.backbones.catalogue import BUNDLED, CONFIG_FILE, bundled_names
from cirbench.backbones.interface import BackboneIdentity
from cirbench.errors import CorruptFile, MissingData, UnknownName, UsageError
from cirbench.files import digest, sha256_of_file
from cirbench.images.preprocess import CLIP_MEAN, CLIP_STD, Preprocessing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import torch
    from numpy.typing import NDArray
    from PIL import Image

    from cirbench.backbones.interface import Activation, Precision

WEIGHTS_FILE = "model.safetensors"
MERGES_FILE = "merges.txt.gz"
CARD_FILE = "card.json"


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a backbone comes from, resolved from what the user typed.

    Attributes:
        name: As typed.
        spec: What open_clip is asked for: an architecture, or ``local-dir:`` and a folder.
        config: The model configuration, without the activation.
        preprocess: open_clip's preprocessing configuration of the model; what it leaves out is CLIP's.
        activation: The activation that each source of knowledge states.
        weights: The weights that belong to the name, if any; a function because they may have to be downloaded.
        merges: The tokenizer's own merges file.
    """

    name: str
    spec: str
    config: Mapping[str, Any]
    preprocess: Mapping[str, Any]
    activation: Mapping[str, Activation | None]
    folder: Path | None = None
    tag: str | None = None

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
        if self.folder is not None:
            return self.folder / WEIGHTS_FILE
        if self.tag is None:
            raise UsageError(
                f"The backbone {self.name!r} is an architecture without weights.",
                hint=f"Name a pretrained tag, for instance {self.name}/openai, or give --weights FILE.",
            )
        return _download(self.spec, self.tag)


def resolve(name: str) -> Source:
    """Find what a name stands for.

    Raises:
        UnknownName: It stands for nothing.
        MissingData: It is a folder that is no model folder.
        CorruptFile: The configuration of the folder cannot be read.
    """
    if name in bundled_names():
        return _from_folder(name, BUNDLED / name)
    if Path(name).is_dir():
        return _from_folder(name, Path(name).resolve())
    import open_clip

    architecture, _, tag = name.partition("/")
    config = open_clip.get_model_config(architecture)
    if config is None:
        raise UnknownName("backbone", architecture, [*bundled_names(), *open_clip.list_models()])
    named: dict[str, Activation | None] = {}
    if architecture.endswith(QUICK_GELU_SUFFIX):
        named["the name"] = "quick_gelu"
    config.pop("quick_gelu", None)
    preprocess: Mapping[str, Any] = {}
    if tag:
        plain = architecture.removesuffix(QUICK_GELU_SUFFIX)
        known = open_clip.list_pretrained_tags_by_model(plain)
        tag = tag.lower().replace("-", "_")
        if tag not in known:
            raise UnknownName(f"pretrained tag of {plain}", tag, known)
        preprocess = open_clip.get_pretrained_cfg(plain, tag)
        recorded: Activation = "quick_gelu" if preprocess.get("quick_gelu") else "gelu"
        named["the pretrained tag"] = of_tag(plain, tag, recorded)
    return Source(name, architecture, config, preprocess, named, tag=tag or None)


def _from_folder(name: str, folder: Path) -> Source:
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise MissingData(f"{folder} is no model folder: it has no {CONFIG_FILE}.")
    content = _read_json(path)
    config = content.get("model_cfg")
    if not isinstance(config, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= config.keys():
        raise CorruptFile(f"{path} describes no model: model_cfg needs embed_dim, vision_cfg and text_cfg.")
    quick = config.pop("quick_gelu", None)
    stated: dict[str, Activation | None] = {str(path): _activation(content.get("activation"), path)}
    if quick is not None:
        stated["its quick_gelu"] = "quick_gelu" if quick else "gelu"
    return Source(name, f"local-dir:{folder}", config, content.get("preprocess_cfg") or {}, stated, folder=folder)


def load(
    name: str,
    *,
    weights: Path | None,
    activation: Activation | None,
    preprocessing: str | None,
    precision: Precision,
    device: str,
) -> OpenClipBackbone:
    """Build a backbone; see `cirbench.backbones.load_backbone`."""
    source = resolve(name)
    path = weights if weights is not None else source.default_weights()
    beside = recorded_beside(path) if weights is not None else {}
    trained_with = agree(name, {"the option": activation, **source.activation, **beside})
    return _build(source, path, trained_with, preprocessing, precision, _device(device))


def _build(
    source: Source,
    path: Path,
    activation: Activation,
    preprocessing: str | None,
    precision: Precision,
    device: torch.device,
) -> OpenClipBackbone:
    import open_clip
    import torch

    from cirbench.backbones.weights import fit, read_tensors

    if "timm_model_name" in source.config["vision_cfg"] and activation == "quick_gelu":
        raise UsageError(f"{source.name!r} has a timm image tower, which cannot run with quick_gelu.")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    tensors = read_tensors(path)
    with quietly():
        model = open_clip.create_model(
            source.spec,
            load_weights=False,
            pretrained_text=False,
            precision=precision,
            quick_gelu=activation == "quick_gelu",
        )
    fit(model, tensors, path=path, architecture=source.spec)
    declared = model_preprocessing(source.preprocess, model.visual.image_size, source.name)
    pipeline = Preprocessing.parse(preprocessing, declared) if preprocessing is not None else declared
    identity = BackboneIdentity(
        name=source.name,
        architecture=source.architecture,
        activation=activation,
        weights=sha256_of_file(path),
        preprocessing=str(pipeline),
        precision=precision,
    )
    return OpenClipBackbone(source, identity, model.eval().to(device), pipeline, device)


class OpenClipBackbone:
    """A model of open_clip; a `Backbone`."""

    def __init__(
        self,
        source: Source,
        identity: BackboneIdentity,
        model: torch.nn.Module,
        preprocessing: Preprocessing,
        device: torch.device,
    ) -> None:
        from cirbench.backbones.text import CausalText

        self.identity = identity
        self.model = model
        self.device = device
        self.dim = int(source.config["embed_dim"])
        self.image_size = preprocessing.size
        self.preprocessing = preprocessing
        self._source = source
        self._tokenizer = _tokenizer(source)
        self._text = CausalText.of(model)
        self.context_length = int(self._tokenizer.context_length)

    def __repr__(self) -> str:
        return f"<{self.identity.name} on {self.device}, {self.identity.precision}>"

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        """Turn a decoded image into (3, S, S) float32 by the declared preprocessing."""
        import torch

        return torch.from_numpy(self.preprocessing(image))

    def encode_images(self, pixels_B3HW: torch.Tensor) -> torch.Tensor:
        """Project images, (B, D) float32, not normalised."""
        import torch

        model: Any = self.model
        dtype = torch.bfloat16 if self.identity.precision == "bf16" else torch.float32
        features: torch.Tensor = model.encode_image(pixels_B3HW.to(self.device, dtype))
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
        model: Any = self.model
        tokens_BL = tokens_BL.to(self.device)
        features: torch.Tensor = model.encode_text(tokens_BL) if self._text is None else self._text(tokens_BL)
        return features.float()

    def token_lengths(self, tokens_BL: torch.Tensor) -> NDArray[np.int64]:
        """How many leading tokens of each row are read when it stands alone, (B,)."""
        if self._text is None:
            return np.full(len(tokens_BL), tokens_BL.shape[1], dtype=np.int64)
        return self._text.lengths(tokens_BL)

    def with_weights(self, weights: Path) -> OpenClipBackbone:
        """Load other weights of the same architecture, activation, preprocessing, precision and device."""
        identity = self.identity
        agree(identity.name, {"the backbone": identity.activation, **recorded_beside(weights)})
        return _build(
            self._source, weights, identity.activation, identity.preprocessing, identity.precision, self.device
        )

    @property
    def _padding(self) -> int:
        inner = getattr(self._tokenizer, "tokenizer", None)
        return 0 if inner is None else int(inner.pad_token_id)


def recorded_beside(weights: Path) -> dict[str, Activation | None]:
    """What the files beside a weights file say about its activation."""
    said: dict[str, Activation | None] = {}
    for name in (CARD_FILE, CONFIG_FILE):
        path = weights.parent / name
        if path.is_file():
            content = _read_json(path)
            backbone = content.get("backbone")
            nested = backbone.get("activation") if isinstance(backbone, dict) else None
            said[str(path)] = _activation(content.get("activation", nested), path)
    return said


def model_preprocessing(config: Mapping[str, Any], image_size: int | tuple[int, int], name: str) -> Preprocessing:
    """The preprocessing a model was trained for, from its configuration.

    Raises:
        UsageError: It is none of those that exist here.
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


def _tokenizer(source: Source) -> Any:
    import open_clip

    with quietly():
        if source.merges is None:
            return open_clip.get_tokenizer(source.spec)
        text = source.config["text_cfg"]
        return open_clip.SimpleTokenizer(
            str(source.merges), context_length=text.get("context_length", 77), **text.get("tokenizer_kwargs", {})
        )


def _download(architecture: str, tag: str) -> Path:
    import open_clip

    plain = architecture.removesuffix(QUICK_GELU_SUFFIX)
    try:
        with quietly():
            return Path(open_clip.download_pretrained(open_clip.get_pretrained_cfg(plain, tag)))
    except Exception as error:  # urllib, huggingface_hub and its backends have no common base
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise MissingData(
            f"The weights {plain}/{tag} are not cached, and could not be downloaded: {reason}",
            hint="Connect to a network and run again, or fetch the file elsewhere and give it: "
            f"--backbone {plain}/{tag} --weights FILE.",
        ) from error


def _device(name: str) -> torch.device:
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"There is no device called {name!r}.", hint="Use --device auto, cpu or cuda.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError("This machine has no CUDA device that torch can use.", hint="Use --device cpu.")
    return device


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CorruptFile(f"{path} cannot be read as JSON: {error}.") from error
    if not isinstance(content, dict):
        raise CorruptFile(f"{path} holds no JSON object.")
    return content


def _activation(value: Any, path: Path) -> Activation | None:
    if value in (None, "gelu", "quick_gelu"):
        return value  # type: ignore[no-any-return]
    raise CorruptFile(f'{path} records the activation {value!r}; it is "gelu" or "quick_gelu".')


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keep open_clip's log lines off the terminal and its logging calls from setting up the root logger.

    Nothing is lost: what it would say about missing weights or activations is an error here.
    """
    root, handler, level = logging.getLogger(), logging.NullHandler(), logging.root.manager.disable
    root.addHandler(handler)
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(level)
        root.removeHandler(handler)
