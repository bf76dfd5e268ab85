"""The page "Seeds": three trainings are one row, in every table and in the plot of a sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cirbench.runs.folder import load_run
from tests.guides.page import follow

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
def test_a_reader_gets_one_row_of_three_seeds(tmp_path: Path) -> None:
    read = follow("seeds", tmp_path)
    first = read.outputs[0]
    assert "lincir (3 seeds)" in first and "Seeds make no difference to image-text" in first
    assert "lincir is the mean over seeds 0, 1, 2; ± is their standard deviation." in " ".join(read.outputs[1].split())
    assert r"{\scriptsize$\pm$" in (tmp_path / "table.tex").read_text()
    (plot,) = tmp_path.glob("runs/sweeps/*/plot.svg")
    assert plot.read_text().count('class="replicate"') == 4
    runs = [load_run(path) for path in tmp_path.glob("runs/scenes/lincir-*")]
    assert len(runs) == 3 + 4  # the page's last block found the first three
