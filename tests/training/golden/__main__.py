"""Make the golden traces again."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from cirbench.training.checkpoint import read_card
from cirbench.training.train import train
from tests.training import golden
from tests.training.quick import quick_request, trained

for name in sys.argv[1:] or trained():
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CIRBENCH_CACHE"] = folder  # what a training prepares is made again too
        golden.write(name, read_card(train(quick_request(name), folder=Path(folder) / name)).losses)
    print(golden.FOLDER / f"{name}.json")
