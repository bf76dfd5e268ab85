"""The training loop: learning rate, one step of micro-batches and AdamW, and the checks that stop a bad training.

A GPU computes one step while the processor prepares the next, so the loss of a step is read when the next one has been
begun. Whatever needs the weights of a step, to evaluate or to keep them, waits until every loss has been read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import hashlib
import math
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.parallel import DistributedDataParallel

from cirbench.errors import CirbenchError, UsageError, excerpt, some
from cirbench.support import console
from cirbench.support.device import Arriving, is_out_of_memory, on_gpu
from cirbench.support.distributed import (
    PeerFailure,
    all_gather_union,
    all_reduce_sum,
    detect_vanished_hosts,
    get_context,
    is_lost,
)
from cirbench.training.interface import ParameterGroup
from cirbench.training.log import StepMetrics, smoothed
from cirbench.training.state import FACTOR, STATE, WINDOW, bound, diverges, suspicion

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cirbench.support.console import Advance
    from cirbench.training.data import Batches
    from cirbench.training.interface import Batch, Objective, TrainingParameters
    from cirbench.training.log import Tracker
    from cirbench.training.state import CheckpointCallback, StateSaver, TrainState


@dataclasses.dataclass
class Trainer:
    """A training in this process.

    Attributes:
        parameters: Its parameters.
        batches: The batches of all steps.
        step: Computes the loss and the gradients of a step.
        state: The weights, the optimiser, and what was seen so far.
        saver: Saves the state from time to time.
        callback: Evaluates and keeps checkpoints on the way.
        ahead: See `steps_ahead`.
    """

    parameters: TrainingParameters
    batches: Batches
    step: Step
    state: TrainState
    saver: StateSaver
    callback: CheckpointCallback
    ahead: int = 0
    _started: float = dataclasses.field(default=0.0, init=False)

    @property
    def total_steps(self) -> int:
        """How many steps the training has."""
        return self.parameters.total_steps(self.batches.per_epoch)

    def run(self, micro_batches: Iterator[Batch], advance: Advance, trackers: Sequence[Tracker] = ()) -> bool:
        """Take the steps that are left; return whether all are done, or the training was stopped and its state kept.

        Args:
            micro_batches: Those of the steps that are left.
            advance: Called with how many samples each step has seen, and where the training is.
            trackers: Take in every step and evaluation.

        Raises:
            CirbenchError: The loss is no longer a finite number, or grows without end; another process has ended.
            MissingData: More samples cannot be used than may be skipped.
        """
        begun: deque[_BegunStep] = deque()
        while self.state.step < self.total_steps:
            if not begun:
                self._started = time.perf_counter()
            begun.append(self._begin(micro_batches, self.state.step + len(begun)))
            last = self.state.step + len(begun)
            pausing, stopping = last == self.total_steps or self.callback.is_due(last), False
            while begun and (pausing or len(begun) > self.ahead):
                metrics, asked = self._finish(begun.popleft())
                stopping, pausing = stopping or asked.stop, pausing or asked.stop or asked.save
                for tracker in trackers:
                    tracker.step(metrics)
                advance(self.batches.batch_size, self._progress(metrics))
                if doubt := suspicion(self.state.losses, self.parameters):
                    console.say(f"warning: {doubt}")
            if begun:
                continue
            evaluated = len(self.state.evaluations)
            self.callback.on_step_end()
            for score in self.state.evaluations[evaluated:]:
                for tracker in trackers:
                    tracker.evaluation(score)
            if self.state.step < self.total_steps:
                self.saver.on_step_end(self.state, stopping=stopping)
                if stopping:
                    return False
        if not self.state.is_finite():
            raise self._failure("its weights are no longer numbers")
        return True

    def known_steps(self) -> list[StepMetrics]:
        """The steps that are done, as far as the state knows them."""
        return [
            StepMetrics(step=step + 1, epoch=self._epoch(step + 1), loss=loss, lr=self._lr(step))
            for step, loss in enumerate(self.state.losses)
        ]

    def _lr(self, step: int) -> float:
        per_epoch = self.batches.per_epoch
        return learning_rate(step, steps=self.total_steps, steps_per_epoch=per_epoch, parameters=self.parameters)

    def _epoch(self, steps: int) -> float:
        return round(steps / self.batches.per_epoch, 4)

    def _progress(self, metrics: StepMetrics) -> str:
        mean = smoothed(self.state.losses)
        return f"step {metrics.step}/{self.total_steps}, loss {mean:.4g}, lr {metrics.lr:.3g}"

    def _begin(self, micro_batches: Iterator[Batch], number: int) -> _BegunStep:
        """Give the device everything that a step is, counted from 0."""
        lr, optimizer = self._lr(number), self.state.optimizer
        for group in optimizer.param_groups:
            group["lr"] = lr * group[FACTOR_OF_RATE]
        optimizer.zero_grad(set_to_none=True)
        try:
            loss = self.step(micro_batches, number)
            grad_norm = self._clip_gradients()
            optimizer.step()
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise self._does_not_fit(error, number + 1) from error
            if self.parameters.compile and _is_of_compiler(error):
                raise self._does_not_compile(error, number + 1) from error
            raise
        return _BegunStep(lr, loss, grad_norm)

    def _finish(self, begun: _BegunStep) -> tuple[StepMetrics, _Asked]:
        """Wait for the earliest step that was begun; return what is known of it, and what any process asks for."""
        state = self.state
        loss, asked = self._reduce(begun.loss.read())
        if not math.isfinite(loss):
            raise self._failure(f"its loss became {loss}", state.step + 1)
        grad_norm = None if begun.grad_norm is None else float(begun.grad_norm.read())
        if grad_norm is not None and not math.isfinite(grad_norm):
            raise self._failure(f"the norm of its gradients became {grad_norm}", state.step + 1)
        state.losses.append(loss)
        if diverges(state.losses):
            usual = f"half of its last {WINDOW} losses are above {bound(state.losses):.4g}"
            raise self._failure(f"it diverges: {usual}, {FACTOR:.0f} times the largest of the first {WINDOW}")
        before, self._started = self._started, time.perf_counter()
        seconds = self._started - before
        state.seconds += seconds
        metrics = StepMetrics(
            step=state.step,
            epoch=self._epoch(state.step),
            loss=loss,
            lr=begun.lr,
            grad_norm=grad_norm,
            samples_per_second=round(self.batches.batch_size / seconds, 2),
            seconds=round(state.seconds, 3),
        )
        return metrics, asked

    def _clip_gradients(self) -> Arriving | None:
        """Scale the gradients down to the norm that is allowed; return the norm that they had."""
        if self.parameters.grad_clip is None:
            return None
        weights = [each for group in self.state.optimizer.param_groups for each in group["params"]]
        return Arriving(torch.nn.utils.clip_grad_norm_(weights, self.parameters.grad_clip))

    def _reduce(self, local_loss: float) -> tuple[float, _Asked]:
        """The loss over all processes, and what one of them asks for; skipped samples are shared too."""
        newly_skipped = len(self.batches.skipped) - len(self.state.skipped)
        loss, stop, save, skipped = all_reduce_sum(
            [local_loss / get_context().world_size, self.saver.stop.is_set(), self.saver.is_due(), newly_skipped]
        )
        if skipped:
            self.state.skipped = all_gather_union(self.batches.skipped)
            self.batches.skip(self.state.skipped)
        return loss, _Asked(bool(stop), bool(save))

    def _failure(self, reason: str, step: int | None = None, hint: str = "") -> CirbenchError:
        path = self.saver.folder / STATE
        kept = f" The last good state is kept in {path}." if path.is_file() else ""
        return CirbenchError(
            f"The training stopped at step {step or self.state.step}: {reason}.{kept}",
            hint=hint or "Lower the learning rate (--set lr=...), or look at the samples of that step.",
        )

    def _does_not_fit(self, error: RuntimeError, step: int) -> CirbenchError:
        chosen, processes = self.parameters, get_context().world_size
        parts = chosen.grad_accum_steps * processes
        at_once = chosen.batch_size // parts
        ways = []
        if not chosen.activation_checkpointing:
            ways.append("--set activation_checkpointing=true (the same results, a third more work)")
        if chosen.precision == "fp32":
            ways.append("--set precision=bf16")
        if at_once % 2 == 0:
            ways.append(
                f"--set grad_accum_steps={2 * chosen.grad_accum_steps} ({at_once // 2} at once; a contrastive loss "
                "compares within them)"
            )
        if at_once > 1:
            ways.append(f"--set batch_size={at_once // 2 * parts}")
        kept = "recomputed" if chosen.activation_checkpointing else "kept"
        return self._failure(
            f"it does not fit into the memory of {self.step.device} with {at_once} of {chosen.batch_size} "
            f"samples at once, in {chosen.precision}, with activations {kept} ({excerpt(error)})",
            step,
            f"One of these: {'; '.join(ways)}." if ways else "Use a smaller model, or a device with more memory.",
        )

    def _does_not_compile(self, error: RuntimeError, step: int) -> CirbenchError:
        return self._failure(
            f"torch cannot compile the towers ({excerpt(error)})",
            step,
            "Leave out --set compile=true, or install what is missing: a C++ compiler on a CPU, triton on a GPU.",
        )


@dataclasses.dataclass(frozen=True, slots=True)
class _BegunStep:
    """A step that a device was given."""

    lr: float
    loss: StepLoss
    grad_norm: Arriving | None


@dataclasses.dataclass(frozen=True, slots=True)
class _Asked:
    """What a process wants once the steps that were begun are done."""

    stop: bool
    save: bool


class StepLoss:
    """The mean of the losses of micro-batches, on its way from the device."""

    def __init__(self, losses: Sequence[torch.Tensor]) -> None:
        self._losses = Arriving(torch.stack([*losses]))

    def read(self) -> float:
        """Wait for it."""
        losses: list[float] = self._losses.read().tolist()
        return sum(loss / len(losses) for loss in losses)


def steps_ahead(device: torch.device) -> int:
    """How many steps are begun before the loss of one is read: on a CPU none, since nothing would be gained."""
    return int(on_gpu(device))


class Step:
    """Computes the loss of a step and leaves its gradients in the weights.

    Attributes:
        device: Where.
    """

    def __init__(self, objective: Objective, parameters: TrainingParameters, device: torch.device) -> None:
        self._parameters = parameters
        self.device = device
        self._loss: torch.nn.Module = _Loss(objective)
        if get_context().world_size > 1:
            # Not every weight need have a part in a loss: CLIP's temperature has none in PLI's.
            self._loss = DistributedDataParallel(self._loss, find_unused_parameters=True)
            detect_vanished_hosts()  # also over the connections that GPUs have just opened

    def __call__(self, micro_batches: Iterator[Batch], step: int) -> StepLoss:
        """Take the micro-batches of a step, counted from 0, and return the mean of their losses in this process.

        Raises:
            CirbenchError: Another process has ended.
        """
        count = self._parameters.grad_accum_steps
        losses: list[torch.Tensor] = []
        for index in range(count):
            batch = next(micro_batches)
            torch.manual_seed(_seed(self._parameters.seed, step, index))
            with contextlib.nullcontext() if index + 1 == count else self._no_sync():
                losses.append(self._backward(batch))
        return StepLoss(losses)

    def _backward(self, batch: Batch) -> torch.Tensor:
        try:
            with autocast(self._parameters, self.device):
                loss: torch.Tensor = self._loss(batch)
            (loss / self._parameters.grad_accum_steps).backward()  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            if get_context().world_size > 1 and is_lost(error):
                raise PeerFailure(error) from error
            raise
        return loss.detach()

    def _no_sync(self) -> Any:
        """While it lasts, gradients add up in this process and are not exchanged."""
        loss = self._loss
        return loss.no_sync() if isinstance(loss, DistributedDataParallel) else contextlib.nullcontext()


class _Loss(torch.nn.Module):
    """The loss of an objective as a module, which is what torch can distribute."""

    _objective: Objective

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.trained = objective.module
        self._objective = objective

    def forward(self, batch: Batch) -> torch.Tensor:
        return self._objective.loss(batch)


def _seed(seed: int, step: int, micro_batch: int) -> int:
    """A seed for everything random in a micro-batch: equal in all processes, and in a training that is continued."""
    place = f"{seed}/{step}" if micro_batch == 0 else f"{seed}/{step}/{micro_batch}"
    return int.from_bytes(hashlib.sha256(place.encode()).digest()[:8], "little") >> 1


FACTOR_OF_RATE = "factor_of_rate"
"""Under which name a group of the optimiser's weights has what the learning rate is multiplied by."""
START = 0.01
"""Where a warm-up that counts epochs begins, as a share of the full rate (PLI's public code)."""


