"""GeneCIS's tasks rank a few candidates per query, by image or by image and box; changed files are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cirbench.benchmarks.coco_composition import VAL2017
from cirbench.benchmarks.genecis import EXPECTED, QUERIES, TASKS, VISUAL_GENOME, SquareCrop, genecis_protocol, load
from cirbench.benchmarks.images import image_files
from cirbench.errors import CorruptFile, MissingData, UnknownName
from tests.annotation_files import read, write, write_genecis

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FILE = "genecis/change_object.json"


def test_each_query_ranks_its_target_and_its_gallery(tmp_path: Path) -> None:
    protocol = load("change-object", tmp_path, write_genecis(tmp_path))
    rows = read(tmp_path / FILE)
    assert protocol.pools is not None and protocol.labels is not None
    for row, query, pool, relevant in zip(
        rows, protocol.queries, protocol.pools, protocol.labels.relevant, strict=True
    ):
        target = str(row["target"]["val_image_id"])
        assert set(pool) == {target, *(str(each["val_image_id"]) for each in row["gallery"])}
        assert relevant == (target,)
        assert (query.reference.id, query.captions) == (str(row["reference"]["val_image_id"]), (row["condition"],))
    assert [len(pool) for pool in protocol.pools] == [6, 6, 5, 6, 6, 6, 6, 6, 6]
    assert protocol.pool_of_query == tuple(range(9))


def test_objects_are_known_by_image_and_box(tmp_path: Path) -> None:
    protocol = load("focus-attribute", tmp_path, write_genecis(tmp_path))
    row = read(tmp_path / "genecis/focus_attribute.json")[0]
    shown = row["reference"]
    box = ",".join(f"{side:g}" for side in shown["instance_bbox"])
    reference = protocol.queries[0].reference
    assert reference.id == f"{shown['image_id']}:{box}"
    assert isinstance(reference.image, SquareCrop)
    assert reference.image.box == tuple(shown["instance_bbox"])
    assert protocol.gallery is not None
    assert len({name.partition(":")[0] for name in protocol.gallery.ids}) < len(protocol.gallery)
    (files,) = image_files(protocol)
    assert files.collection == VISUAL_GENOME
    assert set(files.names) <= {str(2000 + number) for number in range(7)}


def test_all_four_tasks_are_one_protocol_with_a_mean(tmp_path: Path) -> None:
    expected = write_genecis(tmp_path)
    together = load("all", tmp_path, expected)
    alone = [load(task, tmp_path, expected) for task in TASKS]
    assert together.labels is not None and together.gallery is not None
    assert together.labels.relevant == tuple(row for each in alone if each.labels for row in each.labels.relevant)
    assert together.pools == tuple(pool for each in alone for pool in each.pools or ())
    assert together.slices["task"] == tuple((task,) for task in TASKS for _ in range(9))
    assert [str(measure) for measure in together.measures] == [f"Recall@{k} per task and macro mean" for k in (1, 2, 3)]
    assert {files.collection for files in image_files(together)} == {VAL2017, VISUAL_GENOME}
    assert [query.category for query in together.queries] == [task for task in TASKS for _ in range(9)]


def change(**fields: Any) -> Callable[[Any], object]:
    return lambda rows: rows[5].update(fields)


BROKEN: dict[str, tuple[Callable[[Any], object], str]] = {
    "a query too few": (lambda rows: rows.pop(), "it holds 8 queries, not 9"),
    "an empty condition": (
        change(condition=""),
        "it holds 5 distinct conditions, not 4; the condition is empty in query 5",
    ),
    "the reference as a candidate": (
        lambda rows: rows[5].update(reference=rows[5]["gallery"][2]),
        "the reference is a candidate of query 5",
    ),
    "the reference as the target": (
        lambda rows: rows[5].update(reference=rows[5]["target"]),
        "the reference is a candidate of query 5",
    ),
    "a repeated candidate": (
        lambda rows: rows[5]["gallery"].append(rows[5]["gallery"][0]),
        "an image occurs twice in the gallery of query 5",
    ),
    "no gallery": (change(gallery=[]), r"length >= 1 - at `\$\[5\]\.gallery`"),
    "a box for a photograph": (
        change(target={"image_id": 1}),
        r"missing required field `val_image_id`.*\$\[5\]\.target",
    ),
    "another image": (change(target={"val_image_id": 999_999}), r"it holds \d+ distinct images, not \d+"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_changed_file_is_refused_with_the_queries_named(tmp_path: Path, name: str) -> None:
    spoil, message = BROKEN[name]
    expected = write_genecis(tmp_path)
    rows = read(tmp_path / FILE)
    spoil(rows)
    write(tmp_path / FILE, rows)
    with pytest.raises(CorruptFile, match=message) as caught:
        load("change-object", tmp_path, expected)
    assert str(tmp_path / FILE) in caught.value.message


def test_attribute_tasks_take_their_counts_from_their_file(tmp_path: Path) -> None:
    write_genecis(tmp_path)
    assert len(genecis_protocol("change-attribute", tmp_path).queries) == 9
    with pytest.raises(CorruptFile, match="it holds 9 queries, not 1960"):
        genecis_protocol("all", tmp_path)


def test_unknown_tasks_and_missing_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="no task of genecis called 'change-colour'"):
        genecis_protocol("change-colour", tmp_path)
    with pytest.raises(MissingData, match=r"genecis/focus_attribute\.json"):
        genecis_protocol("focus-attribute", tmp_path)


@pytest.mark.parametrize("task", ["focus-object", "change-object"])
def test_the_real_files_have_the_published_counts(annotation_root: Path, task: str) -> None:
    if not (annotation_root / "genecis").is_dir():
        pytest.skip(f"{annotation_root} has no genecis")
    protocol = genecis_protocol(task, annotation_root)
    assert protocol.pools is not None
    assert len(protocol.queries) == EXPECTED[task][QUERIES] == 1960
    small = [place for place, pool in enumerate(protocol.pools) if len(pool) != 15]
    assert small == ([19] if task == "change-object" else [])
