"""What the processes of a training exchange within a step: rows, with their gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import distributed

from cirbench.processes import here


def gather_rows(rows_BD: torch.Tensor) -> torch.Tensor:
    """The rows of all processes in the order of the whole batch, (T, D); the same rows where there is one process.

    Gradients flow back to the process that a row came from, summed over all that used it. So where each process
    compares its own rows with those of all, its own being the rows from `Batch.first` on, and the gradients of the
    processes are averaged, the gradient is that of one process with the whole batch.
    """
    if here().count == 1:
        return rows_BD
    gathered: torch.Tensor = _Gather.apply(rows_BD)
    return gathered


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, rows_BD: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(rows_BD) for _ in range(here().count)]
        distributed.all_gather(parts, rows_BD.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, gradient_TD: torch.Tensor) -> torch.Tensor:
        summed_TD = gradient_TD.contiguous().clone()
        distributed.all_reduce(summed_TD)
        return summed_TD.chunk(here().count)[here().rank]


class Dropout(torch.nn.Dropout):
    """Dropout that is drawn for the whole batch, so that it is the same on one process and on many.

    All processes draw the same numbers in a step; with torch's own dropout, the rows of each would get those of the
    first rows. The first dimension of the input is this process's part of the batch.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Drop and scale as torch does."""
        if here().count == 1 or not self.training:
            return super().forward(input)
        rows, place = len(input), here()
        scales_T = super().forward(input.new_ones((rows * place.count, *input.shape[1:])))
        return input * scales_T[rows * place.rank : rows * (place.rank + 1)]
