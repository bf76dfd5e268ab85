"""A benchmark of one's own with a model of one's own, small enough to train on and to run within a test."""

from __future__ import annotations

import csv
import dataclasses
import itertools
from typing import TYPE_CHECKING

from cirbench.training.contrastive import write_random_model
from tests.tiny_clip import TwoColours, write_design

if TYPE_CHECKING:
    from pathlib import Path

_COLOURS = ("red", "green", "blue", "white")


@dataclasses.dataclass(frozen=True)
class TinyBenchmark:
    """Where it lies.

    Attributes:
        data: A folder with images of two colours, and queries that ask for another right half.
        model: The folder of a small CLIP with random weights.
        pairs: A table of the images with captions.
    """

    data: Path
    model: Path
    pairs: Path

    def options(self, output: Path) -> list[str]:
        """What to pass to ``cirbench run``."""
        return ["--dataset", str(self.data), "--backbone", str(self.model), "--output", str(output), "--device", "cpu"]

    def training(self) -> list[str]:
        """What to pass to ``cirbench run`` to train on the pairs."""
        return ["--train-data", str(self.pairs)]


def write_benchmark(root: Path) -> TinyBenchmark:
    """Write all of it into a folder."""
    data, pairs = root / "colours", root / "pairs.csv"
    (data / "gallery").mkdir(parents=True)
    images = [*itertools.permutations(_COLOURS, 2)]
    for left, right in images:
        TwoColours(left, right).open().save(data / "gallery" / f"{left}-{right}.png")
    with (data / "queries.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["query_id", "reference", "text", "targets"])
        for left, right in images:
            other = next(colour for colour in _COLOURS if colour not in (left, right))
            table.writerow([f"{left}-{right}", f"{left}-{right}", f"{other} on the right", f"{left}-{other}"])
    with pairs.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "caption"])
        for left, right in images:
            table.writerow([data / "gallery" / f"{left}-{right}.png", f"{left} left of {right}"])
    model = write_design(root / "model")
    write_random_model(model, model, seed=0)
    return TinyBenchmark(data, model, pairs)
