"""What a person sees who wants a published number again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from cirbench.cli import execute
from tests.leaderboard.reproducing.rows import published

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let the command read a file with one row that can be run here."""
    known = published(tmp_path / "rows.json")
    monkeypatch.setattr("cirbench.comparison.published.load_published", lambda: known)
    return known.rows[0].id


@pytest.mark.slow
def test_a_number_that_differs_is_named_and_ends_with_4(
    made_up: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["reproduce", made_up, "--output", str(tmp_path / "runs"), "--format", "json"]) == 4
    told = capsys.readouterr()
    rows = json.loads(told.out)["rows"]
    assert [row["verdict"] for row in rows] == ["within the interval", "within the interval", "differs"]
    assert "1 of 3 numbers differ." in told.err


def test_a_plan_runs_nothing(made_up: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["reproduce", made_up, "--plan", "--output", str(tmp_path / "runs")]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["there"] * 3
    assert not (tmp_path / "runs").exists()


def test_the_list_can_be_cut_to_a_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["reproduce", "--list", "circo-val/", "--format", "csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if line.startswith("circo-val/")]) == 8
    assert any(line.endswith(",pic2word") for line in lines)


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ([], 2, "Say which row."),
        (["circo-test/searle-xl/vit-l-14"], 2, "Nearest: circo-test/searle-xl/vit-l-14/quoted"),
        (["circo-test/compodiff/vit-l-14/quoted"], 2, "cirbench has no method CompoDiff."),
        (["circo-test/image-only/vit-b-32/quoted"], 3, "needs 3 things that are not here"),
    ],
)
def test_what_cannot_be_run_is_told_with_what_to_do(
    arguments: list[str],
    code: int,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("CIRBENCH_DATA", raising=False)
    assert execute(["reproduce", *arguments]) == code
    assert told in capsys.readouterr().err
