"""Intervals of all measures of a protocol take about a second."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from cirbench.metrics.statistics.resampling import bootstrap_means, sign_flipped_means

pytestmark = [
    pytest.mark.performance,
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.benchmark(timer=time.process_time),
]


@pytest.mark.parametrize("resampled", [bootstrap_means, sign_flipped_means])
def test_ten_thousand_resamples_of_four_thousand_queries_take_about_a_second(resampled: Any, benchmark: Any) -> None:
    values_QM = np.random.default_rng(0).random((4000, 12))
    benchmark.pedantic(resampled, (values_QM,), rounds=3)
    assert benchmark.stats["median"] < 2
