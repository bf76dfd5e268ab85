"""Numbers can be had by whether a unimodal run has a hit, and by the labels that CIRCUS published."""

from __future__ import annotations

import csv
import dataclasses
import io
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from cirbench import cli
from cirbench.comparison.baselines import HIT, NO_HIT, command_for_baselines, hits, with_labels
from cirbench.errors import MissingData, UnknownName, UsageError
from cirbench.runs.folder import load_run
from cirbench.runs.record import NOT_STATED
from tests.comparison.folders import keep_run
from tests.toy_protocols import cirr_like, fashioniq_like

if TYPE_CHECKING:
    from pathlib import Path

    from cirbench.runs.folder import Run

SKILLS = {"image-only": 0.3, "text-only": 0.1, "image-text": 0.8, "pli": 1.2}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four runs on one backbone, and two of them on another."""
    root = tmp_path_factory.mktemp("runs") / "cirr"
    protocol = cirr_like(60, 90)
    for at, (method, skill) in enumerate(SKILLS.items()):
        keep_run(protocol, root, method, skill=skill, seed=at)
    for at, method in enumerate(("image-only", "text-only")):
        keep_run(protocol, root, method, skill=0.5, seed=at + 9, backbone="large")
    return root


def load(runs: Path, *methods: str) -> list[Run]:
    return [load_run(runs / f"{method}-00000000") for method in methods]


def naive_hits(runs: list[Run], k: int) -> list[bool]:
    return [any(rank <= k for run in runs for rank in run.ranks[place]) for place in range(len(runs[0].query_ids))]


@pytest.mark.parametrize("k", [1, 5, 10])
def test_a_query_is_a_hit_where_a_unimodal_run_on_the_backbone_has_a_ground_truth_in_the_top_k(
    runs: Path, k: int
) -> None:
    labelled = with_labels(load(runs, "pli", "image-text"), f"unimodal@{k}")
    expected = naive_hits(load(runs, "image-only", "text-only"), k)
    assert labelled.kind == f"unimodal@{k}" and any(expected) and not all(expected)
    for run in labelled.runs:
        assert [labels == (HIT,) for labels in run.slices[labelled.kind]] == expected
        assert {label for labels in run.slices[labelled.kind] for label in labels} == {HIT, NO_HIT}
    (line,) = labelled.meaning
    assert "image-only on tiny, text-only on tiny" in line and "large" not in line
    assert f"{HIT} {sum(expected)} of 60 queries" in line


def test_runs_on_several_backbones_are_looked_at_by_one_set_of_queries(runs: Path) -> None:
    large = [run for run in map(load_run, runs.iterdir()) if run.result.backbone.name == "large"]
    labelled = with_labels([*load(runs, "pli"), *large], "unimodal@5")
    expected = naive_hits([*load(runs, "image-only", "text-only"), *large], 5)
    for run in labelled.runs:
        assert [labels == (HIT,) for labels in run.slices["unimodal@5"]] == expected


def test_without_a_cut_off_it_is_that_of_the_headline(runs: Path) -> None:
    assert with_labels(load(runs, "pli"), "unimodal").kind == "unimodal@1"


def test_compare_gives_the_number_of_either_part(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [str(runs / f"{method}-00000000") for method in ("pli", "image-text")]
    command = ["compare", *folders, "--metric", "Recall@1,Recall@5", "--by", "unimodal@5", "--format", "csv"]
    assert cli.execute(command) == 0
    shown = capsys.readouterr()
    (row,) = [row for row in csv.DictReader(io.StringIO(shown.out)) if row["method"] == "pli"]
    hit_Q = np.array(naive_hits(load(runs, "image-only", "text-only"), 5))
    for k in (1, 5):
        values_Q = load(runs, "pli")[0].values[f"Recall@{k}"]
        for part, inside_Q in ((HIT, hit_Q), (NO_HIT, ~hit_Q)):
            number = float(row[f"toy/cirr-like:Recall@{k}[unimodal@5={part}]"])
            assert number == pytest.approx(100 * values_Q[inside_Q].mean(), abs=0.005)
    assert f"{HIT} {hit_Q.sum()} of 60 queries" in shown.err


def test_both_unimodal_runs_are_needed(tmp_path: Path) -> None:
    run = keep_run(cirr_like(20, 30), tmp_path / "cirr", "pli")
    keep_run(cirr_like(20, 30), tmp_path / "cirr", "image-only", seed=1)
    with pytest.raises(MissingData, match="Both unimodal baselines are needed, and no text-only") as caught:
        with_labels([run], "unimodal@10")
    assert caught.value.hint is not None and "cirbench run --method image-only,text-only" in caught.value.hint


def test_the_command_for_the_unimodal_runs_leaves_a_backbone_open_that_is_not_stated(tmp_path: Path) -> None:
    run = keep_run(cirr_like(20, 30), tmp_path / "cirr", "pli")
    assert f"--backbone {run.result.backbone.name} " in command_for_baselines(run)
    unknown = msgspec.structs.replace(run.result.backbone, name=NOT_STATED)
    scored = dataclasses.replace(run, result=msgspec.structs.replace(run.result, backbone=unknown))
    assert "--backbone BACKBONE " in command_for_baselines(scored)


def test_what_cannot_be_asked_for_is_answered(runs: Path) -> None:
    with pytest.raises(UsageError, match="'ten' is not a cut-off"):
        with_labels(load(runs, "pli"), "unimodal@ten")
    with pytest.raises(UsageError, match="'0' is not a cut-off"):
        with_labels(load(runs, "pli"), "unimodal@0")
    with pytest.raises(UnknownName, match=r"no label of the queries of .* called 'unimodale'"):
        with_labels(load(runs, "pli"), "unimodale")


def test_labels_of_the_benchmark_stay_what_they_are(tmp_path: Path) -> None:
    run = keep_run(fashioniq_like(), tmp_path, "pli")
    labelled = with_labels([run], "category")
    assert (labelled.runs, labelled.kind, labelled.meaning) == ([run], "category", ())


def test_hits_behind_the_end_of_given_lists_are_not_known(runs: Path) -> None:
    (run,) = load(runs, "image-only")
    with pytest.raises(UsageError, match="scored from lists of 5 ids, so its hits in the top 10 are not known"):
        hits([dataclasses.replace(run, depth=5)], 10)
