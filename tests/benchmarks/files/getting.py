"""A process that gets some files, to run beside another one."""

from __future__ import annotations

import sys
from pathlib import Path

from cirbench.benchmarks.files.get import Getter
from cirbench.benchmarks.interface import Archive, DatasetFiles, RemoteFile

if __name__ == "__main__":
    url, root, sha256 = sys.argv[1:]
    info = f"{url}/info.zip"
    sources = DatasetFiles(
        (
            RemoteFile(f"{url}/val.json", "circo/annotations/val.json", None, sha256),
            Archive(
                f"{url}/info.zip", "circo/info.zip", None, None, into="circo", yields="circo/annotations/info.json"
            ),
        ),
    )
    Getter(Path(root), say=lambda line: print(line, flush=True)).annotations(sources)
