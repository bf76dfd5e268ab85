"""Where a backbone runs, in the precision that the reference numbers are made with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cirbench.errors import UsageError
from cirbench.processes import here

if TYPE_CHECKING:
    import torch


def find_device(name: str) -> torch.device:
    """Return the device ``"cpu"``, ``"cuda"``, ``"cuda:1"`` ..., or for ``"auto"`` the GPU where there is one.

    Each of several processes on a machine takes a GPU of its own where none is given by number.

    Reference precision is switched on: a GPU would otherwise round the inputs of convolutions to 10 bits (TF32).

    Raises:
        UsageError: There is no such device.
    """
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and here().count > 1:
        name = f"cuda:{here().local}"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"There is no device called {name!r}.", hint="Use --device auto, cpu or cuda.") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"This machine has no device {name} that torch can use.", hint="Use --device auto or cpu.")
    return device
