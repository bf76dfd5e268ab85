"""Steps of the trained methods, as cirbench takes them and as a plain loop does, for whoever measures them.

The plain loop is of the public codes' kind: all patches, texts padded to the whole context, AdamW as torch has it by
default. Both compute the same objective on the same samples; under torchrun, each process its part of a whole batch.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import time
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from cirbench.backbones import text
from cirbench.methods.interface import find_method
from cirbench.methods.training import training_parameters
from cirbench.support.distributed import get_context
from cirbench.support.plugins import load_object
from cirbench.training.interface import Batch
from cirbench.training.loop import Step, compile_blocks, enable_activation_checkpointing, optimizer_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cirbench.backbones.interface import Backbone

CAPTIONS = (
    "two dogs of the same breed running on grass",
    "a woman holding a red umbrella in the rain",
    "a wooden table with a vase of flowers and an open book on it",
    "a city street at night",
)
SETTINGS: dict[str, dict[str, Any]] = {
    "pli": {"variant": "paper", "temperature": 0.07},  # so that random towers have a loss that is not zero
    "pic2word": {},
    "lincir": {"keywords": "rules"},
}


@dataclasses.dataclass(frozen=True)
class Steps:
    """One training, step by step, in two ways.

    Attributes:
        ours: Takes a step as `cirbench train` does and returns its loss.
        plain: Takes one as a plain loop does.
    """

    ours: Callable[[], float]
    plain: Callable[[], float]


def steps_of(
    method: str, backbone: Backbone, batch_size: int, *, plain_precision: str = "fp32", **changes: Any
) -> Steps:
    """The steps of a method on one batch of random images and of captions as people write them.

    Args:
        method: One of `SETTINGS`.
        backbone: Where it starts from; it is copied. Its device is where the steps run.
        batch_size: B, of each process.
        plain_precision: That of the plain loop.
        changes: Training parameters of ours, for instance ``precision="bf16"`` or ``compile=True``.
    """
    spec = find_method(f"cirbench_methods.{method}:SPEC")
    assert spec.trainer is not None
    own, other = copy.deepcopy(backbone), copy.deepcopy(backbone)
    if changes.get("activation_checkpointing"):
        enable_activation_checkpointing(own.model, own.identity.name)
    if changes.get("compile"):
        compile_blocks(own.model, own.identity.name)
    batch = some_batch(own, batch_size, spec.trains_on)
    settings = SETTINGS[method] | {"batch_size": batch_size}
    parameters = training_parameters(spec, "", settings | changes)
    unsparing = {"precision": plain_precision, "mask_ratio": 0.0}
    known = {name: value for name, value in unsparing.items() if name in type(parameters).__struct_fields__}
    plainly = msgspec.structs.replace(training_parameters(spec, "", settings), **known)
    build = load_object(spec.trainer, owner=method)
    ours, plain = build(own, parameters), build(other, plainly)
    fused = optimizer_for(ours.module, parameters)
    looped = torch.optim.AdamW([weights for weights in plain.module.parameters() if weights.requires_grad])
    ours.module.train()
    plain.module.train()
    take = _stepper(Step(ours, parameters, own.device), fused, batch)
    take_plainly = _stepper(Step(plain, plainly, other.device), looped, batch)

    def padded() -> float:
        with _all_positions(own.context_length):
            return take_plainly()

    return Steps(take, padded)


def some_batch(backbone: Backbone, batch_size: int, kind: str) -> Batch:
    """A batch that looks the same to a step as one of a training."""
    images = batch_size if kind != "texts" else 0
    texts = batch_size if kind != "images" else 0
    pixels_B3SS = torch.randn(images, 3, backbone.image_size, backbone.image_size, device=backbone.device)
    captions = tuple(CAPTIONS[place % len(CAPTIONS)] for place in range(texts))
    place = get_context()
    return Batch(pixels_B3SS, captions, np.arange(batch_size), place.rank * batch_size, place.world_size * batch_size)


def _stepper(compute: Step, optimizer: torch.optim.Optimizer, batch: Batch) -> Callable[[], float]:
    def take() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = compute(iter([batch]), 0)
        optimizer.step()
        return loss.read()

    return take


@contextlib.contextmanager
def _all_positions(context: int) -> Iterator[None]:
    """Have text towers compute their padding too."""
    grain, text.GRAIN = text.GRAIN, context
    try:
        yield
    finally:
        text.GRAIN = grain


def matrix_operations(take: Callable[[], object]) -> int:
    """How many floating-point operations the matrix products of a step are, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        take()
    return int(counter.get_total_flops())


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a step costs.

    Attributes:
        seconds: The median of the rounds.
        memory: The most bytes that were allocated on the GPU meanwhile; 0 on a CPU.
    """

    seconds: float
    memory: int


def measure(
    take: Callable[[], object],
    device: torch.device,
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Measured:
    """Take a step once unmeasured, then measure it by the wall's clock or another."""
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.empty_cache()  # what an earlier step left in pieces
    take()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    seconds = []
    for _ in range(rounds):
        _wait(device)
        start = clock()
        take()
        _wait(device)
        seconds.append(clock() - start)
    return Measured(float(np.median(seconds)), torch.cuda.max_memory_allocated(device) if on_gpu else 0)


