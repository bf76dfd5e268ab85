"""The page "Joint models", followed with tiny models behind the names of large ones."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.backbones.hub_server import hub
from tests.guides.page import follow
from tests.tiny_qwen3vl import joint_model, vision_language_model

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
def test_a_reader_runs_a_tiny_model_a_published_one_and_an_own_one(tmp_path: Path) -> None:
    published, folder = tmp_path / "hub", tmp_path / "here"
    folder.mkdir()
    shutil.copytree(joint_model(), published / "Qwen" / "Qwen3-VL-Embedding-2B")
    shutil.copytree(vision_language_model(), folder / "my-vlm")
    with hub(published) as address:
        online = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "cache")}
        read = follow("joint-models", folder, **online, CIRBENCH_CACHE=str(tmp_path / "features"))
    assert "sentence-transformers:qwen3_vl, image first, sdpa@" in read.text
    assert "pixels(1024, 4096)" in read.text
    assert "mmeb-cirr" in read.text
    assert "ok      an instruction is read" in read.text
    runs = folder / "runs" / "scenes"
    assert len(list(runs.glob("embedder-*"))) == 3
    assert len(list(runs.glob("image-only-*"))) == 1  # the folder and the repository have one content
