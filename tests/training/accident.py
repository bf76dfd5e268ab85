"""A training by the command line, the second process of which is killed in its third step.

python accident.py ARGUMENTS OF cirbench ...
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

from cirbench.cli import execute
from cirbench.support.distributed import get_context
from cirbench_methods.pli.train import MaskedTuning

if TYPE_CHECKING:
    import torch

    from cirbench.training.interface import Batch

whole_loss = MaskedTuning.loss
calls = 0


def loss(self: MaskedTuning, batch: Batch) -> torch.Tensor:
    """The loss, or the accident."""
    global calls
    calls += 1
    if calls == 3 and get_context().rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole_loss(self, batch)


MaskedTuning.loss = loss  # type: ignore[method-assign]
sys.exit(execute(sys.argv[1:]))
