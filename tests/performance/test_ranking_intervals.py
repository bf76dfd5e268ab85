"""Intervals of all measures of a protocol take a fraction of a second."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from cirbench.metrics import Measurement
from cirbench.metrics.intervals import intervals

pytestmark = [
    pytest.mark.performance,
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.benchmark(timer=time.process_time),
]


def test_the_intervals_of_fifty_measures_of_four_thousand_queries_take_less_than_a_second(benchmark: Any) -> None:
    values_QM = np.random.default_rng(0).random((4000, 50))
    measurements = [Measurement(f"Recall@{at}", row, float(row.mean())) for at, row in enumerate(values_QM.T)]
    clusters = [str(number // 2) for number in range(4000)]
    benchmark.pedantic(intervals, (measurements, clusters), rounds=3)
    assert benchmark.stats["median"] < 1
