"""Made-up published rows about what this machine can run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from cirbench.comparison.published import Published, load_published

if TYPE_CHECKING:
    from pathlib import Path

ROW: dict[str, Any] = {
    "id": "scenes-tiny/image-text-baseline/scenes-vit/own",
    "benchmark": "scenes",
    "split": "tiny",
    "method": "Image+Text baseline",
    "supervision": "training-free",
    "backbone": "Scenes ViT",
    "protocol": "scenes/tiny",
    "metrics": {"mAP@5": 32.85, "Recall@1": 20.4, "Recall@5": 99.0},
    "provenance": "own",
    "source": {"title": "A made-up paper", "id": "none", "table": "Table 1", "how": "paper"},
}


def published(path: Path, **changes: Any) -> Published:
    """Write a file with one row, and read it."""
    content = {
        "schema_version": 1,
        "unit": "percent",
        "methods": {"Image+Text baseline": "image-text", "PLI": "pli", "SEARLE": "searle", "Image-only": "image-only"},
        "caveats": {},
        "benchmarks": {"scenes": {"title": "Scenes"}, "cirr": {"title": "CIRR"}, "circo": {"title": "CIRCO"}},
        "backbones": {"Scenes ViT": "scenes-vit", "CLIP ViT-L/14": "ViT-L-14/openai", "BLIP ViT-B/16": None},
        "recipes": {"pli": {"training": {"mask_ratio": 0.75}}},
        "rows": [ROW | changes],
    }
    path.write_text(json.dumps(content))
    return load_published(path)
