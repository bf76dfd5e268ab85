"""Each image is described once, whoever asks, and a killed captioner goes on where it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from cirbench.artefacts import CaptionStore, describe
from cirbench.errors import CorruptFile
from cirbench.support.console import silent
from tests.training.plain_samples import Square

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from PIL import Image


class Grey:
    """Says how grey an image is, until it is stopped."""

    batch_size = 2

    def __init__(self, patience: int = 99) -> None:
        self.patience = patience
        self.seen: list[int] = []

    def __call__(self, images: Sequence[Image.Image]) -> list[str]:
        if len(self.seen) >= self.patience:
            raise KeyboardInterrupt
        greys = [int(np.asarray(image)[0, 0, 0]) for image in images]
        self.seen += greys
        return [f"grey {grey}" for grey in greys]


def test_equal_images_are_described_once(tmp_path: Path) -> None:
    captioner = Grey()
    captions = describe([Square(1), Square(2), Square(1)], captioner, CaptionStore(tmp_path, "grey"), silent)
    assert captions == ["grey 1", "grey 2", "grey 1"]
    assert captioner.seen == [1, 2]


def test_a_stopped_captioner_goes_on_with_the_next_batch(tmp_path: Path) -> None:
    images, store = [Square(grey) for grey in range(7)], CaptionStore(tmp_path, "grey")
    with pytest.raises(KeyboardInterrupt):
        describe(images, Grey(patience=4), store, silent)
    captioner = Grey()
    assert describe(images, captioner, store, silent) == [f"grey {grey}" for grey in range(7)]
    assert captioner.seen == [4, 5, 6]


def test_captions_of_another_captioner_are_not_taken(tmp_path: Path) -> None:
    for name in ("one", "two"):
        captioner = Grey()
        describe([Square(1)], captioner, CaptionStore(tmp_path, name), silent)
        assert captioner.seen == [1]


def test_damaged_captions_are_an_error_that_names_the_file(tmp_path: Path) -> None:
    store = CaptionStore(tmp_path, "grey")
    describe([Square(1)], Grey(), store, silent)
    (file,) = store.own.glob("*.json")
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(CorruptFile, match=f"The captions in {file} are damaged"):
        describe([Square(1)], Grey(), store, silent)


def test_a_broken_image_is_named_and_what_was_described_is_kept(tmp_path: Path) -> None:
    images, store = [Square(0), Square(1), Square(2, broken=True)], CaptionStore(tmp_path, "grey")
    with pytest.raises(CorruptFile, match="square 2 is torn"):
        describe(images, Grey(), store, silent)
    assert store.read() == {"square 0": "grey 0", "square 1": "grey 1"}
