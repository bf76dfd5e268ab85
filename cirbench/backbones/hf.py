"""Dual encoders of transformers: CLIP, SigLIP, ALIGN, AltCLIP, Chinese-CLIP and whatever has the same two methods.

A model is loaded as transformers' ``AutoModel`` loads it, from a folder or by its id on the hub, and runs by its
``get_image_features`` and ``get_text_features``. The same weights in open_clip's form give the same features within
1e-5; the architecture's name in the identity says which implementation ran.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cirbench.backbones.hub import (
    CONFIG_FILE,
    OPEN_CLIP_CONFIG,
    Config,
    ModelFolder,
    first_line,
    is_hub_id,
    loading,
    open_folder,
    read_configuration,
    read_json,
    required_preprocessing,
    weights_digest,
)
from cirbench.backbones.images import declared_preprocessing
from cirbench.backbones.interface import BackboneIdentity, TwoTowers, find_device, quietly
from cirbench.backbones.text import longer_than, masked, masked_lengths, padded_tokens
from cirbench.backbones.weights import read_weights, recorded_beside, resolve_activation
from cirbench.errors import CorruptFile, MissingData, UsageError
from cirbench.support.device import send
from cirbench.support.files import digest
from cirbench.support.needs import require

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from numpy.typing import NDArray

    from cirbench.backbones.images import Preprocessing
    from cirbench.backbones.interface import Activation, Precision

_FULL_LENGTH = ("siglip",)
"""Model types whose text tower was trained on padded texts without a mask, and reads all positions."""

_LOWER_CASE = ("GemmaTokenizer", "GemmaTokenizerFast")
"""Tokenizers with capitals whose SigLIP 2 was trained on lower-case texts (its model card)."""


def is_transformers(name: str) -> bool:
    """Say whether a name is the folder of a transformers model, or has the form of an id on the hub.

    Raises:
        CorruptFile: The configuration of the folder cannot be read.
    """
    path = Path(name) / CONFIG_FILE
    if path.is_file():
        return bool(read_json(path, Config).model_type) and not (path.parent / OPEN_CLIP_CONFIG).is_file()
    return is_hub_id(name) and not Path(name).exists()


def load(
    name: str,
    *,
    weights: Path | None,
    ema: bool,
    activation: Activation | None,
    preprocessing: str | None,
    precision: Precision,
    device: str,
) -> TransformersBackbone:
    """Build a backbone; see `cirbench.backbones.load_backbone`."""
    require("transformers", extra="transformers", purpose=f"The backbone {name}")
    folder = open_folder(name)
    return _build(folder, weights, activation, preprocessing, precision, find_device(device), ema=ema)


def _build(
    folder: ModelFolder,
    weights: Path | None,
    activation: Activation | None,
    preprocessing: str | None,
    precision: Precision,
    device: torch.device,
    *,
    ema: bool = False,
) -> TransformersBackbone:
    import torch

    tensors, digest_of_weights = (None, None) if weights is None else read_weights(weights, ema=ema)
    model, tokenizer = _model(folder, weights, tensors), _tokenizer(folder)
    beside = recorded_beside(weights) if weights is not None else {}
    trained_with = resolve_activation(
        folder.name, {"the option": activation, **_stated_activation(folder, model.config), **beside}
    )
    size = getattr(model.config.vision_config, "image_size", None)
    if not isinstance(size, int):
        raise UsageError(
            f"The image tower of {folder.name} has no fixed size in pixels, which a backbone needs here.",
            hint="Use a variant of fixed resolution, for instance google/siglip2-base-patch16-224.",
        )
    pipeline = declared_preprocessing(preprocessing, required_preprocessing(folder, size, preprocessing), folder.name)
    content = {
        "config": read_configuration(folder),
        "vocabulary": tokenizer.get_vocab(),
        "tokenizer": type(tokenizer).__name__.removesuffix("Fast"),
    }
    identity = BackboneIdentity(
        name=folder.name,
        architecture=f"transformers:{model.config.model_type}@{digest(content)[:16]}",
        activation=trained_with,
        weights=digest_of_weights or weights_digest(folder.weights()),
        preprocessing=str(pipeline),
        precision=precision,
    )
    model = model.eval().to(device, torch.bfloat16 if precision == "bf16" else torch.float32)
    return TransformersBackbone(folder, identity, model, tokenizer, pipeline, device)


def _model(folder: ModelFolder, weights: Path | None, tensors: Mapping[str, torch.Tensor] | None) -> Any:
    import torch
    import transformers

    if tensors is None:
        folder.weights()  # fetched, so that what is missing is named by our message
    auto: Any = transformers
    try:
        with loading():
            config = auto.AutoConfig.from_pretrained(folder.path, local_files_only=True)
            with torch.device("meta"):
                family: Any = type(auto.AutoModel.from_config(config))
            model, loaded = family.from_pretrained(  # which also translates the names of earlier versions
                folder.path if tensors is None else None,
                config=config,
                state_dict=tensors,
                local_files_only=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
    except Exception as error:  # whatever a wrong configuration or a damaged file leads to
        raise CorruptFile(f"transformers cannot load the model in {folder.path}: {first_line(error)}") from error
    absent = [name for name in ("get_image_features", "get_text_features") if not hasattr(model, name)]
    if absent:
        raise _no_dual_encoder(folder, model, f"which has no {' and '.join(absent)}")
    absent = [name for name in ("vision_config", "text_config") if not hasattr(config, name)]
    if absent:
        raise _no_dual_encoder(folder, model, f"whose configuration has no {' and '.join(absent)}")
    problems = [f"{name} is missing" for name in loaded["missing_keys"] if not name.endswith("position_ids")]
    problems += [f"{name} is unknown" for name in loaded["unexpected_keys"] if not name.endswith("position_ids")]
    problems += [f"{name} has another shape" for name, *_ in loaded["mismatched_keys"]]
    if problems:
        raise CorruptFile(
            f"The weights {weights or folder.path} do not fit {type(model).__name__}: "
            f"{'; '.join(sorted(problems)[:4])}."
        )
    return model


def _no_dual_encoder(folder: ModelFolder, model: object, why: str) -> UsageError:
    return UsageError(
        f"{folder.name} is a {type(model).__name__}, {why}.",
        hint="A backbone encodes images and texts into one space: CLIP, SigLIP, ALIGN, AltCLIP, Chinese-CLIP ...",
    )


def _tokenizer(folder: ModelFolder) -> Any:
    from transformers import AutoTokenizer

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # else it warns in every process forked after its use
    try:
        with quietly():
            tokenizer = AutoTokenizer.from_pretrained(folder.path, local_files_only=True)
    except Exception as error:  # a damaged file, an absent package
        raise MissingData(f"The tokenizer of {folder.name!r} cannot be built: {first_line(error)}") from error
    if tokenizer.pad_token_id is None:
        raise UsageError(f"The tokenizer of {folder.name!r} has no padding token, so texts cannot form a batch.")
    return tokenizer


class TransformersBackbone(TwoTowers):
    """A dual encoder of transformers; a `Backbone`."""

    def __init__(
        self,
        folder: ModelFolder,
        identity: BackboneIdentity,
        model: torch.nn.Module,
        tokenizer: Any,
        preprocessing: Preprocessing,
        device: torch.device,
    ) -> None:
        super().__init__(identity, model, preprocessing, device)
        config: Any = model.config
        self.context_length = _context_length(config.text_config, tokenizer)
        self._folder = folder
        self._tokenizer = tokenizer
        self._reads_padding = config.model_type in _FULL_LENGTH
        self._lower_case = self._reads_padding and type(tokenizer).__name__ in _LOWER_CASE
        self.dim = self._common_width()

    def _common_width(self) -> int:
        """Try both towers on one input each, since a model may have their methods and mean something else by them."""
        import torch

        pixels_13SS = torch.zeros(1, 3, self.image_size, self.image_size)
        shapes: dict[str, tuple[int, ...]] = {}
        with torch.inference_mode():
            for method, encode, given in (
                ("get_image_features", self.encode_images, pixels_13SS),
                ("get_text_features", self.encode_tokens, self.tokenize(["a"])),
            ):
                try:
                    shapes[method] = tuple(encode(given).shape)
                except Exception as error:  # it wants other inputs than pixels and tokens, has no pooled row, ...
                    raise _no_dual_encoder(
                        self._folder, self.model, f"whose {method} fails: {first_line(error)}"
                    ) from error
        if len(set(shapes.values())) > 1 or any(len(shape) != 2 for shape in shapes.values()):
            found = " and ".join(f"{method} {shape}" for method, shape in shapes.items())
            raise _no_dual_encoder(self._folder, self.model, f"which gives no common rows of one input: {found}")
        return shapes["get_text_features"][1]

    def encode_images(self, pixels_B3HW: torch.Tensor) -> torch.Tensor:
        """Project images, (B, D) float32, not normalised."""
        pixels = pixels_B3HW.to(self.device, next(self.model.parameters()).dtype)
        return _features(self.model.get_image_features(pixel_values=pixels))

    def tokenize(self, texts: Sequence[str]) -> torch.Tensor:
        """Turn texts into token ids, (B, L) int64."""
        return padded_tokens(self._tokenizer, self._written(texts), self.context_length)

    def overlong(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Say which texts have to be cut, (B,)."""
        return longer_than(self._tokenizer, self._written(texts), self.context_length)

    def encode_tokens(self, tokens_BL: torch.Tensor) -> torch.Tensor:
        """Project tokenised texts, (B, D) float32, not normalised; padding is read only where it was in training."""
        if self._reads_padding:
            return _features(self.model.get_text_features(input_ids=send(tokens_BL, self.device)))
        tokens_Bl, mask_Bl = masked(tokens_BL, self._tokenizer, self.device)
        return _features(self.model.get_text_features(input_ids=tokens_Bl, attention_mask=mask_Bl))

    def token_lengths(self, tokens_BL: torch.Tensor) -> NDArray[np.int64]:
        """How many leading tokens of each row are read when it is alone in its batch, (B,)."""
        if self._reads_padding:
            return np.full(len(tokens_BL), tokens_BL.shape[1], dtype=np.int64)
        return masked_lengths(tokens_BL, self._tokenizer)

    def with_weights(self, weights: Path) -> TransformersBackbone:
        """Load other weights of the same architecture, activation, preprocessing, precision and device."""
        identity = self.identity
        return _build(
            self._folder, weights, identity.activation, identity.preprocessing, identity.precision, self.device
        )

    def _written(self, texts: Sequence[str]) -> list[str]:
        return [text.lower() for text in texts] if self._lower_case else list(texts)


def _features(output: Any) -> torch.Tensor:
    """The projected rows, which transformers returns as a tensor or, since version 5, in an output."""
    rows: torch.Tensor | None = getattr(output, "pooler_output", output)
    if rows is None:
        raise UsageError("its output has no pooled row.")
    return rows.float()


def _context_length(config: Any, tokenizer: Any) -> int:
    """The most tokens that both the tokenizer and the positions of the text tower allow."""
    positions = int(config.max_position_embeddings)
    if type(tokenizer).__name__.startswith(("Roberta", "XLMRoberta")):
        positions -= int(config.pad_token_id) + 1  # RoBERTa counts positions from behind the id of its padding
    return min(positions, int(tokenizer.model_max_length))


def _stated_activation(folder: ModelFolder, config: Any) -> dict[str, Activation | None]:
    """What the configuration says of the image tower; the digest of the architecture covers both towers."""
    stated = getattr(config.vision_config, "hidden_act", None)
    if stated is None:
        return {}
    return {f"{folder.path / CONFIG_FILE}": "quick_gelu" if stated == "quick_gelu" else "gelu"}
