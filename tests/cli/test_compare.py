"""`cirbench compare` on run folders: tables for people, papers and programs, and what is wrong said plainly."""

from __future__ import annotations

import csv
import io
import json
import shutil
from typing import TYPE_CHECKING

import pytest

from cirbench import cli
from cirbench.runs.folder import load_run
from tests.comparison.folders import keep_run
from tests.toy_protocols import circo_like, cirr_like

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four runs on one protocol, and one on another."""
    root = tmp_path_factory.mktemp("runs")
    protocol = circo_like(60, 200)
    for at, (method, skill) in enumerate((("image-only", 0.3), ("text-only", 0.1), ("image-text", 0.8), ("pli", 1.2))):
        keep_run(protocol, root / "circo", method, skill=skill, seed=at)
    keep_run(protocol, root / "partial", "pli", limit=5)
    keep_run(cirr_like(40, 60), root / "cirr", "pli")
    return root


def folders(runs: Path, *methods: str) -> list[str]:
    return [str(runs / "circo" / f"{method}-00000000") for method in methods]


def test_the_same_numbers_come_in_every_format(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compare", *folders(runs, "pli", "image-text", "image-only")]
    shown = {}
    for form in ("rich", "md", "csv", "json", "latex", "html"):
        assert cli.execute([*command, "--format", form, "--table", "runs"]) == 0
        shown[form] = capsys.readouterr().out
    rows = json.loads(shown["json"])["rows"]
    assert [row["run"] for row in rows] == ["pli", "image-text", "image-only"]
    for row, record in zip(rows, csv.DictReader(io.StringIO(shown["csv"])), strict=True):
        run = load_run(runs / "circo" / f"{row['run']}-00000000")
        assert row["value"]["value"] == pytest.approx(run.result["mAP@5"].value, abs=0.005)
        assert float(record["value"]) == row["value"]["value"]
        for form in ("rich", "md", "latex", "html"):
            assert record["value"] in shown[form]
    assert rows[0]["difference"] is None
    assert rows[1]["difference"]["value"] == pytest.approx(
        rows[1]["value"]["value"] - rows[0]["value"]["value"], abs=0.011
    )


def test_a_terminal_gets_the_runs_what_stands_behind_them_and_the_slices(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.execute(["compare", *folders(runs, "pli", "image-text")]) == 0
    shown = capsys.readouterr().out
    assert "toy/circo-like@1" in shown and "p (Holm)" in shown
    assert "composition subset" in shown  # the baselines lie beside the runs
    assert "mAP@10 aspect=negation" in shown and "█" in shown


def test_the_baseline_need_not_be_among_the_runs(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compare", *folders(runs, "pli", "image-text"), "--baseline", *folders(runs, "image-only")]
    assert cli.execute([*command, "--format", "json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert [column["label"] for column in content["columns"]][3] == "against image-only"
    assert len(content["rows"]) == 3


def test_one_table_can_be_had_alone(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for which, key in (("diagnostics", "gain"), ("slices", "slice")):
        command = ["compare", *folders(runs, "pli", "image-text"), "--table", which, "--format", "csv"]
        assert cli.execute(command) == 0
        assert key in capsys.readouterr().out.splitlines()[0]


def test_a_partial_run_is_shown_and_not_ranked(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compare", *folders(runs, "image-text"), str(runs / "partial" / "pli-00000000"), "--format", "json"]
    assert cli.execute(command) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["rows"][1]["run"] == "pli (partial)" and content["rows"][1]["rank"] == ""


def test_what_cannot_be_compared_is_refused_with_the_reason(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(runs / "circo" / "pli-00000000", damaged)
    (damaged / "per_query.npz").write_bytes(b"else")
    good, other, cirr = *folders(runs, "pli", "image-text"), str(runs / "cirr" / "pli-00000000")
    cases: list[tuple[list[str], int, str]] = [
        ([good], 2, "One run has nothing to be compared with"),
        ([], 2, "One run has nothing to be compared with"),
        ([good, good], 2, "is given twice"),
        ([good, cirr, "--table", "runs"], 2, "Ranks and differences are those of one number"),
        ([good, cirr, "--table", "runs"], 2, "Choose one: --protocol toy/circo-like --metric mAP@5"),
        ([good, cirr, "--protocol", "toy/circo-like"], 2, "One run has nothing to be compared with"),
        (
            [good, cirr, "--protocol", "toy/circo"],
            2,
            "no protocol of these runs called 'toy/circo'.\nNearest: toy/circo",
        ),
        ([good, other, "--metric", "mAP@5,mAQ@5"], 2, "There is no metric of these runs called 'mAQ@5'"),
        (
            [good, other, "--published", "circo/test:SEARL"],
            2,
            "no published row of circo/test called 'SEARL'.\nNearest:",
        ),
        ([good, other, "--published", "circo/tes:SEARLE"], 2, "no protocol with published rows called 'circo/tes'"),
        ([good, other, "--published", "SEARLE"], 2, "Say PROTOCOL:METHOD, for instance circo/test:SEARLE"),
        ([good, other, "--against", "best", "--baseline", good], 2, "--against best and --baseline contradict"),
        ([good, other, "--against", "nowhere"], 3, "There is no finished run in nowhere"),
        ([good, other, "--metric", "mAQ@5"], 2, "There is no metric of"),
        ([good, other, "--metric", "mAQ@5"], 2, "Nearest: mAP@5"),
        ([good, str(tmp_path)], 3, f"There is no finished run in {tmp_path}"),
        ([good, str(damaged)], 3, "per_query.npz is missing or is not the file this run was written with"),
        ([good, other, "--baseline", "nowhere"], 3, "There is no finished run in nowhere"),
        ([good, other, "--format", "markdown"], 2, "'markdown' is not one of"),
    ]
    for arguments, code, message in cases:
        assert cli.execute(["compare", *arguments]) == code, arguments
        shown = capsys.readouterr()
        assert message in shown.err and shown.out == ""


def test_diagnostics_without_baselines_say_how_to_make_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for at, method in enumerate(("a", "b")):
        keep_run(cirr_like(40, 60), tmp_path, method, seed=at)
    command = ["compare", *map(str, tmp_path.iterdir())]
    assert cli.execute([*command, "--table", "diagnostics", "--format", "md"]) == 3
    assert (
        "cirbench run --method image-only,text-only --dataset toy --protocol toy/cirr-like" in capsys.readouterr().err
    )
    assert cli.execute([*command, "--table", "slices"]) == 3
    assert "toy/cirr-like@1 reports nothing by slice" in capsys.readouterr().err


def test_a_folder_with_several_protocols_is_narrowed_to_one(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compare", *folders(runs, "pli", "image-text"), str(runs / "cirr" / "pli-00000000")]
    assert cli.execute([*command, "--protocol", "toy/circo-like", "--table", "runs", "--format", "csv"]) == 0
    assert [line.split(",")[0] for line in capsys.readouterr().out.splitlines()] == ["run", "pli", "image-text"]


def test_several_protocols_make_the_table_of_a_paper(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compare", *folders(runs, "pli", "image-text"), str(runs / "cirr" / "pli-00000000")]
    assert cli.execute([*command, "--format", "csv"]) == 0
    records = [*csv.DictReader(io.StringIO(capsys.readouterr().out))]
    assert [(record["method"], record["toy/cirr-like:Recall@1"] != "") for record in records] == [
        ("pli", True),
        ("image-text", False),
    ]
    assert all(record["toy/circo-like:mAP@5"] for record in records)


def test_latex_is_the_table_of_a_paper_with_a_declared_baseline(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    baseline = folders(runs, "image-only")[0]
    command = ["compare", *folders(runs, "pli", "image-text"), "--against", baseline, "--metric", "mAP@5,mAP@10"]
    assert cli.execute([*command, "--format", "latex"]) == 0
    source = capsys.readouterr().out
    assert r"method & mAP@5 & mAP@10 \\" in source and r"\textsuperscript{{*}}" in source
    (caption,) = [line for line in source.splitlines() if line.startswith(r"\caption")]
    assert "toy/circo-like, in percent" in caption and "differs from image-only" in caption and len(caption) < 250
    assert "over the 2 comparisons with image-only" in source.partition(r"\begin{table}")[0]
