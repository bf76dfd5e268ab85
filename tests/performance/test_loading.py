"""Annotations load, with every count checked, faster than a person notices."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import pytest

from cirbench.benchmarks import load_protocol, protocols
from cirbench.benchmarks.catalogue import datasets
from cirbench.benchmarks.images import find_images
from cirbench.errors import MissingData
from tests.annotation_files import write
from tests.circo_files import published_size
from tests.circo_files import write as write_circo

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    Seconds = Callable[[Mapping[str, Callable[[], object]], int], dict[str, float]]

pytestmark = [pytest.mark.performance, pytest.mark.usefixtures("one_thread")]

SECONDS = 0.5
FROM_FILES = [id for id, entry in protocols().items() if datasets()[entry.dataset].needs is not None]


@pytest.mark.parametrize("id", FROM_FILES)
def test_each_real_annotation_set_loads_under_half_a_second(
    annotation_root: Path, id: str, median_cpu_seconds: Seconds
) -> None:
    try:
        load_protocol(id, annotation_root)
    except MissingData as error:
        pytest.skip(str(error))
    seconds = median_cpu_seconds({id: lambda: load_protocol(id, annotation_root)}, 5)[id]
    print(f"{id}: {seconds:.3f} s")
    assert seconds < SECONDS


def test_circo_with_a_gallery_of_the_published_size_loads_under_half_a_second(
    tmp_path: Path, median_cpu_seconds: Seconds
) -> None:
    rows = published_size("val")
    known = [image for row in rows for image in (row["reference_img_id"], *row["gt_img_ids"])]
    gallery = list(dict.fromkeys([*known, *range(1_000_000, 1_123_403)]))[:123_403]
    write_circo(tmp_path, rows, gallery)
    seconds = median_cpu_seconds({"circo": lambda: load_protocol("circo/val", tmp_path)}, 5)["circo"]
    print(f"circo/val with its gallery: {seconds:.3f} s")
    assert seconds < SECONDS


def test_object_composition_of_the_published_size_loads_under_half_a_second(
    tmp_path: Path, median_cpu_seconds: Seconds
) -> None:
    """COCO val2017 has 5,000 images; 36,781 objects with outlines of 25 points are a file of its size."""
    draw = random.Random(0)
    outline = [round(draw.uniform(0, 640), 2) for _ in range(50)]
    content = {
        "images": [{"id": number, "width": 640, "height": 480} for number in range(5000)],
        "annotations": [
            {"id": n, "image_id": n % 4952, "category_id": n % 80, "bbox": [9.5, 9.5, 99.5, 99.5]}
            | {"segmentation": [outline], "iscrowd": 0, "area": 77.7}
            for n in range(36_781)
        ],
        "categories": [{"id": number, "name": f"class {number}"} for number in range(80)],
    }
    write(tmp_path / "coco/annotations/instances_val2017.json", json.dumps(content))
    seconds = median_cpu_seconds({"coco": lambda: load_protocol("coco/object-composition", tmp_path)}, 5)["coco"]
    print(f"coco/object-composition: {seconds:.3f} s")
    assert seconds < SECONDS


def test_123403_images_are_found_in_one_folder_within_two_seconds(tmp_path: Path, median_cpu_seconds: Seconds) -> None:
    for number in range(123_403):
        (tmp_path / f"{number:012d}.jpg").touch()
    names = [str(number) for number in range(123_403)]
    seconds = median_cpu_seconds({"walk": lambda: find_images(names, [tmp_path])}, 3)["walk"]
    print(f"123,403 images found in {seconds:.2f} s")
    assert len(find_images(names, [tmp_path])) == len(names)
    assert seconds < 2
