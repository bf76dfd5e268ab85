"""``cirbench caption`` writes captions that a training reads, by a captioner in the files of transformers."""

from __future__ import annotations

import json
import shutil
import sys
from typing import TYPE_CHECKING

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from cirbench.artefacts.captions import CaptionsCard, load_captioner
from cirbench.cli import execute
from cirbench.errors import CirbenchError, CorruptFile, MissingData, UsageError
from cirbench.support.files import sha256_of_file
from cirbench.training.data import open_source
from tests.tiny_blip import write_blip
from tests.tiny_captioner import write_blip2_captioner, write_captioner

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COLOURS = ("red", "green", "blue", "white", "black")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_captioner(tmp_path_factory.mktemp("model"))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number, colour in enumerate(COLOURS):
        path = tmp_path / "images" / f"n{number % 2}" / f"{colour}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), colour).save(path)
    return tmp_path / "images"


def caption(images: Path, model: Path, output: Path) -> int:
    options = ["--images", images, "--model", model, "--output", output, "--batch-size", "2", "--device", "cpu"]
    return execute(["caption", *map(str, options)])


def test_the_captions_of_a_folder_are_what_a_training_reads(
    images: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "written" / "captions.jsonl"
    assert caption(images, model, output) == 0
    assert capsys.readouterr().out == f"{output}\n"
    pairs = open_source(str(output)).pairs
    captioner = load_captioner(str(model), device="cpu", batch_size=1)
    assert len(pairs) == len(COLOURS)
    for pair in pairs:
        assert pair.image is not None
        assert pair.caption == captioner([pair.image.open()])[0]
    assert len({pair.caption for pair in pairs}) > 1


@pytest.mark.parametrize("write", [write_captioner, write_blip2_captioner])
def test_a_caption_depends_on_its_own_image_only(write: Callable[[Path], Path], tmp_path: Path) -> None:
    captioner = load_captioner(str(write(tmp_path / "model")), device="cpu", batch_size=3)
    pictures = [Image.new("RGB", (40, 30), colour) for colour in COLOURS[:4]]
    captions = captioner(pictures[:3]) + captioner(pictures[3:])
    assert len(set(captions)) > 1
    assert captioner(pictures[2:]) == captions[2:]
    assert captioner(pictures[1:2]) == captions[1:2]


def test_the_card_says_who_wrote_the_captions(images: Path, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "captions.jsonl"
    assert caption(images, model, output) == 0
    import msgspec

    card = msgspec.json.decode((tmp_path / "captions.card.json").read_bytes(), type=CaptionsCard)
    assert (card.schema, card.images, card.speechless) == (1, 5, [])
    assert card.sha256 == sha256_of_file(output)
    assert card.files["model.safetensors"] == sha256_of_file(model / "model.safetensors")
    assert card.identity == load_captioner(str(model), device="cpu").identity


def test_a_second_time_nothing_is_described_again(
    images: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert caption(images, model, tmp_path / "one.jsonl") == 0
    monkeypatch.setattr("cirbench.artefacts.captions.Captioner.__call__", None)
    assert caption(images, model, tmp_path / "two.jsonl") == 0
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()


def test_images_of_which_nothing_is_said_are_left_out_and_named(
    images: Path,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    silent = write_captioner(tmp_path / "silent", seed=7)
    monkeypatch.setattr("cirbench.artefacts.captions.Captioner.__call__", lambda self, images: [""] * len(images))
    output = tmp_path / "captions.jsonl"
    assert caption(images, silent, output) == 0
    assert output.read_bytes() == b""
    assert "The captioner said nothing of 5 images, which are left out: images/n0/black.png" in capsys.readouterr().err


def test_other_weights_are_another_captioner(model: Path, tmp_path: Path) -> None:
    other = write_captioner(tmp_path / "other", seed=1)
    assert load_captioner(str(model), device="cpu").identity != load_captioner(str(other), device="cpu").identity


def test_a_model_for_retrieval_is_no_captioner(tmp_path: Path) -> None:
    folder = write_blip(tmp_path / "blip", changes={"architectures": ["BlipForImageTextRetrieval"]})
    with pytest.raises(UsageError, match="is a BlipForImageTextRetrieval, not a captioner that is known here"):
        load_captioner(str(folder), device="cpu")


def spoilt(model: Path, folder: Path, what: str) -> Path:
    shutil.copytree(model, folder)
    if what == "config":
        (folder / "config.json").unlink()
    elif what == "json":
        (folder / "config.json").write_text("{")
    elif what == "torn":
        (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1000])
    else:
        tensors = load_file(folder / "model.safetensors")
        del tensors["vision_model.post_layernorm.weight"]
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        ("config", MissingData, "is not a model folder of transformers: config.json cannot be read"),
        ("json", CorruptFile, "config.json cannot be read"),
        ("torn", CorruptFile, "cannot be loaded"),
        ("lacking", CorruptFile, "lack 1 tensors, for instance vision_model.post_layernorm.weight"),
    ],
)
def test_a_damaged_captioner_is_one_clear_error(
    model: Path, tmp_path: Path, what: str, error: type[CirbenchError], message: str
) -> None:
    with pytest.raises(error, match=message):
        load_captioner(str(spoilt(model, tmp_path / "spoilt", what)), device="cpu")


def test_a_captioner_that_is_not_at_hand_is_named() -> None:
    with pytest.raises(MissingData, match="The captioner nobody/nothing is not available, and could not be downloaded"):
        load_captioner("nobody/nothing", device="cpu")


def test_without_transformers_the_command_to_install_it_is_said(
    images: Path,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert caption(images, model, tmp_path / "captions.jsonl") == 3
    assert "A captioner needs the package transformers" in (said := capsys.readouterr().err)
    assert "pip install 'cirbench[transformers]'" in said


def test_captions_go_to_a_file_that_trainings_read(
    images: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert caption(images, model, tmp_path / "captions.txt") == 2
    assert "--output captions.jsonl" in capsys.readouterr().err


def test_lines_are_json_objects_with_paths_relative_to_the_file(images: Path, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "captions.jsonl"
    caption(images, model, output)
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert [line["image"] for line in lines] == sorted(f"images/n{n % 2}/{c}.png" for n, c in enumerate(COLOURS))
