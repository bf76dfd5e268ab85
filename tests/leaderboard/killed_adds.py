"""Add one run again and again, for a test that kills it: ``python -m tests.leaderboard.killed_adds RUN ENTRIES``."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

from cirbench.leaderboard.adding import add_run

if __name__ == "__main__":
    print("ready", flush=True)
    for number in itertools.count():
        add_run(Path(sys.argv[1]), Path(sys.argv[2]), note=f"time {number}")
