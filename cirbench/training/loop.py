"""The training loop: learning rate, step of AdamW, health checks, and the state on disk that it resumes from.

Everything random in a step comes from the seed and the number of the step, and so does the order of the pairs. So the
state is the module, the optimiser, the losses and evaluations so far, and how long they took.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from typing import TYPE_CHECKING

import torch

from cirbench.errors import CirbenchError
from cirbench.support.distributed import all_gather_union, all_reduce_sum, get_context
from cirbench.training.state import STATE, TrainState

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from cirbench.training.callbacks import CheckpointCallback
    from cirbench.training.config import TrainingParameters
    from cirbench.training.data import Batches
    from cirbench.training.objective import Batch
    from cirbench.training.step import Step

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


WINDOW = 20
"""Losses at the beginning that say what is usual, and at the end that are judged."""
FACTOR = 10.0
"""How many times the usual is far too much."""
FLOOR = 1.0
"""A loss below is never called too large, however small those before it were."""


def bound(losses: Sequence[float]) -> float:
    """The loss above which a step has gone astray; infinite while too few losses are known."""
    if len(losses) < 2 * WINDOW:
        return math.inf
    return max(FLOOR, FACTOR * max(losses[:WINDOW]))


def diverges(losses: Sequence[float]) -> bool:
    """Whether half of the last 20 losses are ten times as large as the largest of the first 20, and above 1.

    The first losses are those of weights that have learnt nothing yet, and there are twenty of them. So neither a hard
    batch nor a spike that passes can look like this.
    """
    return statistics.median(losses[-WINDOW:]) > bound(losses) if losses else False


def is_good(losses: Sequence[float]) -> bool:
    """Whether the last step may be continued from."""
    return not losses or losses[-1] <= bound(losses)


_SHARE = 20
"""Keeping the state takes at most one part in so many of the time."""


@dataclasses.dataclass
class StateSaver:
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

    def keep(self, progress: TrainState, *, stopping: bool) -> None:
        """Write the state if it is time, and if it is worth continuing from."""
        now = time.perf_counter()
        if not get_context().is_main_process or not (
            stopping or now - self._last > max(self.seconds, _SHARE * self._cost)
        ):
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
    progress: TrainState,
    keeper: StateSaver,
    moments: CheckpointCallback,
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
        whole_loss, stopping, skipped = all_reduce_sum(
            [loss / get_context().world_size, keeper.stop.is_set(), own_skipped]
        )
        if skipped:
            progress.skipped = all_gather_union(batches.skipped)
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
        moments.on_step_end()
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
