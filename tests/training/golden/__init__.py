"""Golden traces: the losses of twenty steps of every training, to be kept when code is changed that should not matter.

python -m tests.training.golden [NAME ...]    makes them again; say in the commit why they may differ
"""

from __future__ import annotations

import json
from pathlib import Path

FOLDER = Path(__file__).parent
SCHEMA = 1


def read(name: str) -> list[float]:
    """The trace of a training."""
    content = json.loads((FOLDER / f"{name}.json").read_text())
    assert content["schema"] == SCHEMA
    losses: list[float] = content["losses"]
    return losses


def write(name: str, losses: list[float]) -> None:
    """Keep the trace of a training."""
    content = {"schema": SCHEMA, "losses": [round(loss, 6) for loss in losses]}
    (FOLDER / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
