"""Each image is described once, whoever asks, and a killed captioner goes on where it was."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cirbench.artefacts import Answer, Artefact, Maker, describe, kept_captions
from cirbench.errors import CorruptFile
from cirbench.support.console import silent
from tests.training.plain_samples import Square

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from PIL import Image


GREY = Maker(model="grey", revision="0123456789abcdef" * 4)


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
    captions = describe([Square(1), Square(2), Square(1)], captioner, kept_captions(GREY, tmp_path), silent)
    assert captions == ["grey 1", "grey 2", "grey 1"]
    assert captioner.seen == [1, 2]


def test_a_stopped_captioner_goes_on_with_the_next_batch(tmp_path: Path) -> None:
    images, store = [Square(grey) for grey in range(7)], kept_captions(GREY, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        describe(images, Grey(patience=4), store, silent)
    captioner = Grey()
    assert describe(images, captioner, store, silent) == [f"grey {grey}" for grey in range(7)]
    assert captioner.seen == [4, 5, 6]


def test_captions_of_another_captioner_are_not_taken(tmp_path: Path) -> None:
    for name in ("one", "two"):
        captioner = Grey()
        describe([Square(1)], captioner, kept_captions(Maker(model=name), tmp_path), silent)
        assert captioner.seen == [1]


def test_captions_that_an_earlier_version_kept_are_taken_over(tmp_path: Path) -> None:
    earlier = tmp_path / "captions" / GREY.revision[:32]
    earlier.mkdir(parents=True)
    batch = {"captioner": GREY.revision, "captions": {"square 1": "as before"}, "schema": 1}
    (earlier / "0a.json").write_text(json.dumps(batch))
    captioner = Grey()
    found = describe([Square(1), Square(2)], captioner, kept_captions(GREY, tmp_path), silent)
    assert found == ["as before", "grey 2"]
    assert captioner.seen == [2]
    assert describe([Square(1)], captioner, kept_captions(GREY, tmp_path), silent) == ["as before"]
    (earlier / "0b.json").write_text(json.dumps(batch)[:-3])
    kept_captions(GREY, tmp_path).path.unlink()
    with pytest.raises(CorruptFile, match=f"The captions in {earlier / '0b.json'} are damaged"):
        kept_captions(GREY, tmp_path)


def test_a_broken_image_is_named_and_what_was_described_is_kept(tmp_path: Path) -> None:
    images, store = [Square(0), Square(1), Square(2, broken=True)], kept_captions(GREY, tmp_path)
    with pytest.raises(CorruptFile, match="square 2 is torn"):
        describe(images, Grey(), store, silent)
    assert list(Artefact(store.path)) == [
        Answer((f"square {grey}",), (), {"caption": (f"grey {grey}",)}) for grey in (0, 1)
    ]
