"""What a GPU does while cirbench encodes and trains: `make gpu`.

Prints, for ViT-L/14 at 224 pixels with random weights, images (LinCIR: texts) a second, peak memory, the share of the
card's bf16 matrix peak by counted operations, how many times as fast as a plain loop each is, and for how much of the
time the GPU computed nothing. A step here waits for its own loss, as a plain loop does. With --rehearse it does the
same with a tiny model on the CPU, where the figures say nothing.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import open_clip
import torch
from PIL import Image
from torch.profiler import ProfilerActivity, profile

from cirbench.backbones import load_backbone
from cirbench.backbones.encoder import Encoder
from cirbench.backbones.images import FileImage
from cirbench.protocol import Item
from cirbench.training.contrastive import write_random_model
from tests.tiny_clip import tiny_backbone
from tests.training_steps import matrix_peak, speed, steps_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cirbench.backbones.interface import Backbone

STEPS = (("pli", 64), ("pli", 512), ("pic2word", 128), ("lincir", 512))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure on the GPU, or say that there is none."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rehearse", action="store_true", help="Run with a tiny model on the CPU.")
    rehearse: bool = parser.parse_args(arguments).rehearse
    if not rehearse and not torch.cuda.is_available():
        print("There is no GPU that torch can use: nothing was measured.")
        return
    with tempfile.TemporaryDirectory(prefix="cirbench-") as folder:
        if rehearse:
            backbone, side, images, steps = tiny_backbone(), 64, 16, [(method, 8) for method, _ in STEPS[1:]]
        else:
            backbone, side, images, steps = _large(Path(folder), "fp32"), 8192, 2048, [*STEPS]
        device = backbone.device
        print("CPU, rehearsal" if rehearse else torch.cuda.get_device_name(device))
        items = _photos(Path(folder), images)
        encoding = backbone if rehearse else _large(Path(folder), "bf16")
        _encoding(encoding, items)
        del encoding
        peak = matrix_peak(device, side=side, rounds=3)
        for method, batch_size in steps:
            print(speed(method, backbone, batch_size, peak, rounds=2 if rehearse else 5))
            take = steps_of(method, backbone, batch_size, precision="bf16").ours
            print(f"  {_idle(take, device)}")


def _encoding(backbone: Backbone, items: Sequence[Item]) -> None:
    """Images a second, from files to features, beside the forward pass alone and a loop that takes turns."""
    size, count = backbone.image_size, len(items)
    encoder = Encoder(backbone, None)
    batch_size = encoder.batch_size
    pixels_B3SS = torch.zeros(batch_size, 3, size, size, device=backbone.device)

    def forward() -> None:
        with torch.inference_mode():
            for _ in range(0, count, batch_size):
                last = backbone.encode_images(pixels_B3SS)
            last.cpu()

    def plain() -> None:
        with torch.inference_mode():
            for start in range(0, count, batch_size):
                some = [backbone.preprocess(item.image.open()) for item in items[start : start + batch_size]]
                backbone.encode_images(torch.stack(some).to(backbone.device)).cpu()

    def ours() -> None:
        Encoder(backbone, None).images(items)

    forward()
    rates = {name: count / _seconds(work) for name, work in (("ours", ours), ("plain", plain), ("forward", forward))}
    print(
        f"encoding, batch {batch_size}, {backbone.identity.precision}: {rates['ours']:.0f} images/s, "
        f"{rates['ours'] / rates['forward']:.2f} of the forward pass alone, "
        f"{rates['ours'] / rates['plain']:.1f}x the plain loop; {_idle(ours, backbone.device)}"
    )


def _idle(work: Callable[[], object], device: torch.device) -> str:
    """For how much of the time the device computed nothing."""
    if device.type == "cpu":
        return "idle time is only known of a GPU"
    work()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        seconds = _seconds(work)
    events = profiler.events() or []
    kernels = [event.time_range for event in events if "CUDA" in str(event.device_type)]
    busy, reached = 0.0, 0.0
    for kernel in sorted(kernels, key=lambda each: each.start):  # copies run beside kernels: each moment counts once
        busy += max(0.0, kernel.end - max(reached, kernel.start))
        reached = max(reached, kernel.end)
    return f"the GPU was idle for {max(0.0, 1 - busy / 1e6 / seconds):.0%} of the time"


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _large(folder: Path, precision: str) -> Backbone:
    config = {"model_cfg": open_clip.get_model_config("ViT-L-14"), "activation": "quick_gelu"}
    if not (folder / "open_clip_config.json").exists():
        (folder / "open_clip_config.json").write_text(json.dumps(config))
        write_random_model(folder, folder, seed=0)
    return load_backbone(str(folder), device="cuda", precision="bf16" if precision == "bf16" else "fp32")


def _photos(folder: Path, count: int) -> list[Item]:
    generator, items = np.random.default_rng(0), []
    for number in range(count):
        path = folder / f"{number}.jpg"
        coarse = Image.fromarray(generator.integers(0, 256, (31, 41, 3), dtype=np.uint8))
        coarse.resize((640, 480), Image.Resampling.BICUBIC).save(path, quality=90)
        items.append(Item(path.stem, FileImage(path)))
    return items


if __name__ == "__main__":
    main()
