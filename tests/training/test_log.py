"""Every step of a training is in its metrics file once, whatever happened, and reaches the trackers that people use."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from cirbench.errors import MissingData, UnknownName, UsageError
from cirbench.support.parameters import parse
from cirbench.training.checkpoint import CheckpointScore, read_card
from cirbench.training.contrastive import Contrastive
from cirbench.training.interface import TrainingParameters
from cirbench.training.log import METRICS, SMOOTHED, About, MetricsFile, StepMetrics, curve, require_trackers
from cirbench.training.loop import learning_rate
from cirbench.training.state import STATE, ValidationConfig, suspicion
from cirbench.training.train import Request, train
from tests.side_by_side import environment
from tests.tiny_clip import some_pairs, tiny_backbone

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PARAMETERS = TrainingParameters(steps=8, batch_size=16, lr=1e-3, schedule="linear", warmup=2)


class Failing(Contrastive):
    """A training that the power leaves at a step, counted from 0 over all sittings."""

    at = -1
    calls = 0

    def loss(self, batch: Any) -> torch.Tensor:
        Failing.calls += 1
        if Failing.calls - 1 == Failing.at:
            raise RuntimeError("the power failed")
        return super().loss(batch)


def judge(folder: Path) -> Sequence[CheckpointScore]:
    step = read_card(folder).steps
    return [CheckpointScore(step=step, protocol="even@1", digest="e" * 64, metric="mAP@5", value=float(step))]


def request_for(parameters: TrainingParameters = PARAMETERS, objective: Any = Failing) -> Request:
    Failing.at, Failing.calls = -1, 0
    validation = ValidationConfig(protocols=("even@1",), evaluate=judge, eval_every=4)
    return Request("clip", objective, parameters, tiny_backbone(), some_pairs(), validation=validation)


def fail_at(step: int, folder: Path, *, save_seconds: float, log: Sequence[str] = ()) -> None:
    request = request_for()
    Failing.at = step
    with pytest.raises(RuntimeError, match="the power failed"):
        train(request, folder=folder, save_seconds=save_seconds, log=log)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]


def losses(folder: Path) -> list[tuple[int, float]]:
    return [(line["step"], line["loss"]) for line in lines(folder) if "loss" in line]


def test_every_step_and_evaluation_is_a_line_after_one_that_says_what_the_training_is(tmp_path: Path) -> None:
    request = request_for()
    card = read_card(train(request, folder=tmp_path))
    about, *rest = lines(tmp_path)
    assert (about["schema"], about["method"], about["request"]) == (1, "clip", request.digest)
    assert (about["total_steps"], about["steps_per_epoch"], about["training"]["lr"]) == (8, 3, 1e-3)
    assert losses(tmp_path) == [*enumerate(card.losses, start=1)]
    assert [line["step"] for line in rest] == [1, 2, 3, 4, 4, 5, 6, 7, 8, 8]
    assert [(line["step"], line["value"]) for line in rest if "protocol" in line] == [(4, 4.0), (8, 8.0)]
    steps = [line for line in rest if "loss" in line]
    rates = [learning_rate(step, steps=8, steps_per_epoch=3, parameters=PARAMETERS) for step in range(8)]
    assert [line["lr"] for line in steps] == rates
    assert all(line["samples_per_second"] > 0 for line in steps)
    assert [line["seconds"] for line in steps] == sorted(line["seconds"] for line in steps)
    assert steps[2]["epoch"] == 1.0


@pytest.mark.slow
def test_a_training_that_was_killed_between_two_saves_has_every_step_once_when_it_is_done(tmp_path: Path) -> None:
    whole = train(request_for(), folder=tmp_path / "whole")
    fail_at(6, tmp_path / "parts", save_seconds=1e9)  # the state is that of the evaluation after step 4
    assert [step for step, _ in losses(tmp_path / "parts")] == [1, 2, 3, 4, 5, 6]
    run = lines(tmp_path / "parts")[0]["run"]
    parts = train(request_for(), folder=tmp_path / "parts")
    assert losses(parts) == losses(whole)
    assert [line["step"] for line in lines(parts)[1:]] == [1, 2, 3, 4, 4, 5, 6, 7, 8, 8]
    assert lines(parts)[0]["run"] == run


def test_a_training_that_is_started_over_begins_its_metrics_again(tmp_path: Path) -> None:
    fail_at(3, tmp_path, save_seconds=0)
    run = lines(tmp_path)[0]["run"]
    train(request_for(), folder=tmp_path, restart=True)
    assert lines(tmp_path)[0]["run"] != run
    assert [step for step, _ in losses(tmp_path)] == [*range(1, 9)]


@settings(max_examples=60)
@given(st.integers(0, 12), st.integers(0, 12), st.data())
def test_whatever_is_left_of_the_file_every_known_step_is_in_it_once(
    tmp_path_factory: pytest.TempPathFactory, written: int, known: int, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("log")
    about = About(method="m", request="r", training={}, total_steps=12, steps_per_epoch=4)
    steps = [StepMetrics(step=step + 1, epoch=step / 4, loss=1 / (step + 1), lr=0.1) for step in range(12)]
    file = MetricsFile(folder, about, [], [])
    for step in steps[:written]:
        file.step(step)
    file.close()
    content = (folder / METRICS).read_bytes()
    (folder / METRICS).write_bytes(content[: data.draw(st.integers(0, len(content)))])
    scores = [CheckpointScore(step=4, protocol="p@1", digest="d", metric="m", value=1.0)] if known >= 4 else []
    file = MetricsFile(folder, about, steps[:known], scores)
    for step in steps[known:]:
        file.step(step)
    file.close()
    assert losses(folder) == [(step.step, step.loss) for step in steps]
    assert sum("protocol" in line for line in lines(folder)) == len(scores)


def test_the_display_is_told_the_step_the_mean_loss_and_the_rate(tmp_path: Path) -> None:
    notes: list[str] = []

    class Display:
        def __enter__(self) -> Any:
            return lambda more, note="": notes.append(note)

        def __exit__(self, *_: object) -> None: ...

    folder = train(request_for(), folder=tmp_path, display=lambda description, total, unit="": Display())
    told = read_card(folder).losses
    assert len(told) <= SMOOTHED
    assert notes[0] == f"step 1/8, loss {told[0]:.4g}, lr 0.0005"
    assert notes[-1] == f"step 8/8, loss {sum(told) / 8:.4g}, lr 0.000167"


def test_a_training_ends_with_its_curve_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(request_for(), folder=tmp_path)
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("trained clip: 8 steps in ")
    assert len(said.rsplit("  ", 1)[1]) == 8


def test_a_curve_goes_from_its_highest_to_its_lowest() -> None:
    assert curve([8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]) == "█▇▆▅▄▃▂▁"
    assert curve([1.0] * 3) == "▁▁▁"
    assert curve([*range(1000, 0, -1)], width=4) == "█▆▃▁"


def test_gradients_are_clipped_to_the_norm_and_their_own_is_in_the_file(tmp_path: Path) -> None:
    parameters = TrainingParameters(steps=2, batch_size=16, lr=1e-3, grad_clip=1e-3)
    request = dataclasses.replace(request_for(parameters), validation=ValidationConfig())
    Failing.at = 1
    with pytest.raises(RuntimeError):
        train(request, folder=tmp_path, save_seconds=0)
    (step,) = [line for line in lines(tmp_path) if "loss" in line]
    assert step["grad_norm"] > 0.01
    moments = [tensor for name, tensor in load_file(tmp_path / STATE).items() if name.startswith("exp_avg.")]
    norm = math.sqrt(sum(float(moment.double().square().sum()) for moment in moments))
    assert norm == pytest.approx(0.1 * 1e-3, rel=1e-3)  # AdamW takes in a tenth of the first gradients


def test_clipping_above_every_norm_changes_nothing(tmp_path: Path) -> None:
    plain = read_card(train(request_for(), folder=tmp_path / "plain"))
    loose = TrainingParameters(steps=8, batch_size=16, lr=1e-3, schedule="linear", warmup=2, grad_clip=1e6)
    clipped = read_card(train(request_for(loose), folder=tmp_path / "clipped"))
    assert clipped.losses == plain.losses
    assert clipped.training["grad_clip"] == 1e6


@pytest.mark.parametrize(
    ("value", "said"), [({"grad_clip": "0"}, "grad_clip of clip cannot be '0'"), ({"min_lr": "1e-6"}, "only with")]
)
def test_parameters_without_an_effect_are_refused(value: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse(TrainingParameters, value, owner="clip")


class Zero(Contrastive):
    def loss(self, batch: Any) -> torch.Tensor:
        return 0 * super().loss(batch)


class Collapsed(Contrastive):
    def loss(self, batch: Any) -> torch.Tensor:
        logits_BB = 1e-4 * super().loss(batch) * torch.eye(len(batch.captions))
        return torch.nn.functional.cross_entropy(logits_BB, torch.arange(len(batch.captions)))


@pytest.mark.parametrize(
    ("objective", "said"),
    [
        (Zero, "warning: the loss is zero in the first 20 steps. Look at the learning rate (--set lr=...)"),
        (Collapsed, "warning: after 22 steps the loss is still at chance, log(16) = 2.773"),
        (Contrastive, None),
    ],
)
@pytest.mark.slow
def test_a_loss_that_learns_nothing_is_warned_about_once(
    objective: Any, said: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parameters = TrainingParameters(steps=30, batch_size=16, lr=1e-3, warmup=2)
    request = dataclasses.replace(request_for(parameters, objective), validation=ValidationConfig())
    train(request, folder=tmp_path)
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert len(warnings) == (said is not None)
    assert said is None or warnings[0].startswith(said)


@given(st.lists(st.floats(0.5, 4.0), min_size=1, max_size=150), st.integers(0, 200))
def test_losses_that_differ_by_more_than_two_percent_are_never_suspicious(found: list[float], warmup: int) -> None:
    parameters = TrainingParameters(batch_size=8, warmup=warmup)
    last = found[-20:]
    if max(last) - min(last) > 0.02 * math.log(8):
        assert suspicion(found, parameters) is None


def test_a_constant_loss_is_named_and_a_batch_of_one_has_no_chance() -> None:
    assert "constant (1.5)" in str(suspicion([1.5] * 20, TrainingParameters()))
    assert suspicion([1.5] * 21, TrainingParameters()) is None
    assert suspicion([1e-3 * step for step in range(20)], TrainingParameters(batch_size=1)) is None


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "trackio"])
def test_a_tracker_that_is_not_installed_is_named_with_the_command_that_installs_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingData, match=f"--log {name} needs the package {name}, which is not installed") as caught:
        train(request_for(), folder=tmp_path, log=[name])
    assert caught.value.hint == f"pip install 'cirbench[{name}]'"
    assert [*tmp_path.iterdir()] == []


def test_an_unknown_tracker_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UnknownName, match="tensorbord") as caught:
        require_trackers(["tensorbord"])
    assert "tensorboard" in str(caught.value)


@pytest.mark.slow
def test_trackio_has_every_step_once_after_a_kill(tmp_path: Path) -> None:
    pytest.importorskip("trackio")
    program = (
        "import sys, pathlib; from tests.training import test_log as t; folder = pathlib.Path(sys.argv[1]); "
        "log = ['trackio']; t.fail_at(6, folder, save_seconds=1e9, log=log); "
        "t.train(t.request_for(), folder=folder, log=log)"
    )
    given = environment(TRACKIO_DIR=str(tmp_path / "trackio"))  # read when it is imported
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "out")], env=given, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    with contextlib.closing(sqlite3.connect(tmp_path / "trackio" / "cirbench.db")) as database:
        rows = database.execute("SELECT step, metrics FROM metrics ORDER BY id").fetchall()
    sent = [(step, json.loads(metrics)) for step, metrics in rows]
    assert [step for step, values in sent if "train/loss" in values] == [*range(1, 9)]
    assert [values["eval/even@1/mAP@5"] for _, values in sent if "eval/even@1/mAP@5" in values] == [4.0, 8.0]


@pytest.mark.slow
def test_wandb_keeps_every_step_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    train(request_for(), folder=tmp_path, log=["wandb"])
    run = lines(tmp_path)[0]["run"]
    (file,) = tmp_path.glob(f"wandb/offline-run-*-{run}/run-{run}.wandb")
    content = file.read_bytes()
    assert content.count(b"train/loss") >= 8
    assert b"eval/even@1/mAP@5" in content


@pytest.mark.slow
def test_tensorboard_shows_every_step_once_after_a_kill(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    fail_at(6, tmp_path, save_seconds=1e9, log=["tensorboard"])
    train(request_for(), folder=tmp_path, log=["tensorboard"])
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert [step for step, _ in found] == [*range(1, 9)]
    assert [loss for _, loss in found] == pytest.approx([loss for _, loss in losses(tmp_path)])
    assert [event.value for event in events.Scalars("eval/even@1/mAP@5")] == [4.0, 8.0]
