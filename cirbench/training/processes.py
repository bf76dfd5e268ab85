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
