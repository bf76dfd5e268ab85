"""The loop: a batch, its loss, a step of AdamW, and now and then the state on disk."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import TYPE_CHECKING

import torch

from cirbench.errors import CirbenchError
from cirbench.processes import here, total, union
from cirbench.training.health import FACTOR, WINDOW, bound, diverges, is_good
from cirbench.training.schedule import learning_rate
from cirbench.training.state import STATE

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cirbench.training.config import TrainingParameters
    from cirbench.training.data import Batches
    from cirbench.training.moments import Moments
    from cirbench.training.objective import Batch
    from cirbench.training.state import Progress
    from cirbench.training.step import Step

_SHARE = 20
"""Keeping the state takes at most one part in so many of the time."""


@dataclasses.dataclass
class Keeper:
    """Decides when the state goes to disk: now and then, and when the training shall stop.

    Attributes:
        folder: Where it goes.
        seconds: How often, at most.
        stop: Set when the training shall stop.
    """

    folder: Path
    seconds: float
    stop: threading.Event
    _last: float = dataclasses.field(default_factory=time.perf_counter)
    _cost: float = 0.0

    def keep(self, progress: Progress, *, stopping: bool) -> None:
        """Write the state if it is time, and if it is worth continuing from."""
        now = time.perf_counter()
        if not here().leads or not (stopping or now - self._last > max(self.seconds, _SHARE * self._cost)):
            return
        if is_good(progress.losses) and progress.is_finite():
            progress.save(self.folder)
        self._last = time.perf_counter()
        self._cost = self._last - now


def run(
    compute: Step,
    batches: Batches,
    pieces: Iterator[Batch],
    parameters: TrainingParameters,
    progress: Progress,
    keeper: Keeper,
    moments: Moments,
    advance: Callable[[int], None],
) -> bool:
    """Run the steps that are left; say whether all are done, or the training was stopped and its state is kept.

    Raises:
        CirbenchError: The loss is no longer a finite number, or grows without end; another process has ended.
        MissingData: More samples cannot be used than may be skipped.
    """
    steps = parameters.total_steps(batches.per_epoch)
    while progress.step < steps:
        started = time.perf_counter()
        step = progress.step
        rate = learning_rate(step, steps=steps, steps_per_epoch=batches.per_epoch, parameters=parameters)
        for group in progress.optimizer.param_groups:
            group["lr"] = rate
        progress.optimizer.zero_grad(set_to_none=True)
        loss = compute(pieces, step)
        own_skipped = len(batches.skipped) - len(progress.skipped)
        whole_loss, stopping, skipped = total([loss / here().count, keeper.stop.is_set(), own_skipped])
        if skipped:
            progress.skipped = union(batches.skipped)
            batches.skip(progress.skipped)
        if not math.isfinite(whole_loss):
            raise _stopped(step, f"its loss became {whole_loss}", keeper.folder)
        progress.optimizer.step()
        progress.losses.append(whole_loss)
        if diverges(progress.losses):
            usual = f"half of its last {WINDOW} losses are above {bound(progress.losses):.4g}"
            reason = f"it diverges: {usual}, {FACTOR:.0f} times the largest of the first {WINDOW}"
            raise _stopped(step, reason, keeper.folder)
        progress.seconds += time.perf_counter() - started
        advance(batches.batch_size)
        moments.reached()
        if progress.step < steps:
            keeper.keep(progress, stopping=bool(stopping))
            if stopping:
                return False
    if not progress.is_finite():
        raise _stopped(steps - 1, "its weights are no longer numbers", keeper.folder)
    return True


def optimizer_for(module: torch.nn.Module, parameters: TrainingParameters) -> torch.optim.AdamW:
    """AdamW over the weights that want gradients; the loop sets its rate."""
    wanted = [weights for weights in module.parameters() if weights.requires_grad]
    decayed = [weights for weights in wanted if parameters.decay == "all" or weights.ndim >= 2]
    chosen = {id(weights) for weights in decayed}
    groups = [
        {"params": decayed, "weight_decay": parameters.weight_decay},
        {"params": [weights for weights in wanted if id(weights) not in chosen], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=parameters.lr,
        betas=(0.9, parameters.beta2),
        eps=parameters.epsilon,
        fused=True,
    )


def _stopped(step: int, reason: str, folder: Path) -> CirbenchError:
    kept = f" The last good state is kept in {folder / STATE}." if (folder / STATE).is_file() else ""
    return CirbenchError(
        f"The training stopped at step {step + 1}: {reason}.{kept}",
        hint="Lower the learning rate (--set lr=...), or look at the samples of that step.",
    )
