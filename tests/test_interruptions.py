"""A run may be stopped at any moment, by Ctrl-C or by force, and loses nothing but time."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

EVIDENCE = ("per_query.npz", "predictions.jsonl", "run.trec", "qrels.trec", "config.toml")


def start(folder: Path, cache: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cirbench", "run", "--method", "image-text", "--dataset", "scenes"]
    return subprocess.Popen(
        [*command, "--split", "tiny", "--output", "runs"],
        cwd=folder,
        env={**os.environ, "CIRBENCH_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def evidence(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.name in EVIDENCE]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed")
    process = start(folder, folder / "cache")
    process.communicate()
    assert process.returncode == 0
    return evidence(folder / "runs")


def test_a_run_killed_at_random_moments_ends_in_the_same_bytes(undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    moments = random.Random(0)
    for _ in range(3):
        process = start(tmp_path, tmp_path / "cache")
        assert process.stderr is not None
        assert "image-only" in process.stderr.readline()  # evaluated, or reused where an earlier one finished it
        time.sleep(moments.uniform(0, 1))
        process.kill()
        process.communicate()
    process = start(tmp_path, tmp_path / "cache")
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert evidence(tmp_path / "runs") == undisturbed


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_says_how_to_resume_and_leaves_no_half_written_run(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    process = start(tmp_path, tmp_path / "cache")
    assert process.stderr is not None
    assert "image-only on scenes/tiny@1" in process.stderr.readline()
    process.send_signal(number)
    shown, said = process.communicate()
    assert process.returncode == code
    assert "run the same command again to resume" in said
    assert "Traceback" not in said
    assert shown == ""
    assert [path for path in tmp_path.rglob("*") if path.suffix == ".part"] == []
    for result in tmp_path.glob("runs/*/*/result.json"):
        assert (result.parent / "per_query.npz").is_file()
