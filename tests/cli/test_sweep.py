"""`cirbench sweep`: one run a value, one table, one plot; and every mistake before the first run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from cirbench import cli
from cirbench.runs.folder import load_run
from tests.tiny_benchmark import TinyBenchmark, write_benchmark

if TYPE_CHECKING:
    from pathlib import Path

BRIEF = ["--set", "steps=2", "--set", "batch_size=4"]


@pytest.fixture(scope="module")
def benchmark_(tmp_path_factory: pytest.TempPathFactory) -> TinyBenchmark:
    return write_benchmark(tmp_path_factory.mktemp("benchmark"))


def sweep_folder(output: Path) -> Path:
    (folder,) = output.glob("sweeps/*")
    return folder


@pytest.mark.slow
def test_a_method_is_trained_and_run_once_for_each_value(
    benchmark_: TinyBenchmark, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["sweep", "pli", "--set", "mask_ratio=0.25,0.5,0.75", *BRIEF]
    command += [*benchmark_.options(tmp_path), *benchmark_.training(), "--format", "json"]
    assert cli.execute(command) == 0
    table = json.loads(capsys.readouterr().out)
    assert [row["mask_ratio"]["value"] for row in table["rows"]] == [0.25, 0.5, 0.75]
    for row in table["rows"]:
        (folder,) = tmp_path.glob(f"*/{row['run']}")
        result = load_run(folder).result
        assert result.method.training is not None
        assert result.method.training["mask_ratio"] == row["mask_ratio"]["value"]
        assert result.metrics[0].value == pytest.approx(row["value"]["value"], abs=0.005)
    assert json.loads((sweep_folder(tmp_path) / "table.json").read_text()) == table
    assert "selected on own/colours@1" in table["notes"][0]


def test_a_parameter_of_the_method_is_swept_without_training(
    benchmark_: TinyBenchmark, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["sweep", "image-text", "--set", "weight=0.5,2", *benchmark_.options(tmp_path), "--metric", "Recall@5"]
    assert cli.execute(command) == 0
    shown = capsys.readouterr()
    assert "image-text: Recall@5 by weight" in shown.out
    assert f"table and plot: {sweep_folder(tmp_path)}" in shown.err
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/image-*/result.json")}
    assert cli.execute(command) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/image-*/result.json")} == before


def test_the_plot_shows_every_value_and_the_baselines(benchmark_: TinyBenchmark, tmp_path: Path) -> None:
    command = ["sweep", "image-text", "--set", "weight=0.5,1,2", "--set", "sum=raw,normalised"]
    assert cli.execute([*command, *benchmark_.options(tmp_path)]) == 0
    svg = (sweep_folder(tmp_path) / "plot.svg").read_text()
    words = ElementTree.fromstring(svg).findtext("{http://www.w3.org/2000/svg}desc")
    assert words is not None and words.startswith("Recall@1 (%) by weight. sum=raw: 0.5: ")
    assert ("sum=normalised: 0.5: " in words and "image-only: " in words) or "text-only: " in words
    assert svg.count('class="marker"') == 6 + 2  # and two in the key
    assert svg.count("<polyline") == 2


def test_names_are_swept_too(benchmark_: TinyBenchmark, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["sweep", "image-text", "--set", "sum=raw,normalised", *benchmark_.options(tmp_path), "--format", "csv"]
    assert cli.execute(command) == 0
    rows = capsys.readouterr().out.splitlines()
    assert [row.split(",")[0] for row in rows] == ["sum", "raw", "normalised"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pil", "--set", "weight=1,2"], "There is no method called 'pil'.\nNearest: pli"),
        (["image-text"], "Nothing is swept: no parameter has several values."),
        (["image-text", "--set", "weight=1"], "Nothing is swept"),
        (["image-text", "--set", "wight=1,2"], "There is no parameter of image-text called 'wight'.\nNearest: weight"),
        (["image-text", "--set", "train.lr=1,2"], "There is no parameter of image-text called 'train.lr'"),
        (["image-text", "--set", "weight=1,1"], "--set weight=1,1 needs different values"),
        (["image-text", "--set", "weight="], "needs different values"),
        (["image-text", "--set", "weight=1,much"], "The parameter weight of image-text cannot be 'much'"),
        (["image-text", "--set", "weight"], "A parameter is set by KEY=VALUE, not 'weight'"),
        (["pli", "--train-data", "p.csv", "--set", "mask_ratio=0.5,2"], "mask_ratio of pli's training cannot be '2'"),
        (["pli", "--train-data", "p.csv", "--set", "milestones=3,5"], "Nothing is swept"),
    ],
)
def test_a_mistake_is_named_before_anything_runs(
    arguments: list[str],
    message: str,
    benchmark_: TinyBenchmark,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.execute(["sweep", *arguments, *benchmark_.options(tmp_path / "runs")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_metric_that_is_not_reported_ends_the_sweep_after_its_first_run(
    benchmark_: TinyBenchmark, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["sweep", "image-text", "--set", "weight=0.5,1,2", *benchmark_.options(tmp_path), "--metric", "Recal@1"]
    assert cli.execute(command) == 2
    assert "Nearest: Recall@1" in capsys.readouterr().err
    assert len([*tmp_path.glob("*/image-text-*")]) == 1


def test_a_name_that_both_have_can_be_said_to_be_of_the_training(
    benchmark_: TinyBenchmark, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["sweep", "pli", "--set", "train.weight=0.5,1", *BRIEF, *benchmark_.options(tmp_path)]
    assert cli.execute([*command, *benchmark_.training(), "--format", "csv"]) == 0
    assert capsys.readouterr().out.startswith("train.weight,")


@pytest.mark.slow
def test_seeds_within_a_sweep_are_replicates_of_each_value(
    benchmark_: TinyBenchmark, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """However they are asked for; the plot draws each beside the mean of its value."""
    command = ["sweep", "pli", "--set", "mask_ratio=0.25,0.75", *BRIEF, "--set", "lr=0.01"]
    command += [*benchmark_.options(tmp_path), *benchmark_.training(), "--format", "json"]
    shown = []
    for seeds in (["--seeds", "0,1"], ["--set", "seed=0,1"]):
        assert cli.execute([*command, *seeds]) == 0
        shown.append(json.loads(capsys.readouterr().out))
    assert shown[0] == shown[1]
    assert [row["mask_ratio"]["value"] for row in shown[0]["rows"]] == [0.25, 0.75]
    assert all("sd" in row["value"] for row in shown[0]["rows"])
    assert "after Holm's correction" not in shown[0]["caption"]  # one pair: two values, not four runs
    plot = ElementTree.parse(sweep_folder(tmp_path) / "plot.svg")
    assert len([each for each in plot.iter() if each.get("class") == "replicate"]) == 4


def test_seeds_alone_are_no_sweep(
    benchmark_: TinyBenchmark, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["sweep", "pli", *benchmark_.options(tmp_path), *benchmark_.training(), "--set", "seed=0,1"]
    assert cli.execute(command) == 2
    shown = capsys.readouterr().err
    assert "seeds alone make replicates" in shown and "cirbench run --method pli --seeds 0,1" in shown


@pytest.mark.slow
def test_a_run_with_seeds_trains_once_for_each_and_says_what_needs_none(
    benchmark_: TinyBenchmark, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    brief = ["--train", "steps=2", "--train", "batch_size=4", "--train", "lr=0.01"]
    command = ["run", "--method", "pli,image-text", *benchmark_.options(tmp_path), *benchmark_.training(), *brief]
    assert cli.execute([*command, "--seeds", "0,1", "--plan"]) == 0
    assert "seed 1:" in capsys.readouterr().out
    assert cli.execute([*command, "--seeds", "0,1", "--json"]) == 0
    shown = capsys.readouterr()
    content = json.loads(shown.out)
    trained = [each for each in content["results"] if each["method"]["name"] == "pli"]
    assert [(each["seed"], each["method"]["training"]["seed"]) for each in trained] == [(0, 0), (1, 1)]
    assert len(content["results"]) == 5 and content["means"][0]["seeds"] == [0, 1]
    assert (
        "Seeds make no difference to image-text" in shown.err and "image-only" not in shown.err.split("Seeds")[1][:60]
    )
    # One of them is the run that --seed makes.
    assert cli.execute([*command, "--seed", "1", "--json"]) == 0
    again = [each for each in json.loads(capsys.readouterr().out)["results"] if each["method"]["name"] == "pli"]
    assert [(each["folder"], each["reused"]) for each in again] == [(trained[1]["folder"], True)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seeds", "0,1", "--seed", "3"], "--seed and --seeds exclude each other."),
        (["--seeds", "0,0"], "--seeds takes different whole numbers, separated by commas, not '0,0'."),
        (["--seeds", "one"], "--seeds takes different whole numbers"),
        (["--seeds", "-1"], "--seeds takes different whole numbers"),
        (["--seeds", "0,1", "--train", "seed=2"], "--seeds sets the seed of each run, and so does seed=..."),
    ],
)
def test_seeds_that_cannot_be_meant_are_refused(
    options: list[str],
    message: str,
    benchmark_: TinyBenchmark,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["run", "--method", "pli", *benchmark_.options(tmp_path), *benchmark_.training()]
    assert cli.execute([*command, *options]) == 2
    assert message in capsys.readouterr().err
