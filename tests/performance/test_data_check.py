"""A check of images takes hardly longer than Pillow takes to decode them."""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from cirbench.benchmarks.circo import UNLABELED2017
from cirbench.benchmarks.files.check import check_protocols
from cirbench.benchmarks.images import ImageFiles
from cirbench.metrics.table import Measure
from cirbench.protocol import EvaluationProtocol, Gallery, Item, Labels, Query

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.performance

COUNT = 60
ROUNDS = 9  # the best of them counts, since other work on the machine only ever slows one down


def photographs(folder: Path, suffix: str) -> tuple[str, ...]:
    """Write pictures with the size and about the detail of COCO's photographs."""
    folder.mkdir(parents=True)
    for seed in range(COUNT):
        draw = random.Random(seed)
        coarse = Image.frombytes("RGB", (80, 60), draw.randbytes(3 * 80 * 60)).resize(
            (640, 480), Image.Resampling.BICUBIC
        )
        fine = Image.frombytes("RGB", (320, 240), draw.randbytes(3 * 320 * 240)).resize((640, 480))
        Image.blend(coarse, fine, 0.15).save(folder / f"{seed + 1:012d}{suffix}", quality=90)
    return tuple(str(seed + 1) for seed in range(COUNT))


def decode(path: Path) -> None:
    with Image.open(path) as image:
        image.load()


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_check_decodes_at_nine_tenths_of_the_rate_of_pillow_alone(suffix: str, tmp_path: Path) -> None:
    names = photographs(tmp_path / "circo" / "unlabeled2017", suffix)
    files = ImageFiles(UNLABELED2017, names, tmp_path, "")
    protocol = EvaluationProtocol(
        "toy/val",
        1,
        "",
        (Query("0", Item(names[0], files[names[0]]), ("more",)),),
        Gallery(names, [files[name] for name in names]),
        Labels(((names[1],),)),
        (Measure("Recall", 1),),
    )
    paths = sorted((tmp_path / "circo" / "unlabeled2017").iterdir())
    cores = len(os.sched_getaffinity(0))
    rates: dict[str, list[float]] = {"check": [], "threads": [], "processes": []}

    def measure(what: str, work: Callable[[], object]) -> None:
        started = time.perf_counter()
        work()
        rates[what].append(COUNT / (time.perf_counter() - started))

    context = multiprocessing.get_context("spawn")
    with ThreadPoolExecutor(cores) as threads, ProcessPoolExecutor(cores, mp_context=context) as processes:
        list(processes.map(decode, paths[: 4 * cores]))  # start them before the clock
        for _ in range(ROUNDS):
            measure("threads", lambda: list(threads.map(decode, paths)))
            measure("processes", lambda: list(processes.map(decode, paths, chunksize=5)))
            measure("check", lambda: check_protocols([protocol], tmp_path, tmp_path))
    assert check_protocols([protocol], tmp_path, tmp_path).complete
    best = {what: max(measured) for what, measured in rates.items()}
    ratio = best["check"] / max(best["threads"], best["processes"])
    size = sum(path.stat().st_size for path in paths) / COUNT / 1000
    print(
        f"\n{cores} cores, {COUNT} {suffix} files of {size:.0f} kB: check {best['check']:.0f} images/s; Pillow alone "
        f"{best['threads']:.0f} with threads, {best['processes']:.0f} with processes; ratio {ratio:.2f}"
    )
    assert ratio >= 0.9
