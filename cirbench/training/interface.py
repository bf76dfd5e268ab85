"""What a method brings to be trained: its training parameters, and an objective, which is a module with a loss.

Light: importing it takes no torch, so a SPEC can name its parameters, and decoding processes can make batches.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol, runtime_checkable

import msgspec

from cirbench.support.parameters import Parameters

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from cirbench.backbones.interface import Backbone
    from cirbench.support.console import Display
    from cirbench.training.data.source import Source

Positive = Annotated[int, msgspec.Meta(ge=1)]
Natural = Annotated[int, msgspec.Meta(ge=0)]
Rate = Annotated[float, msgspec.Meta(ge=0)]


class TrainingParameters(Parameters, frozen=True, kw_only=True):
    """The parameters of every training; a method's own parameters subclass it.

    Attributes:
        epochs: Passes over the samples; an incomplete last batch is left out.
        steps: Optimiser steps instead of epochs.
        samples: Train on the first so many samples of the data; null for all.
        batch_size: Samples a step, over all processes and micro-batches.
        lr: Learning rate of AdamW, at the height of the schedule.
        weight_decay: Weight decay of AdamW.
        beta2: Second-moment decay rate of AdamW.
        epsilon: Term that AdamW adds to the denominator.
        decay: Which weights decay: all of them, or only matrices (no gains, biases or single numbers).
        schedule: constant (after the warm-up); cosine (warm-up, then half a cosine to zero); or epochs (constant
            within an epoch, ten times smaller after each milestone).
        warmup: Steps over which the rate rises linearly; epochs, where the schedule counts epochs.
        milestones: Epochs after which the rate falls, where the schedule counts epochs.
        seed: Random seed of the order of the samples and of everything random in a step.
        precision: Precision of the towers: fp32, or bf16 by autocast; weights and losses are always fp32.
        tf32: Let a GPU round the inputs of fp32 products to 10 bits.
        grad_accum_steps: Micro-batches that a batch is split into; they run one after the other and make one optimiser
            step. A contrastive loss compares within a micro-batch.
        activation_checkpointing: Recompute the activations of the towers in the backward pass, to save memory.
    """

    EXCLUSIVE: ClassVar[tuple[tuple[str, ...], ...]] = (("epochs", "steps"),)
    ONLY_WITH: ClassVar[dict[str, tuple[str, str]]] = {"milestones": ("schedule", "epochs")}

    epochs: Positive = 1
    steps: Positive | None = None
    samples: Positive | None = None
    batch_size: Positive = 64
    lr: Rate = 1e-4
    weight_decay: Rate = 0.0
    beta2: Rate = 0.999
    epsilon: Rate = 1e-8
    decay: Literal["all", "matrices"] = "all"
    schedule: Literal["constant", "cosine", "epochs"] = "constant"
    warmup: Natural = 0
    milestones: tuple[Positive, ...] = ()
    seed: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    tf32: bool = False
    grad_accum_steps: Positive = 1
    activation_checkpointing: bool = False

    def total_steps(self, steps_per_epoch: int) -> int:
        """How many optimiser steps the training has."""
        return self.steps if self.steps is not None else self.epochs * steps_per_epoch


_RENAMED = {"accumulate": "grad_accum_steps", "checkpointing": "activation_checkpointing"}


def rename_parameters(training: Mapping[str, Any]) -> dict[str, Any]:
    """Give training parameters that were stored under their earlier names the present ones."""
    return {_RENAMED.get(name, name): value for name, value in training.items()}


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """The samples of one step, or this process's shard of them.

    Attributes:
        pixels_B3SS: Preprocessed images on the backbone's device; none, (0, 3, S, S), where texts are trained on.
        captions: Their captions; empty where images are trained on.
        positions_B: Positions of the samples in the source.
        first: Where this shard begins in the whole batch.
        total: How many samples the whole batch has, T.
    """

    pixels_B3SS: torch.Tensor
    captions: tuple[str, ...]
    positions_B: NDArray[np.int64]
    first: int
    total: int

    def local_shard(self, drawn_T: torch.Tensor) -> torch.Tensor:
        """This process's rows of what was drawn for the whole batch.

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

    def prepare(self, source: Source, display: Display) -> None:
        """Make it, or find what an interrupted training has made of it."""
        ...


class ObjectiveFactory(Protocol):
    """Builds an objective."""

    def __call__(self, backbone: Backbone, parameters: Any) -> Objective:
        """Build it on ``backbone``, for the method's training parameters."""
        ...
