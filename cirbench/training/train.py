"""A training from request to checkpoint: recognised when it is done, continued when it was interrupted."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import datetime
import functools
import inspect
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import torch
from safetensors.torch import save

from cirbench.backbones.features.store import cache_root
from cirbench.errors import CirbenchError, MissingData, UsageError
from cirbench.support.distributed import all_reduce_sum, barrier, broadcast_object, get_context
from cirbench.support.files import digest, sha256_of_file, write_bytes
from cirbench.training.callbacks import CheckpointCallback, ValidationConfig, delete_checkpoints
from cirbench.training.checkpoint import CARD, SCHEMA, WEIGHTS, Card, packages, read_card, verify_weights, write_card
from cirbench.training.data import Batches, Kind, Source
from cirbench.training.loop import StateSaver, optimizer_for, run
from cirbench.training.models import copy_design
from cirbench.training.objective import NeedsPreparation
from cirbench.training.state import STATE, TrainState, other_training, weights
from cirbench.training.step import Step, recompute_activations, tf32

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cirbench.backbones.features.encoder import Progress as Display
    from cirbench.backbones.interface import Backbone
    from cirbench.training.config import TrainingParameters
    from cirbench.training.objective import ObjectiveFactory


@dataclasses.dataclass(frozen=True)
class Request:
    """Everything that decides what comes out of a training.

    Attributes:
        method: What is trained, by name.
        objective: Its objective.
        parameters: Its training parameters.
        backbone: Where it starts from; it is copied, never changed.
        source: What it is trained on.
        kind: What it looks at of that.
        weights_file: The name of the file that the weights go to.
        design: A folder that describes the model whose weights they are, so that a checkpoint is a model folder.
        watch: What is looked at on the way, and which weights are kept.
        skip_broken: How many samples that cannot be used are left out.
    """

    method: str
    objective: ObjectiveFactory
    parameters: TrainingParameters
    backbone: Backbone
    source: Source
    kind: Kind = "pairs"
    weights_file: str = WEIGHTS
    design: Path | None = None
    watch: ValidationConfig = dataclasses.field(default_factory=ValidationConfig)
    skip_broken: int = 0

    def __post_init__(self) -> None:
        self.source.require(self.kind, owner=self.method)
        if self.backbone.identity.precision != "fp32":
            raise UsageError(
                f"A training runs in fp32, and {self.backbone.identity.name} was loaded in "
                f"{self.backbone.identity.precision}.",
                hint=f"Train first (cirbench train {self.method}), then give --checkpoint.",
            )

    @property
    def code(self) -> str:
        """Sha256 of the source file of the objective, so that changed code is another training."""
        return sha256_of_file(Path(inspect.getfile(inspect.unwrap(self.objective))))

    @cached_property
    def digest(self) -> str:
        """Sha256 over everything."""
        watched = {"watch": self.watch.asked} if self.watch.asked else {}
        return digest(
            {
                **watched,
                "schema": SCHEMA,
                "method": self.method,
                "parameters": msgspec.to_builtins(self.parameters),
                "backbone": self.backbone.identity.digest,
                "data": self.source.digest,
                "kind": self.kind,
                "code": self.code,
            }
        )

    @property
    def folder(self) -> Path:
        """Where the checkpoint goes unless the user says otherwise."""
        return cache_root() / "checkpoints" / f"{self.method}-{self.digest[:12]}"

    @property
    def is_done(self) -> bool:
        """Whether a checkpoint lies there."""
        return (self.folder / CARD).is_file()


def train(
    request: Request,
    *,
    folder: Path | None = None,
    restart: bool = False,
    display: Display | None = None,
    keep_seconds: float = 60.0,
    workers: int = 0,
) -> Path:
    """Train, and return the folder of the checkpoint.

    A finished training of the same request in the folder is returned as it is, and an interrupted one is continued: on
    a CPU with the result that it would have had.

    Args:
        request: What to train.
        folder: Where the checkpoint goes; `Request.folder` if not given.
        restart: Replace whatever training the folder holds.
        display: Shows how far it is, counted in samples.
        keep_seconds: How often the state is kept, in seconds.
        workers: How many processes decode ahead; the training is the same with any number.

    Raises:
        UsageError: The folder holds another training; there are too few samples.
        CorruptFile: The finished or interrupted training in the folder is damaged.
        MissingData: A sample cannot be read.
        CirbenchError: The loss is no longer a number or grows without end; the disk is full; another process ended.
        KeyboardInterrupt: The user stopped it; its state is kept.
    """
    folder = folder or request.folder
    if not restart and broadcast_object((folder / CARD).is_file()):
        card = read_card(folder)
        if card.request != request.digest:
            raise other_training(folder)
        verify_weights(folder, card)
        return folder
    if restart and get_context().is_main_process:
        for name in (CARD, STATE):
            (folder / name).unlink(missing_ok=True)
        delete_checkpoints(folder)
    barrier()
    stop = threading.Event()
    # A thread of its own flushes denormals without changing what any other computation of the process gives.
    with ThreadPoolExecutor(1, thread_name_prefix="training", initializer=_flush_denormals) as own_thread:
        keeper = StateSaver(folder, keep_seconds, stop)
        finished = own_thread.submit(_train, request, display or _silent, keeper, workers)
        try:
            whole = finished.result()
        except KeyboardInterrupt:
            stop.set()
            raise
    if not whole:  # Ctrl-C was pressed in another process
        raise CirbenchError(
            "The training was stopped; its state is kept.", hint="Run the same command again to resume."
        )
    return folder


def _train(request: Request, display: Display, keeper: StateSaver, workers: int) -> bool:
    backbone, parameters, place = copy.deepcopy(request.backbone), request.parameters, get_context()
    batches = Batches(
        request.source,
        backbone,
        parameters.batch_size,
        parameters.seed,
        request.kind,
        rank=place.rank,
        world=place.world_size,
        pieces=parameters.accumulate,
        skip_broken=request.skip_broken,
    )
    steps = parameters.total_steps(batches.per_epoch)
    if parameters.checkpointing:
        recompute_activations(backbone.model, backbone.identity.name)
    with (
        tf32(parameters.tf32),
        torch.random.fork_rng(devices=[backbone.device] if backbone.device.type == "cuda" else []),
    ):
        torch.manual_seed(parameters.seed)
        objective = request.objective(backbone, parameters)
        if isinstance(objective, NeedsPreparation):
            objective.prepare(request.source, display)
        objective.module.train()
        progress = TrainState(objective.module, optimizer_for(objective.module, parameters), request.digest)
        resume(progress, keeper.folder)
        batches.skip(progress.skipped)
        write = functools.partial(_write_checkpoint, request, progress)
        moments = CheckpointCallback(request.watch, keeper.folder, batches.per_epoch, steps, progress, write)
        compute = Step(objective, parameters, backbone.device)
        left = f" from step {progress.step + 1} of {steps}" if progress.step else ""
        with (
            display(f"Training {request.method}{left}", (steps - progress.step) * batches.batch_size) as advance,
            batches.stream(progress.step, steps, workers=workers) as pieces,
        ):
            whole = run(compute, batches, pieces, parameters, progress, keeper, moments, advance)
    if whole and place.is_main_process:
        _finish(request, moments)
    barrier()
    return whole


def resume(progress: TrainState, folder: Path) -> None:
    """Continue from the state in the folder, if there is one.

    Raises:
        MissingData: The processes do not see the same one.
    """
    if (folder / STATE).is_file():
        progress.load(folder)
    if broadcast_object(progress.step) * get_context().world_size != all_reduce_sum([progress.step])[0]:
        raise MissingData(f"The processes of this training see different states in {folder}.", hint=_SHARED)


_SHARED = "Let --output be a folder that all machines share."


def _finish(request: Request, moments: CheckpointCallback) -> None:
    """Leave the last weights, or the selected ones, as the checkpoint of the training."""
    folder, best, losses = moments.folder, moments.best_folder, moments.progress.losses
    if best is None:
        moments.write(folder)
    else:
        card = read_card(best)
        _describe(request, folder)
        write_bytes(folder / card.file, (best / card.file).read_bytes())
        evaluations, selected_on = moments.progress.evaluations, request.watch.select
        write_card(
            folder, msgspec.structs.replace(card, losses=losses, evaluations=evaluations, selected_on=selected_on)
        )
    (folder / STATE).unlink(missing_ok=True)
    moments.clear()


def _describe(request: Request, folder: Path) -> None:
    if request.design is not None:
        copy_design(request.design, folder)


def _write_checkpoint(request: Request, progress: TrainState, folder: Path) -> None:
    _describe(request, folder)
    path = folder / request.weights_file
    write_bytes(path, save(weights(progress.module), {"format": "pt"}))
    card = Card(
        method=request.method,
        request=request.digest,
        file=path.name,
        weights=sha256_of_file(path),
        training=msgspec.to_builtins(request.parameters),
        backbone=request.backbone.identity,
        data=request.source.name,
        data_digest=request.source.digest,
        data_pairs=len(request.source.samples),
        code=request.code,
        steps=progress.step,
        losses=progress.losses,
        seconds=round(progress.seconds, 3),
        device=str(request.backbone.device),
        threads=torch.get_num_threads(),
        packages=packages(),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        evaluations=progress.evaluations,
        processes=get_context().world_size,
        skipped=len(progress.skipped),
    )
    write_card(folder, card)


def _flush_denormals() -> None:
    """Treat denormal numbers as zero in this thread and in the workers that it will start, which inherit the mode.

    A saturated softmax makes most gradients denormal, and a CPU computes with those many times slower.
    """
    torch.set_flush_denormal(True)


@contextlib.contextmanager
def _silent(description: str, total: int) -> Iterator[Callable[[int], None]]:
    yield lambda amount: None
