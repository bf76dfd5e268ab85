"""Scores equal a naive implementation of the definitions, and the published ones on the official example."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cirbench.benchmarks.circo import ASPECTS, circo_protocol, load
from cirbench.errors import InvalidPredictions, UsageError
from cirbench.metrics.table import NO_CUTOFF, Measure
from cirbench.ranking import rank, ranking_task
from cirbench.runs.predictions.features import Features
from cirbench.runs.predictions.lists import RankedLists, read_rankings, write_jsonl
from tests.circo_files import expected, labelled_rows, write
from tests.runs.predictions.protocols import score_features, score_lists, small_protocol, with_groups

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from cirbench.protocol import EvaluationProtocol
    from cirbench.runs.predictions.score import Score
    from tests.circo_files import Rows

GOLDEN = {
    "mAP@5": 0.4861,
    "mAP@10": 0.5178,
    "mAP@25": 0.5400,
    "mAP@50": 0.6020,
    "Recall@5": 0.9091,
    "Recall@10": 0.9091,
    "Recall@25": 1.3636,
    "Recall@50": 3.6364,
    "mAP@10[aspect=cardinality]": 0.0000,
    "mAP@10[aspect=addition]": 0.0871,
    "mAP@10[aspect=negation]": 0.0000,
    "mAP@10[aspect=direct_addressing]": 0.9197,
    "mAP@10[aspect=compare_change]": 0.0242,
    "mAP@10[aspect=comparative_statement]": 1.0500,
    "mAP@10[aspect=statement_with_conjunction]": 0.6183,
    "mAP@10[aspect=spatial_relations_background]": 0.1808,
    "mAP@10[aspect=viewpoint]": 0.6173,
}
"""Percent, of CIRCO's example submission for val, by an independent implementation."""


def naive_ranking(query_D: NDArray[np.float64], gallery_ND: NDArray[np.float64], ids: list[str]) -> list[str]:
    """Sort everything by cosine, then by the sha256 of the id."""
    scores = [float(query_D @ row / (np.linalg.norm(query_D) * np.linalg.norm(row))) for row in gallery_ND]
    keys = [(-score, hashlib.sha256(name.encode()).hexdigest(), name) for score, name in zip(scores, ids, strict=True)]
    return [name for _, _, name in sorted(keys)]


def naive_average_precision(ranking: list[str], relevant: list[str], k: int) -> float:
    total = 0.0
    for place in range(1, k + 1):
        if ranking[place - 1] in relevant:
            total += len(set(ranking[:place]) & set(relevant)) / place
    return total / min(len(relevant), k)


def naive_scores(rankings: list[list[str]], rows: Rows) -> dict[str, float]:
    truth = [[str(image) for image in row["gt_img_ids"]] for row in rows]
    pairs = list(zip(rankings, truth, strict=True))
    scores = {}
    for k in (5, 10, 25, 50):
        scores[f"mAP@{k}"] = sum(naive_average_precision(*pair, k) for pair in pairs) / len(pairs)
        scores[f"Recall@{k}"] = sum(relevant[0] in ranking[:k] for ranking, relevant in pairs) / len(pairs)
    for aspect in ASPECTS:
        part = [pair for pair, row in zip(pairs, rows, strict=True) if aspect in row["semantic_aspects"]]
        if part:
            value = sum(naive_average_precision(*pair, 10) for pair in part) / len(part)
            scores[f"mAP@10[aspect={aspect}]"] = value
    return scores


def values(score: Score) -> dict[str, float]:
    return {measured.label: measured.value for measured in score.measurements}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("at_hand", [True, False], ids=["gallery available", "gallery not available"])
def test_random_features_score_as_the_definitions_say(tmp_path: Path, seed: int, at_hand: bool) -> None:
    rows, gallery = labelled_rows(25, images=200, seed=seed)
    write(tmp_path, rows, gallery if at_hand else None)
    protocol = load("val", tmp_path, expected(rows, len(gallery)))
    generator = np.random.default_rng(seed)
    queries_QD, gallery_ND = generator.normal(size=(25, 16)), generator.normal(size=(200, 16))
    ids = [str(image) for image in gallery]
    sides = {"queries": (queries_QD, [str(row["id"]) for row in rows]), "gallery": (gallery_ND, ids)}
    for name, (features, names) in sides.items():
        np.save(tmp_path / f"{name}.npy", features)
        (tmp_path / f"{name}.json").write_text(json.dumps(names))
    files = [Features(tmp_path / f"{name}.npy", tmp_path / f"{name}.json") for name in sides]
    score = score_features(files[0], files[1], protocol)
    rankings = [naive_ranking(query_D, gallery_ND, ids) for query_D in queries_QD]
    assert values(score) == pytest.approx(naive_scores(rankings, rows), abs=1e-12)
    assert score.tied_relevant == 0
    lists = RankedLists("file", {str(number): tuple(ranking[:50]) for number, ranking in enumerate(rankings)})
    assert values(score_lists(lists, protocol)) == values(score)


