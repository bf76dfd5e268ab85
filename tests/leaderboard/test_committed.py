"""The entries that this repository publishes are valid, and its tables are made of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cirbench.cli import command_error
from cirbench.leaderboard.binding import known_protocols
from cirbench.leaderboard.check import Verdict, check_entry
from cirbench.leaderboard.entry import ENTRY, SCHEMA_VERSION, entry_folders, read_entry, seal_of

TRAINED = "own-emoji--pli--206702d4"
ENTRIES = Path(__file__).parent.parent.parent / "leaderboards" / "entries"


@pytest.mark.slow
@pytest.mark.parametrize("folder", entry_folders(ENTRIES), ids=lambda folder: folder.name)
def test_a_published_entry_holds_and_was_recomputed(folder: Path) -> None:
    assert check_entry(folder, known_protocols(ENTRIES), command_error) == Verdict(folder.name, ())


def test_an_entry_of_the_first_schema_is_read_with_the_present_names_and_its_seal_still_holds() -> None:
    written = json.loads((ENTRIES / TRAINED / ENTRY).read_bytes())
    entry = read_entry(ENTRIES / TRAINED)
    assert written["schema_version"] == 1
    assert entry.schema_version == SCHEMA_VERSION
    assert entry.method.training is not None
    assert entry.method.training["grad_accum_steps"] == written["method"]["training"]["accumulate"]
    assert entry.seal == seal_of(entry) != written["seal"]
    assert entry.run == written["run"]


@pytest.mark.parametrize("name", ["accumulate", "checkpointing", "lr"])
def test_a_changed_entry_of_the_first_schema_is_still_noticed(name: str, tmp_path: Path) -> None:
    folder = shutil.copytree(ENTRIES / TRAINED, tmp_path / TRAINED)
    written = json.loads((folder / ENTRY).read_bytes())
    written["method"]["training"][name] = 7
    (folder / ENTRY).write_text(json.dumps(written))
    assert any("its seal does not fit" in problem for problem in check_entry(folder, known_protocols(ENTRIES)).problems)
