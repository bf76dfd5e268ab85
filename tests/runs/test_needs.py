"""Everything that is missing for a run is one answer, in order, each thing once and with its command."""

from __future__ import annotations

import shlex
import shutil
from typing import TYPE_CHECKING

import pytest

from cirbench import cli
from cirbench.benchmarks import circo
from cirbench.benchmarks.catalogue import datasets, protocols
from cirbench.cli import command_error
from cirbench.methods.interface import find_method, list_methods
from cirbench.support.needs import PROGRAMS
from tests import circo_files
from tests.tiny_benchmark import write_benchmark

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with nothing: no data root, an empty folder, and no weights."""
    monkeypatch.delenv("CIRBENCH_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)


def told(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, list[str]]:
    code = cli.execute(["run", *options])
    captured = capsys.readouterr()
    return code, (captured.out if "--plan" in options else captured.err).splitlines()


def missing(lines: list[str]) -> list[str]:
    return [" ".join(line.split()[1:]) for line in lines if line.startswith("missing")]


def commands(lines: list[str]) -> list[str]:
    return [line.strip() for line in lines if line.startswith("    ") and line.split()[0] in PROGRAMS]


@pytest.mark.parametrize("plan", [[], ["--plan"]])
def test_one_answer_lists_all_that_a_run_misses_in_order(
    plan: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines = told(capsys, "--method", "pli", "--dataset", "circo", *plan)
    assert code == (0 if plan else 3)
    assert missing(lines) == [
        "annotations circo/val: 2 files (112.0 kB and 1 file of unknown size)",
        "images COCO 2017 unlabeled: 123,403 images (20.1 GB)",
        "weights ViT-L-14/openai (1.7 GB)",
        "checkpoint pli is trained, and no checkpoint is given",
    ]
    data = tmp_path / "data"
    assert commands(lines) == [
        f"cirbench data get circo/val --data-root {data} --annotations-only",
        f"cirbench data get circo/val --data-root {data}",
        "hf download timm/vit_large_patch14_clip_224.openai open_clip_model.safetensors",
        f"cirbench data get coco:train2017 --data-root {data}",
        f"cirbench run --method pli --dataset circo --data-root {data} --train-data coco:train2017",
        "cirbench train pli --backbone ViT-L-14/openai --data imagenet:test --output CHECKPOINT",
        "cirbench convert pli FILE.pth --backbone ViT-L-14/openai --output CHECKPOINT",
    ]
    assert bool(plan) == any(line.startswith("to do    pli") for line in lines)


def test_training_data_by_name_are_missed_like_those_of_a_benchmark(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines = told(
        capsys, "--method", "pli,lincir", "--dataset", "circo", "--train-data", "coco:train2017", "--set", "seed=1"
    )
    assert code == 2  # a mistake in the command is said first
    code, lines = told(capsys, "--method", "pli,lincir", "--dataset", "circo", "--train-data", "coco:train2017")
    assert code == 3
    assert missing(lines)[3:] == [
        "annotations coco:train2017: 1 file (252.9 MB)",  # once, though both methods need them
        "images COCO 2017 train: 118,287 images (19.3 GB)",
    ]
    assert commands(lines)[-1] == (
        f"cirbench run --method pli,lincir --dataset circo --train-data coco:train2017 --data-root {tmp_path / 'data'}"
    )


def test_texts_alone_miss_no_images(capsys: pytest.CaptureFixture[str]) -> None:
    _, lines = told(capsys, "--method", "lincir", "--dataset", "circo", "--train-data", "coco:train2017")
    assert missing(lines)[3:] == ["annotations coco:train2017: 1 file (252.9 MB)"]


def test_what_is_there_is_said_and_not_fetched_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = circo_files.published_size("val")
    circo_files.write(tmp_path / "data", rows, None)
    _, lines = told(capsys, "--method", "image-text", "--dataset", "circo", "--data-root", "data", "--plan")
    assert missing(lines)[0] == "annotations circo/val: 1 of 2 files (size unknown)"
    _, lines = told(capsys, "--method", "image-text", "--dataset", "circo", "--backbone", "scenes-vit", "--plan")
    assert "there    weights        scenes-vit" in lines


OF_FIRST_STAGES = [name for name in list_methods() if not find_method(name).reranks]


@pytest.mark.parametrize("width", [80, 120])
def test_the_answer_fits_the_terminal_and_commands_stay_in_one_line(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    _, lines = told(capsys, "--method", ",".join(OF_FIRST_STAGES), "--dataset", "cirr")
    for line in lines:
        words = line.split()  # a path is not broken either
        assert len(line) <= width or words[0] in PROGRAMS or len(words) == 1, line


NEEDING = [entry.name for entry in datasets().values() if entry.needs is not None]
OF_THE_HUB = ["blip-itm-base-coco", "hf-hub:owner/model", "owner/model"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dataset", "backbone"),
    [*((name, "ViT-B-32/openai") for name in NEEDING), *(("circo", name) for name in OF_THE_HUB)],
)
def test_every_method_on_every_protocol_gets_an_answer_whose_commands_can_be_typed(
    dataset: str, backbone: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for protocol in (each.id for each in protocols().values() if each.dataset == dataset):
        methods = ",".join(OF_FIRST_STAGES)
        asked = ["--method", methods, "--dataset", dataset, "--protocol", protocol, "--backbone", backbone]
        code, lines = told(capsys, *asked)
        assert code == 3
        assert len(missing(lines)) == len(set(missing(lines))) > 3
        for command in commands(lines):
            program, *words = shlex.split(command)
            assert program != "cirbench" or command_error(words) is None, command


def test_a_folder_of_ones_own_misses_its_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark = write_benchmark(tmp_path)
    shutil.rmtree(benchmark.data / "gallery")
    (benchmark.data / "gallery").mkdir()
    code, lines = told(capsys, "--method", "pli", *benchmark.options(tmp_path / "runs"), "--train-data", "no.csv")
    assert code == 3
    assert len(missing(lines)) == 2
    assert missing(lines)[1] == "training data The file no.csv does not exist."


def test_a_checkpoint_that_is_not_there_is_missed_with_the_ways_to_one(capsys: pytest.CaptureFixture[str]) -> None:
    _, lines = told(capsys, "--method", "searle", "--dataset", "cirr", "--checkpoint", "nowhere")
    assert missing(lines)[-1].startswith("checkpoint nowhere holds no checkpoint")
    assert "cirbench convert searle SEARLE_ViT-L14.pt --backbone ViT-L-14/openai --output CHECKPOINT" in commands(lines)


def test_weights_alone_are_no_reason_to_refuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark = write_benchmark(tmp_path)
    asked = ["--method", "image-text", "--dataset", str(benchmark.data), "--backbone", "ViT-B-32/openai"]
    code, lines = told(capsys, *asked, "--plan")
    assert code == 0
    assert missing(lines) == ["weights ViT-B-32/openai (605.1 MB)"]
    code, lines = told(capsys, *asked)
    assert code == 3
    assert lines[0].startswith("error: The weights ViT-B-32/openai are not cached, and could not be downloaded")


def test_images_that_are_missing_are_named_with_the_way_to_go_without(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, gallery = circo_files.labelled_rows(6, images=60)
    monkeypatch.setitem(circo.EXPECTED, "val", circo_files.expected(rows, 60))
    circo_files.write(tmp_path / "data", rows, gallery)
    folder = tmp_path / "data" / "circo" / "unlabeled2017"
    folder.mkdir()
    for number in gallery[1:]:
        (folder / f"{number:012d}.jpg").write_bytes(b"x")
    asked = ["--method", "image-text", "--dataset", "circo", "--backbone", "scenes-vit", "--data-root", "data"]
    code, lines = told(capsys, *asked)
    assert code == 3
    assert missing(lines) == ["images COCO 2017 unlabeled: 1 of 60 images (20.1 GB)"]
    assert any(f"1 of 60 circo images are missing: {gallery[0]}" in line for line in lines)
    assert any("With --allow-missing the run goes on without them" in line for line in lines)


def test_shards_on_a_server_are_not_fetched_by_a_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark = write_benchmark(tmp_path)
    shards = "http://127.0.0.1:9/part-{0..1}.tar"
    asked = ["--method", "pli", *benchmark.options(tmp_path / "runs"), "--train-data", shards, "--plan"]
    code, lines = told(capsys, *asked)
    assert code == 0
    assert missing(lines) == [f"training data {shards} (size unknown)"]
    assert any(line.startswith("to do    pli            trains on") for line in lines)
