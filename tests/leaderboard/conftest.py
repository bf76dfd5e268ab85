from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from cirbench.leaderboard.adding import add_run
from tests.leaderboard.runs import run_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of entries with one entry; not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    add_run(run_of(folder / "run", skill=0.5).folder, folder / "entries", note="as it is")
    return folder / "entries"


@pytest.fixture
def entries(made: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return shutil.copytree(made, tmp_path / "entries")
