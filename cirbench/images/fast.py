"""The opt-in fast resize: torchvision's uint8 antialiased kernel. Imports torch on use only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def resize(pixels_HW3: NDArray[np.uint8], size: tuple[int, int], interpolation: str) -> NDArray[np.uint8]:
    """Resize RGB pixels to ``size`` (width, height), antialiased."""
    import torch
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional

    # A channels-last view: the kernel is vectorised over the channels of that layout.
    pixels_3HW = torch.from_numpy(np.require(pixels_HW3, requirements="W")).permute(2, 0, 1)
    resized_3HW = functional.resize(pixels_3HW, list(reversed(size)), InterpolationMode(interpolation), antialias=True)
    return np.asarray(resized_3HW.permute(1, 2, 0).numpy())
