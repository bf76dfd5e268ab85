"""What a method brings to be trained: its training parameters, and an objective, which is a module with a loss.

Light: importing it takes no torch, so a SPEC can name its parameters, and decoding processes can make batches.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol, Self, runtime_checkable

import msgspec

from cirbench.support.device import send
from cirbench.support.parameters import Parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from cirbench.backbones.interface import Backbone
    from cirbench.protocol import Triplet
    from cirbench.support.console import Display
    from cirbench.training.data.source import Source

CLIP = "clip"
"""The name that stands for the pre-training of a model in the place of a method's."""

HELD_OUT = "held-out"
"""The id of the protocol that triplets make which are kept out of a training."""

Positive = Annotated[int, msgspec.Meta(ge=1)]
Natural = Annotated[int, msgspec.Meta(ge=0)]
Rate = Annotated[float, msgspec.Meta(ge=0)]
Schedule = Literal["constant", "linear", "cosine", "one-cycle", "epochs"]


class TrainingParameters(Parameters, frozen=True, kw_only=True):
    """The parameters of every training; a method's own parameters subclass it.

    Attributes:
        epochs: Passes over the samples; an incomplete last batch is left out.
        steps: Optimiser steps instead of epochs.
        samples: Train on the first so many samples of the data; null for all.
        batch_size: Samples a step, over all processes and micro-batches.
        lr: Learning rate of AdamW, at the height of the schedule.
        weight_decay: Weight decay of AdamW.
        beta2: Second-moment decay rate of AdamW.
        epsilon: Term that AdamW adds to the denominator.
        decay: Which weights decay: all of them, or only matrices (no gains, biases or single numbers).
        schedule: What follows the warm-up: constant; linear or cosine (down to min_lr at the end of the training);
            one-cycle (a cosine up from start_lr over the warm-up, and one down to min_lr); or epochs (constant within
            an epoch, and multiplied by gamma after each milestone).
        schedule_by: Whether a constant, linear, cosine or one-cycle schedule changes the rate by step, or by epoch
            only.
        period: After how many steps, or epochs with schedule_by=epoch, a cosine is at min_lr, from where it rises
            again; null for the end of the training.
        start_lr: The rate that a one-cycle schedule starts from.
        min_lr: The rate that a linear, cosine or one-cycle schedule falls to.
        warmup: Steps over which the rate rises; epochs, where the schedule counts epochs.
        milestones: Epochs after which the rate falls, with the schedule epochs.
        gamma: What a milestone multiplies the rate by.
        grad_clip: The largest norm of the gradients of all weights; larger ones are scaled down. Null for none.
        seed: Random seed of the order of the samples and of everything random in a step.
        precision: Precision of the towers: fp32, bf16 by autocast, or auto for bf16 on a GPU that has it and fp32
            elsewhere; weights and losses are always fp32. Checkpoints record what was chosen.
        tf32: Let a GPU round the inputs of fp32 products to 10 bits.
        grad_accum_steps: Micro-batches that a batch is split into; they run one after the other and make one optimiser
            step. A contrastive loss compares within a micro-batch.
        activation_checkpointing: Recompute the activations of the towers in the backward pass, to save memory.
        compile: Compile the blocks of the towers (torch.compile) when each is first used.
    """

    EXCLUSIVE: ClassVar[tuple[tuple[str, ...], ...]] = (("epochs", "steps"),)
    ONLY_WITH: ClassVar[dict[str, tuple[str, Any]]] = {
        "milestones": ("schedule", "epochs"),
        "gamma": ("schedule", "epochs"),
        "schedule_by": ("schedule", ("constant", "linear", "cosine", "one-cycle")),
        "period": ("schedule", "cosine"),
        "start_lr": ("schedule", "one-cycle"),
        "min_lr": ("schedule", ("linear", "cosine", "one-cycle")),
    }
    CARRIED: ClassVar[dict[str, str]] = {}
    """By parameter that names another checkpoint, the file beside the trained weights that gets a copy of its own."""

    epochs: Positive = 1
    steps: Positive | None = None
    samples: Positive | None = None
    batch_size: Positive = 64
    lr: Rate = 1e-4
    weight_decay: Rate = 0.0
    beta2: Rate = 0.999
    epsilon: Rate = 1e-8
    decay: Literal["all", "matrices"] = "all"
    schedule: Schedule = "constant"
    schedule_by: Literal["step", "epoch"] = "step"
    period: Positive | None = None
    start_lr: Rate = 0.0
    min_lr: Rate = 0.0
    warmup: Natural = 0
    milestones: tuple[Positive, ...] = ()
    gamma: Rate = 0.1
    grad_clip: Annotated[float, msgspec.Meta(gt=0)] | None = None
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    tf32: bool = False
    grad_accum_steps: Positive = 1
    activation_checkpointing: bool = False
    compile: bool = False

    def total_steps(self, steps_per_epoch: int) -> int:
        """How many optimiser steps the training has."""
        return self.steps if self.steps is not None else self.epochs * steps_per_epoch

    def settled(self, *, bf16: bool) -> Self:
        """The same with the precision that ``auto`` stands for on a device that has bf16, or has not."""
        if self.precision != "auto":
            return self
        return msgspec.structs.replace(self, precision="bf16" if bf16 else "fp32")


CaptionPolicy = Literal["joined", "shuffled", "one", "four-ways"]
CaptionForm = Literal["annotated", "sentence"]
Duplicates = Literal["keep", "mask", "once"]
Augmentation = Literal["crop", "flip"]


