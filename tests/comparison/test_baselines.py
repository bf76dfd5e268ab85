"""The baselines of a run are those on its own ground, wherever they lie."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cirbench.comparison.baselines import Unimodal, baselines_beside, diagnose, unimodal_of
from cirbench.comparison.tables import diagnostics_table
from cirbench.metrics.paired import compare_all
from cirbench.support import memo
from tests.comparison.folders import keep_run
from tests.comparison.runs import run_of
from tests.toy_protocols import circo_like, fashioniq_like

if TYPE_CHECKING:
    from pathlib import Path

PLI = run_of("pli", {"Recall@1": [1, 0, 1, 0]})
IMAGE = run_of("image-only", {"Recall@1": [1, 0, 0, 0]})
TEXT = run_of("text-only", {"Recall@1": [0, 0, 0, 1]})


def test_both_sides_are_found_among_other_runs() -> None:
    found = unimodal_of(PLI, [PLI, TEXT, IMAGE], "Recall@1")
    assert found == Unimodal(IMAGE, TEXT, "Recall@1")
    assert (found.answered, found.image_hits, found.text_hits, found.composition) == (4, 1, 1, 2)
    assert found.composition_Q.tolist() == [False, True, True, False]


@pytest.mark.parametrize(
    "other",
    [
        run_of("text-only", {"Recall@1": [0, 0, 0, 1]}, backbone="large"),
        run_of("text-only", {"Recall@1": [0, 0, 0, 1]}, digest="1" * 64),
        run_of("text-only", {"Recall@1": [0, 0, 0, 1]}, queries=["w", "x", "y", "z"]),
        run_of("text-only", {"Recall@5": [0, 0, 0, 1]}),
        run_of("image-text", {"Recall@1": [0, 0, 0, 1]}),
    ],
    ids=["another backbone", "another protocol", "other queries", "another number", "another method"],
)
def test_a_run_on_other_ground_is_not_a_baseline(other: object) -> None:
    assert unimodal_of(PLI, [IMAGE, other], "Recall@1") is None  # type: ignore[list-item]


def test_queries_without_an_answer_are_neither_hits_nor_in_the_composition_subset() -> None:
    nan = float("nan")
    image, text = run_of("image-only", {"Recall@1": [nan, 0, 1]}), run_of("text-only", {"Recall@1": [nan, 0, 0]})
    found = Unimodal(image, text, "Recall@1")
    assert (found.answered, found.composition) == (2, 1)
    (diagnosis,) = diagnose([run_of("pli", {"Recall@1": [nan, 1, 0]})], found)
    assert diagnosis.composition is not None and diagnosis.composition.value == 100


def test_a_number_on_the_composition_subset_is_the_mean_over_it_with_an_interval_around_it() -> None:
    generator = np.random.default_rng(0)
    image, text, pli = (
        run_of(name, {"mAP@5": generator.random(200) * (generator.random(200) < 0.3)})
        for name in ("image-only", "text-only", "pli")
    )
    one = Unimodal(image, text, "mAP@5")
    (found,) = diagnose([pli], one)
    assert found.composition is not None
    assert found.composition.value == pytest.approx(100 * pli.values["mAP@5"][one.composition_Q].mean())
    assert found.composition.low < found.composition.value < found.composition.high
    assert found.gain is not None
    assert 100 * found.gain.difference == pytest.approx(pli.result["mAP@5"].value - one.better.result["mAP@5"].value)


def test_baselines_that_lie_beside_a_run_are_loaded_and_damaged_ones_left_out(tmp_path: Path) -> None:
    protocol = circo_like(40, 120)
    pli = keep_run(protocol, tmp_path, "pli", skill=1.0)
    for at, method in enumerate(("image-only", "text-only")):
        keep_run(protocol, tmp_path, method, seed=at + 1)
    assert [run.result.method.name for run in baselines_beside(pli)] == ["image-only", "text-only"]
    (tmp_path / "text-only-00000000" / "per_query.npz").write_bytes(b"else")
    assert [run.result.method.name for run in baselines_beside(pli)] == ["image-only"]
    assert diagnostics_table([("pli", pli)], "mAP@5") is None


def test_a_mean_over_categories_has_diagnostics_too(tmp_path: Path) -> None:
    protocol = fashioniq_like()
    runs = [
        keep_run(protocol, tmp_path, method, skill=at * 0.5, seed=at)
        for at, method in enumerate(("text-only", "image-only", "pli"))
    ]
    label = runs[0].result.metrics[0].label
    assert label == "Recall@10[mean over category]"
    table = diagnostics_table([("pli", runs[2])], label)
    assert table is not None
    (row,) = table.rows
    expected = runs[2].result[label].value - max(run.result[label].value for run in runs[:2])
    assert str(row[2]).startswith(f"{expected:+.2f} [")


def test_a_diagnosis_is_recalled_for_the_same_numbers_only(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(1)
    columns = [(generator.random(60) < share).astype(float) for share in (0.3, 0.3, 0.4, 0.5)]
    image, text, pli, other = (
        run_of(name, {"Recall@1": values})
        for name, values in zip(("image-only", "text-only", "pli", "pli"), columns, strict=True)
    )
    unimodal = Unimodal(image, text, "Recall@1")
    tested = []

    def counting(*arguments: Any, **settings: Any) -> Any:
        tested.append(arguments)
        return compare_all(*arguments, **settings)

    monkeypatch.setattr("cirbench.metrics.paired.compare_all", counting)
    first = diagnose([pli, other], unimodal)
    assert (len(tested), first[0] == first[1]) == (1, False)
    assert (diagnose([pli, other], unimodal), len(tested)) == (first, 1)
    with memo.by_content():
        assert (diagnose([pli], unimodal), len(tested)) == (first[:1], 2)
    clustered = dataclasses.replace(pli, clusters=tuple(f"cluster {at // 2}" for at in range(60)))
    assert diagnose([clustered], unimodal)[0].composition != first[0].composition
