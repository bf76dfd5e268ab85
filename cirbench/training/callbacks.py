"""Evaluations and checkpoints on the way of a training, and the best checkpoint by one of the evaluations.

An intermediate checkpoint is a checkpoint folder like any other, ``epoch-K`` after K epochs where those are kept, else
``step-K``.
"""

from __future__ import annotations

import dataclasses
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import torch

from cirbench.support.distributed import barrier, broadcast_object, get_context
from cirbench.training.interface import tf32

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from cirbench.training.checkpoint import CheckpointScore
    from cirbench.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class ValidationConfig:
    """What is evaluated while a training goes on, and which of its weights are kept.

    Attributes:
        protocols: Names of the protocols.
        evaluate: Evaluates the checkpoint in a folder on each of them.
        eval_every: Steps between two evaluations; ``None`` for the end of each epoch. The end of the training is always
            evaluated.
        monitor: The protocol whose best checkpoint is kept instead of the last one.
        keep_epochs: Keep a checkpoint of each epoch.
    """

    protocols: tuple[str, ...] = ()
    evaluate: Callable[[Path], Sequence[CheckpointScore]] | None = None
    eval_every: int | None = None
    monitor: str | None = None
    keep_epochs: bool = False

    @property
    def asked(self) -> dict[str, Any]:
        """What of it makes a training another one; empty where nothing is evaluated or kept."""
        values = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "evaluate"
        }
        return {name: value for name, value in values.items() if value}


@dataclasses.dataclass
class CheckpointCallback:
    """Evaluates one training and keeps its checkpoints.

    Attributes:
        validation: What is wanted.
        folder: The folder of the training.
        steps_per_epoch: Steps of an epoch.
        total_steps: Steps of the whole training.
        state: The training.
        write: Writes a checkpoint of the present weights into a folder.
    """

    validation: ValidationConfig
    folder: Path
    steps_per_epoch: int
    total_steps: int
    state: TrainState
    write: Callable[[Path], None]

    def is_due(self, step: int) -> bool:
        """Whether there is something to do after a step."""
        return self._evaluates(step) or (self.validation.keep_epochs and self._ends_epoch(step))

    def _evaluates(self, step: int) -> bool:
        every = self.validation.eval_every
        due = step % every == 0 if every else self._ends_epoch(step)
        return self.validation.evaluate is not None and (due or step == self.total_steps)

    def _ends_epoch(self, step: int) -> bool:
        return step % self.steps_per_epoch == 0

    def on_step_end(self) -> None:
        """Do what is due after the step that was just done.

        Raises:
            CirbenchError: The evaluation failed, or the disk is full.
        """
        step = self.state.step
        if not self.is_due(step) or not self.state.is_finite():
            return
        if get_context().is_main_process:
            self.write(self._checkpoint_folder(step))
        if self._evaluates(step):
            barrier()  # the others wait for the checkpoint
            self.state.evaluations += self._scores()
        if get_context().is_main_process:
            self.state.save(self.folder)
            self._delete_all_but(self.best_folder)

    @property
    def best(self) -> CheckpointScore | None:
        """The best evaluation on the monitored protocol, the earliest of several; none where none is monitored."""
        chosen = [each for each in self.state.evaluations if each.protocol == self.validation.monitor]
        return max(chosen, key=lambda each: each.value, default=None)

    @property
    def best_folder(self) -> Path | None:
        """The folder of the best checkpoint."""
        return None if self.best is None else self._checkpoint_folder(self.best.step)

    def delete_intermediate(self) -> None:
        """Remove the checkpoints that are not needed any more when the training is done."""
        self._delete_all_but(None)

    def _checkpoint_folder(self, step: int) -> Path:
        epoch, rest = divmod(step, self.steps_per_epoch)
        return self.folder / (f"epoch-{epoch}" if self.validation.keep_epochs and not rest else f"step-{step}")

    def _scores(self) -> Sequence[CheckpointScore]:
        """Evaluate as any other process would: in reference precision, and with the denormals that a training flushes.

        The thread that computes is a new one, since both the mode and the workers that inherit it belong to a thread.
        """
        evaluate = self.validation.evaluate
        assert evaluate is not None
        with tf32(False), ThreadPoolExecutor(1, initializer=lambda: torch.set_flush_denormal(False)) as thread:
            scores = thread.submit(evaluate, self._checkpoint_folder(self.state.step)).result()
        return broadcast_object([*scores])

    def _delete_all_but(self, kept: Path | None) -> None:
        for path in self.folder.glob("step-*"):
            if path != kept:
                shutil.rmtree(path)


def delete_checkpoints(folder: Path) -> None:
    """Remove the intermediate checkpoints that a folder holds."""
    for path in (*folder.glob("epoch-*"), *folder.glob("step-*")):
        shutil.rmtree(path)
