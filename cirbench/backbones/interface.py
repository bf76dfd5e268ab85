"""What a backbone is: two towers into one space, an identity that covers its content, and the device it runs on."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import logging
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from cirbench.errors import UsageError
from cirbench.support.device import may_have_gpu, supports_bf16
from cirbench.support.distributed import get_context
from cirbench.support.files import digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    import torch
    from numpy.typing import NDArray
    from PIL import Image

    from cirbench.backbones.images import Preprocessing

Activation = Literal["gelu", "quick_gelu"]
WeightPrecision = Literal["fp32", "bf16"]
Precision = Literal[WeightPrecision, "bf16-autocast"]
AskedPrecision = Literal["auto", Precision]
"""What may be asked for; `settle_precision` puts what is used in the place of ``auto`` before anything is recorded."""


@dataclasses.dataclass(frozen=True, slots=True)
class BackboneIdentity:
    """What fixes the features of a backbone; recorded in every result and part of every feature key.

    Attributes:
        name: As the user asked for it, for messages and tables; no part of the digest.
        architecture: The model configuration, by name and digest.
        activation: Of both towers, as the weights were trained.
        weights: Sha256 of the weights: of the file, or of the tensors where there is no file.
        preprocessing: The declared image preprocessing, for instance ``"clip(224)"``.
        precision: In which the towers run: fp32, bf16 with weights in bf16, or bf16 by autocast, with weights in fp32.
            TF32 is in none of them: it is off wherever features are computed.
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
        preprocessing: Makes a decoded image into grey levels, (3, S, S) uint8, without importing torch, so that it can
            run anywhere; and these, on any device, into what the image tower reads. Encoding and training use it.
    """

    identity: BackboneIdentity
    dim: int
    image_size: int
    context_length: int
    model: torch.nn.Module
    device: torch.device
    preprocessing: Preprocessing

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        """Turn a decoded image into what the image tower reads, (3, S, S) float32 on the CPU, by `preprocessing`."""
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
        """How many leading tokens of each row `encode_tokens` reads when the row is alone in its batch, (B,)."""
        ...

    def with_weights(self, weights: Path) -> Backbone:
        """Load other weights of the same architecture, with the same settings."""
        ...


class TwoTowers:
    """What a `Backbone` with an image tower and a text tower has in every library; `Backbone` describes it."""

    def __init__(
        self, identity: BackboneIdentity, model: Any, preprocessing: Preprocessing, device: torch.device
    ) -> None:
        self.identity = identity
        self.model = model
        self.preprocessing = preprocessing
        self.image_size = preprocessing.size
        self.device = device

    def __repr__(self) -> str:
        return f"<{self.identity.name} on {self.device}, {self.identity.precision}>"

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        """Turn a decoded image into (3, S, S) float32 by the declared preprocessing."""
        import torch

        return torch.from_numpy(self.preprocessing(image))


@runtime_checkable
class JointBackbone(Protocol):
    """What a `Backbone` has that reads images and texts, or both at once, in one pass of one model.

    Such a model has no towers: what `Backbone` says of towers it refuses. Its context length is what is left for a text
    beside the largest image and its own instructions.

    Attributes:
        item_instruction: The instruction with a gallery item where no other is given; empty for none.
        query_instruction: The same with a query.
    """

    item_instruction: str
    query_instruction: str

    def require_readable(self, texts: Sequence[str]) -> None:
        """Refuse texts that the model would not read as texts.

        Raises:
            UsageError: One has a mark by which the model knows a place for an image, an end of a turn, or the like.
        """
        ...

    def read(self, image: Image.Image | None, text: str | None, instruction: str) -> Mapping[str, Any]:
        """Turn an image, a text or both, image first, into what the model reads, a batch of one on the CPU.

        A text that is too long is cut at its end. May be called by several threads at once.

        Raises:
            UsageError: Image and instruction alone are too long.
        """
        ...

    def encode(self, inputs: Sequence[Mapping[str, Any]]) -> torch.Tensor:
        """Encode what `read` returned, of equal shapes, (B, D) float32."""
        ...


def find_device(name: str) -> torch.device:
    """Return the device ``"cpu"``, ``"cuda"``, ``"cuda:1"`` ..., or for ``"auto"`` the GPU where there is one.

    Each of several processes on a machine takes a GPU of its own where none is given by number.

    Reference precision is switched on: a GPU would otherwise round the inputs of convolutions to 10 bits (TF32).

    Raises:
        UsageError: There is no such device.
    """
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and get_context().world_size > 1:
        name = f"cuda:{get_context().local_rank}"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"There is no device called {name!r}.", hint="Use --device auto, cpu or cuda.") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"This machine has no device {name} that torch can use.", hint="Use --device auto or cpu.")
    return device


def settle_precision(asked: AskedPrecision, device: str) -> Precision:
    """What a precision stands for on a device: ``auto`` for bf16 by autocast on a GPU that has bf16, or else for fp32.

    On a machine without a GPU torch is not imported.

    Raises:
        UsageError: There is no such device.
    """
    if asked != "auto":
        return asked
    if device == "cpu" or (device == "auto" and not may_have_gpu()):
        return "fp32"
    return "bf16-autocast" if supports_bf16(find_device(device)) else "fp32"


def without_autocast(backbone: Backbone) -> Backbone:
    """The backbone in fp32, with the same weights, if it runs under autocast; or else itself."""
    if backbone.identity.precision != "bf16-autocast":
        return backbone
    other = copy.copy(backbone)
    other.identity = dataclasses.replace(backbone.identity, precision="fp32")
    return other


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keep the log lines of a library off the terminal and its logging calls from setting up the root logger.

    Nothing is lost: what one would say about missing weights, activations or networks is an error here.
    """
    root, handler, level = logging.getLogger(), logging.NullHandler(), logging.root.manager.disable
    root.addHandler(handler)
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(level)
        root.removeHandler(handler)
