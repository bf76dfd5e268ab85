"""Runs to show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.shown import make_tiny_runs

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def tiny_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The untrained baselines on scenes/tiny; do not change them, copy them."""
    return make_tiny_runs(tmp_path_factory.mktemp("shown"))


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