def matrix_peak(device: torch.device, side: int = 8192, rounds: int = 20) -> float:
    """Operations a second of a large bf16 matrix product: what no step can beat."""
    factor = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    return 2 * side**3 / measure(lambda: factor @ factor, device, rounds).seconds


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclasses.dataclass(frozen=True)
class Speed:
    """What `speed` found.

    Attributes:
        method: Whose step.
        batch_size: Of ours.
        how: What was set for ours, for instance to fit, as it is written behind the batch.
        ours: What it costs.
        plain: What the plain one costs, at the largest batch up to ours that fits.
        plain_batch_size: That batch.
        operations: Of the matrix products of our step, none counted twice.
        peak: Operations a second that the device reaches.
    """

    method: str
    batch_size: int
    how: str
    ours: Measured
    plain: Measured
    plain_batch_size: int
    operations: float
    peak: float

    @property
    def rate(self) -> float:
        """Samples a second."""
        return self.batch_size / self.ours.seconds

    @property
    def times(self) -> float:
        """How many times as many samples a second as the plain loop."""
        return self.rate * self.plain.seconds / self.plain_batch_size

    @property
    def share(self) -> float:
        """Of the device's peak."""
        return self.operations / self.ours.seconds / self.peak

    def __str__(self) -> str:
        return (
            f"{self.method}, batch {self.batch_size}, bf16{self.how}: {self.rate:.0f}/s, "
            f"{self.ours.memory / 2**30:.1f} GiB, {self.share:.0%} of a peak of {self.peak / 1e12:.3g} TFLOP/s; "
            f"{self.times:.1f}x the plain loop (bf16, batch {self.plain_batch_size}, "
            f"{self.plain.memory / 2**30:.1f} GiB)"
        )


def speed(
    method: str, backbone: Backbone, batch_size: int, peak: float, *, rounds: int = 5, compiled: bool = False
) -> Speed:
    """Measure a method's step beside a plain one, both in bf16, and what share of the device's peak its products are.

    What does not fit is measured with activations that are computed again; of the plain loop, a smaller batch.

    Args:
        method: One of `SETTINGS`.
        backbone: With its device.
        batch_size: B.
        peak: Operations a second; see `matrix_peak`.
        rounds: How many steps are measured.
        compiled: Compile the blocks of ours.
    """
    changes: dict[str, Any] = {"precision": "bf16", "plain_precision": "bf16"}
    sample = min(batch_size, 8)  # operations grow with the batch
    counted = matrix_operations(steps_of(method, backbone, sample, **changes).ours) * batch_size / sample
    own = changes | ({"compile": True} if compiled else {})
    how = ", compiled" if compiled else ""
    ours = measured_if_it_fits(steps_of(method, backbone, batch_size, **own).ours, backbone.device, rounds)
    if ours is None:
        how += ", activations computed again"
        again = steps_of(method, backbone, batch_size, **own, activation_checkpointing=True)
        ours = measure(again.ours, backbone.device, rounds)
    plain_size, plain = batch_size, None
    while plain is None:
        steps = steps_of(method, backbone, plain_size, **changes)
        plain = measured_if_it_fits(steps.plain, backbone.device, rounds)
        plain_size = plain_size if plain is not None else plain_size // 2
    return Speed(method, batch_size, how, ours, plain, plain_size, counted, peak)


def measured_if_it_fits(take: Callable[[], object], device: torch.device, rounds: int) -> Measured | None:
    """Measure a step like `measure`; ``None`` where the device's memory does not suffice."""
    try:
        return measure(take, device, rounds)
    except torch.OutOfMemoryError:
        return None
