"""Queries that others labelled anew keep everything but their targets, and both readings are there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cirbench.benchmarks import cirr, fashioniq, relabelled
from cirbench.benchmarks.files.plan import dataset_files
from cirbench.benchmarks.relabelled import JUDGED, UNITED
from cirbench.errors import CorruptFile, MissingData
from cirbench.metrics.measure import ceilings, measure
from cirbench.ranking import rank, ranking_task
from cirbench.runs.folder import load_run
from tests.annotation_files import read, write, write_cirr, write_fashioniq, write_soft
from tests.comparison.folders import keep_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cirbench.protocol import EvaluationProtocol

SOFT = "cirr/soft/cirr_multi_target_selection.json"


def judged_protocol(root: Path, dataset: str, variant: str) -> EvaluationProtocol:
    """Write a small CIRR or FashionIQ with a judge's targets, and load it."""
    if dataset == "cirr":
        return cirr.load(variant, root, {**write_cirr(root), **write_soft(root, "cirr")["cirr"]})
    expected = write_fashioniq(root)
    judged = write_soft(root, "fashioniq")
    return fashioniq.load(variant, root, {part: {**expected[part], **judged[part]} for part in expected})


def gains(protocol: EvaluationProtocol) -> list[dict[str, float]]:
    assert protocol.labels is not None and protocol.labels.gains is not None
    return [dict(zip(*row, strict=True)) for row in zip(protocol.labels.relevant, protocol.labels.gains, strict=True)]


def test_one_reading_has_the_annotated_target_and_the_other_what_the_judge_named(tmp_path: Path) -> None:
    united, judged = (judged_protocol(tmp_path, "cirr", variant) for variant in (UNITED, JUDGED))
    rows = {(row["reference_image_name"], row["target_image_name"]): row for row in read(tmp_path / SOFT)}
    annotated = [row["target_hard"] for row in read(tmp_path / "cirr/captions/cap.rc2.val.json")]
    for query, target, both, alone in zip(united.queries, annotated, gains(united), gains(judged), strict=True):
        named = dict(rows.get((query.reference.id, target), {}).get("confidence_scores", {}))
        named.pop(query.reference.id, None)
        assert alone == named
        assert both == {**named, target: 1.0} and next(iter(both)) == target
    # Without a row, and where the judge drops the annotated target.
    assert gains(united)[0] == {annotated[0]: 1.0} and gains(judged)[0] == {}
    assert annotated[1] in gains(united)[1] and annotated[1] not in gains(judged)[1]


@pytest.mark.parametrize("dataset", ["cirr", "fashioniq"])
@pytest.mark.parametrize("variant", [UNITED, JUDGED])
def test_the_reference_is_never_an_answer(tmp_path: Path, dataset: str, variant: str) -> None:
    protocol = judged_protocol(tmp_path, dataset, variant)
    for query, targets in zip(protocol.queries, gains(protocol), strict=True):
        assert query.reference.id not in targets


@pytest.mark.parametrize(("dataset", "load"), [("cirr", cirr.load), ("fashioniq", fashioniq.load)])
def test_queries_gallery_and_candidates_are_those_of_the_validation_split(
    tmp_path: Path, dataset: str, load: Callable[..., EvaluationProtocol]
) -> None:
    protocol = judged_protocol(tmp_path, dataset, UNITED)
    plain = load("val", tmp_path, write_cirr(tmp_path) if dataset == "cirr" else write_fashioniq(tmp_path))
    for part in ("queries", "gallery", "exclude_reference", "pools", "clusters", "slices", "captions"):
        assert protocol.fields[part] == plain.fields[part]
    assert protocol.id == f"{dataset}/{UNITED}" and protocol.fields["labels"] != plain.fields["labels"]


