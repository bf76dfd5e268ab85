"""The loop: a batch, its loss, a step of AdamW, and now and then the state on disk."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import time
from typing import TYPE_CHECKING

import torch

from cirbench.errors import CirbenchError
from cirbench.training.schedule import learning_rate
from cirbench.training.state import STATE

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from pathlib import Path

    from cirbench.training.config import TrainingParameters
    from cirbench.training.data import Batches
    from cirbench.training.objective import Objective
    from cirbench.training.state import Progress

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

    def keep(self, progress: Progress) -> bool:
        """Write the state if it is time, and if it is worth continuing from; say whether the training shall stop."""
        now, stopping = time.perf_counter(), self.stop.is_set()
        if stopping or now - self._last > max(self.seconds, _SHARE * self._cost):
            if progress.is_finite():
                progress.save(self.folder)
            self._last = time.perf_counter()
            self._cost = self._last - now
        return stopping


def run(
    objective: Objective,
    batches: Batches,
    parameters: TrainingParameters,
    progress: Progress,
    keeper: Keeper,
    advance: Callable[[int], None],
) -> bool:
    """Run the steps that are left; say whether all are done, or the training was stopped and its state is kept.

    Raises:
        CirbenchError: The loss is no longer a finite number.
    """
    steps = parameters.total_steps(batches.per_epoch)
    while progress.step < steps:
        started = time.perf_counter()
        step = progress.step
        torch.manual_seed(_seed(parameters.seed, step))
        rate = learning_rate(step, steps=steps, steps_per_epoch=batches.per_epoch, parameters=parameters)
        for group in progress.optimizer.param_groups:
            group["lr"] = rate
        progress.optimizer.zero_grad(set_to_none=True)
        loss = objective.loss(batches[step])
        loss.backward()  # type: ignore[no-untyped-call]
        value = loss.item()
        if not math.isfinite(value):
            raise _diverged(value, step, keeper.folder)
        progress.optimizer.step()
        progress.losses.append(value)
        progress.seconds += time.perf_counter() - started
        advance(batches.batch_size)
        if progress.step < steps and keeper.keep(progress):
            return False
    if not progress.is_finite():
        raise _diverged(math.nan, steps - 1, keeper.folder)
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
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=parameters.lr, fused=True)


def _seed(seed: int, step: int) -> int:
    """A seed for everything random in a step, so that a continued training draws what it would have drawn."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{step}".encode()).digest()[:8], "little") >> 1


def _diverged(loss: float, step: int, folder: Path) -> CirbenchError:
    kept = f" The last good state is kept in {folder / STATE}." if (folder / STATE).is_file() else ""
    return CirbenchError(
        f"The training stopped at step {step + 1}: its loss became {loss}.{kept}",
        hint="Lower the learning rate (--set lr=...), or look at the pairs of that step.",
    )
