"""The page "Which queries fail": a page of the worst, a file of those that flipped, and one of those not found."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import pytest

from cirbench.runs.folder import load_run
from tests.guides.page import follow

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
def test_a_reader_finds_the_queries_that_fail(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    read = follow("failures", tmp_path)
    assert (tmp_path / "worst.html").read_text().count("<img") >= 10
    flips = [*csv.DictReader((tmp_path / "flips.csv").read_text().splitlines())]
    assert flips and {flip["outcome"] for flip in flips} <= {"gained", "lost"}
    run = load_run(next((tmp_path / "runs" / "scenes").glob("image-text-*")))
    failed = [*csv.DictReader((tmp_path / "failed.csv").read_text().splitlines())]
    assert failed and all(float(record["best_rank"]) > 50 and record["text"] for record in failed)
    assert {record["query"] for record in failed} <= {*run.query_ids}
    assert "aspect=" in read.text and "Settings that differ" in read.text
