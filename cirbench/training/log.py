"""What a training tells while it runs: `metrics.jsonl` in its folder, trackers that people use, and a summary.

metrics.jsonl    its first line says what the training is; then one line a step, and one an evaluation

Each line is written before the state that rests on its step. So a training that was killed and goes on from its state
cuts the file back to that step, and the file has every step once.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import os
import statistics
import sys
import uuid
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from cirbench.errors import UnknownName
from cirbench.support.distributed import get_context
from cirbench.support.files import make_folder, write_bytes, writing_failed
from cirbench.support.needs import require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from cirbench.training.checkpoint import CheckpointScore

METRICS = "metrics.jsonl"
SCHEMA = 1
SMOOTHED = 20
"""How many of the last losses the progress shows the mean of."""


class About(msgspec.Struct, frozen=True, kw_only=True):
    """The first line of `metrics.jsonl`.

    Attributes:
        schema: The version of the file's form.
        method: What is trained.
        request: Sha256 over everything that was asked for.
        training: The training parameters.
        total_steps: Optimiser steps of the whole training.
        steps_per_epoch: Steps of an epoch.
        run: A name for this training that no other one has; it stays when the training is resumed.
    """

    schema: int = SCHEMA
    method: str
    request: str
    training: dict[str, Any]
    total_steps: int
    steps_per_epoch: int
    run: str = msgspec.field(default_factory=lambda: uuid.uuid4().hex[:16])


class StepMetrics(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of one optimiser step.

    Attributes:
        step: Its number, from 1.
        epoch: Passes over the samples after it.
        loss: Over the whole batch, before the step.
        lr: The learning rate.
        grad_norm: The norm of the gradients before clipping, where they are clipped.
        samples_per_second: Over all processes, reading the samples included; not known of steps that were filled in.
        seconds: How long the training has taken its steps, over all sittings.
    """

    step: int
    epoch: float
    loss: float
    lr: float
    grad_norm: float | None = None
    samples_per_second: float | None = None
    seconds: float | None = None


class Tracker(Protocol):
    """Takes in what a training tells."""

    def step(self, metrics: StepMetrics) -> None:
        """Take in a step."""
        ...

    def evaluation(self, score: CheckpointScore) -> None:
        """Take in an evaluation."""
        ...

    def close(self) -> None:
        """Write whatever is not written yet."""
        ...


class MetricsFile:
    """`metrics.jsonl`, one whole line at a time."""

    def __init__(self, folder: Path, about: About, known: Sequence[StepMetrics], scores: Sequence[CheckpointScore]):
        """Cut the file back to the steps that are known, or begin it.

        Args:
            folder: The folder of the training.
            about: What it is.
            known: The steps that its state rests on. They replace lines that are missing or damaged.
            scores: The evaluations among them.
        """
        self.path = folder / METRICS
        self.about, lines = self._found(about)
        whole = [msgspec.json.encode(self.about)]
        for metrics in known:
            whole.append(lines.get(metrics.step) or msgspec.json.encode(metrics))
            whole += [msgspec.json.encode(score) for score in scores if score.step == metrics.step]
        write_bytes(self.path, b"".join(line + b"\n" for line in whole))
        self._file = self.path.open("ab", buffering=0)

    def step(self, metrics: StepMetrics) -> None:
        """Append the line of a step."""
        self._append(metrics)

    def evaluation(self, score: CheckpointScore) -> None:
        """Append the line of an evaluation."""
        self._append(score)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _append(self, value: msgspec.Struct) -> None:
        try:
            self._file.write(msgspec.json.encode(value) + b"\n")
        except OSError as error:
            raise writing_failed(self.path, error) from error

    def _found(self, about: About) -> tuple[About, dict[int, bytes]]:
        """What the file says of the same training: its first line, and the lines of steps by their number."""
        try:
            first, *rest = self.path.read_bytes().splitlines()
            earlier = msgspec.json.decode(first, type=About)
        except (OSError, ValueError, msgspec.MsgspecError):  # absent, empty, or not of this form
            return about, {}
        if (earlier.schema, earlier.request) != (about.schema, about.request):
            return about, {}
        lines: dict[int, bytes] = {}
        for line in rest:
            with contextlib.suppress(ValueError, msgspec.MsgspecError):  # an evaluation, or a line that was cut off
                lines[msgspec.json.decode(line, type=StepMetrics).step] = line
        return earlier, lines


