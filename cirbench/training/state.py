"""The state of an unfinished training: on disk, to be continued bit for bit, healthy or not, and with its checkpoints.

Everything random in a step comes from the seed and the number of the step, and so does the order of the samples. So the
state is the module, the optimiser, the losses and evaluations so far, and how long they took.

What happens on the way is the work of two callbacks: `StateSaver` saves the state, and `CheckpointCallback` writes and
evaluates checkpoints, and keeps the best by one of the evaluations. An intermediate checkpoint is a checkpoint folder
like any other, ``epoch-K`` after K epochs where those are kept, else ``step-K``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import shutil
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from cirbench.errors import CorruptFile, UsageError
from cirbench.support.distributed import barrier, broadcast_object, get_context
from cirbench.support.files import atomic_writer
from cirbench.training.checkpoint import CheckpointScore
from cirbench.training.interface import tf32

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from cirbench.training.interface import TrainingParameters

STATE = "state.safetensors"
SCHEMA = 2
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")
_RESTART = "Start over with --restart."

WINDOW = 20
"""Losses at the beginning that say what is usual, and at the end that are judged."""
FACTOR = 10.0
"""How many times the usual is far too much."""
FLOOR = 1.0
"""A loss below is never called too large, however small those before it were."""
CHANCE_AFTER = 100
"""Steps of a warm-up after which a contrastive loss is expected to have left chance."""

_SAME = 1e-6
"""How far apart constant losses may be, as a share of the largest."""
_NEAR = 0.01
"""How far from chance a loss at chance may be, as a share of it."""
_CHECKS = (
    "Look at the learning rate (--set lr=...), at whether captions and images differ and belong together, and at the "
    "gradients (cirbench check method METHOD)."
)
_SHARE = 20
"""Saving the state takes at most one part in so many of the time."""


class TrainState:
    """A module with its optimiser, how far they are, and what was seen on the way."""

    def __init__(self, module: torch.nn.Module, optimizer: torch.optim.AdamW, request: str) -> None:
        self.module = module
        self.optimizer = optimizer
        self.request = request
        self.losses: list[float] = []
        self.evaluations: list[CheckpointScore] = []
        self.skipped: set[int] = set()
        self.seconds = 0.0

    @property
    def step(self) -> int:
        """How many steps are done."""
        return len(self.losses)

    def is_finite(self) -> bool:
        """Whether every weight is a finite number."""
        return all(bool(torch.isfinite(weights).all()) for weights in self.module.parameters())

    def save(self, folder: Path) -> None:
        """Write the state atomically, with its own digest."""
        tensors = {f"module.{name}": tensor for name, tensor in weights(self.module).items()}
        for name, parameter in self.module.named_parameters():
            for moment, tensor in self.optimizer.state.get(parameter, {}).items():
                tensors[f"{moment}.{name}"] = tensor.detach().cpu().contiguous()
        tensors["losses"] = torch.tensor(self.losses, dtype=torch.float64)
        metadata = {
            "schema": str(SCHEMA),
            "request": self.request,
            "seconds": str(self.seconds),
            "evaluations": msgspec.json.encode(self.evaluations).decode(),
            "skipped": msgspec.json.encode(sorted(self.skipped)).decode(),
            "digest": _BLANK,
        }
        content = memoryview(save(tensors, metadata))
        header, body = _split(content)
        with atomic_writer(folder / STATE) as file:
            file.write(header.replace(_BLANK.encode(), _digest(header, body).encode()))
            file.write(body)

    def load(self, folder: Path) -> None:
        """Continue from the state in ``folder``.

        Raises:
            CorruptFile: The file is damaged.
            UsageError: It belongs to another training.
        """
        path = folder / STATE
        _verify(path)
        try:
            with safe_open(path, framework="pt") as file:
                metadata: dict[str, str] = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise _damaged(path, str(error)) from error
        if metadata.get("request") != self.request:
            raise other_training(folder)
        self.losses = tensors.pop("losses").tolist()
        self.seconds = float(metadata["seconds"])
        self.evaluations = msgspec.json.decode(metadata["evaluations"], type=list[CheckpointScore])
        self.skipped = msgspec.json.decode(metadata["skipped"], type=set[int])
        self.module.load_state_dict(
            {name.removeprefix("module."): tensor for name, tensor in tensors.items() if name.startswith("module.")}
        )
        for name, parameter in self.module.named_parameters():
            if f"step.{name}" in tensors:
                self.optimizer.state[parameter] = {
                    moment: _laid_out_like(parameter, tensors[f"{moment}.{name}"]) for moment in _MOMENTS
                }


def _laid_out_like(parameter: torch.nn.Parameter, moment: torch.Tensor) -> torch.Tensor:
    """A moment where its parameter is and in its layout, since the optimiser goes through both side by side."""
    if moment.shape != parameter.shape:  # the number of steps
        return moment.to(parameter.device)
    return torch.empty_like(parameter, dtype=moment.dtype, requires_grad=False).copy_(moment)


_BLANK = "0" * 64
"""What is in the place of the digest while the digest is computed."""


def _split(content: memoryview) -> tuple[bytes, memoryview]:
    """The header of a safetensors file, with the eight bytes of its length, and the tensors behind it."""
    end = 8 + int.from_bytes(content[:8], "little")
    return bytes(content[:end]), content[end:]


def _digest(header: bytes, body: memoryview) -> str:
    hasher = hashlib.sha256(header)
    hasher.update(body)
    return hasher.hexdigest()


def _verify(path: Path) -> None:
    """Compare a state with the digest in its header, which covers every byte but its own.

    Raises:
        CorruptFile: They differ, or there is no digest.
    """
    try:
        header, body = _split(memoryview(path.read_bytes()))
        metadata = json.loads(header[8:])["__metadata__"]
        schema, stated = metadata["schema"], metadata.get("digest", "")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, "its header cannot be read") from error
    if schema == "1" and not stated:
        raise CorruptFile(f"{path} was written by an earlier version of cirbench.", hint=_RESTART)
    if not stated or _digest(header.replace(stated.encode(), _BLANK.encode()), body) != stated:
        raise _damaged(path, "its content does not match its digest")


def _damaged(path: Path, why: str) -> CorruptFile:
    return CorruptFile(f"{path} is damaged: {why}.", hint=_RESTART)


def weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A module's tensors on the CPU, by name."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}


def other_training(folder: Path, changes: str = "other parameters, backbone, data or code") -> UsageError:
    """Say that ``folder`` is taken, and by what."""
    return UsageError(
        f"{folder} holds another training: {changes}.",
        hint="Choose another --output, or give --restart to replace it.",
    )


@dataclasses.dataclass
class StateSaver:
    """Decides when the state goes to disk: from time to time, and when the training is stopped.

    Attributes:
        folder: Where it goes.
        seconds: The time between two saves, at least.
        stop: Set to stop the training.
    """

    folder: Path
    seconds: float
    stop: threading.Event
    _last: float = dataclasses.field(default_factory=time.perf_counter)
    _cost: float = 0.0

    def is_due(self) -> bool:
        """Whether it is time to save, for the process that does."""
        waited = time.perf_counter() - self._last
        return get_context().is_main_process and waited > max(self.seconds, _SHARE * self._cost)

    def on_step_end(self, state: TrainState, *, stopping: bool) -> None:
        """Save the state if it is time, and if it is worth continuing from."""
        if not get_context().is_main_process or not (stopping or self.is_due()):
            return
        now = time.perf_counter()
        if is_good(state.losses) and state.is_finite():
            state.save(self.folder)
        self._last = time.perf_counter()
        self._cost = self._last - now


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


def bound(losses: Sequence[float]) -> float:
    """The loss above which a step has gone astray; infinite while too few losses are known."""
    if len(losses) < 2 * WINDOW:
        return math.inf
    return max(FLOOR, FACTOR * max(losses[:WINDOW]))


def diverges(losses: Sequence[float]) -> bool:
    """Whether half of the last 20 losses are ten times as large as the largest of the first 20, and above 1.

    The first losses are those of weights that have learnt nothing yet, and there are twenty of them. So neither a hard
    batch nor a spike that passes can look like this.
    """
    return statistics.median(losses[-WINDOW:]) > bound(losses) if losses else False


def is_good(losses: Sequence[float]) -> bool:
    """Whether the last step may be continued from."""
    return not losses or losses[-1] <= bound(losses)


def suspicion(losses: Sequence[float], parameters: TrainingParameters) -> str | None:
    """Say what looks wrong with the first losses of a training, after the one step at which that is judged.

    Zero and constant losses are judged after 20 steps. A loss that stays within 1 % of the logarithm of the batch size,
    which a contrastive loss has where all similarities are equal, is judged 20 steps after the warm-up.
    """
    counts_epochs = "epoch" in (parameters.schedule_by, parameters.schedule.rstrip("s"))
    late = WINDOW + (CHANCE_AFTER if counts_epochs and parameters.warmup else min(parameters.warmup, CHANCE_AFTER))
    if len(losses) not in (WINDOW, late):
        return None
    last = losses[-WINDOW:]
    least, most = min(last), max(last)
    if most - least <= _SAME * max(abs(least), abs(most)):
        if len(losses) > WINDOW:  # said already
            return None
        shape = "zero" if most == 0 else f"constant ({most:.4g})"
        return f"the loss is {shape} in the first {WINDOW} steps. {_CHECKS}"
    compared = parameters.batch_size // parameters.grad_accum_steps
    chance = math.log(compared)
    if len(losses) == late and chance and max(most - chance, chance - least) <= _NEAR * chance:
        return (
            f"after {late} steps the loss is still at chance, log({compared}) = {chance:.4g}, as if all samples of a "
            f"batch looked the same. {_CHECKS}"
        )
    return None
