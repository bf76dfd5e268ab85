"""The page "Methods with language models": upper bounds, a file of answers, and one of a model of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cirbench.artefacts import Artefact
from cirbench.runs.folder import load_run
from tests.guides.page import follow

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
def test_a_reader_gets_upper_bounds_and_a_run_on_answers_of_his_own(tmp_path: Path) -> None:
    read = follow("language-models", tmp_path)
    assert "Upper bounds, made with the ground truths: cirevl, ldre, seize, pdv." in " ".join(read.outputs[0].split())
    for name in ("cirevl", "ldre", "sdr", "slerp", "product", "basic", "embedder"):
        assert f"│ {name} " in read.outputs[-1]
    runs = [load_run(path) for path in tmp_path.glob("runs/scenes/[!.]*")]
    joint = [run for run in runs if run.result.backbone.name == "./tiny-joint"]
    assert len(joint) == 10
    runs = [run for run in runs if run not in joint]
    named = {run.result.method.parameters.get("answers"): run.result.artefacts for run in runs if run.result.artefacts}
    assert {name: [each.model for each in used] for name, used in named.items()} == {
        "answers.jsonl": ["oracle of scenes"],
        "mine.jsonl": ["concatenation"],
    }
    methods = [(run.result.method, run.result["mAP@5"].value) for run in runs]
    found = {(m.name, m.parameters.get("answers"), m.parameters.get("noise")): (m, value) for m, value in methods}
    own, of_own = found["cirevl", "mine.jsonl", 0.25]
    assert own.uses_llm == "yes" and own.oracle is None
    assert found["ldre", "answers.jsonl", 0.25][0].oracle
    assert len(Artefact(tmp_path / "mine.jsonl")) == 60
    one, several = (found[name, "oracle", 0.25][1] for name in ("cirevl", "ldre"))
    assert several > one > of_own
    assert found["ldre", "oracle", 0.5][1] > found["cirevl", "oracle", 0.5][1]
