"""What a person sees who publishes a run, or checks what somebody published."""

from __future__ import annotations

import json
import shlex
import shutil
from typing import TYPE_CHECKING

import pytest

from cirbench.cli import execute
from cirbench.leaderboard.entry import read_entry
from tests.leaderboard.runs import method, run_of

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = "<script>alert(1)</script>\x1b[31mred\u202e=cmd|' /C calc'!A0[bold]"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    return [run_of(folder / name, seed=seed, method=method(name)).folder for seed, name in enumerate(("a", "b"))]


def add(runs: list[Path], entries: Path, *more: str) -> int:
    return execute(["leaderboard", "add", *map(str, runs), "--entries", str(entries), *more])


def test_add_prints_the_entries_and_check_finds_them_whole(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert add(runs, tmp_path) == 0
    made = capsys.readouterr().out.splitlines()
    assert [line.rpartition("--")[0] for line in made] == [f"{tmp_path}/scenes-tiny--a", f"{tmp_path}/scenes-tiny--b"]
    assert execute(["leaderboard", "check", "--entries", str(tmp_path)]) == 0
    told = capsys.readouterr()
    assert [line.partition(": ")[2] for line in told.out.splitlines()] == ["ok", "ok"]
    assert "2 entries in" in told.err


def test_check_says_what_is_wrong_and_exits_with_4(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add(runs, tmp_path)
    broken = sorted(tmp_path.glob("*--a--*"))[0]
    (broken / "ranks.npz").unlink()
    capsys.readouterr()
    assert execute(["leaderboard", "check", "--entries", str(tmp_path)]) == 4
    told = capsys.readouterr()
    assert told.out.splitlines()[:2] == [f"{broken.name}: not valid", "  ranks.npz is missing"]
    assert "1 of 2 entries are not valid." in told.err
    assert execute(["leaderboard", "check", "--entries", str(tmp_path), "--json"]) == 4
    found = json.loads(capsys.readouterr().out)["entries"]
    assert found[0] == {"entry": broken.name, "ok": False, "problems": ["ranks.npz is missing"], "notes": []}


def test_hostile_words_do_nothing_to_a_terminal(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert add(runs[:1], tmp_path, "--note", HOSTILE) != 0  # such a note is refused, by words that do nothing either
    refused = capsys.readouterr()
    assert not {"\x1b", "\u202e"} & {*refused.out, *refused.err}
    assert add(runs[:1], tmp_path) == 0
    folder = next(path for path in tmp_path.iterdir() if path.is_dir())
    shutil.move(folder, tmp_path / "odd\x1b[31m\u202ename")
    (tmp_path / "odd\x1b[31m\u202ename" / "\x1b]0;title\x07.txt").write_text("x")
    capsys.readouterr()
    assert execute(["leaderboard", "check", "--entries", str(tmp_path)]) == 4
    told = capsys.readouterr()
    assert not {"\x1b", "\x07", "\u202e"} & {*told.out, *told.err}
    assert "odd\\x1b[31m\\u202ename: not valid" in told.out


def test_a_folder_without_a_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert add([tmp_path / "none"], tmp_path / "entries") == 3
    assert "There is no finished run in" in capsys.readouterr().err


def test_a_folder_without_entries_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["leaderboard", "check", "--entries", str(tmp_path / "none")]) == 3
    assert "cirbench leaderboard add RUN" in capsys.readouterr().err


def test_a_receipt_belongs_to_one_run(runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert add(runs, tmp_path, "--receipt", "x.json") == 2
    assert "A receipt belongs to one run." in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_of_an_entry_finds_the_run_that_it_was_made_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = ["--output", str(tmp_path / "runs")]
    run = ["run", "--method", "image-text", "--dataset", "scenes", "--split", "tiny", "--seed", "3"]
    assert execute([*run, "--set", "weight=0.5", *output]) == 0
    folders = {*(tmp_path / "runs" / "scenes").iterdir()}
    made = next(path for path in folders if path.name.startswith("image-text"))
    assert add([made], tmp_path / "entries") == 0
    entry = read_entry(next((tmp_path / "entries").iterdir()))
    capsys.readouterr()
    assert execute([*shlex.split(entry.commands[0])[1:], *output, "--json"]) == 0
    assert {*(tmp_path / "runs" / "scenes").iterdir()} == folders
    assert entry.run in capsys.readouterr().out


def test_a_board_is_shown_as_papers_print_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """CIRCO's mAP by backbone, with the best in bold; sources and ids are comments."""
    show = ["leaderboard", "show", "--entries", str(tmp_path)]
    assert execute([*show, "circo/test", "--format", "latex"]) == 0
    source = capsys.readouterr().out
    (heading,) = [line for line in source.splitlines() if line.startswith("backbone &")]
    assert heading == r"backbone & method & rank & mAP@5 & mAP@10 & mAP@25 & mAP@50 & supervision \\"
    assert r"\textbf{" in source and r"\underline{" in source and "% evidence: " in source
    (caption,) = [line for line in source.splitlines() if line.startswith(r"\caption")]
    assert len(caption) < 160
    assert execute([*show, "circo/testt"]) == 2
    assert "There is no board called 'circo/testt'.\nNearest: circo/test" in capsys.readouterr().err
