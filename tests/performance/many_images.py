"""Print what each of many images costs: to be found, to get its digest in two processes, and to give its features.

``python -m tests.performance.many_images COUNT [COUNT ...]``. CPU microseconds an image. The files are PNGs of a pixel
each, so that what is measured is not reading; they lie in one folder, and the second process opens none of them. The
features, 64 numbers each, are kept in shards as an encoder keeps them, and are read in shuffled slices of 4,096.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from cirbench.backbones import BackboneIdentity
from cirbench.backbones.encoder import SHARD
from cirbench.backbones.images import FileImage
from cirbench.backbones.store import FeatureSpace, FeatureStore
from cirbench.benchmarks.images import find_images

if TYPE_CHECKING:
    from collections.abc import Sequence

DIMENSION = 64
SLICE = 4096


@dataclasses.dataclass(frozen=True)
class Visit:
    """What a process saw of all images: CPU microseconds an image, and how many files it opened."""

    finding: float
    digest: float
    opened: int


def png(number: int) -> bytes:
    """Return an image of one pixel, the colour of which is the number."""
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0" + number.to_bytes(3, "big"))),
        (b"IEND", b""),
    )
    parts = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def write_images(folder: Path, count: int) -> None:
    """Write images of different content that were last changed a minute ago."""
    folder.mkdir()
    then = time.time() - 60
    for number in range(count):
        path = folder / f"{number:012d}.png"
        path.write_bytes(png(number))
        os.utime(path, (then, then))


def visit(folder: Path, count: int) -> Visit:
    """Find all images and ask for their digests, in a process of its own with the memo beside the folder."""
    command = [sys.executable, "-m", "tests.performance.many_images", "--visit", str(folder), str(count)]
    cache = {"CIRBENCH_CACHE": str(folder.parent / "cache")}
    done = subprocess.run(command, env={**os.environ, **cache}, capture_output=True, text=True, check=True)
    return Visit(**json.loads(done.stdout))


def visited(folder: Path, count: int) -> Visit:
    """Find all images and ask for their digests, and count what is opened for that."""
    opened = []
    sys.addaudithook(lambda event, arguments: opened.append(arguments[0]) if event == "open" else None)
    start = time.process_time()
    found = find_images([str(number) for number in range(count)], [folder])
    between = time.process_time()
    contents = {FileImage(path).content for path in found.values()}
    end = time.process_time()
    assert len(contents) == len(found) == count
    images = set(found.values())
    return Visit(
        1e6 * (between - start) / count,
        1e6 * (end - between) / count,
        sum(isinstance(path, (str, Path)) and Path(path) in images for path in opened),
    )


def reading(folder: Path, count: int) -> float:
    """Write features of so many items and read them in shuffled slices; CPU microseconds of reading an item."""
    store = FeatureStore(folder)
    space = FeatureSpace(BackboneIdentity("small", "small@0", "gelu", "f" * 64, "clip(32)", "fp32"), "image", DIMENSION)
    contents = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(count)]
    draw = np.random.default_rng(0)
    for first in range(0, count, SHARD):
        part = contents[first : first + SHARD]
        store.table(space).write(part, draw.standard_normal((len(part), DIMENSION), dtype=np.float32), {})
    random.Random(0).shuffle(contents)
    start = time.process_time()
    rows = store.table(space).rows(contents)
    for first in range(0, count, SLICE):
        rows[first : first + SLICE]
    return 1e6 * (time.process_time() - start) / count


def main(arguments: Sequence[str]) -> None:
    """Print a line for each number of images, or what a process of its own saw."""
    if arguments[:1] == ["--visit"]:
        click.echo(json.dumps(dataclasses.asdict(visited(Path(arguments[1]), int(arguments[2])))))
        return
    columns = ("images", "found", "digest, first process", "digest, second process", "opened by it", "features read")
    click.echo("| " + " | ".join(columns) + " |")
    click.echo("|---" * len(columns) + "|")
    for count in map(int, arguments):
        with tempfile.TemporaryDirectory() as name:
            write_images(Path(name) / "images", count)
            first, second = (visit(Path(name) / "images", count) for _ in range(2))
            assert first.opened == count
            cells = (first.finding, first.digest, second.digest, second.opened, reading(Path(name) / "features", count))
        click.echo(f"| {count:,} | " + " | ".join(f"{cell:.3g}" for cell in cells) + " |")


if __name__ == "__main__":
    main(sys.argv[1:])
