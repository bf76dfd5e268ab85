"""A run is taken again only while the code is the same; what is taken, and what is not and why, is said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

SPEC = """
from cirbench.methods.interface import MethodSpec
SPEC = MethodSpec(name="mine", title="Mine", implementation=f"{__name__}.method:Mine")
"""
METHOD = """
from cirbench.methods.interface import sentences
from my_method.mixing import mix

class Mine:
    def __init__(self, encoder, parameters, checkpoint=None):
        self.encoder = encoder

    def encode_gallery(self, items):
        return self.encoder.images(items)

    def encode_queries(self, queries):
        return mix(self.encoder.images([query.reference for query in queries]), self.encoder.texts(sentences(queries)))
"""
MIXING = "def mix(images, texts):\n    return images + {weight} * texts\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    package = tmp_path / "my_method"
    package.mkdir()
    (package / "__init__.py").write_text(SPEC)
    (package / "method.py").write_text(METHOD)
    (package / "mixing.py").write_text(MIXING.format(weight=1.0))
    return tmp_path


def run(folder: Path, *options: str) -> tuple[dict[str, object], str]:
    """The method's result, as a new process gives it, and what it said."""
    command = [sys.executable, "-m", "cirbench", "run", "--method", "my_method:SPEC", "--dataset", "scenes"]
    command += ["--split", "tiny", "--output", "runs", "--json", *options]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": str(folder)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)["results"][-1]
    return found, done.stderr


@pytest.mark.slow
def test_a_run_on_edited_code_is_another_run_and_what_changed_is_said(folder: Path) -> None:
    first, said = run(folder)
    assert first["reused"] is False
    assert "reused" not in said
    again, said = run(folder)
    assert (again["folder"], again["reused"]) == (first["folder"], True)
    assert f"reused {first['folder']}" in said

    (folder / "my_method" / "mixing.py").write_text(MIXING.format(weight=0.1))
    second, said = run(folder, "--force")
    assert (second["reused"], second["digest"] == first["digest"]) == (False, False)
    assert second["metrics"] != first["metrics"]
    assert f"{first['folder']} is not reused: the code of my_method.mixing changed" in said
    assert json.loads((folder / str(first["folder"]) / "result.json").read_text())["metrics"] == first["metrics"]

    (folder / "my_method" / "mixing.py").write_text(MIXING.format(weight=1.0))
    back, said = run(folder)
    assert (back["folder"], back["reused"]) == (first["folder"], True)
