"""One step of a training: micro-batches, their losses, the precision they run in, and averaged gradients."""

from __future__ import annotations

import contextlib
import functools
import hashlib
from typing import TYPE_CHECKING, Any, ParamSpec, cast

import torch
from torch.nn.parallel import DistributedDataParallel

from cirbench.errors import UsageError
from cirbench.support.distributed import PeerFailure, get_context, is_lost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cirbench.training.config import TrainingParameters
    from cirbench.training.objective import Batch, Objective

P = ParamSpec("P")


def autocast(parameters: TrainingParameters, device: torch.device) -> torch.autocast:
    """The context in which a loss is computed: in bf16, matrix products are, and what needs the digits is not."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=parameters.precision == "bf16")


def in_full_precision(loss: Callable[P, torch.Tensor]) -> Callable[P, torch.Tensor]:
    """Compute a loss of features in fp32, also where the features were computed in bf16."""

    def widened(value: Any) -> Any:
        return value.float() if isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16 else value

    @functools.wraps(loss)
    def computed(*arguments: P.args, **named: P.kwargs) -> torch.Tensor:
        device = next(value.device for value in (*arguments, *named.values()) if isinstance(value, torch.Tensor))
        with torch.autocast(device.type, enabled=False):
            positional = [widened(value) for value in arguments]
            return loss(
                *cast("Any", positional), **cast("Any", {name: widened(value) for name, value in named.items()})
            )

    return computed


@contextlib.contextmanager
def tf32(wanted: bool) -> Iterator[None]:
    """Let a GPU round the inputs of fp32 products to 10 bits, or not, while the block lasts."""
    matmul, convolution = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, convolution.allow_tf32
    matmul.allow_tf32 = convolution.allow_tf32 = wanted
    try:
        yield
    finally:
        matmul.allow_tf32, convolution.allow_tf32 = before


class Step:
    """Computes the loss of a step and leaves its gradients in the weights."""

    def __init__(self, objective: Objective, parameters: TrainingParameters, device: torch.device) -> None:
        self._parameters = parameters
        self._device = device
        self._loss: torch.nn.Module = _Loss(objective)
        if get_context().world_size > 1:
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
            if get_context().world_size > 1 and is_lost(error):
                raise PeerFailure from error
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
