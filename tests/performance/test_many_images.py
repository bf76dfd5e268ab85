"""What an image costs does not grow with the number of images, and its file is opened once, whatever asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.performance.many_images import reading, visit, write_images

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.performance, pytest.mark.usefixtures("one_thread")]

FEW = 5_000
MANY = 40_000
GROWTH = 1.5
"""Of an image's time: what is looked up in a sorted index grows by the logarithm, and a busy machine varies."""


def test_finding_an_image_and_its_digest_cost_the_same_among_many(tmp_path: Path) -> None:
    for count in (FEW, MANY):
        (tmp_path / str(count)).mkdir()
        write_images(tmp_path / str(count) / "images", count)
    few, many = ([visit(tmp_path / str(count) / "images", count) for _ in range(2)] for count in (FEW, MANY))
    print(f"microseconds an image, first and second process: of {FEW:,} {few}; of {MANY:,} {many}")
    assert [(first.opened, second.opened) for first, second in (few, many)] == [(FEW, 0), (MANY, 0)]
    for small, large in zip(few, many, strict=True):
        assert large.finding < GROWTH * small.finding
        assert large.digest < GROWTH * small.digest


def test_reading_features_in_shuffled_slices_is_linear(tmp_path: Path) -> None:
    few, many = (reading(tmp_path / str(count), count) for count in (250_000, 500_000))
    print(f"microseconds an item: of 250,000 {few:.2f}, of 500,000 {many:.2f}")
    assert many < GROWTH * few
