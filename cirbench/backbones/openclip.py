"""Backbones of open_clip: by architecture and tag, by weights file, or by model folder."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np

from cirbench.backbones.catalogue import CONFIG_FILE
from cirbench.backbones.hub import brief_offline
from cirbench.backbones.interface import BackboneIdentity, find_device, quietly
from cirbench.backbones.source import (
    declared_preprocessing,
    model_preprocessing,
    recorded_beside,
    resolve,
    resolve_activation,
)
from cirbench.errors import CorruptFile, MissingData, UsageError
from cirbench.support.device import send
from cirbench.support.needs import require

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch
    from numpy.typing import NDArray
    from PIL import Image

    from cirbench.backbones.images import Preprocessing
    from cirbench.backbones.interface import Activation, Precision
    from cirbench.backbones.source import ModelSource


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
    from cirbench.backbones.weights import fit, read_weights

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
                f"open_clip cannot build the model that {source.folder / CONFIG_FILE} describes: {error}."
            ) from error
        raise MissingData(f"open_clip cannot build {source.spec}: {error}") from error


class OpenClipBackbone:
    """A model of open_clip; a `Backbone`."""

    def __init__(
        self,
        source: ModelSource,
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
        features: torch.Tensor = model.encode_image(pixels_B3HW.to(self.device, dtype), normalize=False)
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
        if self._text is not None:
            return self._text(tokens_BL).float()
        features: torch.Tensor = model.encode_text(send(tokens_BL, self.device), normalize=False)
        return features.float()

    def token_lengths(self, tokens_BL: torch.Tensor) -> NDArray[np.int64]:
        """How many leading tokens of each row are read when it stands alone, (B,)."""
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
