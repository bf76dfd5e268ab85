"""What a backbone is: two towers into one space, and an identity that its name alone could never be."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal, Protocol

from cirbench.files import digest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    import torch
    from numpy.typing import NDArray
    from PIL import Image

    from cirbench.images.preprocess import Preprocessing

Activation = Literal["gelu", "quick_gelu"]
Precision = Literal["fp32", "bf16"]


@dataclasses.dataclass(frozen=True, slots=True)
class BackboneIdentity:
    """What fixes the features of a backbone; recorded in every result and part of every feature key.

    Attributes:
        name: As the user asked for it, for messages and tables; no part of the digest.
        architecture: The model configuration, by name and digest.
        activation: Of both towers, as the weights were trained.
        weights: Sha256 of the weights: of the file, or of the tensors where there is no file.
        preprocessing: The declared image preprocessing, for instance ``"clip(224)"``.
        precision: In which the towers run.
    """

    name: str
    architecture: str
    activation: Activation
    weights: str
    preprocessing: str
    precision: Precision

    @property
    def digest(self) -> str:
        """Sha256 over everything but the name."""
        fields = dataclasses.asdict(self)
        del fields["name"]
        return digest(fields)


class Backbone(Protocol):
    """A vision-language model whose image and text towers end in one space of ``dim`` dimensions.

    Attributes:
        identity: See `BackboneIdentity`.
        dim: D, the width of the joint space.
        image_size: S, the side in pixels of what the image tower reads.
        context_length: L, the most tokens a text may have, start and end included.
        model: The torch module, for training.
        device: Where it runs.
        preprocessing: Makes a decoded image into (3, S, S) float32; imports no torch, so that it can run anywhere.
    """

    identity: BackboneIdentity
    dim: int
    image_size: int
    context_length: int
    model: torch.nn.Module
    device: torch.device
    preprocessing: Preprocessing

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        """Turn a decoded image into what the image tower reads, (3, S, S) float32 on the CPU."""
        ...

    def encode_images(self, pixels_B3HW: torch.Tensor) -> torch.Tensor:
        """Project images, (B, D) float32, not normalised. Gradients flow unless the caller stops them."""
        ...

    def tokenize(self, texts: Sequence[str]) -> torch.Tensor:
        """Turn texts into token ids, (B, context length) int64; too long ones are cut, keeping the end token."""
        ...

    def encode_tokens(self, tokens_BL: torch.Tensor) -> torch.Tensor:
        """Project tokenised texts, (B, D) float32, not normalised. Gradients flow unless the caller stops them."""
        ...

    def overlong(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Say which texts `tokenize` has to cut, (B,)."""
        ...

    def token_lengths(self, tokens_BL: torch.Tensor) -> NDArray[np.int64]:
        """How many leading tokens of each row `encode_tokens` reads when the row stands alone, (B,)."""
        ...

    def with_weights(self, weights: Path) -> Backbone:
        """Load other weights of the same architecture, with the same settings."""
        ...