def learning_rate(step: int, *, steps: int, steps_per_epoch: int, parameters: TrainingParameters) -> float:
    """The learning rate of a step, counted from 0."""
    warmup, height, least = parameters.warmup, parameters.lr, parameters.min_lr
    if parameters.schedule == "epochs":
        return height * _by_epoch(step // steps_per_epoch, parameters)
    if parameters.schedule_by == "epoch":
        step, steps = step // steps_per_epoch, math.ceil(steps / steps_per_epoch)
    if parameters.schedule == "one-cycle":
        return _one_cycle(step, steps, parameters)
    if step < warmup:
        return height * (step + 1) / warmup
    done = (step - warmup) / max(1, (parameters.period or steps) - warmup)
    if parameters.schedule == "cosine":
        return _cosine(height, least, done)
    if parameters.schedule == "linear":
        return least + (height - least) * (1 - done)
    return height


def _one_cycle(step: int, steps: int, parameters: TrainingParameters) -> float:
    """Smith's schedule as torch's OneCycleLR has it: highest in the last step of the warm-up, lowest in the last."""
    height, peak = parameters.lr, max(0, parameters.warmup - 1)
    if step < peak:
        return _cosine(parameters.start_lr, height, step / peak)
    return _cosine(height, parameters.min_lr, (step - peak) / max(1, steps - 1 - peak))


def _cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * done))


