"""Checkpoints of epochs, evaluations during training, and the best checkpoint by one of them.

A moment is a checkpoint folder like any other, ``epoch-K`` after K epochs where those are kept, else ``step-K``.
"""

from __future__ import annotations

import dataclasses
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import torch

from cirbench.support.distributed import broadcast_object, get_context
from cirbench.training.checkpoint import Evaluated
from cirbench.training.step import tf32

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from cirbench.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Score:
    """The headline metric of a protocol.

    Attributes:
        protocol: Its name.
        digest: Sha256 of what it is.
        metric: The label of the metric.
        value: In percent.
    """

    protocol: str
    digest: str
    metric: str
    value: float


@dataclasses.dataclass(frozen=True)
class ValidationConfig:
    """What is looked at while a training goes on, and which of its weights are kept.

    Attributes:
        protocols: What is evaluated on, by name.
        evaluate: Evaluates the checkpoint in a folder on each of them.
        every: After how many steps; ``None`` for the end of each epoch. The end of the training is evaluated always.
        select: Of the protocols, the one whose best checkpoint is kept instead of the last.
        keep_epochs: Keep a checkpoint of each epoch.
    """

    protocols: tuple[str, ...] = ()
    evaluate: Callable[[Path], Sequence[Score]] | None = None
    every: int | None = None
    select: str | None = None
    keep_epochs: bool = False

    @property
    def asked(self) -> dict[str, Any]:
        """What of it makes a training another one; empty where nothing is watched."""
        values = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "evaluate"
        }
        return {name: value for name, value in values.items() if value}


@dataclasses.dataclass
class CheckpointCallback:
    """The moments of one training.

    Attributes:
        watch: What is wanted.
        folder: Of the training.
        per_epoch: Steps an epoch.
        steps: Of the whole training.
        progress: How far it is.
        write: Writes a checkpoint of this moment into a folder.
    """

    watch: ValidationConfig
    folder: Path
    per_epoch: int
    steps: int
    progress: TrainState
    write: Callable[[Path], None]

    def on_step_end(self) -> None:
        """Do what is due after the step that was just done.

        Raises:
            CirbenchError: The evaluation failed, or the disk is full.
        """
        step, watch = self.progress.step, self.watch
        ends_epoch = step % self.per_epoch == 0
        due = step % watch.every == 0 if watch.every else ends_epoch
        looked_at = watch.evaluate is not None and (due or step == self.steps)
        if not (looked_at or (watch.keep_epochs and ends_epoch)) or not self.progress.is_finite():
            return
        if get_context().is_main_process:
            self.write(self._place(step))
        if looked_at:
            broadcast_object(None)  # the others wait for the checkpoint
            self.progress.evaluations += [Evaluated(step=step, **dataclasses.asdict(score)) for score in self._scores()]
        if get_context().is_main_process:
            self.progress.save(self.folder)
            self._remove_but(self.best_folder)

    @property
    def best(self) -> Evaluated | None:
        """The best evaluation on the protocol that selects, the earliest of several; none where nothing selects."""
        chosen = [each for each in self.progress.evaluations if each.protocol == self.watch.select]
        return max(chosen, key=lambda each: each.value, default=None)

    @property
    def best_folder(self) -> Path | None:
        """Where the best checkpoint lies."""
        return None if self.best is None else self._place(self.best.step)

    def clear(self) -> None:
        """Remove what is no longer needed when the training is done."""
        self._remove_but(None)

    def _place(self, step: int) -> Path:
        epoch, rest = divmod(step, self.per_epoch)
        return self.folder / (f"epoch-{epoch}" if self.watch.keep_epochs and not rest else f"step-{step}")

    def _scores(self) -> Sequence[Score]:
        """Evaluate as any other process would: in reference precision, and with the denormals that a training flushes.

        The thread that computes is a new one, since both the mode and the workers that inherit it belong to a thread.
        """
        evaluate = self.watch.evaluate
        assert evaluate is not None
        with tf32(False), ThreadPoolExecutor(1, initializer=lambda: torch.set_flush_denormal(False)) as thread:
            return broadcast_object(list(thread.submit(evaluate, self._place(self.progress.step)).result()))

    def _remove_but(self, kept: Path | None) -> None:
        for path in self.folder.glob("step-*"):
            if path != kept:
                shutil.rmtree(path)


def delete_checkpoints(folder: Path) -> None:
    """Remove the moments of the training that a folder holds."""
    for path in (*folder.glob("epoch-*"), *folder.glob("step-*")):
        shutil.rmtree(path)
