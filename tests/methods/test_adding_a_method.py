"""The methods in docs/adding-a-method.md are what a reader would copy, so they have to work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cirbench.cli import execute

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parent.parent.parent / "docs" / "adding-a-method.md"
BLOCKS = dict(re.findall(r"`([\w/]+\.py)`:\n\n```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL))


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in BLOCKS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_python_block_of_the_page_is_tested() -> None:
    assert sorted(BLOCKS) == ["agreement.py", "bridge/__init__.py", "bridge/method.py"]
    assert PAGE.read_text().count("```python") == len(BLOCKS)


@pytest.mark.usefixtures("written")
def test_the_method_in_one_file_keeps_the_rules_and_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["check", "method", "agreement.py:Agreement"]) == 0
    assert "BROKEN" not in capsys.readouterr().out
    run = ["run", "--method", "agreement.py:Agreement", "--dataset", "scenes", "--split", "tiny", "--set", "scale=2"]
    assert execute([*run, "--limit", "6"]) == 0
    assert "agreement" in capsys.readouterr().out


def test_the_trained_method_keeps_the_rules_trains_and_runs(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    method = "bridge/__init__.py:SPEC"
    assert execute(["check", "method", method]) == 0
    assert "BROKEN" not in capsys.readouterr().out
    train = ["train", method, "--backbone", "scenes-vit", "--data", "scenes:64", "--output", "checkpoint"]
    assert execute([*train, "--set", "steps=2", "--set", "batch_size=8"]) == 0
    run = ["run", "--method", method, "--dataset", "scenes", "--split", "tiny", "--checkpoint", "checkpoint"]
    assert execute([*run, "--limit", "6"]) == 0
    assert "bridge" in capsys.readouterr().out
    lines = sum(BLOCKS[name].count("\n") for name in BLOCKS if name.startswith("bridge"))
    assert lines < 80
