"""How long a file for CIRCO's server takes from features: the time of the ranking, and at most a second."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from cirbench.benchmarks import load_protocol
from cirbench.submissions.uploads import build_submission
from tests.submissions.runs import run_on, unit
from tests.submissions.server_files import write_circo_test

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.performance, pytest.mark.usefixtures("one_thread")]


def test_a_submission_to_circo_takes_the_time_of_its_ranking_and_at_most_a_second(tmp_path: Path) -> None:
    """From features of the size of ViT-L/14: rank, keep the run, build, hold against every rule, write."""
    protocol = load_protocol("circo/test", write_circo_test(tmp_path))
    assert protocol.gallery is not None
    features = unit(len(protocol.queries), 768, 0), unit(len(protocol.gallery), 768, 1)
    beside = []
    for number in range(3):
        started = time.perf_counter()
        run = run_on(protocol, tmp_path / f"run{number}", features)
        build_submission(run, tmp_path / "submissions", protocol=protocol)
        ranking = run.result.seconds["ranking"]
        beside.append(time.perf_counter() - started - ranking)
        print(f"ranking {ranking:.2f} s, everything else {beside[-1]:.2f} s")
    assert min(beside) <= 1
