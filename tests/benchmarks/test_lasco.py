"""LaSCo's queries have one target each, in a gallery that holds the reference too."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cirbench.benchmarks.images import image_files
from cirbench.benchmarks.lasco import QUERIES, lasco_protocol, load
from cirbench.errors import CorruptFile, MissingData, UnknownName
from cirbench.metrics.measure import ceilings, measure
from cirbench.ranking import rank, ranking_task
from tests.annotation_files import read, write, write_lasco

if TYPE_CHECKING:
    from pathlib import Path

QUERY_FILE, GALLERY_FILE = "lasco/lasco_val.json", "lasco/lasco_val_corpus.json"


def test_a_query_is_an_image_and_a_text_with_one_target(tmp_path: Path) -> None:
    protocol = load("val", tmp_path, write_lasco(tmp_path))
    rows = read(tmp_path / QUERY_FILE)
    assert protocol.gallery is not None and protocol.labels is not None
    assert protocol.gallery.ids == tuple(str(row["id"]) for row in read(tmp_path / GALLERY_FILE))
    for query, relevant, row in zip(protocol.queries, protocol.labels.relevant, rows, strict=True):
        assert (query.reference.id, query.captions) == (str(row["query-image"][0]), (row["query-text"],))
        assert relevant == (str(row["target-image"][0]),)
    ids = [query.id for query in protocol.queries]
    assert ids[:2] == ["1000", "1001"] and ids[-1] == "1000-2"  # the number of a question that occurs twice
    assert {each.value for each in ceilings(protocol)} == {1.0}


@pytest.mark.parametrize("variant", ["val", "val-drop-reference"])
def test_a_query_that_is_its_reference_finds_it_first_unless_it_is_removed(tmp_path: Path, variant: str) -> None:
    protocol = load(variant, tmp_path, write_lasco(tmp_path))
    assert protocol.gallery is not None
    rows = np.random.default_rng(0).standard_normal((len(protocol.gallery), 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    at = [protocol.gallery.positions[query.reference.id] for query in protocol.queries]
    ranking = rank(rows[at], rows, ranking_task(protocol))
    assert (ranking.top_QK[:, 0] == at).all() == (variant == "val")
    found = {each.label: each.value for each in measure(ranking, protocol)}
    assert list(found) == ["Recall@1", "Recall@5", "Recall@10", "Recall@50"]
    assert found["Recall@50"] == 1 and (variant != "val" or found["Recall@1"] == 0)


def test_images_are_found_by_the_names_of_coco_2014(tmp_path: Path) -> None:
    (files,) = image_files(load("val", tmp_path, write_lasco(tmp_path)))
    path = tmp_path / "lasco/val2014/COCO_val2014_000000000003.jpg"
    path.parent.mkdir()
    path.touch()
    assert files.found == {"COCO_val2014_000000000003": path}


def changed(rows: list[dict[str, Any]], **values: Any) -> list[dict[str, Any]]:
    return [{**rows[0], **{key.replace("_", "-"): value for key, value in values.items()}}, *rows[1:]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"target_image": [99, "val2014/COCO_val2014_000000000099.jpg"]}, "the target is not in the gallery for query"),
        (
            {"target_image": [3, "val2014/COCO_val2014_000000000004.jpg"]},
            "id and path are of different images in query",
        ),
        ({"query_image": [3, "val2014/three.jpg"]}, "id and path are of different images in query 1000"),
        ({"query_image": "val2014/COCO_val2014_000000000003.jpg"}, r"Expected `array`, got `str`"),
        ({"query_text": None}, r"Expected `str`, got `null` - at `\$\[0\]\.query-text`"),
    ],
)
def test_changed_queries_are_refused_with_what_is_wrong(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    expected = write_lasco(tmp_path)
    write(tmp_path / QUERY_FILE, changed(read(tmp_path / QUERY_FILE), **values))
    with pytest.raises(CorruptFile, match=message):
        load("val", tmp_path, expected)


def test_a_changed_gallery_is_refused(tmp_path: Path) -> None:
    expected = write_lasco(tmp_path)
    rows = read(tmp_path / GALLERY_FILE)
    write(tmp_path / GALLERY_FILE, [*rows, rows[0], {"id": 3, "path": "val/val2014/COCO_val2014_000000000007.jpg"}])
    message = (
        rf"it holds {len(rows) + 2} images, not {len(rows)}; it holds images more than once: 0, 3; "
        "id and path are of different images in val/val2014/COCO_val2014_000000000007"
    )
    with pytest.raises(CorruptFile, match=message):
        load("val", tmp_path, expected)


def test_other_counts_than_the_published_ones_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"lasco_val\.json"):
        lasco_protocol("val", tmp_path)
    expected = write_lasco(tmp_path)
    with pytest.raises(CorruptFile, match=r"lasco_val_corpus\.json.*it holds \d+ images, not 39826"):
        lasco_protocol("val", tmp_path)
    with pytest.raises(CorruptFile, match=rf"it holds \d+ queries, not {expected[QUERIES] + 1}"):
        load("val", tmp_path, {**expected, QUERIES: expected[QUERIES] + 1})
    with pytest.raises(UnknownName, match="test"):
        lasco_protocol("test", tmp_path)


def test_the_published_gallery_is_read(annotation_root: Path, tmp_path: Path) -> None:
    published = annotation_root / GALLERY_FILE
    if not published.is_file():
        pytest.skip(f"{annotation_root} has no {GALLERY_FILE}")
    write_lasco(tmp_path)
    shown = json.loads(published.read_bytes())
    image = [shown[0]["id"], shown[0]["path"].removeprefix("val/")]
    row = {"qid": 1, "query-image": image, "query-text": "it is night", "target-image": image}
    write(tmp_path / QUERY_FILE, [row])
    (tmp_path / GALLERY_FILE).write_bytes(published.read_bytes())
    protocol = lasco_protocol("val", tmp_path)
    assert protocol.gallery is not None and len(protocol.gallery) == 39_826
