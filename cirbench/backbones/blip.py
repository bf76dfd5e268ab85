"""BLIP (Li et al., ICML 2022) through transformers: where its files are, and its two towers."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cirbench.backbones.hub import CONFIG_FILE, Config, ModelFolder, open_folder, read_json
from cirbench.backbones.images import Preprocessing, declared_preprocessing
from cirbench.backbones.interface import BackboneIdentity, TwoTowers, find_device, quietly
from cirbench.backbones.text import longer_than, padded_lengths, padded_tokens
from cirbench.backbones.weights import place, read_weights, recorded_beside, resolve_activation
from cirbench.errors import CorruptFile, MissingData, UsageError, some
from cirbench.support.console import say_once
from cirbench.support.device import send
from cirbench.support.files import digest
from cirbench.support.needs import require

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from cirbench.backbones.interface import Activation, Precision


BLIP_OWNER = "Salesforce"

BLIP_NAMES = ("blip-itm-base-coco", "blip-itm-base-flickr", "blip-itm-large-coco", "blip-itm-large-flickr")
"""The BLIPs whose towers end in one space, as their owner calls them on the hub."""

_ARCHITECTURE = "BlipForImageTextRetrieval"


def is_blip(name: str) -> bool:
    """Whether a backbone's name means a BLIP: one of the hub's, or a folder whose configuration says so.

    Raises:
        CorruptFile: The configuration cannot be read.
    """
    path = Path(name) / CONFIG_FILE
    return _hub_name(name) is not None or (path.is_file() and read_json(path, Config).model_type == "blip")


def find_blip(name: str) -> ModelFolder:
    """Find the files of a name, except the weights.

    Raises:
        MissingData: They are not cached, and could not be downloaded; or the folder has no tokenizer.
        UsageError: The folder holds another kind of BLIP, for captions or answers.
        CorruptFile: The configuration cannot be read.
    """
    on_hub = _hub_name(name)
    folder = open_folder(on_hub or name)
    config = folder.config()
    if config.architectures is not None and _ARCHITECTURE not in config.architectures:
        raise UsageError(
            f"{name} is a {config.architectures[0]}, whose towers do not end in one space.",
            hint=f"Use a {_ARCHITECTURE}, for instance --backbone {BLIP_NAMES[0]}.",
        )
    return dataclasses.replace(folder, name=name.removeprefix(f"{BLIP_OWNER}/") if on_hub is not None else name)


def _hub_name(name: str) -> str | None:
    plain = name.removeprefix(f"{BLIP_OWNER}/")
    return f"{BLIP_OWNER}/{plain}" if plain in BLIP_NAMES else None


def stated_activation(folder: Path, config: Any) -> dict[str, Activation | None]:
    """What a model's configuration says about the activation of its towers.

    Raises:
        CorruptFile: It is not one of those that exist here.
    """
    stated: dict[str, Activation | None] = {}
    for tower in ("vision_config", "text_config"):
        activation = getattr(config, tower).hidden_act
        if activation not in ("gelu", "quick_gelu"):
            raise CorruptFile(f"{folder / CONFIG_FILE} has the activation {activation!r}, not gelu or quick_gelu.")
        stated[f"the {tower} of {folder / CONFIG_FILE}"] = activation
    return stated


_VISION = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "image_size", "patch_size")
_TEXT = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
_UNREAD = ("crossattention", "itm_head")
"""Parts of names of the weights that neither tower reads alone: `BlipBackbone.fuse` does, or nothing here."""


def load(
    name: str,
    *,
    weights: Path | None,
    ema: bool,
    activation: Activation | None,
    preprocessing: str | None,
    precision: Precision,
    device: str,
) -> BlipBackbone:
    """Build a backbone; see `cirbench.backbones.load_backbone`."""
    transformers = require("transformers", extra="transformers", purpose="BLIP")
    source = find_blip(name)
    path = weights if weights is not None else source.weights()[0]
    try:
        with quietly():
            config = transformers.BlipConfig.from_pretrained(source.path)
    except Exception as error:  # whatever a wrong configuration leads to
        raise CorruptFile(f"transformers cannot read {source.path / CONFIG_FILE}: {error}") from error
    beside = recorded_beside(path) if weights is not None else {}
    trained_with = resolve_activation(
        name, {"the option": activation, **stated_activation(source.path, config), **beside}
    )
    return _build(source, config, path, trained_with, preprocessing, precision, find_device(device), ema=ema)


def _build(
    source: ModelFolder,
    config: Any,
    path: Path,
    activation: Activation,
    preprocessing: str | None,
    precision: Precision,
    device: torch.device,
    *,
    ema: bool = False,
) -> BlipBackbone:
    import torch
    from transformers import BlipForImageTextRetrieval

    found, weights = read_weights(path, ema=ema)
    found = in_transformers_form(found, config, path)
    tensors = {name: tensor for name, tensor in found.items() if not name.endswith(".position_ids")}
    try:
        with quietly():
            model: Any = BlipForImageTextRetrieval(config)
    except Exception as error:
        raise CorruptFile(
            f"transformers cannot build the model that {source.path / CONFIG_FILE} describes: {error}"
        ) from error
    tokenizer = _tokenizer(source, config.text_config.vocab_size)
    architecture = f"blip@{_architecture(config, tokenizer)}"
    place(model, tensors, path=path, architecture="BlipForImageTextRetrieval")
    for name, parameter in model.named_parameters():
        if any(part in name for part in _UNREAD):
            parameter.requires_grad_(False)
    size = int(config.vision_config.image_size)
    own = source.preprocessing(size, squash=True) or Preprocessing(shape="squash", size=size)
    pipeline = declared_preprocessing(preprocessing, own, source.name)
    identity = BackboneIdentity(
        name=source.name,
        architecture=architecture,
        activation=activation,
        weights=weights,
        preprocessing=str(pipeline),
        precision=precision,
    )
    model = model.eval().to(device, torch.bfloat16 if precision == "bf16" else torch.float32)
    return BlipBackbone(source, identity, model, tokenizer, pipeline, device)


_OWN_PARTS = ("visual_encoder.", "vision_proj.", "text_encoder.", "text_proj.", "itm_head.")
"""How the names of what is used begin in BLIP's own files; the rest is of its training or writes captions."""
_RENAMED = {
    "visual_encoder.cls_token": "vision_model.embeddings.class_embedding",
    "visual_encoder.pos_embed": "vision_model.embeddings.position_embedding",
    "visual_encoder.patch_embed.proj.": "vision_model.embeddings.patch_embedding.",
    "visual_encoder.norm.": "vision_model.post_layernorm.",
    "visual_encoder.blocks.": "vision_model.encoder.layers.",
    ".attn.qkv.": ".self_attn.qkv.",
    ".attn.proj.": ".self_attn.projection.",
    ".norm1.": ".layer_norm1.",
    ".norm2.": ".layer_norm2.",
}
_POSITIONS = _RENAMED["visual_encoder.pos_embed"]


