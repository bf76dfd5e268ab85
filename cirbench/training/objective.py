"""What is trained: a module and a loss."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch

    from cirbench.backbones.interface import Backbone


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """One step's pairs.

    Attributes:
        pixels_B3SS: Preprocessed images on the backbone's device.
        captions: Their captions.
    """

    pixels_B3SS: torch.Tensor
    captions: tuple[str, ...]


class Objective(Protocol):
    """What `MethodSpec.trainer` names, built on a backbone of its own that it may change.

    Attributes:
        module: What is optimised and saved: the tuned model, or whatever the method adds to a frozen one.
    """

    module: torch.nn.Module

    def loss(self, batch: Batch) -> torch.Tensor:
        """The scalar loss of a batch. Random numbers come from torch's default generator, seeded before each step."""
        ...


class ObjectiveFactory(Protocol):
    """Builds an objective."""

    def __call__(self, backbone: Backbone, parameters: Any) -> Objective:
        """Build it on ``backbone``, for the method's training parameters."""
        ...
