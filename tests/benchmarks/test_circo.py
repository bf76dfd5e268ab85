"""CIRCO's annotations load into a protocol, or say what is wrong with them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from cirbench.benchmarks.circo import ASPECTS, EXPECTED, QUERIES, REFERENCES, circo_protocol, load
from cirbench.errors import CheckFailed, CorruptFile, MissingData, UnknownName
from tests.circo_files import expected, labelled_rows, published_size, write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.circo_files import Rows


def test_a_split_becomes_a_protocol(tmp_path: Path) -> None:
    rows, gallery = labelled_rows()
    write(tmp_path, rows, gallery)
    protocol = load("val", tmp_path, expected(rows, len(gallery)))
    assert protocol.name == "circo/val@1"
    assert [query.id for query in protocol.queries] == [str(number) for number in range(len(rows))]
    assert protocol.queries[3].captions == ("has 3 more of them",)
    assert protocol.queries[3].reference.id == str(rows[3]["reference_img_id"])
    assert {query.shared_concept for query in protocol.queries} == {None}
    assert protocol.gallery is not None
    assert protocol.gallery.ids == tuple(str(image) for image in gallery)
    assert protocol.labels is not None
    assert protocol.labels.relevant == tuple(tuple(str(image) for image in row["gt_img_ids"]) for row in rows)
    assert [set(labels) for labels in protocol.slices["aspect"]] == [set(row["semantic_aspects"]) for row in rows]
    assert not protocol.exclude_reference
    assert protocol.depth == 50
    assert [str(measure) for measure in protocol.measures] == [
        *(f"mAP@{k}" for k in (5, 10, 25, 50)),
        *(f"Recall@{k}" for k in (5, 10, 25, 50)),
        "mAP@10 per aspect",
    ]
    assert protocol.measures[-1].labels == ASPECTS


@pytest.mark.parametrize("split", ["val", "test"])
def test_files_with_the_published_counts_are_accepted(tmp_path: Path, split: str) -> None:
    write(tmp_path, published_size(split), None, split=split)
    protocol = circo_protocol(split, tmp_path)
    assert len(protocol.queries) == EXPECTED[split][QUERIES]
    assert (protocol.labels is None) == (split == "test")
    assert protocol.gallery is None
    assert protocol.clusters is not None
    assert len(set(protocol.clusters)) == EXPECTED[split][REFERENCES]


@pytest.mark.parametrize("split", ["val", "test"])
def test_the_real_files_have_the_published_counts(annotation_root: Path, split: str) -> None:
    if not (annotation_root / "circo" / "annotations" / f"{split}.json").is_file():
        pytest.skip(f"{annotation_root} has no circo/annotations/{split}.json")
    protocol = circo_protocol(split, annotation_root)
    assert len(protocol.queries) == EXPECTED[split][QUERIES]
    if protocol.labels is not None:
        assert max(map(len, protocol.labels.relevant)) == 14
        assert sum(len(row) > 5 for row in protocol.labels.relevant) == 57


def test_images_that_are_missing_are_named_together(tmp_path: Path) -> None:
    rows, gallery = labelled_rows()
    write(tmp_path, rows, gallery)
    reference = load("val", tmp_path, expected(rows, len(gallery))).queries[0].reference
    for attempt in (reference.image.open, lambda: reference.image.content):
        with pytest.raises(MissingData, match=r"120 of 120 circo images are missing: .* and 110 more") as caught:
            attempt()
        assert f"cirbench data check circo --root {tmp_path}" in str(caught.value.hint)


def test_variants_differ_in_the_reference_and_the_concept_only(tmp_path: Path) -> None:
    rows, gallery = labelled_rows()
    write(tmp_path, rows, gallery)
    kept, dropped, told = (
        load(variant, tmp_path, expected(rows, len(gallery)))
        for variant in ("val", "val-drop-reference", "val-concept")
    )
    assert (kept.exclude_reference, dropped.exclude_reference, told.exclude_reference) == (False, True, False)
    assert {query.shared_concept for query in told.queries} == {"a thing"}
    assert {query.shared_concept for query in (*kept.queries, *dropped.queries)} == {None}
    assert kept.labels == dropped.labels == told.labels
    assert len({kept.digest, dropped.digest, told.digest}) == 3


def test_an_unknown_split_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="no protocol of circo called 'train'"):
        circo_protocol("train", tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"circo/annotations/val\.json"):
        circo_protocol("val", tmp_path)


def test_an_annotation_file_outside_the_data_root_is_refused(tmp_path: Path) -> None:
    real = write(tmp_path / "elsewhere", published_size(), None)
    folder = tmp_path / "root" / "circo" / "annotations"
    folder.mkdir(parents=True)
    (folder / "val.json").symlink_to(real)
    with pytest.raises(CheckFailed, match="leads out of the data root"):
        circo_protocol("val", tmp_path / "root")


def change(place: int, **fields: Any) -> Callable[[Rows], object]:
    return lambda rows: rows[place].update(fields)


BROKEN: dict[str, tuple[Callable[[Rows], object], str]] = {
    "a missing field": (
        lambda rows: rows[2].pop("relative_caption"),
        r"missing required field `relative_caption` .*\$\[2\]",
    ),
    "a wrong type": (change(4, target_img_id="7"), r"Expected `int`, got `str` - at `\$\[4\]\.target_img_id`"),
    "a truth value for an id": (change(4, id=True), r"Expected `int`, got `bool` - at `\$\[4\]\.id`"),
    "a nested list": (change(1, gt_img_ids=[[1]]), r"Expected `int`, got `array` - at `\$\[1\]\.gt_img_ids\[0\]`"),
    "a negative id": (change(1, reference_img_id=-3), r">= 0 - at `\$\[1\]\.reference_img_id`"),
    "no ground truth": (change(1, gt_img_ids=[]), r"length >= 1 - at `\$\[1\]\.gt_img_ids`"),
    "a null caption": (change(0, relative_caption=None), r"Expected `str`, got `null` - at `\$\[0\]"),
    "an empty caption": (change(5, relative_caption="  "), "the relative caption is empty in query 5"),
    "a query too few": (lambda rows: rows.pop(), "it holds 11 queries, not 12"),
    "a query too many": (lambda rows: rows.append({**rows[-1], "id": 12}), "it holds 13 queries, not 12"),
    "ids out of order": (
        lambda rows: rows.reverse(),
        r"not 0, 1, 2 and so on: 11 at place 0, 10 at place 1.* and 2 more",
    ),
    "a repeated id": (change(7, id=6), "not 0, 1, 2 and so on: 6 at place 7"),
    "a late target": (
        lambda rows: rows[8].update(target_img_id=999_999),
        "the target is not the first ground truth of query 8",
    ),
    "a repeated ground truth": (
        lambda rows: rows[8]["gt_img_ids"].append(rows[8]["gt_img_ids"][0]),
        "a ground truth occurs twice in query 8",
    ),
    "the reference as a ground truth": (
        lambda rows: rows[9]["gt_img_ids"].append(rows[9]["reference_img_id"]),
        "the reference is a ground truth of query 9; it holds .* ground truths, not",
    ),
    "a shared reference": (
        lambda rows: rows[3].update(reference_img_id=rows[2]["reference_img_id"]),
        "it holds 11 distinct reference images, not 12; references are shared by queries 2, 3",
    ),
    "a dropped ground truth": (
        lambda rows: max(rows, key=lambda row: len(row["gt_img_ids"]))["gt_img_ids"].pop(),
        r"it holds \d+ ground truths, not \d+",
    ),
    "an unknown aspect": (change(6, semantic_aspects=["colour"]), "unknown semantic aspects: 'colour' of query 6"),
    "a repeated aspect": (
        lambda rows: rows[6]["semantic_aspects"].append(rows[6]["semantic_aspects"][0]),
        "a semantic aspect occurs twice in query 6; .* queries with the aspect",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_changed_annotation_file_is_refused_with_the_queries_named(tmp_path: Path, name: str) -> None:
    rows, gallery = labelled_rows()
    counts = expected(rows, len(gallery))
    spoil, message = BROKEN[name]
    spoil(rows)
    path = write(tmp_path, rows, gallery)
    with pytest.raises(CorruptFile, match=message) as caught:
        load("val", tmp_path, counts)
    assert str(path) in caught.value.message
    assert caught.value.hint == "Fetch the file again from the benchmark's authors."


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("reference_img_id", "the reference is not in the gallery for query 3"),
        ("target_img_id", "a ground truth is not in the gallery for query 3"),
    ],
)
def test_queries_with_images_outside_the_gallery_are_named(tmp_path: Path, lost: str, message: str) -> None:
    rows, gallery = labelled_rows()
    rows[3][lost] = 999_999
    rows[3]["gt_img_ids"][0] = rows[3]["target_img_id"]
    write(tmp_path, rows, gallery)
    with pytest.raises(CorruptFile, match=message):
        load("val", tmp_path, expected(rows, len(gallery)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "truncated"),
        (b'[{"id": 0', "truncated"),
        (b"not json", "malformed"),
        (b"{}", "Expected `array`, got `object`"),
        (b"\xff\xfe", "malformed"),
        (b'[{"id": 0, "relative_caption": "\xff"}]', "(?i)utf-8"),
        (b"[" * 100_000, "malformed|truncated|recursion|Expected"),
    ],
)
def test_a_file_that_is_not_whole_json_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = write(tmp_path, [], None)
    path.write_bytes(content)
    with pytest.raises(CorruptFile, match=message):
        circo_protocol("val", tmp_path)


def test_every_deviation_is_told_at_once(tmp_path: Path) -> None:
    rows, gallery = labelled_rows()
    counts = expected(rows, len(gallery))
    rows[5]["relative_caption"] = ""
    rows[8]["target_img_id"] = 1
    write(tmp_path, rows, gallery)
    with pytest.raises(CorruptFile, match="empty in query 5; the target is not the first ground truth of query 8"):
        load("val", tmp_path, counts)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda ids: ids[:-1], "it holds 119 images, not 120"),
        (lambda ids: [*ids[:-1], ids[0]], "it holds images more than once: "),
    ],
)
def test_a_changed_gallery_is_refused(tmp_path: Path, spoil: Callable[[list[int]], list[int]], message: str) -> None:
    rows, gallery = labelled_rows()
    write(tmp_path, rows, spoil(gallery))
    with pytest.raises(CorruptFile, match=f"image_info_unlabeled2017.json .*{message}"):
        load("val", tmp_path, expected(rows, len(gallery)))


def test_the_gallery_is_found_beside_coco_too(tmp_path: Path) -> None:
    rows, gallery = labelled_rows()
    write(tmp_path, rows, None)
    other = tmp_path / "coco" / "annotations" / "image_info_unlabeled2017.json"
    other.parent.mkdir(parents=True)
    other.write_text(json.dumps({"images": [{"id": image} for image in gallery]}))
    protocol = load("val", tmp_path, expected(rows, len(gallery)))
    assert protocol.gallery is not None
    assert len(protocol.gallery) == len(gallery)


def test_the_digest_changes_with_labels_and_captions_and_not_with_layout(tmp_path: Path) -> None:
    rows, gallery = labelled_rows()
    counts = expected(rows, len(gallery))
    path = write(tmp_path, rows, gallery)
    first = load("val", tmp_path, counts).digest
    path.write_text(json.dumps(rows, indent=8))
    assert load("val", tmp_path, counts).digest == first
    rows[0]["relative_caption"] += "."
    write(tmp_path, rows, gallery)
    assert load("val", tmp_path, counts).digest != first
