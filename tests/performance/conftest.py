"""One thread for everything that is measured."""

from __future__ import annotations

import os
import statistics
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@pytest.fixture(scope="session")
def one_thread() -> None:
    """Skip where the linear algebra libraries were started with several threads."""
    if os.environ.get("OMP_NUM_THREADS") != "1":
        pytest.skip("ratios are measured on one thread: set OMP_NUM_THREADS=1, as `make bench` does")


@pytest.fixture
def median_cpu_seconds() -> Callable[[Mapping[str, Callable[[], object]], int], dict[str, float]]:
    """Run functions in turn, several rounds, and give the median CPU seconds of each."""

    def measured(functions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
        seconds: dict[str, list[float]] = {name: [] for name in functions}
        for _ in range(rounds):
            for name, function in functions.items():
                start = time.process_time()
                function()
                seconds[name].append(time.process_time() - start)
        return {name: statistics.median(values) for name, values in seconds.items()}

    return measured
