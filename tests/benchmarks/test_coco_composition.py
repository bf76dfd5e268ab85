"""Object composition draws the same object of each photograph on every machine."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from cirbench.benchmarks.coco_composition import SEED, coco_protocol, load
from cirbench.errors import CorruptFile, UnknownName
from tests.annotation_files import read, write, write_coco

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FILE = "coco/annotations/instances_val2017.json"


def test_one_object_that_is_not_too_large_is_drawn_of_each_photograph(tmp_path: Path) -> None:
    protocol = load(tmp_path, write_coco(tmp_path))
    assert protocol.gallery is not None and protocol.labels is not None
    drawn = min((10, 11), key=lambda id: hashlib.sha256(f"{SEED} {id}".encode()).digest())
    assert [query.id for query in protocol.queries] == [str(drawn), "13", "15"]
    assert protocol.gallery.ids == ("1", "2", "5")
    assert protocol.labels.relevant == (("1",), ("2",), ("5",))
    others = [name for name in ("dog", "person", "bottle") if name != {10: "dog", 11: "person"}[drawn]]
    own = {10: "dog", 11: "person"}[drawn]
    assert [query.captions for query in protocol.queries] == [
        (f"a photo of {own} and {others[0]} and {others[1]}",),
        ("a photo of person and ",),
        ("a photo of bottle and ",),
    ]
    assert [str(measure) for measure in protocol.measures] == ["Recall@1", "Recall@5", "Recall@10"]


def test_the_draw_does_not_depend_on_the_order_of_annotations_and_is_part_of_the_digest(tmp_path: Path) -> None:
    expected = write_coco(tmp_path)
    first = load(tmp_path, expected)
    content = read(tmp_path / FILE)
    content["annotations"] = [*content["annotations"][3:], *content["annotations"][:3]]
    write(tmp_path / FILE, content)
    again = load(tmp_path, expected)
    assert again.data_digests == first.data_digests
    assert again.digest == first.digest
    content["annotations"] = [each for each in content["annotations"] if str(each["id"]) != first.queries[0].id]
    write(tmp_path / FILE, content)
    changed = load(tmp_path, expected)
    assert changed.data_digests != first.data_digests
    assert changed.digest != first.digest


def test_the_query_shows_the_object_alone(tmp_path: Path) -> None:
    protocol = load(tmp_path, write_coco(tmp_path))
    (tmp_path / "coco" / "val2017").mkdir()
    Image.new("RGB", (10, 8), (9, 9, 9)).save(tmp_path / "coco" / "val2017" / "000000000005.jpg")
    shown = np.asarray(protocol.queries[2].reference.image.open())
    assert shown.shape == (3, 1, 3)
    assert (shown < 50).all()


BROKEN: dict[str, tuple[Callable[[Any], object], str]] = {
    "an image too few": (lambda content: content["images"].pop(), "it holds 4 images, not 5; .* of the file: 15"),
    "a repeated annotation": (
        lambda content: content["annotations"].append(content["annotations"][0]),
        "it holds annotations more than once: 10",
    ),
    "an unknown class": (
        lambda content: content["annotations"][1].update(category_id=7),
        "of no class of the file: 11",
    ),
    "no outline": (lambda content: content["annotations"][1].pop("segmentation"), r"`segmentation`.*annotations\[1\]"),
    "a broken outline": (
        lambda content: content["annotations"][3].update(segmentation=[["x"]]),
        "the outline of annotation 13: Expected `float`, got `str`",
    ),
    "a flat image": (lambda content: content["images"][1].update(width=0), r"> 0|>= 1"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_changed_file_is_refused_with_what_differs(tmp_path: Path, name: str) -> None:
    spoil, message = BROKEN[name]
    expected = write_coco(tmp_path)
    content = read(tmp_path / FILE)
    spoil(content)
    write(tmp_path / FILE, content)
    with pytest.raises(CorruptFile, match=message):
        load(tmp_path, expected)


def test_another_protocol_is_unknown_and_a_small_file_is_not_the_published_one(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="no protocol of coco called 'composition'"):
        coco_protocol("composition", tmp_path)
    write_coco(tmp_path)
    with pytest.raises(CorruptFile, match="it holds 5 images, not 5000; it holds 3 classes, not 80"):
        coco_protocol("object-composition", tmp_path)
