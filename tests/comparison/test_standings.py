"""Runs are compared only where they may be, in pairs, and without an order that the queries do not show."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from cirbench.comparison.baselines import Diagnosis
from cirbench.comparison.differences import run_names
from cirbench.comparison.report import overview_table
from cirbench.comparison.standings import compare_runs
from cirbench.comparison.tables import bar, diagnostics_table, slices_table, standings_table
from cirbench.errors import UnknownName, UsageError
from cirbench.support.tables import Number
from cirbench.support.tables.formats import FORMATS, render
from tests.comparison.runs import run_of

if TYPE_CHECKING:
    from cirbench.runs.folder import Run
    from cirbench.runs.schema import MethodRecord

GENERATOR = np.random.default_rng(3)
BASE = GENERATOR.random(120) * 0.5
GOOD = run_of("good", {"mAP@5": BASE + 0.3, "mAP@10": BASE}, folder="runs/good")
EQUAL = run_of("equal", {"mAP@5": BASE + 0.3 + GENERATOR.normal(0, 0.1, 120), "mAP@10": BASE}, folder="runs/equal")
BAD = run_of("bad", {"mAP@5": BASE, "mAP@10": BASE + 0.1}, folder="runs/bad")


def test_runs_that_cannot_be_told_apart_share_their_ranks_and_their_mark() -> None:
    rows = {row.name: row for row in compare_runs([BAD, GOOD, EQUAL]).rows}
    assert {name: str(row.place) for name, row in rows.items()} == {"good": "1-2", "equal": "1-2", "bad": "3"}
    assert {name: row.mark for name, row in rows.items()} == {"good": "best", "equal": "best", "bad": "second"}


def test_where_nothing_can_be_told_apart_nothing_is_marked() -> None:
    assert {row.mark for row in compare_runs([GOOD, EQUAL]).rows} == {""}


def test_differences_are_taken_to_the_baseline() -> None:
    standings = compare_runs([BAD, GOOD, EQUAL], baseline=1)
    assert standings.baseline.name == "good" and standings.baseline.against is None
    (bad,) = [row for row in standings.rows if row.name == "bad"]
    assert bad.against is not None
    assert bad.against.difference == pytest.approx(-0.3)
    assert (bad.against.wins, bad.against.ties, bad.against.losses) == (0, 0, 120)


def test_another_number_than_the_headline_may_rank_differently() -> None:
    assert [row.name for row in compare_runs([GOOD, BAD]).by_value()] == ["good", "bad"]
    assert [row.name for row in compare_runs([GOOD, BAD], label="mAP@10").by_value()] == ["bad", "good"]


def test_a_number_that_no_run_reports_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"no metric of runs/good called 'mAQ@5'.\nNearest: mAP@"):
        compare_runs([GOOD, BAD], label="mAQ@5")


def test_one_run_is_no_comparison() -> None:
    with pytest.raises(UsageError, match="One run has nothing to be compared with"):
        compare_runs([GOOD])


def test_runs_of_other_protocols_are_refused_by_the_fields_that_differ() -> None:
    one = run_of("a", {"Recall@1": [1, 0]}, digest="1" * 64, fields={"captions": "as annotated", "labels": "a" * 64})
    other = run_of("b", {"Recall@1": [1, 0]}, digest="2" * 64, fields={"captions": "shared", "labels": "b" * 64})
    with pytest.raises(UsageError) as error:
        compare_runs([one, other])
    assert error.value.message == (
        "a and b were not obtained in the same way: toy@1 (11111111) and toy@1 (22222222) differ in "
        "captions ('as annotated' against 'shared'), labels."
    )


def test_a_protocol_digest_without_differing_fields_is_refused_too() -> None:
    with pytest.raises(UsageError, match="differ in digest"):
        compare_runs(
            [run_of("a", {"Recall@1": [1, 0]}, digest="1" * 64), run_of("b", {"Recall@1": [1, 0]}, digest="2" * 64)]
        )


def test_other_data_under_the_same_ids_are_marked() -> None:
    one = run_of("a", {"Recall@1": [1, 0]}, digest="1" * 64, fields={"data": "1" * 64, "labels": "x"})
    other = run_of("b", {"Recall@1": [1, 1]}, digest="2" * 64, fields={"data": "2" * 64, "labels": "x"})
    (remark,) = compare_runs([one, other]).remarks
    assert remark == "b ran on other data than a: the same ids, and another content behind them."


def test_differing_backbones_are_marked_and_shown() -> None:
    standings = compare_runs([GOOD, run_of("bad", {"mAP@5": BASE}, backbone="large", folder="x")])
    assert "The backbones differ (tiny tiny, large large)" in standings.remarks[0]
    table = standings_table(standings)
    assert [column.key for column in table.columns][1] == "backbone"
    assert "tiny" not in table.title


def test_a_partial_run_is_marked_and_one_on_other_queries_is_not_compared() -> None:
    partial = run_of("pli", {"mAP@5": BASE[:5]}, expected=120, folder="runs/partial")
    standings = compare_runs([GOOD, BAD, partial])
    (row,) = [row for row in standings.rows if row.name == "pli"]
    assert (row.place, row.against) == (None, None)
    assert standings.by_value()[-1] is row
    assert standings.remarks == (
        "pli is partial: queries 5/120, gallery 9/9.",
        "pli was scored on other queries than good, so it is shown and not compared.",
    )
    assert "pli (partial)" in render(standings_table(standings), "rich")


def test_partial_runs_on_the_same_queries_are_compared_and_marked() -> None:
    runs = [run_of(name, {"mAP@5": BASE[:9] + at}, expected=120) for at, name in enumerate(("a", "b"))]
    standings = compare_runs(runs)
    assert len(standings.pairs) == 1 and len(standings.remarks) == 2


def test_runs_whose_ground_truths_are_hidden_have_nothing_to_compare() -> None:
    hidden = dataclasses.replace(GOOD, result=msgspec.structs.replace(GOOD.result, metrics=[]))
    with pytest.raises(UsageError, match="the ground truths of toy@1 are not available"):
        compare_runs([hidden, hidden])


def test_runs_of_one_method_are_named_by_the_settings_that_differ() -> None:
    values = {"mAP@5": [0.5]}
    one, other = (run_of("pli", values, parameters={"weight": weight, "prompt": "{}"}) for weight in (0.5, 1.0))
    assert run_names([one, other, run_of("image-only", values)]) == ("pli weight=0.5", "pli weight=1.0", "image-only")


def test_runs_of_one_method_on_other_training_data_are_named_by_the_data() -> None:
    values = {"mAP@5": [0.5]}
    one, other = (run_of("lincir", values, trained_on=data) for data in ("scenes", "texts.txt"))
    assert run_names([one, other]) == ("lincir data=scenes", "lincir data=texts.txt")


def test_runs_that_differ_in_nothing_that_was_set_are_named_by_their_folders() -> None:
    values = {"mAP@5": [0.5]}
    assert run_names([run_of("pli", values, folder="runs/pli-1"), run_of("pli", values, folder="runs/pli-2")]) == (
        "pli (pli-1)",
        "pli (pli-2)",
    )


def test_the_table_says_how_sure_everything_is() -> None:
    table = standings_table(compare_runs([BAD, GOOD, EQUAL]))
    keys = [column.key for column in table.columns]
    assert keys == ["run", "rank", "value", "difference", "p", "wins", "ties", "losses"]
    (row,) = [row for row in table.rows if row[0] == "good"]
    cells = dict(zip(keys, row, strict=True))
    assert isinstance(cells["difference"], Number) and isinstance(cells["p"], Number)
    assert cells["difference"].text == "+30.00" and 0 < cells["p"].value <= 3 / 10_001
    assert "after Holm's correction over all 3 pairs" in table.caption
    assert "Minimum detectable effect at 80 % power:" in table.notes[1]
    assert "120" not in table.caption  # each query stands for itself


@pytest.mark.parametrize("form", FORMATS)
def test_a_hostile_method_name_reaches_no_form_alive(form: str) -> None:
    name = "\x1b[31m<script>|$x$=1"
    shown = render(standings_table(compare_runs([run_of(name, {"mAP@5": BASE}), GOOD])), form)
    assert "\x1b" not in shown
    assert form not in ("html", "md") or "<script" not in shown
    printed = [line for line in shown.splitlines() if not line.startswith("%")]
    assert form != "latex" or "$x$" not in "".join(printed)


def test_diagnostics_look_at_the_baselines_on_the_runs_own_backbone() -> None:
    runs = []
    for backbone, image in (("small", [1, 0, 0, 0]), ("large", [1, 1, 0, 0])):
        for name, values in (("image-only", image), ("text-only", [0, 0, 0, 0]), ("pli", [1, 1, 1, 0])):
            runs.append(run_of(name, {"Recall@1": values}, backbone=backbone, folder=f"{backbone}/{name}"))
    table = diagnostics_table([(str(run.folder), run) for run in runs], "Recall@1")
    assert table is not None
    keys = [column.key for column in table.columns]
    cells = {row[0]: dict(zip(keys, map(str, row), strict=True)) for row in table.rows}
    assert cells["small/pli"]["gain"].startswith("+50.00") and cells["large/pli"]["gain"].startswith("+25.00")
    assert cells["small/pli"]["composition"].startswith("66.67") and cells["large/pli"]["composition"].startswith(
        "50.00"
    )
    assert (cells["small/pli"]["composition_queries"], cells["large/pli"]["composition_queries"]) == ("3", "2")
    assert (cells["large/pli"]["image_hits"], cells["large/pli"]["text_hits"]) == ("50.00", "0.00")


def test_without_baselines_there_are_no_diagnostics() -> None:
    assert diagnostics_table([("good", GOOD)], "mAP@5") is None


def test_slices_stand_run_by_run_with_a_bar_each() -> None:
    values = {"mAP@10": [0.5, 1.0], "mAP@10[aspect=a=b]": [0.5, float("nan")]}
    table = slices_table(["x", "y"], [run_of("x", values), run_of("y", values)], bars=True)
    assert table is not None
    assert [row[0] for row in table.rows] == ["mAP@10 aspect=a=b", ""]
    assert table.rows[0][-1] == "██████████"
    assert slices_table(["x"], [run_of("x", {"mAP@10": [0.5]})]) is None


@pytest.mark.parametrize(("percent", "drawn"), [(0, ""), (100, "█" * 20), (50, "█" * 10), (52.5, "█" * 10 + "▌")])
def test_a_bar_is_as_long_as_its_number(percent: float, drawn: str) -> None:
    assert bar(percent) == drawn


def test_a_transductive_run_gives_every_table_of_it_a_column() -> None:
    seen = dataclasses.replace(GOOD, result=msgspec.structs.replace(GOOD.result, method=_transductive(GOOD)))
    standings = compare_runs([BAD, seen])
    for table in (
        standings_table(standings),
        overview_table([BAD, seen], standings, None, [Diagnosis(None, None)] * 2),
    ):
        at = [column.key for column in table.columns].index("transductive")
        assert {row[0]: row[at] for row in table.rows} == {"bad": "no", "good": "yes"}
        assert any(note.startswith("Transductive: ") for note in table.notes)
    assert "transductive" not in render(standings_table(compare_runs([BAD, GOOD])), "md")


def _transductive(run: Run) -> MethodRecord:
    return msgspec.structs.replace(run.result.method, transductive="yes")
