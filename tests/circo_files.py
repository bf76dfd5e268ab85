"""Annotations in CIRCO's format, made from a seed, for tests that need a whole data root."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

from cirbench.benchmarks.circo import ASPECTS, EXPECTED, GROUND_TRUTHS, IMAGES, QUERIES, REFERENCES, carrying

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cirbench.benchmarks.annotation_files import Expected

Rows = list[dict[str, Any]]


def labelled_rows(queries: int = 12, *, images: int = 120, seed: int = 0) -> tuple[Rows, list[int]]:
    """Return labelled rows as CIRCO's val.json has them, and the ids of the gallery.

    Every query has its own reference and one to five ground truths.
    """
    draw = random.Random(seed)
    gallery = draw.sample(range(1, 581_929), images)
    references = draw.sample(gallery, queries)
    rows: Rows = []
    for number, reference in enumerate(references):
        others = [image for image in gallery if image != reference]
        relevant = draw.sample(others, draw.randint(1, 5))
        rows.append(
            {
                "reference_img_id": reference,
                "target_img_id": relevant[0],
                "relative_caption": f"has {number} more of them",
                "shared_concept": "a thing",
                "gt_img_ids": relevant,
                "id": number,
                "semantic_aspects": draw.sample(ASPECTS, draw.randint(1, 4)),
            }
        )
    return rows, gallery


def expected(rows: Rows, images: int) -> Expected:
    """Count what a loader must find."""
    carried = Counter(name for row in rows for name in row["semantic_aspects"])
    return {
        QUERIES: len(rows),
        REFERENCES: len({row["reference_img_id"] for row in rows}),
        GROUND_TRUTHS: sum(len(row["gt_img_ids"]) for row in rows),
        IMAGES: images,
        **{carrying(name): carried[name] for name in ASPECTS},
    }


def write(root: Path, rows: Rows, gallery: Sequence[int] | None, *, split: str = "val") -> Path:
    """Write a split, and the gallery where there is one, below ``root``; return the annotation file."""
    folder = root / "circo" / "annotations"
    folder.mkdir(parents=True, exist_ok=True)
    if gallery is not None:
        images = [{"id": image, "file_name": f"{image:012d}.jpg"} for image in gallery]
        (folder / "image_info_unlabeled2017.json").write_text(json.dumps({"info": {}, "images": images}))
    path = folder / f"{split}.json"
    path.write_text(json.dumps(rows))
    return path


def published_size(split: str = "val") -> Rows:
    """Return rows that keep every published count of CIRCO's ``split``: what `circo_protocol` accepts."""
    counts = EXPECTED[split]
    rows, _ = labelled_rows(counts[QUERIES], images=3 * counts[QUERIES])
    for surplus in range(counts[QUERIES] - counts[REFERENCES]):
        rows[surplus]["reference_img_id"] = rows[-1 - surplus]["reference_img_id"]
    if split == "test":
        labels = ("target_img_id", "gt_img_ids", "semantic_aspects")
        return [{key: value for key, value in row.items() if key not in labels} for row in rows]
    left = counts[GROUND_TRUTHS]
    fresh = iter(range(600_000, 600_000 + left))
    carriers = [name for name in ASPECTS for _ in range(counts[carrying(name)])]
    for number, row in enumerate(rows):
        share = left // (len(rows) - number)
        row["gt_img_ids"] = [next(fresh) for _ in range(share)]
        row["target_img_id"] = row["gt_img_ids"][0]
        row["semantic_aspects"] = carriers[number :: len(rows)]
        left -= share
    return rows
