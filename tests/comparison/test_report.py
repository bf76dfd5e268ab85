"""What `cirbench run` shows: each run beside the baselines on its backbone, and what they say about it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cirbench.comparison.report import Report
from cirbench.comparison.standings import Standings, compare_runs
from cirbench.support.tables import Number
from tests.comparison.runs import run_of, with_metric

IMAGE = run_of("image-only", {"mAP@5": [0.1, 0.1, 0.0, 0.0]})
TEXT = run_of("text-only", {"mAP@5": [0.8, 0.0, 0.0, 0.0]})
PLAIN = run_of("image-text", {"mAP@5": [0.5, 0.5, 0.6, 0.2]})
PLI = run_of("pli", {"mAP@5": [0.6, 0.6, 0.7, 0.3]})
REPORT = Report((IMAGE, TEXT, PLAIN, PLI), ("pli",))


def cell(report: Report, method: str, key: str) -> str | Number | None:
    (row,) = [row for row in report.table.rows if row[0] == method]
    return row[[column.key for column in report.table.columns].index(key)]


def test_the_gain_is_over_the_better_of_the_two_unimodal_baselines() -> None:
    assert cell(REPORT, "image-only", "gain") is None and cell(REPORT, "text-only", "gain") is None
    gain = cell(REPORT, "image-text", "gain")
    assert isinstance(gain, Number) and gain.text == "+25.00"  # text-only has 20 %
    assert REPORT.unimodal is not None and REPORT.unimodal.better is TEXT


def test_the_composition_subset_is_a_number_of_its_own_and_is_defined() -> None:
    """Neither baseline has a hit for the third and the fourth; there image-text has 0.6 and 0.2, pli 0.7 and 0.3."""
    found = [cell(REPORT, method, "composition") for method in ("image-only", "image-text", "pli")]
    assert found[0] is None
    assert [number.text for number in found[1:] if isinstance(number, Number)] == ["40.00", "50.00"]
    note = REPORT.table.notes[0]
    assert "2 (50.0 %) have a hit in the top 5 by the reference image alone, 1 (25.0 %) by the caption alone" in note
    assert "Composition subset: the queries on which neither" in note and "It has 2." in note


def test_the_family_of_tests_is_that_of_compare_for_the_same_runs_whatever_the_order_and_the_baseline() -> None:
    generator = np.random.default_rng(1)
    runs = [run_of(name, {"mAP@5": generator.random(80)}) for name in ("image-only", "text-only", "image-text", "pli")]

    def p_values(standings: Standings) -> dict[frozenset[str], tuple[float, float]]:
        names = [row.name for row in standings.rows]
        return {
            frozenset((names[pair.first], names[pair.second])): (pair.p_value, pair.corrected)
            for pair in standings.pairs
        }

    report = Report(tuple(runs), ("pli",))
    assert report.standings is not None
    assert p_values(report.standings) == p_values(compare_runs(runs[::-1], baseline=2))
    assert "after Holm's correction over all 6 pairs of these runs" in report.table.caption


def test_a_method_is_tested_against_the_sum_without_training() -> None:
    against = cell(REPORT, "pli", "plain")
    assert isinstance(against, Number)
    assert str(against).startswith("+10.00 [")
    assert cell(REPORT, "image-text", "plain") is None


def test_an_empty_composition_subset_has_no_number() -> None:
    report = Report((run_of("image-only", {"Recall@1": [1, 1]}), run_of("text-only", {"Recall@1": [0, 0]}), PLI), ())
    report = Report((*report.runs[:2], run_of("pli", {"Recall@1": [1, 0]})), ("pli",))
    assert cell(report, "pli", "composition") is None
    assert json.loads(report.as_json())["diagnostics"]["composition_subset"] == 0


def test_a_method_without_baselines_beside_it_stands_alone() -> None:
    report = Report((PLI,), ("pli",))
    assert [column.key for column in report.table.columns] == ["method", "headline"]
    content = json.loads(report.as_json())
    assert (content["comparisons"], content["diagnostics"]) == ([], None)


def test_json_holds_every_pair_and_every_diagnosis() -> None:
    content = json.loads(REPORT.as_json())
    assert len(content["comparisons"]) == 6
    (pair,) = [pair for pair in content["comparisons"] if {pair["first"], pair["second"]} == {"image-text", "pli"}]
    assert pair["difference"] == pytest.approx(-10) and pair["p_holm"] >= pair["p_value"] > 0
    assert (pair["wins"], pair["ties"], pair["losses"]) == (0, 0, 4)
    diagnostics = content["diagnostics"]
    assert (diagnostics["image_only_hits"], diagnostics["text_only_hits"]) == (2, 1)
    assert [row["composition"] and row["composition"]["value"] for row in diagnostics["runs"]] == [None, None, 40, 50]


def test_a_mean_over_slices_is_compared_as_such() -> None:
    """Three queries of one slice must not outweigh the one of the other."""
    nan = float("nan")
    values = {
        "Recall@10[mean over category]": [1.0, 1.0, 1.0, 0.0],
        "Recall@10[category=dress]": [1.0, 1.0, 1.0, nan],
        "Recall@10[category=shirt]": [nan, nan, nan, 0.0],
    }
    zero = {label: [0.0 if value == value else value for value in row] for label, row in values.items()}
    sides = [run_of(name, zero, headline=0.0) for name in ("image-only", "text-only", "image-text")]
    report = Report((*sides, run_of("pli", values, headline=50.0)), ("pli",))
    for key in ("gain", "plain"):
        assert str(cell(report, "pli", key)).startswith("+50.00 [")


def test_what_no_ranking_can_exceed_stands_below_the_methods_where_it_is_less_than_everything() -> None:
    run = run_of("pli", {"Hit_rate@10": [0.5, 0.5, 0.5, 0.5]})
    assert "at most" not in repr(Report((run,), ("pli",)))
    report = Report((with_metric(run, at_most=76.5),), ("pli",))
    (line,) = [line for line in repr(report).splitlines() if "at most" in line]
    assert "76.50" in line


def test_a_hostile_name_of_a_method_acts_nowhere() -> None:
    report = Report((run_of("\x1b[31m<b>[red]x", {"mAP@5": [0.5, 0.25]}),), ())
    assert "\x1b" not in repr(report) and r"\x1b[31m<b>[red]x" in repr(report)
    assert "\x1b" not in report.as_json()
    assert "<b>" not in report._repr_html_()


def test_numbers_of_a_report_are_those_of_its_results() -> None:
    generator = np.random.default_rng(0)
    runs = tuple(
        run_of(name, {"mAP@5": generator.random(60), "mAP@10": generator.random(60)})
        for name in ("image-only", "text-only", "image-text", "pli")
    )
    report = Report(runs, ())
    for run in runs:
        shown = cell(report, run.result.method.name, "mAP@10")
        assert isinstance(shown, Number) and shown.value == run.result["mAP@10"].value
