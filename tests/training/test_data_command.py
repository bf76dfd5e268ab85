"""``cirbench train`` takes every form of data, and says in one message what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cirbench.cli import execute
from cirbench.training.checkpoint import read_card
from tests.tiny_clip import some_pairs, write_design

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A design, eight images of which one is torn, and their captions."""
    write_design(tmp_path / "model")
    for place, pair in enumerate(some_pairs(8).pairs):
        image, text = tmp_path / "images" / f"{place}.png", tmp_path / "captions" / f"{place}.txt"
        for path in (image, text):
            path.parent.mkdir(exist_ok=True)
        assert pair.image is not None
        pair.image.open().save(image)
        text.write_text(pair.caption or "")
    (tmp_path / "images" / "5.png").write_bytes(b"torn")
    return tmp_path


def train(data: Path, *options: str) -> int:
    begin = ["train", "clip", "--model", f"{data}/model", "--device", "cpu", "--output", f"{data}/out"]
    return execute([*begin, "--set", "batch_size=4", "--set", "steps=2", "--set", "lr=0.001", *options])


@pytest.mark.slow
def test_a_folder_with_captions_is_trained_on_and_what_was_skipped_is_in_the_card(data: Path) -> None:
    folders = ("--data", f"{data}/images", "--captions", f"{data}/captions")
    assert train(data, *folders, "--skip-broken", "1", "--workers", "1") == 0
    card = read_card(data / "out")
    assert (card.data, card.data_pairs, card.skipped) == (f"{data}/images + {data}/captions", 8, 1)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--data", "{}/images", "--captions", "{}/captions"], 3, "5.png cannot be decoded"),
        (["--data", "{}/images"], 2, "clip is trained on images with captions, and {}/images holds no captions"),
        (["--data", "{}/model"], 3, "{}/model holds no images"),
        (["--data", "{}/absent.tar"], 3, "The shard {}/absent.tar cannot be read"),
        (["--data", "scenes:8", "--captions", "{}/captions"], 2, "--captions goes with a folder of images"),
        (["--data", "scenes:8", "--skip-broken", "-1"], 2, "-1 is not in the range x>=0"),
        ([], 2, "--data is missing"),
    ],
)
def test_what_is_wrong_with_the_data_is_one_message(
    data: Path, capsys: pytest.CaptureFixture[str], options: list[str], code: int, message: str
) -> None:
    assert train(data, *(option.replace("{}", str(data)) for option in options)) == code
    assert message.replace("{}", str(data)) in capsys.readouterr().err