def in_transformers_form(tensors: Mapping[str, torch.Tensor], config: Any, path: Path) -> dict[str, torch.Tensor]:
    """Give the tensors of BLIP's own files (``model_base.pth``) the names of transformers; leave others as they are.

    Positions of smaller images are interpolated as BLIP's own code does, bicubically on the grid of patches.
    """
    if not any(name.startswith("visual_encoder.") for name in tensors):
        return dict(tensors)
    used = {name: tensor for name, tensor in tensors.items() if name.startswith(_OWN_PARTS)}
    if left := [name for name in tensors if name not in used]:
        say_once(f"{path} holds more than the towers of a BLIP; not used: {some(left, 3)}.")
    renamed = {}
    for name, tensor in used.items():
        if name.startswith("visual_encoder."):
            for theirs, ours in _RENAMED.items():
                name = name.replace(theirs, ours)
        renamed[name] = tensor
    if _POSITIONS in renamed:
        side = int(config.vision_config.image_size) // int(config.vision_config.patch_size)
        renamed[_POSITIONS] = _positions_for(renamed[_POSITIONS], side)
    return renamed


def _positions_for(positions_1PC: torch.Tensor, side: int) -> torch.Tensor:
    """The positions of the class token and of a square grid of patches, for a grid of another side."""
    import torch

    width, before = positions_1PC.shape[-1], round((positions_1PC.shape[1] - 1) ** 0.5)
    if before == side or before**2 + 1 != positions_1PC.shape[1]:
        return positions_1PC
    grid_1CSS = positions_1PC[:, 1:].reshape(1, before, before, width).permute(0, 3, 1, 2).float()
    scaled_1CSS = torch.nn.functional.interpolate(grid_1CSS, size=(side, side), mode="bicubic", align_corners=False)
    patches_1PC = scaled_1CSS.permute(0, 2, 3, 1).reshape(1, side * side, width)
    return torch.cat([positions_1PC[:, :1].float(), patches_1PC], dim=1)


