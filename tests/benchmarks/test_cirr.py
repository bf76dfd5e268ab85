"""CIRR's protocols remove the reference, rank groups, and grade softly where they say so; changed files are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cirbench.benchmarks.cirr import EXPECTED, IMAGES, QUERIES, cirr_protocol, load
from cirbench.errors import CorruptFile, UnknownName
from tests.annotation_files import read, write, write_cirr

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CAPTIONS = "cirr/captions/cap.rc2.val.json"
SPLIT = "cirr/image_splits/split.rc2.val.json"


def test_the_validation_split_becomes_a_protocol(tmp_path: Path) -> None:
    protocol = load("val", tmp_path, write_cirr(tmp_path))
    rows = read(tmp_path / CAPTIONS)
    assert protocol.gallery is not None and protocol.labels is not None
    assert list(protocol.gallery.ids) == list(read(tmp_path / SPLIT))
    assert [query.id for query in protocol.queries] == [str(row["pairid"]) for row in rows]
    assert [query.captions for query in protocol.queries] == [(row["caption"],) for row in rows]
    assert protocol.labels.relevant == tuple((row["target_hard"],) for row in rows)
    assert protocol.groups == tuple(tuple(row["img_set"]["members"]) for row in rows)
    assert protocol.exclude_reference
    assert [str(measure) for measure in protocol.measures] == [
        *(f"Recall@{k}" for k in (1, 5, 10, 50)),
        *(f"Recall_subset@{k}" for k in (1, 2, 3)),
        "(R@5+Rs@1)/2",
    ]


def test_soft_labels_are_kept_as_annotated_and_are_another_protocol(tmp_path: Path) -> None:
    expected = write_cirr(tmp_path)
    soft, hard = load("val-soft", tmp_path, expected), load("val", tmp_path, expected)
    rows = read(tmp_path / CAPTIONS)
    assert soft.labels is not None and soft.labels.gains is not None
    assert [dict(zip(*pair, strict=True)) for pair in zip(soft.labels.relevant, soft.labels.gains, strict=True)] == [
        row["target_soft"] for row in rows
    ]
    assert soft.groups is None
    assert [str(measure) for measure in soft.measures] == [f"Recall_soft@{k}" for k in (1, 5, 10, 50)]
    assert soft.fields["labels"] != hard.fields["labels"]
    part = soft.first(4)
    assert part.labels is not None and part.labels.gains == soft.labels.gains[:4]


def test_soft_labels_inside_the_group_leave_the_other_protocols_as_they_are(tmp_path: Path) -> None:
    expected = write_cirr(tmp_path)
    subset, soft = load("val-soft-subset", tmp_path, expected), load("val-soft", tmp_path, expected)
    rows = read(tmp_path / CAPTIONS)
    assert subset.pools is not None and subset.pool_of_query is not None and subset.labels is not None
    for place, row in enumerate(rows):
        members = row["img_set"]["members"]
        assert list(subset.pools[subset.pool_of_query[place]]) == members
        assert set(subset.labels.relevant[place]) == set(row["target_soft"]).intersection(members)
    assert [str(measure) for measure in subset.measures] == [f"Recall_soft@{k}" for k in (1, 2, 3)]
    assert subset.exclude_reference
    assert subset.fields["queries"] == soft.fields["queries"]


def test_the_test_split_has_groups_and_no_labels(tmp_path: Path) -> None:
    protocol = load("test1", tmp_path, write_cirr(tmp_path, split="test1"))
    assert protocol.labels is None
    assert protocol.groups is not None and len(protocol.groups) == len(protocol.queries)
    assert protocol.exclude_reference


def change(**fields: Any) -> Callable[[Any], object]:
    return lambda rows: rows[3].update(fields)


BROKEN: dict[str, tuple[str, Callable[[Any], object], str]] = {
    "a query too few": (CAPTIONS, lambda rows: rows.pop(7), "it holds 19 queries, not 20"),
    "a repeated pair id": (CAPTIONS, change(pairid=103), "it holds pair ids more than once: 103"),
    "an empty caption": (CAPTIONS, change(caption=" "), "the caption is empty in query 109"),
    "a reference outside its group": (
        CAPTIONS,
        change(reference="dev-0-0-img0"),
        "the reference is not in the group of query 109",
    ),
    "a target outside the group": (
        CAPTIONS,
        change(target_hard="dev-0-0-img0"),
        "the target is not in the group of query 109",
    ),
    "the reference as the target": (
        CAPTIONS,
        lambda rows: rows[3].update(target_hard=rows[3]["reference"]),
        "the reference is the target of query 109",
    ),
    "a group of five": (CAPTIONS, lambda rows: rows[3]["img_set"]["members"].pop(), r"length >= 6.*\$\[3\]"),
    "a repeated member": (
        CAPTIONS,
        lambda rows: rows[3]["img_set"]["members"].__setitem__(0, rows[3]["img_set"]["members"][1]),
        "a member occurs twice in the group of query 109",
    ),
    "an unknown member": (
        CAPTIONS,
        lambda rows: rows[3]["img_set"]["members"].__setitem__(0, "dev-999"),
        "members of the group are not in the gallery for query 109",
    ),
    "a soft target outside the gallery": (
        CAPTIONS,
        lambda rows: rows[3].update(target_soft={"dev-999": 1.0, "dev-0-0-img0": 0.2}),
        "soft targets are not in the gallery for query 109",
    ),
    "another soft label": (
        CAPTIONS,
        lambda rows: rows[3]["target_soft"].update({rows[3]["reference"]: 0.9}),
        "it holds 19 soft labels 1, not 20; unknown soft labels: 0.9",
    ),
    "an image too few": (SPLIT, lambda ids: ids.pop("dev-29-0-img1"), "it holds 29 images, not 30"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_changed_file_is_refused_with_what_differs(tmp_path: Path, name: str) -> None:
    file, spoil, message = BROKEN[name]
    expected = write_cirr(tmp_path)
    content = read(tmp_path / file)
    spoil(content)
    write(tmp_path / file, content)
    with pytest.raises(CorruptFile, match=message) as caught:
        load("val", tmp_path, expected)
    assert str(tmp_path / file) in caught.value.message


def test_an_unknown_protocol_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="no protocol of cirr called 'test'"):
        cirr_protocol("test", tmp_path)


@pytest.mark.parametrize("variant", ["val", "val-soft", "test1"])
def test_the_real_files_have_the_published_counts(annotation_root: Path, variant: str) -> None:
    if not (annotation_root / "cirr").is_dir():
        pytest.skip(f"{annotation_root} has no cirr")
    protocol = cirr_protocol(variant, annotation_root)
    counts = EXPECTED[variant.partition("-")[0]]
    assert protocol.gallery is not None
    assert (len(protocol.queries), len(protocol.gallery)) == (counts[QUERIES], counts[IMAGES])
    assert int(protocol.queries[0].id) == {"val": 12060, "test1": 12063}[variant.partition("-")[0]]
