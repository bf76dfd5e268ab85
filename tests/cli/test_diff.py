"""`cirbench diff` names the setting and the queries."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import pytest

from cirbench import cli
from cirbench.runs.folder import load_run
from tests.comparison.folders import keep_run
from tests.toy_protocols import cirr_like

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of one method with another weight, and a partial one."""
    root = tmp_path_factory.mktemp("runs")
    protocol = cirr_like(60, 40)
    for name, weight in (("half", 0.5), ("whole", 1.0)):
        keep_run(protocol, root / name, "image-text", skill=weight, parameters={"weight": weight, "prompt": "{}"})
    keep_run(protocol, root / "partial", "image-text", limit=7)
    return root


def only(folder: Path) -> str:
    (found,) = folder.iterdir()
    return str(found)


def test_a_terminal_gets_the_settings_and_the_queries(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.execute(["diff", only(runs / "half"), only(runs / "whole")]) == 0
    shown = capsys.readouterr().out
    assert "image-text weight=0.5" in shown and "image-text weight=1.0" in shown
    (row,) = [line for line in shown.splitlines() if "parameter weight" in line]
    assert [cell.strip() for cell in row.strip("│").split("│")] == ["parameter weight", "0.5", "1.0"]
    assert "queries flipped at Recall@1" in shown


def test_every_flipped_query_is_in_the_csv_with_the_ranks_of_the_runs(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = only(runs / "half"), only(runs / "whole")
    assert cli.execute(["diff", *folders, "--format", "csv", "--table", "queries"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    one, other = (load_run(runs / folder) for folder in folders)
    flipped = {
        one.query_ids[at]: (str(one.ranks[at][0]), str(other.ranks[at][0]))
        for at in range(60)
        if (one.ranks[at][0] == 1) != (other.ranks[at][0] == 1)
    }
    assert flipped and {row["query"]: (row["one"], row["other"]) for row in rows} == flipped
    for row in rows:
        assert row["outcome"] == ("gained" if row["other"] == "1" else "lost")


def test_mistakes_are_named(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    half = only(runs / "half")
    for arguments, code, message in (
        ([half, half], 2, "are the same run"),
        ([half, only(runs / "partial")], 2, "were scored on different queries"),
        ([half, str(tmp_path)], 3, "There is no finished run in"),
        ([half], 2, "Missing argument 'OTHER'"),
    ):
        assert cli.execute(["diff", *arguments, "--table", "queries"]) == code
        assert message in capsys.readouterr().err


def test_settings_of_runs_on_different_queries_are_still_told(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.execute(["diff", only(runs / "half"), only(runs / "partial"), "--format", "csv"]) == 0
    assert "queries scored,60 of 60,7 of 60" in capsys.readouterr().out