class Scalars:
    """A tracker of named numbers."""

    def __init__(self, add: Callable[[int, Mapping[str, float]], None], close: Callable[[], None]) -> None:
        self._add = add
        self.close = close

    def step(self, metrics: StepMetrics) -> None:
        """Pass on whatever is known of a step, as train/loss, train/lr and so on."""
        values = msgspec.to_builtins(metrics)
        self._add(metrics.step, {f"train/{name}": value for name, value in values.items() if name != "step"})

    def evaluation(self, score: CheckpointScore) -> None:
        """Pass on a score as eval/PROTOCOL/METRIC."""
        self._add(score.step, {f"eval/{score.protocol}/{score.metric}": score.value})


def _tensorboard(folder: Path, about: About, first: int) -> Scalars:
    writing = importlib.import_module("torch.utils.tensorboard")
    # Events of steps that are taken again after a kill are hidden by the new ones.
    writer = writing.SummaryWriter(str(folder / TENSORBOARD), purge_step=first + 1)
    writer.add_text("training", f"```json\n{json.dumps(_settings(about), indent=2)}\n```", first)

    def add(step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)

    return Scalars(add, writer.close)


def _wandb(folder: Path, about: About, first: int) -> Scalars:
    wandb = importlib.import_module("wandb")
    make_folder(folder)
    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", "cirbench"),
        name=folder.resolve().name,
        id=about.run,
        resume="allow",
        dir=str(folder),
        config=_settings(about),
    )

    return Scalars(_not_sent_before(run.step, run.log), run.finish)


def _trackio(folder: Path, about: About, first: int) -> Scalars:
    trackio = importlib.import_module("trackio")
    project = os.environ.get("TRACKIO_PROJECT", "cirbench")
    name = f"{folder.resolve().name}-{about.run}"
    with contextlib.redirect_stdout(sys.stderr):  # it prints
        run = trackio.init(project=project, name=name, config=_settings(about), resume="allow", embed=False)

    def close() -> None:
        with contextlib.redirect_stdout(sys.stderr):
            trackio.finish()

    return Scalars(_not_sent_before(run._next_step, run.log), close)  # there is no public name for it


def _not_sent_before(next_step: int, log: Callable[..., None]) -> Callable[[int, Mapping[str, float]], None]:
    """What a training that was killed has sent already is not sent again."""

    def add(step: int, values: Mapping[str, float]) -> None:
        if step >= next_step:
            log(dict(values), step=step)

    return add


def _settings(about: About) -> dict[str, Any]:
    return {"method": about.method, "request": about.request, **about.training}


TENSORBOARD = "tensorboard"
TRACKERS: Mapping[str, Callable[[Path, About, int], Tracker]] = {
    TENSORBOARD: _tensorboard,
    "wandb": _wandb,
    "trackio": _trackio,
}
"""How each tracker is started, by the name of its package and of the extra that brings it."""


def require_trackers(names: Sequence[str]) -> None:
    """Check that trackers can be used.

    Raises:
        UnknownName: There is no such tracker.
        MissingData: Its package is not installed.
    """
    for name in names:
        if name not in TRACKERS:
            raise UnknownName("tracker", name, TRACKERS)
        require(name, extra=name, purpose=f"--log {name}")


@contextlib.contextmanager
def open_trackers(
    folder: Path,
    about: About,
    known: Sequence[StepMetrics],
    scores: Sequence[CheckpointScore],
    names: Sequence[str] = (),
) -> Iterator[list[Tracker]]:
    """Open the metrics file of a training and the named trackers, as long as the block lasts; see `MetricsFile`.

    Only the main process has any.

    Raises:
        CirbenchError: The disk is full, or the folder cannot be written.
    """
    if not get_context().is_main_process:
        yield []
        return
    with contextlib.ExitStack() as stack:
        file = MetricsFile(folder, about, known, scores)
        stack.callback(file.close)
        trackers: list[Tracker] = [file]
        for name in dict.fromkeys(names):
            tracker = TRACKERS[name](folder, file.about, len(known))
            stack.callback(tracker.close)
            trackers.append(tracker)
        yield trackers


def smoothed(losses: Sequence[float]) -> float:
    """The mean of the last losses."""
    return statistics.fmean(losses[-SMOOTHED:])


_BARS = "▁▂▃▄▅▆▇█"


def curve(losses: Sequence[float], width: int = 40) -> str:
    """The course of a loss in one line of text: the mean of each part, from the lowest (▁) to the highest (█)."""
    parts = min(width, len(losses))
    bounds = [len(losses) * part // parts for part in range(parts + 1)]
    means = [statistics.fmean(losses[low:high]) for low, high in itertools.pairwise(bounds)]
    least, most = min(means), max(means)
    return "".join(_BARS[round((mean - least) / ((most - least) or 1) * (len(_BARS) - 1))] for mean in means)
