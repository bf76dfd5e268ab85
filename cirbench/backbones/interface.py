"""What a backbone is: two towers into one space, and an identity that its name alone could never be."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal, Protocol

from cirbench.files import digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from PIL import Image

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
        model: The torch module, for training.
        device: Where it runs.
    """

    identity: BackboneIdentity
    dim: int
    model: torch.nn.Module
    device: torch.device

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        """Turn a decoded image into what the image tower reads, (3, H, W) float32 on the CPU."""
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