def _tokenizer(source: ModelFolder, known: int) -> Any:
    transformers: Any = require("transformers", extra="transformers", purpose="BLIP")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # else it warns in every process forked after its use
    try:
        with quietly():
            tokenizer = transformers.BertTokenizerFast.from_pretrained(source.path)
    except Exception as error:  # a damaged file, in whatever way
        raise MissingData(f"The tokenizer of {source.name!r} cannot be built: {error}") from error
    if len(tokenizer) > known:
        raise CorruptFile(
            f"The tokenizer in {source.path} makes a vocabulary of {len(tokenizer)} tokens, "
            f"and the text tower knows {known}."
        )
    return tokenizer


def _architecture(config: Any, tokenizer: Any) -> str:
    """A digest of what the towers look like and of the tokens they read, wherever the files lie."""
    vision, text = config.vision_config, config.text_config
    content = {
        "vision": {name: getattr(vision, name) for name in _VISION} | {"eps": vision.layer_norm_eps},
        "text": {name: getattr(text, name) for name in _TEXT} | {"eps": text.layer_norm_eps},
        "positions": text.max_position_embeddings,
        "joint": config.image_text_hidden_size,
        "vocabulary": tokenizer.get_vocab(),
        "lower": bool(tokenizer.do_lower_case),
    }
    return digest(content)[:16]


