"""Comparing ten runs of CIRR's size takes seconds."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from cirbench.comparison.standings import compare_runs
from cirbench.comparison.tables import standings_table
from cirbench.support import memo
from cirbench.support.tables.formats import render
from tests.comparison.runs import run_of

pytestmark = [
    pytest.mark.performance,
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.benchmark(timer=time.process_time),
]

RUNS, QUERIES = 10, 4181


def test_ten_runs_of_4181_queries_and_10000_permutations_are_compared_within_ten_seconds(benchmark: Any) -> None:
    generator = np.random.default_rng(0)
    values = generator.random((RUNS, QUERIES)) < np.linspace(0.3, 0.4, RUNS)[:, None]
    runs = [run_of(f"run{at}", {"Recall@5": values[at]}) for at in range(RUNS)]
    with memo.by_content():  # every round tests anew
        table = benchmark.pedantic(lambda: render(standings_table(compare_runs(runs)), "rich"), rounds=3)
    assert table.count("run") >= RUNS
    assert benchmark.stats["median"] < 10
