"""The page "my own benchmark"."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from cirbench.runs.folder import load_run
from tests.guides.page import follow

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
def test_a_reader_ends_with_a_benchmark_of_two_splits_and_numbers_by_a_column(tmp_path: Path) -> None:
    read = follow("own-benchmark", tmp_path)
    runs = [load_run(path.parent) for path in sorted(tmp_path.glob("runs/own/*/result.json"))]
    of_image_text = {run.result.protocol.name: run for run in runs if run.result.method.name == "image-text"}
    assert set(of_image_text) == {"own/shapes/val@1", "own/shapes/test@1"}
    val, test = of_image_text["own/shapes/val@1"].result, of_image_text["own/shapes/test@1"].result
    assert [metric.label for metric in val.metrics] == [
        *("Recall@1", "Recall@5", "Recall@5[mean over kind]", "Recall@5[kind=colour]", "Recall@5[kind=shape]")
    ]
    assert test.metrics == []
    labels = [value.label for value in val.additional]
    assert labels[0] == "MRR" and "MRR[kind=colour]" in labels
    assert val.protocol.licence == "CC BY 4.0"
    assert "ok      its columns are labels of numbers" in read.text
    assert (tmp_path / "my-shapes" / "pyproject.toml").is_file()
    assert json.loads((tmp_path / "runs" / "own" / runs[0].folder.name / "result.json").read_text())["schema_version"]
