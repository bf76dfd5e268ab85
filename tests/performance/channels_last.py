"""Channels-last against contiguous images, as a ratio of CPU seconds: python -m tests.performance.channels_last RN50"""

from __future__ import annotations

import copy
import sys
import time

import numpy as np
import open_clip
import torch

ROUNDS = 5


def main(architecture: str, batch_size: int = 8) -> None:
    """Print how many times as fast the image tower is, forward, and forward and backward."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    towers = [open_clip.create_model(architecture, pretrained=None).visual]
    towers.append(copy.deepcopy(towers[0]).to(memory_format=torch.channels_last))
    pixels_B3SS = torch.randn(batch_size, 3, 224, 224)
    layouts = [pixels_B3SS, pixels_B3SS.to(memory_format=torch.channels_last)]
    for gradients in (False, True):
        seconds: list[list[float]] = [[], []]
        for _ in range(ROUNDS + 1):
            for tower, pixels, spent in zip(towers, layouts, seconds, strict=True):
                start = time.process_time()
                with torch.set_grad_enabled(gradients):
                    features = tower.train(gradients)(pixels)
                    if gradients:
                        features.sum().backward()
                spent.append(time.process_time() - start)
        usual, last = (np.median(spent[1:]) for spent in seconds)
        print(f"{architecture}, {'forward and backward' if gradients else 'forward'}: {usual / last:.2f}")


if __name__ == "__main__":
    main(sys.argv[1])