def test_what_a_run_writes_scores_as_the_run_did(tmp_path: Path) -> None:
    protocol = with_groups(small_protocol(queries=6, images=30))
    generator = np.random.default_rng(3)
    queries_QD, gallery_ND = (generator.normal(size=(n, 4)).astype(np.float32) for n in (6, 30))
    ranking = rank(queries_QD, gallery_ND, ranking_task(protocol))
    write_jsonl(tmp_path / "a.jsonl", protocol, ranking)
    score = score_lists(read_rankings(tmp_path / "a.jsonl"), protocol)
    assert score.not_measured == ()
    assert values(score)["Recall_subset@2"] == np.mean(np.asarray(ranking.group_ranks_Q) <= 2)
    first_Q = ranking.relevant_ranks.values[ranking.relevant_ranks.offsets[:-1]]
    assert values(score)["Recall@5"] == np.mean(first_Q <= 5)


def lists_of(protocol: EvaluationProtocol) -> RankedLists:
    return RankedLists("file", {query.id: tuple(str(100 + n) for n in range(9)) for query in protocol.queries})


def test_lists_that_hold_too_few_of_a_group_leave_subset_recall_unmeasured() -> None:
    protocol = with_groups(small_protocol(images=30))
    far = RankedLists("file", {query.id: tuple(str(110 + n) for n in range(9)) for query in protocol.queries})
    score = score_lists(far, protocol)
    assert [str(measure) for measure in score.not_measured] == ["Recall_subset@2"]
    assert "Recall_subset@2" not in values(score)


def test_what_lies_deeper_than_the_deepest_measure_changes_nothing() -> None:
    protocol = small_protocol()
    lists = lists_of(protocol)
    short = dataclasses.replace(lists, rankings={query: ids[:5] for query, ids in lists.rankings.items()})
    assert values(score_lists(lists, protocol)) == values(score_lists(short, protocol))


def test_intervals_hold_their_values() -> None:
    protocol = small_protocol()
    score = score_lists(lists_of(protocol), protocol)
    for measured, interval in zip(score.measurements, score.intervals, strict=True):
        assert 0 <= interval.low <= measured.value <= interval.high <= 1


def test_hidden_labels_cannot_be_scored() -> None:
    protocol = dataclasses.replace(small_protocol(), labels=None)
    with pytest.raises(UsageError, match="its ground truths are not available"):
        score_lists(lists_of(protocol), protocol)


def test_the_official_example_gives_the_official_numbers(annotation_root: Path) -> None:
    example = annotation_root / "circo" / "submission_examples" / "submission_val.json"
    if not example.is_file():
        pytest.skip(f"{annotation_root} has no circo/submission_examples/submission_val.json")
    score = score_lists(read_rankings(example), circo_protocol("val", annotation_root))
    assert list(values(score)) == list(GOLDEN)
    assert {label: round(100 * value, 4) for label, value in values(score).items()} == GOLDEN
    counts = {m.label: m.count for m in score.measurements}
    assert [counts[f"mAP@10[aspect={name}]"] for name in ASPECTS] == [37, 80, 21, 119, 86, 50, 164, 100, 54]


def test_measures_of_the_whole_ranking_ask_for_the_whole_ranking() -> None:
    protocol = small_protocol(depth=2)
    assert protocol.gallery is not None
    ids = protocol.gallery.ids  # the ground truths of query i are the items i + 1 and i + 2
    asked = (*protocol.measures, Measure("mAP_full", NO_CUTOFF), Measure("mAP_trapezoidal", NO_CUTOFF))
    protocol = dataclasses.replace(protocol, measures=asked)
    assert protocol.depth == 50

    def lists(length: int) -> RankedLists:
        return RankedLists("mine", {query.id: ids[:length] for query in protocol.queries})

    whole = {each.label: each.value for each in score_lists(lists(len(ids)), protocol).measurements}
    assert whole["mAP_full"] == pytest.approx(np.mean([(1 / (2 + at) + 2 / (3 + at)) / 2 for at in range(3)]))
    area = [(1 / (2 + at) / 2 + (2 / (3 + at) + 1 / (2 + at)) / 2) / 2 for at in range(3)]
    assert whole["mAP_trapezoidal"] == pytest.approx(np.mean(area))
    cut = score_lists(lists(4), protocol)
    assert [str(each) for each in cut.not_measured] == ["mAP_full", "mAP_trapezoidal"]
    assert {each.label for each in cut.measurements} == {"mAP@2", "Recall@1", "Recall@2"}
    alone = dataclasses.replace(protocol, measures=asked[-1:])
    message = "mAP_trapezoidal of small/val@1 needs the full ranking; .* the shortest of which has 4 ids"
    with pytest.raises(InvalidPredictions, match=message):
        score_lists(lists(4), alone)
