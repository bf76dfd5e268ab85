"""Runs that differ by nothing but the seed are one row: their mean, never each other's rivals."""

from __future__ import annotations

import json
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cirbench.comparison.report import Report
from cirbench.comparison.standings import compare_runs
from cirbench.comparison.tables import standings_table
from cirbench.metrics.intervals import intervals
from cirbench.runs.folder import combine, seeds_of
from cirbench.support.tables.formats import render
from tests.comparison.runs import run_of
from tests.metrics.measured import over_seeds

if TYPE_CHECKING:
    from cirbench.runs.folder import Run

GENERATOR = np.random.default_rng(5)
QUERIES = GENERATOR.random(150) * 0.6


def trained(seed: int, **changes: object) -> Run:
    """A run of a method that was trained with a seed; its queries differ a little, and so does its mean."""
    generator = np.random.default_rng(seed)
    values = np.clip(QUERIES + generator.normal(0.02 * seed, 0.1, 150), 0, 1)
    settings = {"training": {"lr": 1e-4, "seed": seed}, "seed": seed, "folder": f"runs/pli-{seed}"}
    return run_of("pli", {"mAP@5": values, "mAP@10": values / 2}, **{**settings, **changes})  # type: ignore[arg-type]


RUNS = [trained(seed) for seed in (0, 1, 2)]
PLAIN = run_of("image-text", {"mAP@5": QUERIES * 0.8, "mAP@10": QUERIES * 0.4}, folder="runs/image-text")


def test_three_seeds_are_one_row_with_mean_and_deviation() -> None:
    [row], places = combine(RUNS)
    numbers = [run.result["mAP@5"].value for run in RUNS]
    assert row.result["mAP@5"].value == pytest.approx(np.mean(numbers))
    assert row.sd("mAP@5") == pytest.approx(np.std(numbers, ddof=1))
    assert (places, seeds_of(row), row.replicates) == ([0, 0, 0], (0, 1, 2), tuple(RUNS))
    assert RUNS[0].sd("mAP@5") is None


def test_the_interval_covers_queries_and_seeds() -> None:
    [row], _ = combine(RUNS)
    values_SQ = np.stack([run.values["mAP@5"] for run in RUNS])
    measured = over_seeds("mAP@5", values_SQ)
    [both], [queries] = intervals([measured]), intervals([type(measured)("mAP@5", values_SQ.mean(axis=0))])
    assert (row.result["mAP@5"].low, row.result["mAP@5"].high) == pytest.approx((100 * both.low, 100 * both.high))
    assert both.high - both.low > queries.high - queries.low


@pytest.mark.parametrize(
    "other",
    [
        trained(1, parameters={"weight": 2.0}),
        trained(1, training={"lr": 1e-5, "seed": 1}),
        trained(1, trained_on="captions.csv"),
        trained(1, code="another"),
        trained(1, backbone="large"),
        trained(0, folder="runs/again"),
        trained(1, digest="1" * 64),
        trained(1, expected=200, queries=[f"q{at}" for at in range(150)]),
    ],
    ids=["parameter", "training", "data", "code", "backbone", "the same seed", "protocol", "queries"],
)
def test_only_what_differs_by_nothing_but_the_seed_is_a_replicate(other: Run) -> None:
    rows, places = combine([RUNS[0], other])
    assert (len(rows), places) == (2, [0, 1])
    assert not any(row.replicates for row in rows)


def test_a_seed_among_the_parameters_makes_replicates_too() -> None:
    runs = [run_of("oti", {"mAP@5": QUERIES + at / 10}, parameters={"seed": at, "steps": 9}) for at in range(3)]
    assert [seeds_of(row) for row in combine(runs)[0]] == [(0, 1, 2)]


def test_seeds_that_make_no_difference_make_no_replicates() -> None:
    runs = [run_of("image-text", {"mAP@5": QUERIES}, seed=seed, folder=f"runs/{seed}") for seed in range(3)]
    assert combine(runs) == ([runs[0]], [0, 0, 0])


def test_rows_are_tested_and_replicates_are_not() -> None:
    standings = compare_runs([*RUNS, PLAIN])
    assert [row.name for row in standings.rows] == ["pli", "image-text"]
    assert len(standings.pairs) == 1
    assert "pli is the mean over seeds 0, 1, 2; ± is their standard deviation." in standings.remarks
    shown = render(standings_table(standings), "md")
    assert "pli (3 seeds)" in shown and " ± " in shown and "over seeds where there are several" in shown


def test_one_method_under_several_seeds_is_a_table_of_one_row() -> None:
    standings = compare_runs(RUNS)
    assert (len(standings.rows), standings.pairs) == (1, ())
    assert render(standings_table(standings), "md").count("pli (3 seeds)") == 1


def test_the_baseline_may_be_any_of_the_replicates() -> None:
    assert compare_runs([PLAIN, *RUNS], baseline=2).baseline.name == "pli"


def test_the_order_of_runs_moves_no_p_value() -> None:
    found = {compare_runs(order).pairs[0].p_value for order in permutations([PLAIN, *RUNS])}
    assert len(found) == 1


def test_seeds_that_vary_more_make_a_difference_less_certain() -> None:
    """The same mean difference and the same queries: what changes is how far the seeds lie apart."""

    def p_value(apart: float) -> float:
        runs = [
            run_of("pli", {"mAP@5": QUERIES * 0.5 + 0.2 + at * apart}, training={"seed": at}, folder=f"{at}")
            for at in (-1, 0, 1)
        ]
        other = run_of("image-text", {"mAP@5": QUERIES * 0.5 + 0.17 + GENERATOR.normal(0, 0.05, 150)})
        return compare_runs([*runs, other]).pairs[0].p_value

    assert p_value(0.001) < 0.01 < 0.1 < p_value(0.15)


def test_a_report_shows_and_writes_the_mean() -> None:
    sides = [run_of(name, {"mAP@5": QUERIES * 0.3, "mAP@10": QUERIES}) for name in ("image-only", "text-only")]
    report = Report((*sides, PLAIN, *RUNS), ("pli",))
    assert report["pli"].replicates == tuple(RUNS)
    assert [row[0] for row in report.table.rows] == ["image-only", "text-only", "image-text", "pli (3 seeds)"]
    content = json.loads(report.as_json())
    assert len(content["results"]) == 6 and len(content["comparisons"]) == 6
    (mean,) = content["means"]
    assert (mean["method"], mean["seeds"]) == ("pli", [0, 1, 2])
    assert mean["metrics"][0]["value"] == pytest.approx(report["pli"].result["mAP@5"].value)
    assert mean["metrics"][0]["sd"] == pytest.approx(report["pli"].sd("mAP@5"))
