"""Every training still takes the twenty steps that it took when its golden trace was kept."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.side_by_side import environment
from tests.training import golden
from tests.training.quick import trained

TOLERANCE = 1e-5
"""Other processors and versions of torch round differently, and the steps amplify that. Between AVX-512, AVX2 and no
vectors at all, on one thread and on two, the largest difference of these traces was 2e-6."""


@pytest.fixture(scope="module")
def traces() -> dict[str, list[float]]:
    """The losses of all trainings, from a process of their own, which nothing that other tests leave can touch."""
    command = [sys.executable, "-m", "tests.training.golden", "--print"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", trained())
def test_twenty_steps_follow_the_golden_trace(name: str, traces: dict[str, list[float]]) -> None:
    assert traces[name] == pytest.approx(golden.read(name), abs=TOLERANCE)


def test_every_golden_trace_belongs_to_something_that_can_be_trained() -> None:
    assert {path.stem for path in golden.FOLDER.glob("*.json")} == set(trained())
