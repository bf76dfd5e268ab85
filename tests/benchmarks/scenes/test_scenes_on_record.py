"""The same seed gives the same annotations and the same pixels, here and on every other machine."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cirbench.benchmarks.scenes import scenes_protocol, training_pairs, training_sentences
from cirbench.benchmarks.scenes.benchmark import SPLITS, make_benchmark, scenes_benchmark
from cirbench.benchmarks.scenes.draw import render
from cirbench.benchmarks.scenes.world import Dice

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cirbench.protocol import ImageTextPair

ANNOTATIONS = {
    "val": "40f2a5b72d7d4dfa604016921c91d62a36fd8241ac6b22f436093908b3255c24",
    "tiny": "5e61f0a22e14e761eb418f7b358a24fbf2b4b263aa9ac62ef03b4c3dc034ab95",
}
TRAINING = "ba02ba842bda7257ce98af3e7e7cbc331d66597d79d0e300e2d45b4537c75594"
SENTENCES = "1fa67ac0b355f158940b67717e7fd67c29cb9b4b1438ae5ab7a75ad95ad7ad72"
THROWS = [985, 261, 688, 373, 486, 182]


@pytest.mark.slow
@pytest.mark.parametrize("split", ["val", "tiny"])
def test_annotations_are_those_on_record(split: str) -> None:
    assert scenes_benchmark(split).digest == ANNOTATIONS[split]


@pytest.mark.slow
@pytest.mark.parametrize("split", ["val", "tiny"])
def test_pixels_are_those_on_record(split: str) -> None:
    hasher = hashlib.sha256()
    for scene in scenes_benchmark(split).gallery:
        hasher.update(render(scene).tobytes())
    assert hasher.hexdigest() == SPLITS[split].pixels


@pytest.mark.parametrize(("pairs", "on_record"), [(training_pairs, TRAINING), (training_sentences, SENTENCES)])
def test_training_pairs_are_those_on_record(pairs: Callable[[int], Sequence[ImageTextPair]], on_record: str) -> None:
    hasher = hashlib.sha256()
    for pair in pairs(500):
        hasher.update(pair.caption.encode())
        hasher.update(np.asarray(pair.image.open()).tobytes())
    assert hasher.hexdigest() == on_record


@pytest.mark.slow
def test_another_process_with_another_hash_seed_builds_the_same_protocol() -> None:
    """Neither the order of sets nor anything else that differs between processes leaks into the data."""
    program = "from cirbench.benchmarks.scenes import scenes_protocol; print(scenes_protocol('tiny').digest, end='')"
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
        assert done.stdout == scenes_protocol("tiny").digest, done.stderr


def test_another_seed_gives_another_benchmark() -> None:
    one = make_benchmark("one", families=3, gallery_size=80)
    other = make_benchmark("other", families=3, gallery_size=80)
    assert one.digest != other.digest


def test_throws_depend_on_the_names_of_the_stream_alone() -> None:
    """These numbers are Python's guaranteed Mersenne Twister stream; a change of them is a change of every split."""
    dice = Dice("a", 1)
    assert [dice.below(1000) for _ in range(6)] == THROWS
    assert Dice("a", 1).below(1 << 40) != Dice("a1").below(1 << 40)