@pytest.mark.parametrize("dataset", ["cirr", "fashioniq"])
@pytest.mark.parametrize("variant", [UNITED, JUDGED])
def test_an_oracle_gets_everything_and_a_constant_what_chance_gets(tmp_path: Path, dataset: str, variant: str) -> None:
    protocol = judged_protocol(tmp_path, dataset, variant)
    assert protocol.gallery is not None and protocol.labels is not None
    scores = np.zeros((len(protocol.gallery), len(protocol.queries)), dtype=np.float32)
    for place, row in enumerate(gains(protocol)):
        for name, gain in row.items():
            scores[protocol.gallery.positions[name], place] = gain
    own = np.eye(len(protocol.queries), dtype=np.float32)
    found = {each.label: each.value for each in measure(rank(own, scores, ranking_task(protocol)), protocol)}
    # Recall is on the annotated target, which others may share a gain of 1 with.
    whole = {label: value for label, value in found.items() if not label.startswith("Recall")}
    assert list(whole.values()) == pytest.approx([1.0] * len(whole))
    assert [each.value for each in ceilings(protocol)] == pytest.approx([1.0] * len(found))
    same = np.ones((len(protocol.gallery), len(protocol.queries)), dtype=np.float32)
    constant = {each.label: each.value for each in measure(rank(own, same, ranking_task(protocol)), protocol)}
    assert all(value < 0.7 for label, value in constant.items() if label.startswith("mAP"))


@pytest.mark.parametrize("variant", [UNITED, JUDGED])
def test_a_run_is_kept_with_its_gains_and_read_again(tmp_path: Path, variant: str) -> None:
    protocol = judged_protocol(tmp_path, "cirr", variant)
    run = keep_run(judged_first(protocol), tmp_path / "runs", "pli", skill=1.0)
    again = load_run(run.folder)
    assert again.gains == judged_first(protocol).labels.gains  # type: ignore[union-attr]
    (label,) = [each for each in again.values if each.startswith("nDCG")]
    np.testing.assert_array_equal(again.values[label], run.values[label])


def judged_first(protocol: EvaluationProtocol) -> EvaluationProtocol:
    """The queries that have a ground truth, as `keep_run` needs them."""
    assert protocol.labels is not None
    return protocol.only([place for place, row in enumerate(protocol.labels.relevant) if row])


BROKEN: dict[str, tuple[Callable[[Any], object], str]] = {
    "a query too few": (lambda rows: rows.pop(9), "it holds 16 judged queries, not 17; it holds .* judged targets"),
    "a query twice": (lambda rows: rows.__setitem__(9, rows[8]), "pairs of reference and target more than once"),
    "a strange pair": (
        lambda rows: rows[9].update(target_image_name="dev-999"),
        r"no query, or more than one, has the reference and target \('dev-.*', 'dev-999'\)",
    ),
    "a target outside": (
        lambda rows: rows[9]["confidence_scores"].update({"dev-999": 0.9}),
        "targets are not in the gallery: dev-999",
    ),
    "a confidence in percent": (
        lambda rows: rows[9]["confidence_scores"].update({"dev-0-0-img0": 90}),
        r"Expected `float` <= 1.*\$\[9\]",
    ),
    "nothing named": (lambda rows: rows[9].update(confidence_scores={}), r"Expected `object` of length >= 1"),
    "another target dropped": (
        lambda rows: rows[9]["confidence_scores"].pop(rows[9]["target_image_name"]),
        "it holds 2 judged queries without their annotated target, not 1",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_changed_file_is_refused_with_what_differs(tmp_path: Path, name: str) -> None:
    spoil, message = BROKEN[name]
    expected = {**write_cirr(tmp_path), **write_soft(tmp_path, "cirr")["cirr"]}
    rows = read(tmp_path / SOFT)
    spoil(rows)
    write(tmp_path / SOFT, rows)
    with pytest.raises(CorruptFile, match=message) as caught:
        cirr.load(UNITED, tmp_path, expected)
    assert str(tmp_path / SOFT) in caught.value.message
    cirr.load("val", tmp_path, expected)  # it does not read the file


def test_the_file_is_asked_for_by_its_own_protocols_alone(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"cirr_multi_target_selection\.json"):
        cirr.load(JUDGED, tmp_path, write_cirr(tmp_path))
    for dataset, part in (("cirr", "cirr"), ("fashioniq", "dress")):
        path = relabelled.FILE.format(dataset=dataset, part=part)
        assert path in [file.path for file in dataset_files(f"{dataset}/{UNITED}").annotations]
        assert path not in [file.path for file in dataset_files(f"{dataset}/val").annotations]
    (file,) = relabelled.CIRR_FILES
    assert file.licence == "none stated"
