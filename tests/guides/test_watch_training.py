"""The page "Watch a training": its metrics file, its tracker and the check of the objective."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.guides.page import follow

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
def test_a_reader_watches_a_training(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    pytest.importorskip("tensorboard")
    read = follow("watch-training", tmp_path)
    first, *lines = map(json.loads, (tmp_path / "checkpoints" / "pli" / "metrics.jsonl").read_text().splitlines())
    assert first["schema"] == 1
    assert [line["step"] for line in lines if "loss" in line] == [*range(1, 25)]
    assert all(line["grad_norm"] > 0 for line in lines if "loss" in line)
    assert [line["step"] for line in lines if "protocol" in line] == [12, 24]
    assert [*(tmp_path / "checkpoints" / "pli" / "tensorboard").iterdir()]
    assert "trained pli: 24 steps in" in read.text
    assert "ok      the loss falls on one batch that is repeated" in read.text
