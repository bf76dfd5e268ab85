"""A process that downloads one file, to be killed."""

from __future__ import annotations

import sys
from pathlib import Path

from cirbench.support.download import RetryPolicy, fetch

if __name__ == "__main__":
    fetch(sys.argv[1], Path(sys.argv[2]), sha256=sys.argv[3], patience=RetryPolicy(read=60))
