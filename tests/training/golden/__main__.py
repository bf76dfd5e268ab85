"""Make golden traces again, or print those of today.

python -m tests.training.golden [NAME ...]            writes them here; say in the commit why they may differ
python -m tests.training.golden --print [NAME ...]    prints them as JSON
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: sums over threads round in another order

from cirbench.training.checkpoint import read_card
from cirbench.training.train import train
from tests.training import golden
from tests.training.quick import quick_request, trained


def losses(name: str) -> list[float]:
    """The losses of twenty steps, with all that a training prepares made again."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CIRBENCH_CACHE"] = folder
        return read_card(train(quick_request(name), folder=Path(folder) / name)).losses


names = [name for name in sys.argv[1:] if name != "--print"] or trained()
if "--print" in sys.argv:
    print(json.dumps({name: losses(name) for name in names}))
else:
    for name in names:
        golden.write(name, losses(name))
        print(golden.FOLDER / f"{name}.json")
