"""A run from options to files: finished ones are recognised, damaged ones noticed, mistakes named."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import cirbench
from cirbench import cli
from cirbench.backbones.openclip import BUNDLED
from cirbench.benchmarks.catalogue import load_protocol
from cirbench.errors import CorruptFile, MissingData
from cirbench.runs.folder import load_run
from tests.tiny_benchmark import write_benchmark

if TYPE_CHECKING:
    from pathlib import Path


TINY = ["run", "--dataset", "scenes", "--split", "tiny"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where one run of image-text on scenes/tiny lies, with its baselines."""
    folder = tmp_path_factory.mktemp("runs")
    assert cli.execute([*TINY, "--method", "image-text", "--output", str(folder)]) == 0
    return folder


def only(folder: Path, method: str) -> Path:
    (found,) = folder.glob(f"scenes/{method}-*")
    return found


@pytest.mark.slow
def test_a_run_leaves_its_numbers_its_evidence_and_its_configuration(runs: Path) -> None:
    names = {path.name for path in only(runs, "image-text").iterdir()}
    assert names == {
        "result.json",
        "per_query.npz",
        "predictions.jsonl",
        "run.trec",
        "qrels.trec",
        "config.toml",
        "identity.json",
    }


def test_the_result_says_what_was_scored_of_how_much_and_with_what(runs: Path) -> None:
    result = load_run(only(runs, "image-text")).result
    counts = result.counts
    assert (counts.queries, counts.gallery) == (counts.queries_expected, counts.gallery_expected)
    assert not counts.partial
    assert result.protocol.name == "scenes/tiny@1"
    assert result.backbone.name == "scenes-vit"
    assert len(result.backbone.weights) == 64
    for metric in result.metrics:
        assert 0 <= metric.low <= metric.value <= metric.high <= 100


def test_the_kept_values_give_the_reported_numbers(runs: Path) -> None:
    run = load_run(only(runs, "image-text"))
    for metric in run.result.metrics:
        values_Q = run.values[metric.label]
        assert np.count_nonzero(~np.isnan(values_Q)) == metric.n
        assert 100 * np.nanmean(values_Q) == pytest.approx(metric.value, abs=1e-9)


