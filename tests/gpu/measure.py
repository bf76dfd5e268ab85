"""What a GPU does while cirbench encodes and trains: `make gpu`, or some SECTIONS: encoding, steps, files, scaling.

Measures ViT-L/14 at 224 pixels with random weights, and prints lines that begin with the card's name. Each section
compares with a plain loop or a bound in the same precision, measured in the same call, and holds the result against the
goal for an H100. A section that fails is named, the others go on, and the exit status is 1. With --rehearse it does the
same with a tiny model on the CPU, where the figures say nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import open_clip
import torch
from PIL import Image
from torch.profiler import ProfilerActivity, profile

from cirbench.backbones import encoder, load_backbone
from cirbench.backbones.encoder import Encoder
from cirbench.backbones.images import FileImage
from cirbench.methods.interface import find_method
from cirbench.methods.training import training_parameters, training_request
from cirbench.protocol import ImageTextPair, Item
from cirbench.support.distributed import get_context, init_distributed
from cirbench.training import loop
from cirbench.training.contrastive import write_random_model
from cirbench.training.data import Source
from cirbench.training.log import METRICS
from cirbench.training.train import train
from tests.side_by_side import TORCHRUN
from tests.tiny_clip import tiny_backbone
from tests.training_steps import CAPTIONS, SETTINGS, matrix_peak, measure, measured_if_it_fits, speed, steps_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cirbench.backbones.interface import Backbone

DECODERS = 8
"""Threads that decode for encoding, and processes that decode for training; the goals are set for so many."""


@dataclasses.dataclass(frozen=True)
class Bench:
    """What is measured, and where.

    Attributes:
        folder: Where the model and the images lie.
        rehearse: Whether it is a tiny model on the CPU.
        card: What the lines begin with.
    """

    folder: Path
    rehearse: bool
    card: str

    @cached_property
    def backbone(self) -> Backbone:
        """The model in fp32, for training."""
        return tiny_backbone() if self.rehearse else _large(self.folder, "fp32")

    @cached_property
    def items(self) -> list[Item]:
        """Photographs, each with bytes of its own."""
        return _photos(self.folder, 24 if self.rehearse else 8192)

    @property
    def batch_size(self) -> int:
        """Of PLI's goals, for each process."""
        return 8 if self.rehearse else 512

    @property
    def rounds(self) -> int:
        """How often something is measured; the median counts."""
        return 2 if self.rehearse else 5

    def say(self, line: str) -> None:
        """Print a line now, so that it is seen while the next measurement runs."""
        print(f"{self.card}: {line}", flush=True)

    def goal(self, what: str, found: float, least: float) -> None:
        """Hold a result against the goal."""
        self.say(f"goal on an H100: {what}: {found:.2f} of {least:g}, {'reached' if found >= least else 'missed'}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure on the GPU, or say that there is none; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"Some of: {', '.join(SECTIONS)}.")
    parser.add_argument("--rehearse", action="store_true", help="Run with a tiny model on the CPU.")
    parser.add_argument("--process", type=json.loads, help=argparse.SUPPRESS)  # under torchrun, for `_scaling`
    given = parser.parse_args(arguments)
    if unknown := set(given.sections) - set(SECTIONS):
        parser.error(f"no section is called {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    if not given.rehearse and not torch.cuda.is_available():
        print("There is no GPU that torch can use: nothing was measured.")
        return 0
    card = "CPU, rehearsal" if given.rehearse else torch.cuda.get_device_name()
    failed = 0
    with tempfile.TemporaryDirectory(prefix="cirbench-") as folder:
        bench = Bench(Path(folder), given.rehearse, card)
        if given.process is not None:
            _process(bench, **given.process)
            return 0
        devices = torch.cuda.device_count()
        bench.say(f"{devices} GPUs, {os.cpu_count()} cores, torch {torch.__version__}, CUDA {torch.version.cuda}")
        for name in given.sections or SECTIONS:
            try:
                SECTIONS[name](bench)
            except Exception as error:  # a night of measuring should not end with the first thing that is missing
                failed += 1
                traceback.print_exc()
                bench.say(f"{name} failed: {type(error).__name__}: {str(error).partition(chr(10))[0]}")
            torch.cuda.empty_cache()
    return int(failed > 0)


def _encoding(bench: Bench) -> None:
    """Images a second, from files to features, beside the forward pass alone and a loop that takes turns."""
    items, count = bench.items, len(bench.items)
    backbone = bench.backbone if bench.rehearse else _large(bench.folder, "bf16")
    seconds = _seconds(lambda: [item.image.content for item in items])
    bench.say(f"hashing {count} files of images for the first time: {count / seconds:.0f} images/s")
    batch_size, size = Encoder(backbone, None).batch_size, backbone.image_size
    pixels_B3SS = torch.zeros(batch_size, 3, size, size, device=backbone.device)

    def forward() -> None:
        with torch.inference_mode():
            for _ in range(0, count, batch_size):
                last = backbone.encode_images(pixels_B3SS)
            last.cpu()

    def plain(some: Sequence[Item]) -> None:
        with torch.inference_mode():
            for start in range(0, len(some), batch_size):
                images = [backbone.preprocess(item.image.open()) for item in some[start : start + batch_size]]
                backbone.encode_images(torch.stack(images).to(backbone.device)).cpu()

    def ours() -> None:
        with mock.patch.object(encoder, "DECODERS", DECODERS):
            Encoder(backbone, None).images(items)

    forward()
    ours()
    few = items[: 4 * batch_size]
    alone = count / np.median([_seconds(forward) for _ in range(3)])
    found = count / np.median([_seconds(ours) for _ in range(3)])
    bench.say(
        f"encoding from files, batch {batch_size}, {backbone.identity.precision}, {DECODERS} decoding threads: "
        f"{found:.0f} images/s, {found / alone:.2f} of the forward pass alone ({alone:.0f}), "
        f"{found * _seconds(partial(plain, few)) / len(few):.1f}x the plain loop; {_idle(ours, backbone.device)}"
    )
    bench.goal(f"encoding, share of the forward pass, {DECODERS} decoding threads", found / alone, 0.8)


def _steps(bench: Bench) -> None:
    """Steps on a batch that lies on the device, each waited for, beside those of a plain loop."""
    backbone = bench.backbone
    peak = matrix_peak(backbone.device, side=64 if bench.rehearse else 8192, rounds=3 if bench.rehearse else 20)
    bench.say(f"bf16 peak, measured by products of matrices: {peak / 1e12:.3g} TFLOP/s")
    small, large = 4 if bench.rehearse else 64, bench.batch_size
    for method, batch_size in (("pli", small), ("pli", large), ("pic2word", 2 * small), ("lincir", large)):
        found = speed(method, backbone, batch_size, peak, rounds=bench.rounds)
        take = steps_of(method, backbone, batch_size, **_settings("activations computed again" in found.how)).ours
        bench.say(f"{found}; {_idle(take, backbone.device)}")
        if (method, batch_size) == ("pli", large):
            bench.goal(f"PLI at {large} against the plain loop", found.times, 3)
            bench.goal(f"PLI at {large}, share of the bf16 peak", found.share, 0.4)
    with mock.patch.object(loop, "BACKEND", "aot_eager" if bench.rehearse else loop.BACKEND):
        bench.say(str(speed("pli", backbone, large, peak, rounds=bench.rounds, compiled=True)))


def _files(bench: Bench) -> None:
    """A training from files, as `cirbench train` runs it, beside its steps on a batch that lies on the device."""
    size = bench.batch_size
    captions = [CAPTIONS[place % len(CAPTIONS)] for place in range(len(bench.items))]
    pairs = [ImageTextPair(item.image, text) for item, text in zip(bench.items, captions, strict=True)]
    spec, settings = find_method("cirbench_methods.pli:SPEC"), SETTINGS["pli"] | {"batch_size": size, "steps": 12}
    backbone, own = bench.backbone, _settings(again=False)
    alone = measured_if_it_fits(steps_of("pli", backbone, size, **own).ours, backbone.device, 3)
    if alone is None:
        own = _settings(again=True)
        alone = measure(steps_of("pli", backbone, size, **own).ours, backbone.device, 3)
    parameters = training_parameters(spec, "", settings | own)
    request = training_request(spec, backbone, Source("photographs", pairs, "0" * 64), parameters)
    folder = bench.folder / "pli"

    def take() -> None:
        train(request, folder=folder, restart=True, workers=1 if bench.rehearse else DECODERS)

    idle = _idle(take, backbone.device)
    if bench.rehearse:
        take()
    steps = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()[1:]]
    rate = float(np.median([step["samples_per_second"] for step in steps[len(steps) // 2 :]]))
    bench.say(
        f"pli, batch {size}, bf16, from files, {DECODERS} decoding processes: {rate:.0f} pairs/s, "
        f"{rate * alone.seconds / size:.2f} of its steps alone; {idle}"
    )


def _scaling(bench: Bench) -> None:
    """Steps of as many processes as there are GPUs, each with a whole batch, beside those of one."""
    processes = 2 if bench.rehearse else torch.cuda.device_count()
    if processes == 1:
        bench.say("scaling over processes was not measured: there is one GPU")
        return
    one, all_of_them = (_rate_of(bench, count) for count in (1, processes))
    share = all_of_them / one / processes
    each = f"pli, batch {bench.batch_size} on each process"
    bench.say(f"{each}: {all_of_them:.0f} pairs/s on {processes}, {one:.0f} on one")
    bench.goal(f"scaling over {processes} processes", share, 0.9)


def _rate_of(bench: Bench, processes: int) -> float:
    """Pairs a second of some processes, which torchrun starts."""
    given = ["--process", json.dumps({"batch_size": bench.batch_size}), *(["--rehearse"] if bench.rehearse else [])]
    command = [*TORCHRUN[:-1], str(processes), "-m", "tests.gpu.measure", *given]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=900)
    return float(json.loads(done.stdout.splitlines()[-1])["rate"])


def _process(bench: Bench, batch_size: int) -> None:
    with init_distributed():
        backbone = bench.backbone
        # Recomputed on one process too, so that no process finds its memory too small while the others wait for it.
        take = steps_of("pli", backbone, batch_size, **_settings(again=True)).ours
        seconds = measure(take, backbone.device, bench.rounds).seconds
        if get_context().is_main_process:
            print(json.dumps({"rate": get_context().world_size * batch_size / seconds}))


SECTIONS: dict[str, Callable[[Bench], None]] = {
    "encoding": _encoding,
    "steps": _steps,
    "files": _files,
    "scaling": _scaling,
}


def _settings(again: bool) -> dict[str, Any]:
    return {"precision": "bf16", "activation_checkpointing": again}


def _idle(work: Callable[[], object], device: torch.device) -> str:
    """For how much of the second half of a piece of work, when it is under way, the device computed nothing."""
    if device.type == "cpu":
        return "idle time is only known of a GPU"
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(2):
            work()
        torch.cuda.synchronize()
    events = [event.time_range for event in profiler.events() or [] if "CUDA" in str(event.device_type)]
    middle = (min(event.start for event in events) + max(event.end for event in events)) / 2
    busy, reached = 0.0, middle
    for event in sorted(events, key=lambda each: each.start):  # copies run beside kernels: each moment counts once
        busy += max(0.0, event.end - max(reached, event.start))
        reached = max(reached, event.end)
    return f"the GPU was idle for {1 - busy / (reached - middle):.0%} of the time"


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
    """JPEG files that take as long to decode as photographs of 640 x 480, of which no two have the same bytes."""
    generator, files, items = np.random.default_rng(0), [], []
    for _ in range(min(count, 256)):
        coarse = Image.fromarray(generator.integers(0, 256, (31, 41, 3), dtype=np.uint8))
        file = io.BytesIO()
        coarse.resize((640, 480), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    for number in range(count):
        path = folder / f"{number}.jpg"
        path.write_bytes(files[number % len(files)] + b"%d" % number)  # decoders stop before it
        items.append(Item(path.stem, FileImage(path)))
    return items


if __name__ == "__main__":
    sys.exit(main())
