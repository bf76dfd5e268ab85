"""In which precision a training computes: towers in fp32 or bf16, weights and losses in fp32 always."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any, ParamSpec, cast

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cirbench.training.config import TrainingParameters

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
