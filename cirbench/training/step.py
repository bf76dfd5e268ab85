"""One step of a training: the pieces of a batch, their losses, and gradients averaged over the processes."""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.parallel import DistributedDataParallel

from cirbench.errors import UsageError
from cirbench.processes import here, is_lost, lost
from cirbench.training.precision import autocast

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cirbench.training.config import TrainingParameters
    from cirbench.training.objective import Batch, Objective


class Step:
    """Computes the loss of a step and leaves its gradients in the weights."""

    def __init__(self, objective: Objective, parameters: TrainingParameters, device: torch.device) -> None:
        self._parameters = parameters
        self._device = device
        self._loss: torch.nn.Module = _Loss(objective)
        if here().count > 1:
            # Not every weight need have a part in a loss: CLIP's temperature has none in PLI's.
            self._loss = DistributedDataParallel(self._loss, find_unused_parameters=True)

    def __call__(self, pieces: Iterator[Batch], step: int) -> float:
        """Take the pieces of a step, counted from 0, and return the mean of their losses in this process.

        Raises:
            CirbenchError: Another process has ended.
        """
        count, value = self._parameters.accumulate, 0.0
        for piece in range(count):
            batch = next(pieces)
            torch.manual_seed(_seed(self._parameters.seed, step, piece))
            with self._alone() if piece + 1 < count else contextlib.nullcontext():
                value += self._backward(batch) / count
        return value

    def _backward(self, batch: Batch) -> float:
        try:
            with autocast(self._parameters, self._device):
                loss: torch.Tensor = self._loss(batch)
            (loss / self._parameters.accumulate).backward()  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            if here().count > 1 and is_lost(error):
                raise lost() from error
            raise
        return loss.item()

    def _alone(self) -> Any:
        """While it lasts, gradients add up in this process and are not exchanged."""
        loss = self._loss
        return loss.no_sync() if isinstance(loss, DistributedDataParallel) else contextlib.nullcontext()


class _Loss(torch.nn.Module):
    """The loss of an objective as a module, which is what torch can distribute."""

    _objective: Objective

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.trained = objective.module
        self._objective = objective

    def forward(self, batch: Batch) -> torch.Tensor:
        return self._objective.loss(batch)


def recompute_activations(model: torch.nn.Module, name: str) -> None:
    """Have a model compute its activations again in the backward pass.

    Raises:
        UsageError: It cannot.
    """
    # Of open_clip, of transformers from version 5 on, and before.
    switches = ("set_grad_checkpointing", "activation_checkpointing_enable", "gradient_checkpointing_enable")
    switch: Any = next((getattr(model, switch) for switch in switches if hasattr(model, switch)), None)
    if switch is None:
        raise UsageError(f"{name} cannot compute its activations again.", hint="Leave out --set checkpointing=true.")
    switch()


def _seed(seed: int, step: int, piece: int) -> int:
    """A seed for everything random in a piece: equal in all processes, and in a training that is continued."""
    place = f"{seed}/{step}" if piece == 0 else f"{seed}/{step}/{piece}"
    return int.from_bytes(hashlib.sha256(place.encode()).digest()[:8], "little") >> 1
