"""What is finished is shown at once, and what is wrong is said before anything heavy is loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.benchmarks.test_folder import GOOD, write

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import json, sys
from cirbench.cli import execute
for arguments in json.loads(sys.argv[1]):
    code = execute(arguments)
    heavy = ("torch", "open_clip", "scipy.special", "cirbench.benchmarks.scenes.queries")
    heavy = [name for name in heavy if name in sys.modules]
    print(json.dumps({"code": code, "heavy": heavy}), file=sys.stderr)
"""


def outcomes(folder: Path, *commands: list[str]) -> tuple[list[dict[str, Any]], str]:
    """The exit code of each command and the heavy modules that were loaded by then, and all that was said."""
    command = [sys.executable, "-c", PROGRAM, json.dumps(commands)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=dict(os.environ), check=False)
    lines = done.stderr.splitlines()
    return [json.loads(line) for line in lines if line.startswith('{"code"')], done.stderr


def settle(folder: Path, seconds: int = 60) -> None:
    """Let all files have changed some time ago."""
    then = time.time() - seconds
    for path in folder.rglob("*"):
        os.utime(path, (then, then))


@pytest.mark.slow
def test_rankings_that_were_scored_before_are_scored_without_loading_scipy(tmp_path: Path) -> None:
    write(tmp_path / "mine", GOOD)
    score = ["score", "-d", "mine", "--predictions", "lists.json"]
    (tmp_path / "lists.json").write_text(json.dumps({"q1": ["b", "c.d", "sub/e"], "q2": ["c.d", "a", "sub/e"]}))
    for heavy in (["scipy.special"], []):
        assert outcomes(tmp_path, score)[0] == [{"code": 0, "heavy": heavy}]
    (tmp_path / "lists.json").write_text(json.dumps({"q1": ["c.d", "b", "sub/e"], "q2": ["c.d", "a", "sub/e"]}))
    assert outcomes(tmp_path, score)[0] == [{"code": 0, "heavy": ["scipy.special"]}]


@pytest.mark.slow
def test_a_finished_run_is_shown_without_torch_and_without_its_data(tmp_path: Path) -> None:
    own = write(tmp_path / "mine", GOOD)
    settle(own)
    run = ["run", "-m", "image-text", "-d", "mine", "-b", "scenes-vit", "--device", "cpu"]
    [first], said = outcomes(tmp_path, run)
    assert (first["code"], "torch" in first["heavy"], "reused" in said) == (0, True, False)
    [second], said = outcomes(tmp_path, run)
    assert (second, said.count("reused")) == ({"code": 0, "heavy": []}, 3)

    [left_open], said = outcomes(tmp_path, [*run, "--precision", "auto"])
    assert (left_open, said.count("reused")) == ({"code": 0, "heavy": []}, 3)

    [verified], said = outcomes(tmp_path, [*run, "--verify"])
    assert ("torch" in verified["heavy"], said.count("reused")) == (True, 3)

    [other], said = outcomes(tmp_path, [*run, "--set", "weight=0.25"])
    assert ("torch" in other["heavy"], said.count("reused")) == (True, 2)

    [baseline] = (tmp_path / "runs").glob("*/image-only-*")
    beside = [*run, "--baselines", str(baseline)]
    assert outcomes(tmp_path, beside)[0][0]["code"] == 0
    settle(tmp_path / "runs", seconds=50)
    outcomes(tmp_path, beside)
    [again], said = outcomes(tmp_path, beside)
    assert (again, said.count("reused")) == ({"code": 0, "heavy": []}, 1)

    (own / "queries.csv").write_text(GOOD.replace("in blue", "in teal"))
    settle(own, seconds=30)
    [edited], said = outcomes(tmp_path, run)
    assert ("torch" in edited["heavy"], said.count("reused")) == (True, 0)


@pytest.mark.slow
def test_what_is_wrong_is_said_before_torch_is_loaded(tmp_path: Path) -> None:
    write(tmp_path / "good", GOOD)
    write(tmp_path / "columns", GOOD.replace("text", "words"))
    write(tmp_path / "targets", GOOD.replace("in red,a", "in red,nowhere"))
    (tmp_path / "pairs.csv").write_text("image,words\na.png,red\n")
    run = ["run", "-d", "good", "-b", "scenes-vit", "-m"]
    wrong = [
        ["run", "-d", "columns", "-m", "image-text", "-b", "scenes-vit"],
        ["run", "-d", "targets", "-m", "image-text", "-b", "scenes-vit"],
        ["run", "-d", "nowhere", "-m", "image-text", "-b", "scenes-vit"],
        ["run", "-d", "circo", "-m", "image-text", "-b", "scenes-vit"],
        [*run, "no-such-method"],
        [*run, "image-text", "--set", "weight=heavy"],
        [*run, "image-text", "--set", "weigth=1"],
        [*run, "image-text", "--train", "steps=1"],
        [*run, "image-text", "--seeds", "0,0"],
        [*run, "pli"],
        [*run, "pli", "--checkpoint", "nowhere"],
        [*run, "image-text", "--split", "none"],
        ["run", "-d", "good", "-m", "image-text", "-b", "no-such-backbone"],
        [*run, "pli", "--train-data", "pairs.csv"],
        ["train", "pli", "-b", "scenes-vit", "--data", "pairs.csv"],
        ["train", "no-such-method", "-b", "scenes-vit", "--data", "scenes"],
        ["train", "pli", "-b", "scenes-vit", "--data", "nowhere.csv"],
        ["train", "pli", "-b", "scenes-vit", "--data", "scenes", "--set", "stepz=1"],
    ]
    found, said = outcomes(tmp_path, *wrong)
    assert "Traceback" not in said
    late = [
        (" ".join(arguments), each)
        for arguments, each in zip(wrong, found, strict=True)
        if not each["code"] or "torch" in each["heavy"]
    ]
    assert late == [], said