def _by_epoch(epoch: int, parameters: TrainingParameters) -> float:
    if epoch < parameters.warmup:
        return START + (1 - START) * epoch / parameters.warmup
    return parameters.gamma ** sum(epoch >= milestone for milestone in parameters.milestones)


def optimizer_for(
    module: torch.nn.Module, parameters: TrainingParameters, groups: Mapping[str, ParameterGroup] | None = None
) -> torch.optim.AdamW:
    """AdamW over the weights that want gradients; the loop sets its rate.

    Args:
        module: Has the weights.
        parameters: Of the training.
        groups: See `cirbench.training.interface.HasParameterGroups`.

    Raises:
        CirbenchError: No weight has a name that a group's pattern matches.
    """
    patterns, usual = groups or {}, ParameterGroup()
    unmatched = set(patterns)
    chosen: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, weights in module.named_parameters():
        pattern = next((pattern for pattern in patterns if fnmatch.fnmatchcase(name, pattern)), None)
        unmatched.discard(pattern or "")
        if weights.requires_grad:
            group = usual if pattern is None else patterns[pattern]
            decay = parameters.weight_decay if group.weight_decay is None else group.weight_decay
            if parameters.decay == "matrices" and weights.ndim < 2:
                decay = 0.0
            chosen.setdefault((group.rate, decay), []).append(weights)
    if unmatched:
        raise CirbenchError(f"No weight that is trained has a name like {some(sorted(unmatched))}.")
    return torch.optim.AdamW(
        [{"params": each, "weight_decay": decay, FACTOR_OF_RATE: factor} for (factor, decay), each in chosen.items()],
        lr=parameters.lr,
        betas=(0.9, parameters.beta2),
        eps=parameters.epsilon,
        fused=True,
    )