class TripletTraining(TrainingParameters, frozen=True, kw_only=True):
    """The parameters of every training on triplets, beside those of all trainings.

    Attributes:
        captions: The text of a triplet with several captions: all joined by " and " (joined), the same in random order
            (shuffled), one of them (one), or joined in either order or one alone (four-ways). Empty ones are left out.
        caption_form: Captions as annotated; or, of several, without . ? , and blanks at both ends, the first one with a
            capital letter and otherwise small (sentence), as CLIP4Cir has it on FashionIQ.
        duplicates: Where a batch asks for one target several times, the others are taken for wrong answers (keep) or
            are left out of the loss (mask); or an epoch asks for each target once, by one of its triplets (once).
        negatives: How many of a triplet's own negatives take part, beside the other targets of the batch.
        held_out: The share of the groups, or of the references where there are none, that is kept from the training, to
            be named by --evaluate or --monitor held-out.
    """

    captions: CaptionPolicy = "joined"
    caption_form: CaptionForm = "annotated"
    duplicates: Duplicates = "mask"
    negatives: Natural = 0
    held_out: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0


class TripletImageTraining(TripletTraining, frozen=True, kw_only=True):
    """The parameters of trainings that open the images of triplets in each step.

    Attributes:
        augment_reference: What is done to references: crop, flip, or both. A flip contradicts "left" and "right".
        augment_target: What is done to targets.
        crop_scale: The smallest share of its area that a crop keeps.
    """

    augment_reference: tuple[Augmentation, ...] = ()
    augment_target: tuple[Augmentation, ...] = ()
    crop_scale: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.8


_RENAMED = {"accumulate": "grad_accum_steps", "checkpointing": "activation_checkpointing"}


def rename_parameters(training: Mapping[str, Any]) -> dict[str, Any]:
    """Give training parameters that were stored under their earlier names the present ones."""
    return {_RENAMED.get(name, name): value for name, value in training.items()}


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """The samples of one step, or this process's shard of them.

    Attributes:
        pixels_B3SS: Preprocessed images on the backbone's device, the references of triplets; none, (0, 3, S, S), where
            no images are opened.
        captions: Their captions, of a triplet the text that was drawn; empty where images are trained on.
        positions_B: Positions of the samples in the source.
        first: Where this shard begins in the whole batch.
        total: How many samples the whole batch has, T.
        triplets: The triplets, each with the text and the negatives that were drawn; empty for other samples.
        target_pixels_B3SS: Preprocessed targets of triplets; none, (0, 3, S, S), where none are opened.
        negative_pixels_BK3SS: The K negatives of each triplet.
        readings: What the objective wants of each caption, see `ReadsCaptions`; empty where nothing was asked for.
    """

    pixels_B3SS: torch.Tensor
    captions: tuple[str, ...]
    positions_B: NDArray[np.int64]
    first: int
    total: int
    triplets: tuple[Triplet, ...] = ()
    target_pixels_B3SS: torch.Tensor | None = None
    negative_pixels_BK3SS: torch.Tensor | None = None
    readings: tuple[Any, ...] = ()

    def local_shard(self, drawn_T: torch.Tensor) -> torch.Tensor:
        """This process's rows of what was drawn for the whole batch, on the device of the batch.

        Random numbers that are drawn for all T samples and then cut are the same on one process and on many; drawn on
        the CPU, they are the same on every device.
        """
        return send(drawn_T[self.first : self.first + len(self.positions_B)], self.pixels_B3SS.device)


class Objective(Protocol):
    """What `MethodSpec.trainer` names, built on a backbone of its own that it may change.

    Attributes:
        module: What is optimised and saved: the tuned model, or whatever the method adds to a frozen one.
    """

    module: torch.nn.Module

    def loss(self, batch: Batch) -> torch.Tensor:
        """The scalar loss of a batch. Random numbers come from torch's default generator, seeded before each step."""
        ...


@runtime_checkable
class NeedsPreparation(Protocol):
    """An objective that needs something made from the source before the first step."""

    def prepare(self, source: Source, display: Display) -> None:
        """Make it, or find what an interrupted training has made of it."""
        ...


@runtime_checkable
class ReadsCaptions(Protocol):
    """An objective that wants something of each caption that takes no model, such as its parts of speech.

    Attributes:
        read_caption: Makes it of a caption alone, always the same. Decoding processes run it while steps run and send
            it back, so it and what it returns can be pickled, and its module imports no torch.
    """

    read_caption: Callable[[str], Any]


@dataclasses.dataclass(frozen=True, slots=True)
class ParameterGroup:
    """How some weights learn otherwise than the rest.

    Attributes:
        rate: What the learning rate is multiplied by.
        weight_decay: Their weight decay; that of the training if not given.
    """

    rate: float = 1.0
    weight_decay: float | None = None


@runtime_checkable
class HasParameterGroups(Protocol):
    """An objective some of whose weights learn at another rate, or decay otherwise.

    Attributes:
        parameter_groups: By a pattern of names in the module, such as ``text_proj.*``; the first that matches counts.
    """

    parameter_groups: Mapping[str, ParameterGroup]


class ObjectiveFactory(Protocol):
    """Builds an objective."""

    def __call__(self, backbone: Backbone, parameters: Any) -> Objective:
        """Build it on ``backbone``, for the method's training parameters."""
        ...


@contextlib.contextmanager
def tf32(wanted: bool) -> Iterator[None]:
    """Let a GPU round the inputs of fp32 products to 10 bits, or not, while the block lasts."""
    import torch

    matmul, convolution = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, convolution.allow_tf32
    matmul.allow_tf32 = convolution.allow_tf32 = wanted
    try:
        yield
    finally:
        matmul.allow_tf32, convolution.allow_tf32 = before
