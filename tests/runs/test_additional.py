"""Any metric at any cut-off, beside those of a protocol, from the ranks that are known."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cirbench import cli
from cirbench.benchmarks.scenes import scenes_protocol
from cirbench.comparison.standings import compare_runs
from cirbench.errors import UnknownName, UsageError
from cirbench.runs.additional import keep_additional, read_measures
from cirbench.runs.folder import Run, load_run
from tests.comparison.folders import keep_run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return keep_run(scenes_protocol("tiny"), tmp_path, "mine", skill=0.2)


def test_labels_are_read_once_each_however_they_are_given() -> None:
    asked = read_measures(["Recall@100, nDCG@10", "MRR", "MedR", "MRR@10", "Recall@100"])
    assert [each.label for each in asked] == ["Recall@100", "nDCG@10", "MRR", "MedR", "MRR@10"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Recal@10", r"There is no metric called 'Recal'\.\nNearest: Recall"),
        ("Recall", r"'Recall' needs a cut-off from 1 on\.\nFor instance: --metric Recall@10"),
        ("Recall@", r"'' is not a cut-off"),
        ("Recall@0", r"'Recall@0' needs a cut-off from 1 on"),
        ("Recall@ten", r"'ten' is not a cut-off"),
        ("Recall@-1", r"'-1' is not a cut-off"),
        ("MedR@10", r"MedR takes no cut-off\."),
        ("mAP@5[aspect=negation]", r"asks for a slice"),
    ],
)
def test_what_is_no_metric_at_a_cut_off_is_refused(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        read_measures([text])


def test_numbers_are_kept_apart_from_those_of_the_protocol_and_change_nothing_else(run: Run) -> None:
    kept = keep_additional(run, read_measures(["Recall@20,MRR,MedR"]))
    again = load_run(run.folder)
    assert again.result.additional == kept.result.additional
    assert [(each.label, each.unit) for each in again.result.additional] == [
        ("Recall@20", "%"),
        ("MRR", "%"),
        ("MedR", "rank"),
    ]
    assert again.result.metrics == run.result.metrics
    assert again.result.digest == run.result.digest and again.result.protocol == run.result.protocol
    best_Q = [row.min() for row in again.ranks]
    recall, reciprocal, median = again.result.additional
    firsts_Q = np.array([row[0] for row in again.ranks])
    assert recall.value == pytest.approx(100 * np.mean(firsts_Q <= 20))
    assert reciprocal.value == pytest.approx(100 * np.mean(1 / np.array(best_Q)))
    assert median.value == np.median(best_Q)
    assert all(each.low <= each.value <= each.high for each in again.result.additional)
    assert [each.label for each in keep_additional(again, read_measures(["nDCG@10"])).result.additional] == [
        *("Recall@20", "MRR", "MedR", "nDCG@10")
    ]


def test_soft_labels_are_needed_and_not_invented(run: Run) -> None:
    with pytest.raises(UsageError, match="Recall_soft@5 needs soft labels, and there are none here"):
        keep_additional(run, read_measures(["Recall_soft@5"]))


def test_runs_are_compared_on_a_number_that_neither_reports(run: Run, tmp_path: Path) -> None:
    other = keep_run(scenes_protocol("tiny"), tmp_path, "other", skill=0.5)
    standings = compare_runs([run, other], label="nDCG@7")
    assert standings.label == "nDCG@7"
    assert run.values.keys() == load_run(run.folder).values.keys()
    with pytest.raises(UsageError, match="compared on means of fractions, and MedR is a median"):
        compare_runs([run, other], label="MedR")
    with pytest.raises(UnknownName, match="'nDCGG@7'"):
        compare_runs([run, other], label="nDCGG@7")


def test_score_takes_them_of_lists_as_deep_as_the_lists_go(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    protocol = scenes_protocol("tiny")
    assert protocol.gallery is not None
    ids = protocol.gallery.ids
    lines = [
        json.dumps({"query_id": query.id, "ranking": [name for name in ids if name != query.reference.id][:60]})
        for query in protocol.queries
    ]
    (tmp_path / "lists.jsonl").write_text("\n".join(lines))
    score = ["score", "-d", "scenes", "--split", "tiny", "--predictions", str(tmp_path / "lists.jsonl")]
    assert cli.execute([*score, "--metric", "Recall@60", "--json"]) == 0
    (value,) = json.loads(capsys.readouterr().out)["additional"]
    assert value["label"] == "Recall@60" and value["n"] == len(protocol.queries)
    assert cli.execute([*score, "--metric", "Recall@60,MRR@20"]) == 0
    out = capsys.readouterr().out
    assert "Additional metrics" in out and "MRR@20" in out
    assert cli.execute([*score, "--by", "aspect", "--metric", "Recall@60", "--json"]) == 0
    labels = [value["label"] for value in json.loads(capsys.readouterr().out)["additional"]]
    assert labels[:2] == ["Recall@60", "Recall@60[mean over aspect]"] and "Recall@60[aspect=negation]" in labels
    assert cli.execute([*score, "--by", "aspct"]) == 2
    assert "There is no label of the queries of scenes/tiny@1 called 'aspct'" in capsys.readouterr().err
    assert cli.execute([*score, "--metric", "Recall@61"]) == 2
    assert "Recall@61 looks behind the end of the lists: the shortest has 60 ids" in capsys.readouterr().err
    assert cli.execute([*score, "--metric", "mAP_full"]) == 2
    assert "mAP_full needs the full ranking, and the shortest list has 60 ids." in capsys.readouterr().err


def test_each_part_of_the_queries_has_its_number(run: Run) -> None:
    (asked,) = read_measures(["Recall@10"], "aspect")
    kept = keep_additional(run, [asked])
    mean, *parts = kept.result.additional
    assert mean.label == "Recall@10[mean over aspect]"
    assert mean.value == pytest.approx(np.mean([part.value for part in parts]))
    protocol = scenes_protocol("tiny")
    assert dict(run.slices) == dict(protocol.slices)
    firsts_Q = np.array([row[0] for row in run.ranks])
    for part in parts:
        name = part.label.removeprefix("Recall@10[aspect=").removesuffix("]")
        inside_Q = np.array([name in labels for labels in protocol.slices["aspect"]])
        assert part.value == pytest.approx(100 * np.mean(firsts_Q[inside_Q] <= 10))
        assert part.n == inside_Q.sum()
    (median,) = read_measures(["MedR"], "aspect")
    labels = [each.label for each in keep_additional(run, [median]).result.additional]
    assert "MedR[mean over aspect]" not in labels and "MedR[aspect=negation]" in labels
    with pytest.raises(UnknownName, match="no label of these queries called 'aspct'"):
        keep_additional(run, read_measures(["MRR"], "aspct"))


def test_runs_are_compared_on_a_part_that_neither_reports(run: Run, tmp_path: Path) -> None:
    other = keep_run(scenes_protocol("tiny"), tmp_path, "other", skill=0.5)
    assert compare_runs([run, other], label="nDCG@7[aspect=negation]").label == "nDCG@7[aspect=negation]"
    assert compare_runs([run, other], label="nDCG@7[mean over aspect]").label == "nDCG@7[mean over aspect]"
    with pytest.raises(UnknownName, match="negat"):
        compare_runs([run, other], label="nDCG@7[aspect=negatio]")


def test_compare_lays_out_each_part_of_the_queries(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = keep_run(scenes_protocol("tiny"), tmp_path, "other", skill=0.5)
    command = ["compare", str(run.folder), str(other.folder)]
    assert cli.execute([*command, "--by", "aspect", "--metric", "Recall@3", "--format", "csv"]) == 0
    header = capsys.readouterr().out.split("\n")[0]
    assert "Recall@3[mean over aspect]" in header and "Recall@3[aspect=negation]" in header
    assert cli.execute([*command, "--by", "aspct"]) == 2
    assert "called 'aspct'.\nNearest: aspect" in capsys.readouterr().err


@pytest.mark.slow
def test_run_takes_them_of_a_finished_run_without_running_it_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["run", "--method", "image-only", "-d", "scenes", "--split", "tiny", "--limit", "8", "-o", str(tmp_path)]
    assert cli.execute(run) == 0
    assert cli.execute([*run, "--metric", "Recall@100,MedR"]) == 0
    captured = capsys.readouterr()
    assert "Recall@100" in captured.out and "MedR (rank)" in captured.out
    assert "reused" in captured.err
    assert cli.execute([*run, "--metric", "Recal@100"]) == 2
