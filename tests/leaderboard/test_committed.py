"""The entries that this repository publishes are valid, and its tables are made of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cirbench.cli import command_error
from cirbench.leaderboard.binding import FILE, known_protocols
from cirbench.leaderboard.board import read_leaderboard, summaries
from cirbench.leaderboard.check import Verdict, check_entry
from cirbench.leaderboard.entry import ENTRY, SCHEMA_VERSION, entry_folders, read_entry, read_evidence, seal_of
from cirbench.support.files import digest

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


def test_an_entry_with_intervals_of_an_earlier_method_is_valid_and_shown_with_present_ones(tmp_path: Path) -> None:
    folder = shutil.copytree(ENTRIES / TRAINED, tmp_path / TRAINED)
    shutil.copy(ENTRIES / FILE, tmp_path / FILE)
    written = json.loads((folder / ENTRY).read_bytes())
    for score in written["metrics"]:
        score["low"] -= 0.1
    values = {key: value for key, value in written.items() if key != "seal"}
    written["seal"] = digest(without_nulls(values))
    (folder / ENTRY).write_text(json.dumps(written))
    assert check_entry(folder, known_protocols(tmp_path)) == Verdict(folder.name, ())
    shown = {row.id: row for board in read_leaderboard(tmp_path).boards for row in board.rows if row.is_run}[TRAINED]
    labels = [*shown.metrics]
    again = read_evidence(folder / "ranks.npz").scores(labels)
    assert [(number.low, number.high) for number in shown.metrics.values()] == [(each.low, each.high) for each in again]


@pytest.mark.slow
def test_the_committed_tables_are_what_the_entries_give() -> None:
    found = {path.name: path.read_text() for path in (ENTRIES.parent / "boards").iterdir()}
    assert found == summaries(read_leaderboard(ENTRIES).boards), (
        "type `cirbench leaderboard build` and commit the tables"
    )


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(each) for key, each in value.items() if each is not None}
    return [*map(without_nulls, value)] if isinstance(value, list) else value
