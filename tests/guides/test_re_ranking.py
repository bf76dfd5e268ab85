"""The page "Re-ranking", followed with a tiny model behind the name of the published one."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from cirbench.artefacts import Artefact
from cirbench.runs.folder import Run, load_run
from tests.backbones.hub_server import hub
from tests.guides.page import follow
from tests.tiny_qwen3vl import vision_language_model

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
def test_a_reader_re_ranks_by_an_oracle_a_model_its_recorded_answers_and_code_of_his_own(tmp_path: Path) -> None:
    published, folder = tmp_path / "hub", tmp_path / "here"
    folder.mkdir()
    shutil.copytree(vision_language_model(), published / "Qwen" / "Qwen3-VL-Reranker-2B")
    with hub(published) as address:
        online = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "models")}
        read = follow("re-ranking", folder, CIRBENCH_CACHE=str(folder / "cache"), **online)
    runs: dict[str, list[Run]] = {}
    for path in (folder / "runs" / "scenes").glob("image-text*"):
        runs.setdefault((run := load_run(path)).result.method.name, []).append(run)
    assert {name: len(found) for name, found in runs.items()} == {
        "image-text": 1,
        "image-text+oracle-judge": 2,
        "image-text+judge": 3,  # a few queries, all, and all by what was recorded
        "image-text+dark": 2,
    }
    whole = [run for run in runs["image-text+judge"] if not run.result.counts.partial]
    assert whole[0].result.metrics == whole[1].result.metrics
    shared = Artefact(folder / "judged.jsonl")
    assert (shared.maker.model, shared.maker.licence) == ("Qwen/Qwen3-VL-Reranker-2B", "CC BY 4.0")
    assert "600 answers for 60 queries, 0 of them recorded" in " ".join(read.text.split())
    assert "ok      items get different judgements" in read.text
