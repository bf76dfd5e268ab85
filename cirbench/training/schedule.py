"""Learning rates by step: pure functions of the training parameters."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cirbench.training.config import TrainingParameters

START = 0.01
"""Where a warm-up that counts epochs begins, as a share of the full rate (PLI's public code)."""
DROP = 0.1
"""What is left of the rate after a milestone."""


def learning_rate(step: int, *, steps: int, steps_per_epoch: int, parameters: TrainingParameters) -> float:
    """The learning rate of a step, counted from 0."""
    warmup = parameters.warmup
    if parameters.schedule == "epochs":
        return parameters.lr * _by_epoch(step // steps_per_epoch, warmup, parameters.milestones)
    if step < warmup:
        return parameters.lr * (step + 1) / warmup
    if parameters.schedule == "cosine":
        return parameters.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
    return parameters.lr


def _by_epoch(epoch: int, warmup: int, milestones: tuple[int, ...]) -> float:
    if epoch < warmup:
        return START + (1 - START) * epoch / warmup
    return DROP ** sum(epoch >= milestone for milestone in milestones)
