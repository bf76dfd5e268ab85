"""The page "A table for my paper": what a reader has at its end is a table that compiles."""

from __future__ import annotations

import csv
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.guides.page import follow

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
def test_a_reader_gets_the_table_in_latex_markdown_and_csv(tmp_path: Path) -> None:
    read = follow("paper-table", tmp_path)
    source = (tmp_path / "table.tex").read_text()
    assert r"method & mAP@5 & mAP@10 & mAP@25 & mAP@50" in source
    assert r"\textbf{" in source and r"\underline{" in source and r"\textsuperscript{{*}}" in source
    (caption,) = [line for line in source.splitlines() if line.startswith(r"\caption")]
    assert "scenes/tiny, in percent" in caption and "differs from image-text" in caption
    assert "over the 4 comparisons with image-text" in source.partition(r"\begin{table")[0]
    records = [*csv.DictReader((tmp_path / "table.csv").read_text().splitlines())]
    assert {record["method"] for record in records} == {"image-only", "text-only", "image-text", "lincir", "pic2word"}
    assert {"scenes/tiny:mAP@5", "scenes/tiny:Recall@1", "scenes/tiny:Recall_subset@1"} <= {*records[0]}
    assert "**" in (tmp_path / "table.md").read_text()
    assert "scenes/tiny:Recall@1" in read.outputs[-1]
    if engine := shutil.which("pdflatex"):
        command = [engine, "-interaction=nonstopmode", "-halt-on-error", "-draftmode", "table.tex"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout[-2000:]