def autocast(parameters: TrainingParameters, device: torch.device) -> torch.autocast:
    """The context in which a loss is computed: in bf16, matrix products are, and what needs the digits is not."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=parameters.precision == "bf16")


def enable_activation_checkpointing(model: torch.nn.Module, name: str) -> None:
    """Have a model recompute its activations in the backward pass.

    Raises:
        UsageError: It cannot.
    """
    # Of open_clip, of transformers from version 5 on, and before.
    switches = ("set_grad_checkpointing", "activation_checkpointing_enable", "gradient_checkpointing_enable")
    switch: Any = next((getattr(model, switch) for switch in switches if hasattr(model, switch)), None)
    if switch is None:
        raise UsageError(
            f"{name} cannot recompute its activations.", hint="Leave out --set activation_checkpointing=true."
        )
    switch()


def lay_out_channels_last(model: torch.nn.Module) -> None:
    """Store the weights of a convolutional model with their channels last, which its kernels are faster with.

    A vision transformer, whose only convolution cuts the patches, is left as it is.
    """
    if sum(isinstance(module, torch.nn.Conv2d) for module in model.modules()) > 1:
        model.to(memory_format=torch.channels_last)


BACKEND = "inductor"
"""What generates the code of compiled blocks."""
SHAPES = 64
"""More than the blocks of a model can meet in a training."""


def compile_blocks(model: torch.nn.Module, name: str) -> None:
    """Have the repeated blocks of a model, such as the layers of a transformer, compiled at their first use.

    Blocks that are alike share what was compiled for one, so that it takes seconds, not minutes; and what a method does
    between them, with masks or pseudo-words, stays as it is. A shape is compiled once, and there are few: an incomplete
    last batch is left out, and a text tower's lengths are multiples of `cirbench.backbones.text.GRAIN`.

    Raises:
        UsageError: It has none.
    """
    blocks = [*_repeated_blocks(model)]
    if not blocks:
        raise UsageError(f"{name} has no repeated blocks to compile.", hint="Leave out --set compile=true.")
    for block in blocks:
        block.compile(backend=BACKEND, dynamic=False, recompile_limit=SHAPES)


def _repeated_blocks(model: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """The members of each outermost list of modules that are all of one class and have parts of their own."""
    for child in model.children():
        members = [*child.children()] if isinstance(child, torch.nn.ModuleList | torch.nn.Sequential) else []
        if len({type(member) for member in members}) == 1 and any(members[0].children()):
            yield from members
        else:
            yield from _repeated_blocks(child)


def _is_of_compiler(error: RuntimeError) -> bool:
    from torch._dynamo.exc import TorchDynamoException

    return isinstance(error, TorchDynamoException)
