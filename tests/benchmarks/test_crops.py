"""Crops show exactly what the benchmarks' code shows, and are known by their file and their cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from cirbench.benchmarks.coco_composition import CutOut
from cirbench.benchmarks.genecis import VISUAL_GENOME, SquareCrop, enlarged
from cirbench.benchmarks.images import ImageFiles, LocatedImage

if TYPE_CHECKING:
    from pathlib import Path


def save(root: Path, image: Image.Image, name: str = "1") -> LocatedImage:
    (root / "vg").mkdir(exist_ok=True)
    image.save(root / "vg" / f"{name}.png")
    return ImageFiles(VISUAL_GENOME, (name,), root, "cirbench data check genecis")[name]


def ramp(width: int = 100, height: int = 80) -> Image.Image:
    """Every pixel tells where it was: red its column, green its row; blue is never black."""
    pixels = np.full((height, width, 3), 255, dtype=np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(width), np.arange(height)[:, None]
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    ("box", "edges"),
    [
        ((50, 40, 10, 20), (43, 26, 60, 60)),  # free on all sides: context on the left and the top only
        ((2, 3, 10, 20), (0, 0, 17, 34)),  # the border stops left and top: what is left over goes right and down
        ((85, 70, 15, 10), (74.5, 63, 100, 80)),
        ((0, 0, 90, 80), (0, 0, 100, 80)),  # and the border stops these as well
    ],
)
def test_a_box_grows_to_the_left_and_the_top(box: tuple[float, float, float, float], edges: tuple[float, ...]) -> None:
    assert enlarged(box, (100, 80)) == pytest.approx(edges, abs=1e-12)


@pytest.mark.parametrize("box", [(50.0, 40.0, 10.0, 20.0), (20.0, 50.0, 33.0, 8.0), (85.0, 30.0, 15.0, 15.0)])
def test_a_crop_is_centred_on_a_black_square(tmp_path: Path, box: tuple[float, float, float, float]) -> None:
    pixels = np.asarray(SquareCrop(save(tmp_path, ramp()), box).open())
    left, top, right, bottom = (round(edge) for edge in enlarged(box, (100, 80)))
    width, height = right - left, bottom - top
    side = max(width, height)
    naive = np.zeros((side, side, 3), dtype=np.uint8)
    for y in range(height):
        for x in range(width):
            naive[(side - height) // 2 + y, (side - width) // 2 + x] = (left + x, top + y, 255)
    assert np.array_equal(pixels, naive)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "RGB"])
def test_a_crop_keeps_the_mode_of_its_image(tmp_path: Path, mode: str) -> None:
    crop = SquareCrop(save(tmp_path, ramp().convert(mode)), (10.0, 10.0, 30.0, 5.0)).open()
    assert crop.mode == mode
    assert crop.width == crop.height


def test_content_tells_file_and_cut(tmp_path: Path) -> None:
    first, second = save(tmp_path, ramp(), "1"), save(tmp_path, ramp(90), "2")
    same = save(tmp_path, ramp(), "3")
    box, other = (1.0, 2.0, 3.0, 4.0), (1.0, 2.0, 3.0, 5.0)
    square = ((0.0, 0.0, 4.0, 0.0, 4.0, 4.0),)
    assert SquareCrop(first, box).content == SquareCrop(same, box).content
    contents = [
        first.content,
        SquareCrop(first, box).content,
        SquareCrop(first, other).content,
        SquareCrop(second, box).content,
        CutOut(first, box, square).content,
        CutOut(first, box, (3, 4)).content,
    ]
    assert len(set(contents)) == len(contents)
    assert str(SquareCrop(first, box)) == "visual-genome image 1, box 1, 2, 3, 4"


def test_an_object_is_cut_out_on_white(tmp_path: Path) -> None:
    image = save(tmp_path, ramp(10, 8))
    triangle = (2.0, 1.0, 6.0, 1.0, 2.0, 5.0)
    pixels = np.asarray(CutOut(image, (2.0, 1.0, 4.7, 4.9), (triangle,)).open())
    assert pixels.shape == (4, 4, 3)
    assert pixels[0, 0].tolist() == [2, 1, 255]
    assert pixels[3, 3].tolist() == [255, 255, 255]


def test_runs_are_read_column_by_column(tmp_path: Path) -> None:
    image = save(tmp_path, ramp(10, 8))
    pixels = np.asarray(CutOut(image, (0.0, 0.0, 10.0, 8.0), (8, 3, 69)).open())
    inside = ~(pixels == 255).all(axis=2)
    assert np.argwhere(inside).tolist() == [[0, 1], [1, 1], [2, 1]]


def test_a_grey_image_is_cut_out_in_colour(tmp_path: Path) -> None:
    assert CutOut(save(tmp_path, ramp().convert("L")), (0.0, 0.0, 5.0, 5.0), (1, 2, 7997)).open().mode == "RGB"
