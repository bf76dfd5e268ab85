"""The page "I have features", followed where torch cannot be imported, with annotations of CIRR's published size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cirbench.benchmarks import load_protocol
from cirbench.cli import execute
from cirbench.runs.folder import load_run
from tests.guides.page import follow
from tests.submissions.server_files import write_cirr_test1

WITHOUT_TORCH = "import sys\nfor name in ('torch', 'torchvision', 'open_clip'):\n    sys.modules[name] = None\n"


@pytest.mark.slow
def test_a_reader_comes_from_features_to_runs_and_to_cirrs_server_without_torch(tmp_path: Path) -> None:
    data, folder, blocked = write_cirr_test1(tmp_path / "data"), tmp_path / "here", tmp_path / "blocked"
    folder.mkdir()
    blocked.mkdir()
    (blocked / "sitecustomize.py").write_text(WITHOUT_TORCH)
    protocol = load_protocol("cirr/test1", data)
    assert protocol.gallery is not None
    rng = np.random.default_rng(0)
    queries, gallery = (rng.normal(size=(count, 64)).astype(np.float16) for count in (4148, len(protocol.gallery)))
    np.save(folder / "cirr_queries.npy", queries)
    np.save(folder / "cirr_gallery.npy", gallery)
    read = follow(
        "features", folder, CIRBENCH_DATA=str(data), PYTHONPATH=f"{blocked}:{Path.cwd()}:{Path.cwd()}/methods"
    )

    runs = [load_run(path.parent) for path in sorted(folder.glob("runs/*/*/result.json"))]
    names = ["mine", "from-python", "image-only", "mine", "text-only"]  # on cirr, and on scenes
    assert [run.result.method.name for run in runs] == names
    assert all(run.result.scored is not None for run in runs)
    assert "composition subset" in read.text
    assert "each is divided by its own" in read.text

    files = sorted(folder.glob("submissions/cirr/mine-*.recall*.json"))
    assert len(files) == 2
    assert execute(["submit", "check", *map(str, files), "--data-root", str(data)]) == 0
    first = protocol.queries[0]
    rows = gallery.astype(np.float64)
    order = np.argsort(-(rows @ queries[0].astype(np.float64)) / np.linalg.norm(rows, axis=1))
    ranked = [name for at in order if (name := protocol.gallery.ids[at]) != first.reference.id]
    assert json.loads(files[0].read_text())[first.id] == ranked[:50]
