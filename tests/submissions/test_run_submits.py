"""A run on a split whose labels a server keeps writes the server's files by itself."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from cirbench import cli

if TYPE_CHECKING:
    from pathlib import Path


def test_a_run_on_cirr_test1_writes_two_files_that_pass_every_rule(
    annotation_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    splits = annotation_root / "cirr" / "image_splits" / "split.rc2.test1.json"
    if not splits.is_file():
        pytest.skip(f"{annotation_root} has no cirr/image_splits/split.rc2.test1.json")
    for folder in ("captions", "image_splits"):
        shutil.copytree(annotation_root / "cirr" / folder, tmp_path / "data" / "cirr" / folder)
    noise = np.random.default_rng(0)
    images = tmp_path / "data" / "cirr" / "test1"
    images.mkdir()
    for name in json.loads(splits.read_text()):
        Image.fromarray(noise.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(images / f"{name}.png")
    monkeypatch.chdir(tmp_path)
    data = ["--data-root", str(tmp_path / "data")]
    run = ["run", "--method", "image-only", "--dataset", "cirr", "--split", "test1", "--backbone", "scenes-vit"]
    assert cli.execute([*run, *data]) == 0
    assert "Upload at" in capsys.readouterr().err
    files = sorted(str(path) for path in tmp_path.glob("submissions/cirr/*.recall*.json"))
    assert len(files) == 2
    assert cli.execute(["submit", "check", *files, *data]) == 0
