"""Tensors on their way to a GPU and back, while it computes; on a CPU the same calls do nothing that is not needed.

A copy runs beside the computation only from or to pinned memory, and only if nobody waits for it. So what is sent goes
over a stream of its own, and what comes back is read late, when the next work is under way.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def on_gpu(device: torch.device) -> bool:
    """Whether a device computes while the processor does something else."""
    return device.type == "cuda"


def may_have_gpu() -> bool:
    """Whether a driver of GPUs is there; without importing torch, which alone knows whether it can use them."""
    drivers = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # of NVIDIA, of Windows beneath Linux, and of AMD
    return sys.platform == "win32" or any(Path(driver).exists() for driver in drivers)


def supports_bf16(device: torch.device) -> bool:
    """Whether a device is a GPU with instructions for bf16. CPUs stay in fp32, in which their numbers are compared."""
    if not on_gpu(device):
        return False
    import torch

    with torch.cuda.device(device):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that a device has no memory left for a tensor, in whichever library of it that was."""
    import torch

    said = str(error)
    return isinstance(error, torch.OutOfMemoryError) or any(words in said for words in _FULL)


_FULL = ("out of memory", "ALLOC_FAILED", "DefaultCPUAllocator: can't allocate memory")
"""How the driver, its libraries and the processor say it without a type of its own."""


def host_levels(shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Zeros in uint8 on the processor, to be filled and sent to a device."""
    import torch

    return torch.zeros(shape, dtype=torch.uint8, pin_memory=on_gpu(device))


def send(host: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a tensor to a device while that still computes what it was given before; return where it will be.

    What is there already stays as it is. The memory of ``host`` may be written again at once unless it is pinned.
    """
    if on_gpu(host.device):
        return host.to(device)
    streams, gpu = _streams(device), on_gpu(device)
    side, current = _side_stream(device), streams.current_stream(device)
    with streams.stream(side):
        sent = (host.pin_memory() if gpu else host).to(device, non_blocking=gpu)
    current.wait_stream(side)
    if gpu:
        sent.record_stream(current)  # or its memory could be given away while it is read
    return sent


class Arriving:
    """A tensor on its way to the processor.

    Args:
        there: Where it comes from; may be dropped at once.
    """

    def __init__(self, there: torch.Tensor) -> None:
        import torch

        streams, gpu = _streams(there.device), on_gpu(there.device)
        self._here = torch.empty(there.shape, dtype=there.dtype, pin_memory=gpu)
        self._here.copy_(there.detach(), non_blocking=gpu)
        self._arrived: Any = streams.Event()
        self._arrived.record(streams.current_stream(there.device))

    def read(self) -> torch.Tensor:
        """Wait until it is there, but not for anything that was asked of its device since."""
        self._arrived.synchronize()
        return self._here


def _streams(device: torch.device) -> Any:
    """Whose streams and events are used; those of CPUs do nothing."""
    import torch

    return torch.cuda if on_gpu(device) else torch.cpu


@functools.cache
def _side_stream(device: torch.device) -> Any:
    streams = _streams(device)
    return streams.Stream(device) if on_gpu(device) else streams.Stream()
