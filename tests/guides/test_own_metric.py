"""The page "my own metric", with its package on the path as an installation puts it there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from cirbench.runs.folder import load_run
from tests.guides.page import follow

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
def test_a_reader_ends_with_a_metric_that_is_run_sliced_and_compared(tmp_path: Path) -> None:
    here, site = tmp_path / "here", tmp_path / "site"
    here.mkdir()
    info = site / "cirbench_precision-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: cirbench-precision\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[cirbench.metrics]\nprecision = precision:METRIC\n")
    path = os.pathsep.join(map(str, [site, here / "precision", *filter(None, [os.environ.get("PYTHONPATH")])]))
    read = follow("own-metric", here, PYTHONPATH=path)
    runs = [load_run(path.parent) for path in here.glob("runs/scenes/image-text-*/result.json")]
    values = {value.label: value for value in runs[0].result.additional}
    assert {"Recall@100", "nDCG@10", "MRR", "MedR", "precision@5", "precision@5[aspect=negation]"} <= set(values)
    ranks = runs[0].ranks
    expected = 100 * sum(int((row <= 5).sum()) for row in ranks) / 5 / len(ranks)
    assert values["precision@5"].value == pytest.approx(expected)
    assert "precision" in read.outputs[-1]
    assert values["MedR"].unit == "rank"
