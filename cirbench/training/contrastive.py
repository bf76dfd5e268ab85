"""Helpers for losses: rows and dropout over all processes, full precision, and CLIP's contrastive loss."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, ParamSpec, cast

import torch
from torch import distributed
from torch.nn import functional

from cirbench.support.distributed import get_context

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")


def gather_rows(rows_BD: torch.Tensor) -> torch.Tensor:
    """The rows of all processes in the order of the whole batch, (T, D); the same rows where there is one process.

    Gradients flow back to the process that a row came from, summed over all that used it. So where each process
    compares its own rows with those of all, its own being the rows from `Batch.first` on, and the gradients of the
    processes are averaged, the gradient is that of one process with the whole batch.
    """
    if get_context().world_size == 1:
        return rows_BD
    gathered: torch.Tensor = _Gather.apply(rows_BD)
    return gathered


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, rows_BD: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(rows_BD) for _ in range(get_context().world_size)]
        distributed.all_gather(parts, rows_BD.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, gradient_TD: torch.Tensor) -> torch.Tensor:
        summed_TD = gradient_TD.contiguous().clone()
        distributed.all_reduce(summed_TD)
        return summed_TD.chunk(get_context().world_size)[get_context().rank]


class Dropout(torch.nn.Dropout):
    """Dropout that is drawn for the whole batch, so that it is the same on one process and on many.

    All processes draw the same numbers in a step; with torch's own dropout, the rows of each would get those of the
    first rows. The first dimension of the input is this process's part of the batch.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Drop and scale as torch does."""
        if get_context().world_size == 1 or not self.training:
            return super().forward(input)
        rows, place = len(input), get_context()
        scales_T = super().forward(input.new_ones((rows * place.world_size, *input.shape[1:])))
        return input * scales_T[rows * place.rank : rows * (place.rank + 1)]


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


@in_full_precision
def contrastive_loss(
    images_BD: torch.Tensor, texts_BD: torch.Tensor, scale: torch.Tensor, first: int = 0
) -> torch.Tensor:
    """CLIP's loss: cosine similarities times ``scale``, cross-entropy over rows and over columns, averaged.

    The other images and texts are those of all processes; the ones here are theirs from ``first`` on.
    """
    images_BD, texts_BD = functional.normalize(images_BD, dim=-1), functional.normalize(texts_BD, dim=-1)
    images_TD, texts_TD = gather_rows(images_BD), gather_rows(texts_BD)
    own_B = torch.arange(first, first + len(images_BD), device=images_BD.device)
    to_texts = functional.cross_entropy(scale * images_BD @ texts_TD.T, own_B)
    return (to_texts + functional.cross_entropy(scale * texts_BD @ images_TD.T, own_B)) / 2
