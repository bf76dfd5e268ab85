"""What the cache holds is named with its size, and only what fits and nobody uses is removed."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cirbench.backbones.store import FeatureSpace, FeatureStore
from cirbench.cli import execute
from cirbench.runs.cache import list_cache, remove, select, usage
from cirbench.support import memo
from cirbench.support.files import lock_of
from cirbench.training.contrastive import Contrastive
from cirbench.training.interface import TrainingParameters
from cirbench.training.train import Request, train
from tests.side_by_side import environment
from tests.tiny_clip import some_pairs, tiny_backbone

if TYPE_CHECKING:
    from pathlib import Path

    from cirbench.backbones.interface import Backbone
    from cirbench.backbones.store import StoredTable


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CIRBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def named(seed: int = 0) -> Backbone:
    backbone = tiny_backbone(seed=seed)
    backbone.identity = dataclasses.replace(backbone.identity, name="tiny")
    return backbone


def features(cache: Path, seed: int = 0) -> StoredTable:
    space = FeatureSpace(named(seed).identity, "image", 4)
    table = FeatureStore(cache / "features").table(space)
    table.write(["ab" * 32], np.ones((1, 4), np.float32), {})
    return table


def checkpoint(cache: Path) -> Path:
    request = Request("clip", Contrastive, TrainingParameters(steps=1, batch_size=8), named(), some_pairs())
    return train(request, folder=cache / "checkpoints" / "clip-0123")


def test_features_and_checkpoints_are_named_by_what_they_belong_to(cache: Path) -> None:
    features(cache)
    checkpoint(cache)
    (cache / "checkpoints" / "odd").mkdir()
    (cache / "notes.txt").write_text("mine")
    found = {(entry.kind, entry.title): entry for entry in list_cache(cache)}
    assert {*found} == {
        ("features", "tiny, image tower"),
        ("checkpoint", "clip on tiny, 1 steps"),
        ("checkpoint", "odd, unfinished"),
        ("other", "notes.txt"),
    }
    entry = found["features", "tiny, image tower"]
    assert entry.usage.files == 2
    assert entry.usage.size == sum(path.stat().st_size for path in entry.path.iterdir())


def test_a_file_with_two_names_counts_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 1000)
    os.link(tmp_path / "a", tmp_path / "b")
    found = usage(tmp_path, set())
    assert (found.files, found.size) == (2, 1000)


def test_the_memo_is_named_and_can_be_removed(cache: Path) -> None:
    memo.keep("a number", 1, {})
    (entry,) = list_cache(cache)
    assert (entry.kind, entry.path) == ("memo", cache / memo.NAME)
    assert select([entry], older_than=3600) == []
    assert select([entry], older_than=3600, now=time.time() + 7200) == [entry]
    assert remove(entry)
    assert list_cache(cache) == []


def test_what_does_not_belong_to_cirbench_is_never_selected(cache: Path) -> None:
    features(cache)
    (cache / "mine").mkdir()
    (cache / "mine" / "file").write_text("x")
    assert [entry.kind for entry in select(list_cache(cache))] == ["features"]


def test_conditions_are_backbone_and_age_together(cache: Path) -> None:
    for path in features(cache).folder.iterdir():
        os.utime(path, (1, 1))
    features(cache, seed=1)
    entries = list_cache(cache)
    assert len(select(entries, backbone="tiny")) == 2
    (old,) = select(entries, backbone="tiny", older_than=3600)
    assert old.usage.changed == 1
    assert select(entries, backbone="other", older_than=3600) == []
    assert select(entries, older_than=3600, now=2) == []


@pytest.mark.slow
def test_a_run_names_the_features_of_its_backbone_and_nothing_else(cache: Path, tmp_path: Path) -> None:
    features(cache)
    run = ["run", "--method", "image-text", "--dataset", "scenes", "--split", "tiny", "--baselines", "none"]
    assert execute([*run, "--output", str(tmp_path / "runs")]) == 0
    (folder,) = (path.parent for path in tmp_path.glob("runs/*/*/result.json"))
    found = select(list_cache(cache), run=folder)
    assert [entry.title for entry in found] == ["scenes-vit, image tower", "scenes-vit, text tower"]


def test_features_that_are_being_read_stay(cache: Path) -> None:
    table = features(cache)
    assert table.missing(["ab" * 32]) == []
    (entry,) = list_cache(cache)
    assert entry.is_in_use()
    assert not remove(entry)
    assert table.rows(["ab" * 32])[0:1].tolist() == [[1, 1, 1, 1]]
    del table
    assert not entry.is_in_use()
    assert remove(entry)
    assert list_cache(cache) == []


@pytest.mark.slow
def test_a_checkpoint_that_another_process_trains_stays(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = checkpoint(cache)
    program = (
        "import sys, pathlib, time; from cirbench.support.files import locked\n"
        "with locked(pathlib.Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", program, str(lock_of(folder))]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        assert execute(["cache", "clear", "--all", "--yes"]) == 0
        other.kill()
    assert f"{folder} is in use by another process and stays." in capsys.readouterr().err
    assert folder.is_dir()


def test_nothing_is_removed_without_being_told_so(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = features(cache).folder
    assert execute(["cache", "clear", "--all"]) == 0
    assert "Nothing is removed: " in capsys.readouterr().err
    assert folder.is_dir()
    assert execute(["cache", "clear", "--all", "--yes"]) == 0
    said = capsys.readouterr()
    assert "image tower" in said.out
    assert "Removed " in said.err
    assert not folder.exists()


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ([], 2, "Say what to remove: --backbone, --older-than and --run together or alone, or --all."),
        (["--all", "--older-than", "1d"], 2, "Say what to remove"),
        (["--older-than", "soon"], 2, "It is a number of h, d or w: 30d"),
        (["--backbone", "absent"], 2, "absent"),
    ],
)
def test_what_cannot_be_understood_is_refused(
    options: list[str], code: int, said: str, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features(cache)
    assert execute(["cache", "clear", *options, "--yes"]) == code
    assert said in capsys.readouterr().err
    assert len(list_cache(cache)) == 1


def test_the_cache_is_listed_for_people_and_for_programs(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["cache"]) == 0
    assert f"{cache}: 0 B" in capsys.readouterr().err
    features(cache)
    assert execute(["cache"]) == 0
    assert "image tower" in capsys.readouterr().out
    assert execute(["cache", "--json"]) == 0
    (entry, *_) = json.loads(capsys.readouterr().out)
    assert (entry["kind"], entry["files"], entry["in_use"]) == ("features", 2, False)
    assert time.time() - entry["written"] < 3600
    shutil.rmtree(cache)
