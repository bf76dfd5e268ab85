"""A row is run where everything is here, and otherwise told what exactly is missing."""

from __future__ import annotations

import datetime
import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from cirbench.comparison.published import load_published
from cirbench.errors import MissingData, UsageError
from cirbench.leaderboard.adding import add_run
from cirbench.leaderboard.check import check_entries
from cirbench.leaderboard.entry import read_entry
from cirbench.leaderboard.reproduce import DIFFERS, INSIDE, NEAR, Agreement, Reproduction, as_table
from cirbench.submissions.uploads import record_answer
from cirbench.support.tables.formats import render
from tests.leaderboard.reproducing.rows import published
from tests.tiny_clip import tiny_backbone

if TYPE_CHECKING:
    from pathlib import Path


def reproduction(tmp_path: Path, options: dict[str, Any] | None = None, **changes: Any) -> Reproduction:
    known = published(tmp_path / "rows.json", **changes)
    return Reproduction(known.rows[0], known, {"output": str(tmp_path / "runs"), **(options or {})})


@pytest.mark.slow
def test_a_row_that_can_be_run_is_run_and_compared(tmp_path: Path) -> None:
    again = reproduction(tmp_path)
    assert [need.there for need in again.needs()] == [True] * 3
    outcome = again.run()
    assert outcome.run.result.protocol.name == "scenes/tiny@1"
    assert [(each.label, each.expected, each.verdict) for each in outcome.found] == [
        ("mAP@5", 32.85, INSIDE),
        ("Recall@1", 20.4, INSIDE),
        ("Recall@5", 99.0, DIFFERS),
    ]
    for each in outcome.found:
        assert each.obtained == outcome.run.result[each.label].value
    text = render(as_table(again.row, outcome.found), "md")
    assert "scenes-tiny/image-text-baseline/scenes-vit/own" in text
    assert "A made-up paper, Table 1" in text


@pytest.mark.parametrize(
    ("expected", "obtained", "interval", "verdict"),
    [
        (10, 12, (9, 15), INSIDE),
        (10, 10.4, (10.2, 10.6), NEAR),
        (10, 10.6, (10.2, 11), DIFFERS),
        (10, 10.5, (None, None), NEAR),
        (10, 9.4, (None, None), DIFFERS),
    ],
)
def test_a_verdict_asks_the_interval_first_and_then_the_tolerance(
    expected: float, obtained: float, interval: tuple[float | None, float | None], verdict: str
) -> None:
    assert Agreement("m", expected, obtained, *interval).verdict == verdict


def test_options_win_over_the_row(tmp_path: Path) -> None:
    folder = tiny_backbone().identity.name
    again = reproduction(tmp_path, {"backbone": folder, "set": {"weight": "0.5"}, "weights": None})
    assert again.config.backbone == folder
    assert again.config.set == {"weight": "0.5"}
    assert again.needs()[0].which == "image-text (weight=0.5)"


def test_everything_that_is_missing_is_listed_at_once_with_the_command_that_gets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CIRBENCH_DATA", raising=False)
    again = reproduction(
        tmp_path,
        {"data_root": str(tmp_path)},
        method="PLI",
        recipe="pli",
        benchmark="cirr",
        protocol="cirr/val",
        backbone="CLIP ViT-L/14",
        metrics={"Recall@1": 25.0},
    )
    with pytest.raises(MissingData) as caught:
        again.run()
    told = f"{caught.value.message}\n{caught.value.hint}"
    assert "needs 4 things that are not here" in told
    assert "missing  annotations    cirr/val: 2 files (1.7 MB)" in told
    assert f"cirbench data get cirr/val --data-root {tmp_path} --annotations-only" in told
    assert "missing  weights        ViT-L-14/openai (1.7 GB)" in told
    assert (
        "cirbench train pli --backbone ViT-L-14/openai --data imagenet:test --set mask_ratio=0.75 --output CHECKPOINT"
        in told
    )
    assert "Then add --checkpoint CHECKPOINT." in told


def test_a_parameter_that_only_a_user_can_give_is_missing_until_it_is_given(tmp_path: Path) -> None:
    known = load_published()
    row = known.find("circo-test/searle-oti/vit-b-32/quoted")
    without = Reproduction(row, known).needs()[-1]
    assert (without.what, without.how) == ("phrases", ("Give it: --set phrases=FILE",))
    given = Reproduction(row, known, {"set": {"phrases": "phrases.json"}}).needs()[-1]
    assert given.there


def test_a_checkpoint_that_is_given_is_looked_for(tmp_path: Path) -> None:
    again = reproduction(tmp_path, {"checkpoint": str(tmp_path / "none")}, method="PLI")
    missing = again.needs()[-1]
    assert not missing.there
    assert str(tmp_path / "none") in missing.which


def test_a_backbone_that_is_not_told_is_not_guessed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="which cirbench cannot load"):
        reproduction(tmp_path, backbone="not stated")


def test_hidden_labels_end_in_files_for_the_server_and_its_answer_is_compared(
    annotation_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = annotation_root / "cirr" / "image_splits" / "split.rc2.test1.json"
    if not splits.is_file():
        pytest.skip(f"{annotation_root} has no cirr/image_splits/split.rc2.test1.json")
    for folder in ("captions", "image_splits"):
        shutil.copytree(annotation_root / "cirr" / folder, tmp_path / "data" / "cirr" / folder)
    noise = np.random.default_rng(0)
    images = tmp_path / "data" / "cirr" / "test1"
    images.mkdir()
    for name in json.loads(splits.read_text()):
        Image.fromarray(noise.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(images / f"{name}.png")
    monkeypatch.chdir(tmp_path)
    again = reproduction(
        tmp_path,
        {"data_root": str(tmp_path / "data")},
        method="Image-only",
        benchmark="cirr",
        split="test1",
        protocol="cirr/test1",
        metrics={"Recall@1": 7.0, "Recall_subset@1": 20.0},
    )
    outcome = again.run()
    assert outcome.found == ()
    assert outcome.hint is not None
    assert [path.suffixes for path in outcome.upload] == [[".recall", ".json"], [".recall_subset", ".json"]]
    day = datetime.date(2026, 2, 3)
    receipts = [
        record_answer(outcome.upload[0], "cirr/test1", {"Recall@1": 7.25}, day),
        record_answer(outcome.upload[1], "cirr/test1", {"Recall_subset@1": 30.0}, day),
    ]
    answered = again.run().found
    assert [(each.label, each.obtained, each.verdict) for each in answered] == [
        ("Recall@1", 7.25, NEAR),
        ("Recall_subset@1", 30.0, DIFFERS),
    ]
    entry = read_entry(add_run(outcome.run.folder, tmp_path / "entries", receipts=receipts))
    assert entry.server_scored
    assert check_entries(tmp_path / "entries")[0].ok
