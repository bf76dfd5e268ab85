"""The page "Literature beside mine", on annotations in CIRCO's form and rankings that were made elsewhere."""

from __future__ import annotations

import itertools
import json
import random
from typing import TYPE_CHECKING

import pytest

from cirbench.benchmarks.circo import EXPECTED, IMAGES
from tests.circo_files import published_size, write
from tests.guides.page import follow

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
def test_a_reader_sets_own_rankings_beside_published_rows(tmp_path: Path) -> None:
    rows = published_size()
    named = dict.fromkeys(image for row in rows for image in (row["reference_img_id"], *row["gt_img_ids"]))
    others = (image for image in itertools.count(1) if image not in named)
    gallery = [*named, *itertools.islice(others, EXPECTED["val"][IMAGES] - len(named))]
    write(tmp_path / "data", rows, gallery)
    folder = tmp_path / "here"
    folder.mkdir()
    for name, share in (("ours", 0.6), ("sum", 0.3)):
        draw = random.Random(name)
        ranked = {}
        for row in rows:
            hits = [image for image in row["gt_img_ids"] if draw.random() < share]
            rest = [image for image in draw.sample(gallery, 60) if image != row["reference_img_id"]]
            ranked[str(row["id"])] = list(dict.fromkeys([*hits, *rest]))[:50]
        (folder / f"{name}.json").write_text(json.dumps(ranked))
    read = follow("literature", folder, CIRBENCH_DATA=str(tmp_path / "data"))
    table = next(output for output in read.outputs if "LinCIR†" in output)
    assert "ours" in table and "Pic2Word†" in table and "†: as published." in " ".join(table.split())
    source = (folder / "table.tex").read_text()
    assert r"\multicolumn{4}{c}{circo/val}" in source and r"\multicolumn{4}{c}{circo/test}" in source
    assert r"SEARLE-XL\ensuremath{\dagger}" in source and "CLIP ViT-L/14" in source