def test_score_gives_the_numbers_of_run_from_its_predictions(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = load_run(only(runs, "image-text"))
    for name in ("predictions.jsonl", "run.trec"):
        command = ["score", "--dataset", "scenes", "--split", "tiny", "--predictions", str(run.folder / name), "--json"]
        assert cli.execute(command) == 0
        for metric in json.loads(capsys.readouterr().out)["metrics"]:
            assert metric["value"] == pytest.approx(run.result[metric["label"]].value, abs=1e-9)
            assert metric["low"] == pytest.approx(run.result[metric["label"]].low, abs=1e-9)


def test_the_same_configuration_is_recognised_and_not_computed_again(runs: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*") if path.is_file()}
    assert cli.execute([*TINY, "--method", "image-text", "--output", str(runs)]) == 0
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("*") if path.is_file()} == before


def test_the_kept_configuration_runs_again_into_the_same_folder(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = only(runs, "image-text")
    assert cli.execute(["run", "--config", str(folder / "config.toml"), "--force", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert str(folder) in [result["folder"] for result in report["results"]]


def test_force_gives_the_same_evidence_byte_for_byte(runs: Path) -> None:
    names = ("per_query.npz", "predictions.jsonl", "run.trec", "config.toml")
    before = [(only(runs, "image-text") / name).read_bytes() for name in names]
    assert cli.execute([*TINY, "--method", "image-text", "--output", str(runs), "--force"]) == 0
    assert [(only(runs, "image-text") / name).read_bytes() for name in names] == before


def test_another_parameter_is_another_run(runs: Path, tmp_path: Path) -> None:
    command = [*TINY, "--method", "image-text", "--output", str(tmp_path)]
    assert cli.execute([*command, "--set", "weight=0.5"]) == 0
    assert only(tmp_path, "image-text").name != only(runs, "image-text").name
    assert only(tmp_path, "image-only").name == only(runs, "image-only").name


def test_json_is_all_that_stdout_gets(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.execute([*TINY, "--method", "image-text", "--output", str(runs), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [result["method"]["name"] for result in report["results"]] == ["image-only", "text-only", "image-text"]
    values = {result["method"]["name"]: result["metrics"][0]["value"] for result in report["results"]}
    better = max(values["image-only"], values["text-only"])
    (gain,) = [row["gain"] for row in report["diagnostics"]["runs"] if row["method"] == "image-text"]
    assert gain["value"] == pytest.approx(values["image-text"] - better, abs=1e-9)
    for pair in report["comparisons"]:
        assert pair["difference"] == pytest.approx(values[pair["first"]] - values[pair["second"]], abs=1e-9)
        assert 0 < pair["p_value"] <= pair["p_holm"] <= 1


def test_a_limited_run_is_marked_partial(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.execute([*TINY, "--method", "image-only", "--limit", "5", "--output", str(tmp_path)]) == 0
    assert "queries 5/60, gallery 600/600 · PARTIAL" in capsys.readouterr().out
    assert load_run(only(tmp_path, "image-only")).result.counts.partial


def test_a_plan_names_what_is_finished_and_writes_nothing(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.execute([*TINY, "--method", "image-text", "--output", str(runs), "--plan"]) == 0
    assert f"finished, in {only(runs, 'image-text')}" in " ".join(capsys.readouterr().out.split())
    assert cli.execute([*TINY, "--method", "pli", "--output", str(tmp_path / "new"), "--plan"]) == 0
    shown = capsys.readouterr().out
    assert "to do    pli            trains first" in shown
    assert "600 gallery images are cached, 0 are to be encoded" in shown
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_missing_feature_cache_changes_nothing(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIRBENCH_CACHE", str(tmp_path / "cache"))
    command = [*TINY, "--method", "image-text", "--output", str(tmp_path / "runs"), "--batch-size"]
    assert cli.execute([*command, "auto"]) == 0
    again, first = only(tmp_path / "runs", "image-text"), only(runs, "image-text")
    assert (again / "run.trec").read_bytes() == (first / "run.trec").read_bytes()


@pytest.mark.parametrize("name", ["per_query.npz", "predictions.jsonl", "config.toml"])
def test_a_changed_or_lost_file_of_a_run_is_noticed(runs: Path, tmp_path: Path, name: str) -> None:
    copy = tmp_path / "run"
    shutil.copytree(only(runs, "image-text"), copy)
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(CorruptFile, match=rf"{name} is missing or is not the file this run was written with"):
        load_run(copy)
    (copy / name).unlink()
    with pytest.raises(CorruptFile, match="--force"):
        load_run(copy)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{", "is damaged"), (b'{"schema_version": 99}', "schema version 99"), (b'{"schema_version": 1}', "is damaged")],
)
def test_a_damaged_result_is_one_clear_error(runs: Path, tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "result.json").write_bytes(content)
    with pytest.raises(CorruptFile, match=message):
        load_run(tmp_path)


def test_a_folder_without_a_result_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="There is no finished run in"):
        load_run(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--method", "image-txt"], 2, "There is no method called 'image-txt'.\nNearest: image-text"),
        (["--method", "pli", "--dataset", "scene"], 2, "There is no data set called 'scene'.\nNearest: scenes"),
        (["--method", "pli", "--split", "vl"], 2, "There is no split of scenes called 'vl'.\nNearest: val"),
        (["--method", "pli", "--protocol", "scenes/vall"], 2, "There is no protocol called 'scenes/vall'"),
        (["--method", "image-text", "--backbone", "scenes-vitt"], 2, "There is no backbone called 'scenes-vitt'"),
        (["--method", "image-text", "--set", "wight=1"], 2, "There is no parameter of image-text called 'wight'"),
        (["--method", "image-text", "--set", "weight=much"], 2, "The parameter weight of image-text cannot be 'much'"),
        (["--method", "image-text", "--set", "weight"], 2, "A parameter is set by KEY=VALUE, not 'weight'"),
        (["--method", "image-text", "--batch-size", "0"], 2, "--batch-size takes auto or a positive number"),
        (["--method", "pli", "--checkpoint", "nowhere"], 3, "nowhere holds no checkpoint"),
        (["--method", "nowhere.py:Class"], 3, "nowhere.py does not exist"),
        (["--method", "image-text", "--device", "tpu"], 2, "tpu"),
    ],
)
def test_a_mistake_is_named_with_what_to_type_next(
    arguments: list[str], code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", "--dataset", "scenes", "--split", "tiny", *arguments, "--output", str(tmp_path)]
    assert cli.execute(command) == code
    shown = capsys.readouterr()
    assert message in shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""
    assert [path for path in tmp_path.rglob("*") if path.name == "result.json"] == []


@pytest.mark.parametrize("plan", [[], ["--plan"]])
def test_the_checkpoint_of_another_method_is_refused_before_anything_runs(
    plan: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = str(tmp_path / "checkpoint")
    short = ["--data", "scenes:8", "--set", "steps=1", "--set", "batch_size=4"]
    assert cli.execute(["train", "lincir", *short, "--output", checkpoint]) == 0
    capsys.readouterr()
    output = ["--output", str(tmp_path / "runs")]
    assert cli.execute([*TINY, "--method", "pli", "--checkpoint", checkpoint, *output, *plan]) == 2
    assert capsys.readouterr().err == f"error: The checkpoint {checkpoint} is of the method lincir, not of pli.\n"


def test_a_place_without_permission_is_one_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    assert cli.execute([*TINY, "--method", "image-only", "--output", str(blocked)]) == 1
    assert "could not be written" in capsys.readouterr().err


def test_a_run_folder_can_be_shown_and_listed(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = only(runs, "image-text")
    assert cli.execute(["show", str(folder)]) == 0
    assert "scenes/tiny@1" in capsys.readouterr().out
    assert cli.execute(["list", "runs", "--runs", str(runs), "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {row["method"] for row in listed} == {"image-only", "text-only", "image-text"}
    assert {row["state"] for row in listed} == {"whole"}


def test_python_gives_the_report_of_the_command_line(runs: Path) -> None:
    report = cirbench.evaluate("image-text", "scenes", split="tiny", output=str(runs))
    assert report["image-text"].folder == only(runs, "image-text")
    assert "mAP@5 [95 % interval]" in repr(report)
    assert report._repr_html_().startswith("<figure")


def test_the_predictions_of_a_run_name_gallery_ids(runs: Path) -> None:
    lines = (only(runs, "image-text") / "predictions.jsonl").read_text().splitlines()
    protocol = load_protocol("scenes/tiny")
    assert protocol.gallery is not None
    assert [json.loads(line)["query_id"] for line in lines] == [query.id for query in protocol.queries]
    assert set(json.loads(lines[0])["ranking"]) <= set(protocol.gallery.ids)


def test_a_broken_pipe_ends_quietly(runs: Path) -> None:
    program = [sys.executable, "-m", "cirbench", "list", "runs", "--runs", str(runs)]
    shell = f"{' '.join(program)} | true"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr


def test_a_method_is_trained_with_what_is_set_and_run(tmp_path: Path) -> None:
    benchmark = write_benchmark(tmp_path / "benchmark")
    brief = ["--train", "steps=2", "--train", "batch_size=4", "--train", "mask_ratio=0.25", *benchmark.training()]
    assert cli.execute(["run", "--method", "pli", *brief, *benchmark.options(tmp_path)]) == 0
    (folder,) = tmp_path.glob("*/pli-*")
    method = load_run(folder).result.method
    assert method.training is not None
    assert (method.training["steps"], method.training["mask_ratio"]) == (2, 0.25)
    config = (folder / "config.toml").read_text()
    assert "checkpoint = " in config and "[train]" not in config


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "image-text", "--train", "steps=2"], "nothing is trained here"),
        (["--method", "pli", "--checkpoint", "x", "--train", "steps=2"], "nothing is trained here"),
        (
            ["--method", "pli", "--train", "stepz=2"],
            "There is no parameter of pli's training called 'stepz'.\nNearest: steps",
        ),
        (["--method", "pli", "--train", "mask_ratio=2"], "The parameter mask_ratio of pli's training cannot be '2'"),
    ],
)
def test_a_training_that_cannot_be_is_refused_before_anything_runs(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.execute([*TINY, *arguments, "--output", str(tmp_path / "runs")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_run_on_the_averaged_weights_of_a_file_is_another_run_than_on_its_others(tmp_path: Path) -> None:
    plain = load_file(BUNDLED / "scenes-vit" / "model.safetensors")
    torch.save({"model": plain, "ema": {name: tensor * 1.01 for name, tensor in plain.items()}}, tmp_path / "both.pt")
    options = [*TINY, "--method", "image-only", "--weights", str(tmp_path / "both.pt"), "--output", str(tmp_path)]
    for ema in ([], ["--ema"]):
        assert cli.execute([*options, *ema]) == 0
    runs = [load_run(folder) for folder in tmp_path.glob("scenes/image-only-*")]
    assert len({run.result.backbone.weights for run in runs}) == len(runs) == 2
    assert sorted("ema = true" in (run.folder / "config.toml").read_text() for run in runs) == [False, True]


@pytest.mark.parametrize(
    "command",
    [
        [*TINY, "--method", "image-only"],
        ["train", "pli", "--data", "scenes:32"],
        ["train", "clip", "--data", "scenes:32", "--model", "anywhere"],
    ],
)
def test_ema_without_a_weights_file_is_refused(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.execute([*command, "--ema", "--output", str(tmp_path / "out")]) == 2
    assert "error: --ema" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
