"""``cirbench score`` starts about as fast as NumPy does, and a finished run is shown as fast as that.

CPU seconds of whole processes on one thread, alternating, medians of seven. The limit of scoring is 2.5 times
``python -c "import numpy"`` plus a tenth of a second; that of a finished run is 1.5 times
``python -c "import numpy, rich, click, msgspec"`` plus 0.3 s.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.circo_files import published_size, write

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.performance

ROUNDS = 7


def cpu_seconds(arguments: list[str], folder: Path | None = None) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # nobody compiles three hundred modules at every start
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, env=environment, cwd=folder)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize("what", ["help", "table", "json"])
def test_scoring_starts_within_the_limit(tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = published_size()
    write(tmp_path, rows, None)
    lists = {str(row["id"]): [row["target_img_id"], *range(700_000, 700_049)] for row in rows}
    (tmp_path / "lists.json").write_text(json.dumps(lists))
    score = ["-m", "cirbench", "score", "-d", "circo", "--data-root", str(tmp_path)]
    score += {"help": ["--help"], "table": [], "json": ["--json"]}[what]
    score += ["--predictions", str(tmp_path / "lists.json")]
    pairs = [(cpu_seconds(["-c", "import numpy"]), cpu_seconds(score)) for _ in range(ROUNDS + 1)][1:]
    numpy_s, score_s = (statistics.median(column) for column in zip(*pairs, strict=True))
    with capsys.disabled():
        sys.stdout.write(
            f"\nscore, {what}: {score_s:.3f} s; numpy {numpy_s:.3f} s; limit {2.5 * numpy_s + 0.1:.3f} s\n"
        )
    assert score_s <= 2.5 * numpy_s + 0.1


def test_a_finished_run_is_shown_within_the_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ["-m", "cirbench", "run", "-m", "image-text", "-d", "scenes", "--split", "tiny"]
    for _ in range(2):  # the first makes it; what both remember may still be too fresh to be trusted
        cpu_seconds(run, tmp_path)
        time.sleep(1.5)
    libraries = ["-c", "import numpy, rich, click, msgspec"]
    pairs = [(cpu_seconds(libraries), cpu_seconds(run, tmp_path)) for _ in range(ROUNDS + 1)][1:]
    libraries_s, run_s = (statistics.median(column) for column in zip(*pairs, strict=True))
    with capsys.disabled():
        sys.stdout.write(
            f"\nfinished run: {run_s:.3f} s; libraries {libraries_s:.3f} s; limit {1.5 * libraries_s + 0.3:.3f} s\n"
        )
    assert run_s <= 1.5 * libraries_s + 0.3
