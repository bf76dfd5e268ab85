"""A training from request to checkpoint: recognised when it is done, continued when it was interrupted."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import glob
import inspect
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec
import torch
from safetensors.torch import save

from cirbench.backbones.interface import without_autocast
from cirbench.errors import CirbenchError, MissingData, UsageError
from cirbench.support import console
from cirbench.support.code import current_code
from cirbench.support.console import typed
from cirbench.support.device import supports_bf16
from cirbench.support.distributed import all_reduce_sum, barrier, broadcast_object, get_context
from cirbench.support.files import (
    cache_root,
    digest,
    lock_of,
    locked,
    remove_partial,
    sha256_of_file,
    utc_now,
    write_bytes,
)
from cirbench.support.parameters import named_files
from cirbench.training.checkpoint import (
    CARD,
    SCHEMA,
    WEIGHTS,
    Card,
    carry_weights,
    packages,
    read_card,
    seen_by,
    stages_of,
    stages_selected_on,
    verify_weights,
    write_card,
    write_seen,
)
from cirbench.training.data import Batches, Kind, Source
from cirbench.training.interface import HasParameterGroups, NeedsPreparation, ReadsCaptions, TripletTraining, tf32
from cirbench.training.log import METRICS, TENSORBOARD, About, curve, open_trackers, require_trackers, smoothed
from cirbench.training.loop import (
    Step,
    Trainer,
    compile_blocks,
    enable_activation_checkpointing,
    lay_out_channels_last,
    optimizer_for,
    steps_ahead,
)
from cirbench.training.state import (
    STATE,
    CheckpointCallback,
    StateSaver,
    TrainState,
    ValidationConfig,
    delete_checkpoints,
    other_training,
    weights,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from cirbench.backbones.interface import Backbone
    from cirbench.protocol import EvaluationProtocol
    from cirbench.support.code import Code
    from cirbench.support.console import NotedDisplay
    from cirbench.training.interface import Objective, ObjectiveFactory, TrainingParameters


@dataclasses.dataclass(frozen=True)
class Request:
    """Everything that decides what comes out of a training.

    Attributes:
        method: What is trained, by name.
        objective: Its objective.
        parameters: Its training parameters; a precision that is left open is settled by the device of the backbone.
        backbone: Where it starts from; it is copied, never changed. Autocast in encoding is not part of a training.
        source: What it is trained on.
        kind: Which parts of a sample are opened.
        weights_file: The name of the file that the weights go to.
        model_files: Files that are copied beside the weights, so that a checkpoint is a model folder.
        validation: What is evaluated on the way, and which weights are kept.
        skip_broken: How many samples that cannot be used may be left out.
        held_out: The protocol of what was held out of the source.
        overlap: By protocol, how many of its images are trained on.
    """

    method: str
    objective: ObjectiveFactory
    parameters: TrainingParameters
    backbone: Backbone
    source: Source
    kind: Kind = "pairs"
    weights_file: str = WEIGHTS
    model_files: tuple[Path, ...] = ()
    validation: ValidationConfig = dataclasses.field(default_factory=ValidationConfig)
    skip_broken: int = 0
    held_out: EvaluationProtocol | None = None
    overlap: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        # Before anything is recorded: digest and card name the precision that the steps have.
        settled = self.parameters.settled(bf16=supports_bf16(self.backbone.device))
        object.__setattr__(self, "parameters", settled)
        object.__setattr__(self, "backbone", without_autocast(self.backbone))
        self.source.require(self.kind, owner=self.method)
        if self.backbone.identity.precision != "fp32":
            raise UsageError(
                f"A training runs in fp32, and {self.backbone.identity.name} was loaded in "
                f"{self.backbone.identity.precision}.",
                hint=f"Train first (cirbench train {typed(self.method)}), then give --checkpoint.",
            )

    @cached_property
    def code(self) -> Code:
        """The source code that the training rests on: that of the method, of what it imports, and of the harness."""
        return current_code(inspect.unwrap(self.objective).__module__, type(self.parameters).__module__)

    @cached_property
    def seen(self) -> bytes | None:
        """Which images it and the stages that it rests on look at; ``None`` where none of them is known."""
        return seen_by(self.source, stages_of(self.parameters))

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
                "code": msgspec.to_builtins(self.code),
                "files": named_files(self.parameters),
                "validation": self.validation.asked,
            }
        )

    def settings_since(self, card: Card) -> list[str]:
        """Say in one phrase each what is set otherwise than in the training of an earlier checkpoint."""
        now = {
            **msgspec.json.decode(msgspec.json.encode(self.parameters), type=dict[str, Any]),
            "the backbone": self.backbone.identity.digest,
            "the data": self.source.digest,
            "the monitored protocol": self.validation.monitor,
        }
        then = {
            **card.training,
            "the backbone": card.backbone.digest,
            "the data": card.data_digest,
            "the monitored protocol": card.selected_on,
        }
        return [f"{name} changed" for name in {**now, **then} if now.get(name) != then.get(name)]

    def code_since(self, card: Card) -> list[str]:
        """Say in one phrase each what changed in the code since an earlier checkpoint."""
        return ["its code is not known"] if card.code is None else self.code.changes_since(card.code)

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
    display: NotedDisplay | None = None,
    save_seconds: float = 60.0,
    workers: int = 0,
    log: Sequence[str] = (),
) -> Path:
    """Train, and return the folder of the checkpoint.

    A finished training of the same request in the folder is returned as it is, and an interrupted one is continued: on
    a CPU with the result that it would have had. Another process that trains into the same folder is waited for.

    Args:
        request: What to train.
        folder: Where the checkpoint goes; `Request.folder` if not given.
        restart: Replace whatever training the folder holds.
        display: Shows how far it is, counted in samples.
        save_seconds: How often the state is saved, in seconds.
        workers: How many processes decode ahead; the training is the same with any number.
        log: Names of `cirbench.training.log.TRACKERS` that take in what `metrics.jsonl` does.

    Raises:
        UnknownName: There is no such tracker.
        UsageError: The folder holds another training; there are too few samples.
        CorruptFile: The finished or interrupted training in the folder is damaged.
        MissingData: A sample cannot be read; the package of a tracker is not installed.
        CirbenchError: The loss is no longer a number or grows without end; the disk is full; another process ended.
        KeyboardInterrupt: The user stopped it; its state is kept.
    """
    require_trackers(log)
    folder = folder or request.folder
    with locked(lock_of(folder.resolve())) if get_context().is_main_process else contextlib.nullcontext():
        if get_context().is_main_process:
            _say_what_changed(request, folder if restart else request.folder)
            _tidy(request, folder, restart=restart)
        if broadcast_object((folder / CARD).is_file()):
            _verify_same(request, folder)
            console.say(f"reused checkpoint {folder}")
            return folder
        stop = threading.Event()
        saver = StateSaver(folder, save_seconds, stop)
        # A thread of its own flushes denormals without changing what any other computation of the process gives.
        with ThreadPoolExecutor(1, thread_name_prefix="training", initializer=_flush_denormals) as own_thread:
            finished = own_thread.submit(_train, request, display or console.silent, saver, workers, log)
            try:
                whole = finished.result()
            except KeyboardInterrupt:
                stop.set()
                raise
    if not whole:  # another process was asked to stop
        raise CirbenchError(
            "The training was stopped; its state is kept.", hint="Run the same command again to resume."
        )
    return folder


def _say_what_changed(request: Request, folder: Path) -> None:
    """Say which code keeps a checkpoint of an otherwise equal training from being reused."""
    for path in (folder / CARD, *request.folder.parent.glob(f"{glob.escape(request.method)}-*/{CARD}")):
        try:
            card = read_card(path.parent)
        except CirbenchError:  # not a checkpoint that could have been reused
            continue
        if card.method == request.method and not request.settings_since(card) and (changes := request.code_since(card)):
            console.say(f"{path.parent} is not reused: {'; '.join(changes)}")


def _tidy(request: Request, folder: Path, *, restart: bool) -> None:
    """Remove what killed trainings have left half written, and with ``restart`` the training that the folder holds."""
    if restart:
        for name in (CARD, STATE, METRICS):
            (folder / name).unlink(missing_ok=True)
        shutil.rmtree(folder / TENSORBOARD, ignore_errors=True)
        delete_checkpoints(folder)
    for place in (folder, *folder.glob("epoch-*")):
        remove_partial(place, (CARD, STATE, METRICS, request.weights_file))


def _verify_same(request: Request, folder: Path) -> None:
    """Check that a finished training is the one that is requested, and whole."""
    card = read_card(folder)
    if card.request != request.digest:
        changes = [*request.settings_since(card), *request.code_since(card)]
        if card.method != request.method:
            changes = [f"it is of {card.method}"]
        raise other_training(folder, "; ".join(changes) or "what is evaluated on the way changed")
    verify_weights(folder, card)


@contextlib.contextmanager
def built(request: Request, display: NotedDisplay = console.silent) -> Iterator[tuple[Objective, Batches]]:
    """The objective and the batches of a training, with the random numbers and the precision that its steps have."""
    parameters, context = request.parameters, get_context()
    backbone = copy.deepcopy(request.backbone)
    batches = Batches(
        request.source,
        backbone,
        parameters.batch_size,
        parameters.seed,
        request.kind,
        rank=context.rank,
        world_size=context.world_size,
        grad_accum_steps=parameters.grad_accum_steps,
        skip_broken=request.skip_broken,
        view=parameters if isinstance(parameters, TripletTraining) else None,
    )
    if parameters.activation_checkpointing:
        enable_activation_checkpointing(backbone.model, backbone.identity.name)
    lay_out_channels_last(backbone.model)
    if parameters.compile:
        compile_blocks(backbone.model, backbone.identity.name)
    cuda = [backbone.device] if backbone.device.type == "cuda" else []
    with tf32(parameters.tf32), torch.random.fork_rng(devices=cuda):
        torch.manual_seed(parameters.seed)
        objective = request.objective(backbone, parameters)
        if isinstance(objective, ReadsCaptions):
            batches = dataclasses.replace(batches, read=objective.read_caption)
        if isinstance(objective, NeedsPreparation):
            with tf32(False):  # what is encoded is kept as features in reference precision
                objective.prepare(request.source, display)
        objective.module.train()
        yield objective, batches


def _train(request: Request, display: NotedDisplay, saver: StateSaver, workers: int, log: Sequence[str]) -> bool:
    """Train from the state in the folder; return whether the training is finished."""
    parameters = request.parameters
    with built(request, display) as (objective, batches):
        groups = objective.parameter_groups if isinstance(objective, HasParameterGroups) else None
        state = TrainState(objective.module, optimizer_for(objective.module, parameters, groups), request.digest)
        resume(state, saver.folder)
        batches.skip(state.skipped)
        callback = CheckpointCallback(
            request.validation,
            saver.folder,
            steps_per_epoch=batches.per_epoch,
            total_steps=parameters.total_steps(batches.per_epoch),
            state=state,
            write=functools.partial(_write_checkpoint, request, state),
        )
        device = request.backbone.device
        step = Step(objective, parameters, device)
        trainer = Trainer(parameters, batches, step, state, saver, callback, steps_ahead(device))

        first, last = state.step, trainer.total_steps
        title = f"Training {request.method}" + (f" from step {first + 1} of {last}" if first else "")
        about = About(
            method=request.method,
            request=request.digest,
            training=msgspec.to_builtins(parameters),
            total_steps=last,
            steps_per_epoch=batches.per_epoch,
        )
        known = trainer.known_steps()
        with (
            open_trackers(saver.folder, about, known, state.evaluations, log) as trackers,
            display(title, (last - first) * batches.batch_size) as advance,
            batches.stream(first, last, workers=workers) as micro_batches,
        ):
            finished = trainer.run(micro_batches, advance, trackers)
    if finished and get_context().is_main_process:
        _finish(request, callback)
        console.say(_summary(request.method, state))
    barrier()
    return finished


def _summary(method: str, state: TrainState) -> str:
    losses = state.losses
    ends = f"loss {losses[0]:.4g} to {smoothed(losses):.4g}"
    return f"trained {method}: {state.step:,} steps in {console.duration(state.seconds)}, {ends}  {curve(losses)}"


def resume(state: TrainState, folder: Path) -> None:
    """Continue from the state in the folder, if there is one.

    Raises:
        MissingData: The processes do not see the same one.
    """
    if (folder / STATE).is_file():
        state.load(folder)
    if broadcast_object(state.step) * get_context().world_size != all_reduce_sum([state.step])[0]:
        raise MissingData(
            f"The processes of this training see different states in {folder}.",
            hint="Let --output be a folder that all machines share.",
        )


def _finish(request: Request, callback: CheckpointCallback) -> None:
    """Leave the last weights, or the best ones, as the checkpoint of the training."""
    folder, best, state = callback.folder, callback.best_folder, callback.state
    if best is None:
        callback.write(folder)
    else:
        card = read_card(best)
        _copy_model_files(request, folder)
        for name in (card.file, *card.carried):
            write_bytes(folder / name, (best / name).read_bytes())
        seen = {"losses": state.losses, "evaluations": state.evaluations}
        write_card(folder, msgspec.structs.replace(card, selected_on=request.validation.monitor, **seen))
    (folder / STATE).unlink(missing_ok=True)
    callback.delete_intermediate()


def _copy_model_files(request: Request, folder: Path) -> None:
    for path in request.model_files:
        if path.resolve() != (folder / path.name).resolve():
            write_bytes(folder / path.name, path.read_bytes())


def _write_checkpoint(request: Request, state: TrainState, folder: Path) -> None:
    _copy_model_files(request, folder)
    path = folder / request.weights_file
    write_bytes(path, save(weights(state.module), {"format": "pt"}))
    carried = carry_weights(request.parameters, folder)
    if request.seen is not None:
        carried |= write_seen(request.seen, folder)
    card = Card(
        method=request.method,
        request=request.digest,
        file=path.name,
        weights=sha256_of_file(path),
        carried=carried,
        training=msgspec.to_builtins(request.parameters),
        backbone=request.backbone.identity,
        data=request.source.name,
        data_digest=request.source.digest,
        data_pairs=len(request.source.samples),
        code=request.code,
        steps=state.step,
        losses=state.losses,
        seconds=round(state.seconds, 3),
        device=str(request.backbone.device),
        threads=torch.get_num_threads(),
        packages=packages(),
        created=utc_now(),
        evaluations=state.evaluations,
        processes=get_context().world_size,
        skipped=len(state.skipped),
        overlap=dict(request.overlap),
        stages_selected_on=stages_selected_on(request.parameters),
    )
    write_card(folder, card)


def _flush_denormals() -> None:
    """Treat denormal numbers as zero in this thread and in the workers that it will start, which inherit the mode.

    A saturated softmax makes most gradients denormal, and a CPU computes with those many times slower.
    """
    torch.set_flush_denormal(True)
