"""Comparing ten runs of CIRR's size, or forty of 1,000 queries, takes seconds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cirbench.comparison.baselines import Unimodal, diagnose
from cirbench.comparison.standings import compare_runs
from cirbench.comparison.tables import standings_table
from cirbench.support import memo
from cirbench.support.tables.formats import render
from tests.comparison.runs import run_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

pytestmark = [
    pytest.mark.performance,
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.benchmark(timer=time.process_time),
]


def compared(benchmark: Any, label: str, values_MQ: NDArray[Any]) -> float:
    """Return the median of the CPU seconds that comparing runs takes, after a look at the table."""
    runs = [run_of(f"run{at}", {label: values_Q}) for at, values_Q in enumerate(values_MQ)]
    with memo.by_content():  # every round tests anew
        table = benchmark.pedantic(lambda: render(standings_table(compare_runs(runs)), "rich"), rounds=3)
    assert table.count("run") >= len(runs)
    return float(benchmark.stats["median"])


def hits(runs: int, queries: int) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = np.random.default_rng(0).random((runs, queries)) < np.linspace(0.3, 0.4, runs)[:, None]
    return found


def test_ten_runs_of_4181_queries_and_10000_permutations_are_compared_within_ten_seconds(benchmark: Any) -> None:
    assert compared(benchmark, "Recall@5", hits(10, 4181)) < 10


def test_forty_runs_of_1000_queries_are_compared_within_four_seconds_by_hits(benchmark: Any) -> None:
    assert compared(benchmark, "Recall@5", hits(40, 1000)) < 4


def test_forty_runs_of_1000_queries_are_compared_within_six_seconds_by_average_precision(benchmark: Any) -> None:
    values_MQ = np.random.default_rng(0).random((40, 1000)) ** np.linspace(3, 2, 40)[:, None]
    assert compared(benchmark, "mAP@10", values_MQ) < 6


def test_forty_runs_of_1000_queries_are_held_against_unimodal_baselines_within_half_a_second(benchmark: Any) -> None:
    image, text, *runs = (run_of(f"run{at}", {"Recall@5": values_Q}) for at, values_Q in enumerate(hits(42, 1000)))
    with memo.by_content():
        found = benchmark.pedantic(lambda: diagnose(runs, Unimodal(image, text, "Recall@5")), rounds=3)
    assert len(found) == 40
    assert benchmark.stats["median"] < 0.5
