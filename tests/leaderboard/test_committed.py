"""The entries that this repository publishes hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from cirbench.leaderboard.check import Verdict, check_entry
from cirbench.leaderboard.entry import entry_folders, known_protocols

ENTRIES = Path(__file__).parent.parent.parent / "leaderboards" / "entries"


@pytest.mark.parametrize("folder", entry_folders(ENTRIES), ids=lambda folder: folder.name)
def test_a_published_entry_holds_and_was_recomputed(folder: Path) -> None:
    assert check_entry(folder, known_protocols(ENTRIES)) == Verdict(folder.name, ())
