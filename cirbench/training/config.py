"""The settings of a training; light, so that a SPEC can name it."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from cirbench.support.parameters import Parameters

Positive = Annotated[int, msgspec.Meta(ge=1)]
Natural = Annotated[int, msgspec.Meta(ge=0)]
Rate = Annotated[float, msgspec.Meta(ge=0)]


class TrainingParameters(Parameters, frozen=True, kw_only=True):
    """The settings of every training; a method's own parameters subclass it.

    Attributes:
        epochs: Passes over the samples; an incomplete last batch is left out.
        steps: Optimiser steps instead of epochs.
        samples: Train on so many samples, the first ones of the data; null for all.
        batch_size: Samples a step, over all processes and pieces.
        lr: The learning rate of AdamW, at the height of the schedule.
        weight_decay: The weight decay of AdamW.
        beta2: How slowly AdamW's scale of each gradient follows.
        epsilon: What AdamW adds to that scale.
        decay: Decay all weights, or only matrices: no gains, biases or single numbers.
        schedule: constant (after the warm-up); cosine (warm-up, then half a cosine to zero); or epochs (constant
            within an epoch, ten times smaller after each milestone).
        warmup: Steps over which the rate rises linearly; epochs, where the schedule counts epochs.
        milestones: The epochs after which the schedule that counts epochs lowers the rate.
        seed: Decides the order of the samples and everything random in a step.
        precision: The precision of the towers: fp32, or bf16 by autocast; weights and losses are fp32 always.
        tf32: Let a GPU round the inputs of fp32 products to 10 bits.
        accumulate: Cut each batch into so many pieces that follow one another and are one step; a contrastive loss
            compares within a piece.
        checkpointing: Compute the activations of the towers again in the backward pass, to hold fewer of them.
    """

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
    accumulate: Positive = 1
    checkpointing: bool = False

    def total_steps(self, steps_per_epoch: int) -> int:
        """How many optimiser steps the training has."""
        return self.steps if self.steps is not None else self.epochs * steps_per_epoch


CLIP_TRAINING = TrainingParameters(
    steps=600, batch_size=256, lr=1e-3, weight_decay=0.1, decay="matrices", schedule="cosine", warmup=50
)
"""Plain contrastive pre-training, where nothing else is set."""