class BlipBackbone(TwoTowers):
    """A BLIP for retrieval; a `Backbone`.

    The image side is the projected class token of the vision transformer; the text side is the projected first token
    of the text transformer without its cross-attention, padding left out. With it, in `fuse`, a text is read in the
    light of an image. The matching head is not used.

    Attributes:
        fusing_token: What `fuse` reads in place of a text's first token: ``[ENC]``, where the vocabulary has BLIP's two
            further tokens.
        patches: L, of an image; `embed_patches` and `project_patches` are the halves of the image tower between which
            some of them can be dropped.
    """

    def __init__(
        self,
        source: ModelFolder,
        identity: BackboneIdentity,
        model: torch.nn.Module,
        tokenizer: Any,
        preprocessing: Preprocessing,
        device: torch.device,
    ) -> None:
        super().__init__(identity, model, preprocessing, device)
        config: Any = model.config
        self.dim = int(config.image_text_hidden_size)
        self.patches = (self.image_size // int(config.vision_config.patch_size)) ** 2
        self.context_length = int(config.text_config.max_position_embeddings)
        self._config = config
        self._source = source
        self._tokenizer = tokenizer
        self._padding = int(tokenizer.pad_token_id)
        known = int(config.text_config.vocab_size)
        self.fusing_token = known - 1 if known == len(tokenizer) + 2 else int(tokenizer.cls_token_id)

    def encode_images(self, pixels_B3HW: torch.Tensor) -> torch.Tensor:
        """Project images, (B, D) float32, not normalised."""
        return self.project_patches(self.embed_patches(pixels_B3HW))

    def embed_patches(self, pixels_B3HW: torch.Tensor) -> torch.Tensor:
        """The class token and the patches of images with their positions added, (B, 1 + P, C)."""
        tokens_BTC: torch.Tensor = self.model.vision_model.embeddings(pixels_B3HW.to(self.device))
        return tokens_BTC

    def project_patches(self, tokens_BTC: torch.Tensor) -> torch.Tensor:
        """Run the image tower on a class token and any of the patches, and project it, (B, D) float32."""
        vision: Any = self.model.vision_model
        last_BTC = vision.encoder(inputs_embeds=tokens_BTC).last_hidden_state
        features_BD: torch.Tensor = self.model.vision_proj(vision.post_layernorm(last_BTC[:, 0]))
        return features_BD.float()

    def image_tokens(self, pixels_B3HW: torch.Tensor) -> torch.Tensor:
        """The class token and the patches of images as the image tower leaves them, (B, 1 + P, C)."""
        vision: Any = self.model.vision_model
        last_BTC = vision.encoder(inputs_embeds=self.embed_patches(pixels_B3HW)).last_hidden_state
        tokens_BTC: torch.Tensor = vision.post_layernorm(last_BTC)
        return tokens_BTC

    def text_tokens(self, tokens_BL: torch.Tensor) -> torch.Tensor:
        """The tokens of texts as the text tower leaves them, as many as the longest text has, (B, l, E)."""
        return self._read(self.model.text_encoder, tokens_BL)

    def fuse(
        self, tokens_BL: torch.Tensor, image_tokens_BTC: torch.Tensor, tower: torch.nn.Module | None = None
    ) -> torch.Tensor:
        """Read texts in the light of an image each, by the cross-attention of the text tower, (B, l, E).

        Args:
            tokens_BL: What `tokenize` returned.
            image_tokens_BTC: What `image_tokens` returned.
            tower: Another text tower of the same kind; a tuned one.
        """
        tokens_BL = tokens_BL.clone()
        tokens_BL[:, 0] = self.fusing_token
        return self._read(tower or self.model.text_encoder, tokens_BL, encoder_hidden_states=image_tokens_BTC)

    def _read(self, tower: Any, tokens_BL: torch.Tensor, **attended: torch.Tensor) -> torch.Tensor:
        tokens_Bl = send(tokens_BL[:, : int(self.token_lengths(tokens_BL).max())], self.device)
        read_Bl = (tokens_Bl != self._padding).long()
        states_BlE: torch.Tensor = tower(input_ids=tokens_Bl, attention_mask=read_Bl, **attended).last_hidden_state
        return states_BlE

    def tokenize(self, texts: Sequence[str]) -> torch.Tensor:
        """Turn texts into token ids, (B, L) int64."""
        return padded_tokens(self._tokenizer, list(texts), self.context_length)

    def overlong(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Say which texts have to be cut, (B,)."""
        return longer_than(self._tokenizer, list(texts), self.context_length)

    def encode_tokens(self, tokens_BL: torch.Tensor) -> torch.Tensor:
        """Project tokenised texts, (B, D) float32, not normalised; padding is not attended to."""
        features_BD: torch.Tensor = self.model.text_proj(self.text_tokens(tokens_BL)[:, 0])
        return features_BD.float()

    def token_lengths(self, tokens_BL: torch.Tensor) -> NDArray[np.int64]:
        """How many leading tokens of each row are read when it is alone in its batch, (B,)."""
        return padded_lengths((tokens_BL != self._padding).sum(dim=1).cpu().numpy(), tokens_BL.shape[1])

    def with_weights(self, weights: Path) -> BlipBackbone:
        """Load other weights of the same architecture, activation, preprocessing, precision and device."""
        identity = self.identity
        resolve_activation(identity.name, {"the backbone": identity.activation, **recorded_beside(weights)})
        return _build(
            self._source,
            self._config,
            weights,
            identity.activation,
            identity.preprocessing,
            identity.precision,
            self.device,
        )
