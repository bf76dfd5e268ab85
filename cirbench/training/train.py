"""A training from request to checkpoint: recognised when it is done, continued when it was interrupted."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import datetime
import inspect
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import torch
from safetensors.torch import save

from cirbench.errors import UsageError
from cirbench.features.store import cache_root
from cirbench.files import digest, sha256_of_file, write_bytes
from cirbench.training.checkpoint import CARD, SCHEMA, WEIGHTS, Card, packages, read_card, verify_weights, write_card
from cirbench.training.data import Batches, Kind, Source
from cirbench.training.loop import Keeper, optimizer_for, run
from cirbench.training.objective import Prepared
from cirbench.training.state import STATE, Progress, other_training, weights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cirbench.backbones.interface import Backbone
    from cirbench.features.encoder import Progress as Display
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
    """

    method: str
    objective: ObjectiveFactory
    parameters: TrainingParameters
    backbone: Backbone
    source: Source
    kind: Kind = "pairs"
    weights_file: str = WEIGHTS

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
        return digest(
            {
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
) -> Path:
    """Train, and return the folder of the checkpoint.

    A finished training of the same request in the folder is returned as it is, and an interrupted one is continued: on
    a CPU with the result that it would have had.

    Args:
        request: What to train.
        folder: Where the checkpoint goes; `Request.folder` if not given.
        restart: Replace whatever training the folder holds.
        display: Shows how far it is, counted in pairs.
        keep_seconds: How often the state is kept, in seconds.

    Raises:
        UsageError: The folder holds another training; there are too few pairs.
        CorruptFile: The finished or interrupted training in the folder is damaged.
        MissingData: A pair cannot be read.
        CirbenchError: The loss is no longer a number; the disk is full.
        KeyboardInterrupt: The user stopped it; its state is kept.
    """
    folder = folder or request.folder
    if not restart and (folder / CARD).is_file():
        card = read_card(folder)
        if card.request != request.digest:
            raise other_training(folder)
        verify_weights(folder, card)
        return folder
    if restart:
        for name in (CARD, STATE):
            (folder / name).unlink(missing_ok=True)
    stop = threading.Event()
    # A thread of its own flushes denormals without changing what any other computation of the process gives.
    with ThreadPoolExecutor(1, thread_name_prefix="training", initializer=_flush_denormals) as own_thread:
        keeper = Keeper(folder, keep_seconds, stop)
        finished = own_thread.submit(_train, request, folder, display or _silent, keeper)
        try:
            finished.result()
        except KeyboardInterrupt:
            stop.set()
            raise
    return folder


def _train(request: Request, folder: Path, display: Display, keeper: Keeper) -> None:
    backbone = copy.deepcopy(request.backbone)
    parameters = request.parameters
    batches = Batches(request.source, backbone, parameters.batch_size, parameters.seed, request.kind)
    with torch.random.fork_rng(devices=[backbone.device] if backbone.device.type == "cuda" else []):
        torch.manual_seed(request.parameters.seed)
        objective = request.objective(backbone, parameters)
        if isinstance(objective, Prepared):
            objective.prepare(request.source, display)
        objective.module.train()
        progress = Progress(objective.module, optimizer_for(objective.module, parameters), request.digest)
        if (folder / STATE).is_file():
            progress.load(folder)
        total = parameters.total_steps(batches.per_epoch) * batches.batch_size
        with display(f"Training {request.method}", total) as advance:
            advance(progress.step * batches.batch_size)
            whole = run(objective, batches, parameters, progress, keeper, advance)
    if whole:
        _write_checkpoint(request, progress, folder)


def _write_checkpoint(request: Request, progress: Progress, folder: Path) -> None:
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
    )
    write_card(folder, card)
    (folder / STATE).unlink(missing_ok=True)


def _flush_denormals() -> None:
    """Treat denormal numbers as zero in this thread and in the workers that it will start, which inherit the mode.

    A saturated softmax makes most gradients denormal, and a CPU computes with those many times slower.
    """
    torch.set_flush_denormal(True)


@contextlib.contextmanager
def _silent(description: str, total: int) -> Iterator[Callable[[int], None]]:
    yield lambda amount: None
