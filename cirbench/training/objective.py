"""What is trained: a module and a loss."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from cirbench.backbones.features.encoder import Progress
    from cirbench.backbones.interface import Backbone
    from cirbench.training.data.source import Source


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """The samples of one step, or this process's part of them.

    Attributes:
        pixels_B3SS: Preprocessed images on the backbone's device; none, (0, 3, S, S), where texts are trained on.
        captions: Their captions; empty where images are trained on.
        positions_B: Where the samples stand in the source.
        first: Where this part begins in the whole batch.
        total: How many samples the whole batch has, T.
    """

    pixels_B3SS: torch.Tensor
    captions: tuple[str, ...]
    positions_B: NDArray[np.int64]
    first: int
    total: int

    def own(self, drawn_T: torch.Tensor) -> torch.Tensor:
        """This part's rows of what was drawn for the whole batch.

        Random numbers that are drawn for all T samples and then cut are the same on one process and on many.
        """
        return drawn_T[self.first : self.first + len(self.positions_B)]


class Objective(Protocol):
    """What `MethodSpec.trainer` names, built on a backbone of its own that it may change.

    Attributes:
        module: What is optimised and saved: the tuned model, or whatever the method adds to a frozen one.
    """

    module: torch.nn.Module

    def loss(self, batch: Batch) -> torch.Tensor:
        """The scalar loss of a batch. Random numbers come from torch's default generator, seeded before each step."""
        ...


@runtime_checkable
class NeedsPreparation(Protocol):
    """An objective that needs something made from the source before the first step."""

    def prepare(self, source: Source, display: Progress) -> None:
        """Make it, or find what an interrupted training has made of it."""
        ...


class ObjectiveFactory(Protocol):
    """Builds an objective."""

    def __call__(self, backbone: Backbone, parameters: Any) -> Objective:
        """Build it on ``backbone``, for the method's training parameters."""
        ...
