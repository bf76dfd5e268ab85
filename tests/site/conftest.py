"""Runs to show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cirbench import cli

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def tiny_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The untrained baselines on scenes/tiny; do not change them, copy them."""
    folder = tmp_path_factory.mktemp("shown")
    run = ["run", "--dataset", "scenes", "--split", "tiny", "--method", "image-text", "--output", str(folder)]
    assert cli.execute(run) == 0
    return folder / "scenes"


@pytest.fixture
def image_text(tiny_runs: Path) -> Path:
    """The run of image-text."""
    (found,) = tiny_runs.glob("image-text-*")
    return found


@pytest.fixture
def image_only(tiny_runs: Path) -> Path:
    """The run of image-only."""
    (found,) = tiny_runs.glob("image-only-*")
    return found
