"""The notebook runs from top to bottom, and so does the page about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.guides.page import GUIDES, follow

if TYPE_CHECKING:
    from pathlib import Path

nbformat = pytest.importorskip("nbformat")


def test_the_notebook_is_stored_without_outputs() -> None:
    cells = nbformat.read(GUIDES / "notebook.ipynb", as_version=4).cells
    assert len(cells) > 10
    assert all(not cell.outputs and cell.execution_count is None for cell in cells if cell.cell_type == "code")


@pytest.mark.slow
def test_the_notebook_evaluates_plots_compares_and_shows_failures(tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("matplotlib")
    notebook = nbformat.read(GUIDES / "notebook.ipynb", as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in shown) == 2
    tables = [output.data["text/html"] for output in shown if "text/html" in output.get("data", {})]
    assert len(tables) == 5
    assert any("image-text" in table and "text-only" in table for table in tables)
    assert [*tmp_path.glob("runs/scenes/image-text-*/result.json")]


@pytest.mark.slow
def test_a_reader_of_the_page_has_data_frames(tmp_path: Path) -> None:
    read = follow("notebook", tmp_path)
    assert "best_rank" in read.text
    assert [*tmp_path.glob("runs/scenes/image-text-*/result.json")]
