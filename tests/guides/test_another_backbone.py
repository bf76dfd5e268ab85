"""The page "Another backbone", followed with small models behind the names of the published ones."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.backbones.hub_server import hub
from tests.backbones.test_sentence import write_clip, write_texts
from tests.backbones.tiny_transformers import clip
from tests.guides.page import GUIDES, follow

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
def test_a_reader_runs_published_models_own_weights_and_an_own_encoder(tmp_path: Path) -> None:
    published, folder = tmp_path / "hub", tmp_path / "here"
    sentence = published / "sentence-transformers"
    for path in (sentence, folder):
        path.mkdir(parents=True)
    clip(folder / "my-clip")
    write_clip(folder / "my-model")
    shutil.copytree(folder / "my-clip", published / "openai" / "clip-vit-base-patch32")
    shutil.copytree(folder / "my-model", sentence / "clip-ViT-B-32")
    write_texts(sentence / "clip-ViT-B-32-multilingual-v1")
    with hub(published) as address:
        online = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "cache")}
        read = follow("another-backbone", folder, **online)
    assert "transformers:clip@" in read.text
    assert len(list((folder / "runs" / "scenes").glob("image-text-*"))) == 2
    assert len(list((folder / "runs" / "scenes").glob("my-encoder-*"))) == 1


def test_the_encoder_of_the_page_has_fewer_than_20_lines() -> None:
    page = (GUIDES / "another-backbone.md").read_text()
    example = page.partition('title="my_encoder.py"\n')[2].partition("```")[0]
    assert 5 < len(example.splitlines()) < 20
