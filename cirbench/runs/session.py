"""From what a user asks for to finished runs: resolve, recognise what is done, evaluate the rest, keep it."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import sys
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from cirbench.support import console
from cirbench.methods.registry import REFERENCE_BASELINE, UNIMODAL_BASELINES
from cirbench.benchmarks.catalogue import choose_protocol, find_dataset, load_protocol
from cirbench.metrics.measure import ceilings
from cirbench.benchmarks.images import require_images
from cirbench.benchmarks.missing import Lost, find_lost
from cirbench.errors import MissingData, UsageError
from cirbench.methods.evaluate import evaluate, count_missing_as_zero
from cirbench.support.code import Code, current_code
from cirbench.support.files import locked, sha256_of_file
from cirbench.support.parameters import settings_of
from cirbench.methods.loading import build, parse_parameters
from cirbench.methods.registry import find_method, list_methods
from cirbench.methods.training import training_parameters, training_request
from cirbench.support.distributed import broadcast_object, get_context, barrier
from cirbench.runs.config import RunConfig, read_config, to_toml
from cirbench.runs.folder import RESULT, Run, load_run, save_run
from cirbench.runs.identity import Identity, latest_otherwise_equal
from cirbench.runs.provenance import environment, peak_memory_mb
from cirbench.runs.schema import BackboneRecord, Counts, MethodRecord, MetricValue, ProtocolRecord, Result
from cirbench.metrics.statistics import intervals
from cirbench.training.checkpoint import CARD, open_checkpoint, read_card
from cirbench.training.data import open_source
from cirbench.training.train import Request, train

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cirbench.backbones.interface import Backbone, BackboneIdentity
    from cirbench.protocol import EvaluationProtocol
    from cirbench.methods.evaluate import Evaluation
    from cirbench.backbones.features.encoder import Encoder
    from cirbench.methods.interface import MethodSpec, Parameters
    from cirbench.training.interface import TrainingParameters

BASELINES = (*UNIMODAL_BASELINES, REFERENCE_BASELINE)
"""Evaluated beside whatever is asked for, on the same backbone."""

TRAINABLE_DATASET = "scenes"
"""The data set that brings image-caption pairs of its own, so that `run` can train a method by itself."""


@dataclasses.dataclass(frozen=True)
class Job:
    """One method to be evaluated in one configuration."""

    spec: MethodSpec
    parameters: Parameters
    checkpoint: Path | None
    folder: Path
    identity: Identity

    @property
    def done(self) -> bool:
        """Whether a finished run of exactly this configuration lies in the folder."""
        return (self.folder / RESULT).is_file()


class Session:
    """One configuration, resolved against what there is.

    Raises:
        UnknownName: A method, data set, protocol or parameter does not exist.
        UsageError: The options contradict each other.
    """

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.entry = choose_protocol(config.dataset, split=config.split, protocol=config.protocol)
        asked = {spec.name: spec for spec in map(find_method, config.method)}
        self.asked = tuple(asked)
        beside = list_methods() if self.entry.labelled else []
        # The baselines come first: they are what everything else is read against.
        baselines = {name: asked.get(name) or find_method(name) for name in BASELINES if name in (*asked, *beside)}
        self._specs = list((baselines | asked).values())
        for spec in self._specs:
            if spec.trainer is not None and config.checkpoint is None:
                if self._training_data is None:
                    raise MissingData(
                        f"The method {spec.name} is trained, and no checkpoint is given.",
                        hint=f"Give --checkpoint FOLDER, or train one: cirbench train {spec.name} --backbone "
                        f"{self.backbone_name} --data PAIRS.csv",
                    )
                self._training_parameters(spec, self.backbone_name)
        if config.train and (config.checkpoint is not None or all(spec.trainer is None for spec in asked.values())):
            raise UsageError(
                "--train sets how a method is trained, and nothing is trained here.",
                hint="Leave it out, or ask for a trained method without --checkpoint.",
            )
        self._parameters = {
            spec.name: parse_parameters(spec, config.set if spec.name in self.asked else {}, self.backbone_name)
            for spec in self._specs
        }

    def share(self, other: Session) -> None:
        """Use the protocol and the backbone that another session, of the same data and backbone, has loaded."""
        self.__dict__.update(protocol=other.protocol, lost=other.lost, backbone=other.backbone)

    @property
    def backbone_name(self) -> str:
        """The backbone that was asked for, or the data set's usual one."""
        return self.config.backbone or find_dataset(self.config.dataset).default_backbone

    @cached_property
    def protocol(self) -> EvaluationProtocol:
        """The protocol, loaded, whole, with the file of every image unless some may be missing.

        Raises:
            MissingData: Annotations or images are missing; the message lists the images.
        """
        root = self.config.data_root
        protocol = load_protocol(self.entry.address, None if root is None else Path(root))
        require_images(protocol, allow_missing=self.config.allow_missing)
        return protocol

    @cached_property
    def lost(self) -> Lost:
        """What cannot be evaluated of what was asked for; nothing, unless images are allowed to miss."""
        asked = self.protocol if self.config.limit is None else self.protocol.first(self.config.limit)
        if not self.config.allow_missing:
            return Lost(asked, frozenset())
        lost = find_lost(asked, console.progress)
        if lost.images:
            console.say(
                f"{len(lost.images)} images are missing or broken; {len(lost.queries)} of {len(asked.queries)} queries "
                "lose one that they need and count as misses."
            )
        return lost

    @cached_property
    def backbone(self) -> Backbone:
        """The backbone, with its weights."""
        from cirbench.backbones import load_backbone

        config = self.config
        return load_backbone(
            self.backbone_name,
            weights=None if config.weights is None else Path(config.weights),
            activation=config.activation,
            preprocessing=config.preprocessing,
            precision=config.precision,
            device=config.device,
        )

    def _encoder(self) -> Encoder:
        """The backbone with a memory, one for each method, so that each method's own texts are counted."""
        from cirbench.backbones.features.encoder import Encoder
        from cirbench.backbones.features.store import default_store

        return Encoder(
            self.backbone, default_store(), batch_size=self.config.batch_size or "auto", progress=console.progress
        )

    def run(self, *, force: bool = False) -> tuple[Run, ...]:
        """Evaluate what is not finished yet; return every run, the baselines first."""
        # Everything is resolved, and trained, before anything is evaluated: a mistake costs no time.
        jobs = [self._job(spec, self._checkpoint(spec)) for spec in self._specs]
        runs = []
        for job in jobs:
            lock = job.folder.parent / f".{job.folder.name}.lock"
            with locked(lock) if get_context().is_main_process else contextlib.nullcontext():
                if broadcast_object(job.done and not force):
                    console.say(f"reused {job.folder}")
                    runs.append(dataclasses.replace(load_run(job.folder), reused=True))
                else:
                    runs.append(self._evaluate(job))
        return tuple(runs)

    def plan(self) -> str:
        """Say what `run` would do, and do none of it."""
        return "\n".join([*self._plan_of_data(), *(self._plan_of_method(spec) for spec in self._specs)])

    def _job(self, spec: MethodSpec, checkpoint: Path | None) -> Job:
        parameters = self._parameters[spec.name]
        backbone = self.backbone.identity
        card = None if checkpoint is None else open_checkpoint(checkpoint, method=spec.name, backbone=backbone)
        identity = Identity(
            protocol=self.protocol.digest,
            method=spec.name,
            parameters=msgspec.to_builtins(parameters),
            backbone=backbone.digest,
            checkpoint=None if card is None else card.weights,
            limit=self.config.limit,
            seed=self.config.seed,
            code=_code_of(spec),
            files=_named_files(parameters),
            lost=sorted(self.lost.images),
        )
        folder = Path(self.config.output) / self.entry.dataset / f"{spec.name}-{identity.digest[:8]}"
        return Job(spec, parameters, checkpoint, folder, identity)

    def _checkpoint(self, spec: MethodSpec) -> Path | None:
        """The checkpoint of a trained method: the given one, or one that is trained now and kept."""
        if spec.trainer is None:
            return None
        if self.config.checkpoint is not None:
            return Path(self.config.checkpoint)
        return train(self._training(spec), display=console.progress)

    def _training(self, spec: MethodSpec) -> Request:
        assert self._training_data is not None
        parameters = self._training_parameters(spec, self.backbone.identity.name)
        return training_request(spec, self.backbone, open_source(self._training_data), parameters)

    @property
    def _training_data(self) -> str | None:
        """What a method is trained on before it is run; ``None`` where there is nothing."""
        brought = TRAINABLE_DATASET if self.config.dataset == TRAINABLE_DATASET else None
        return self.config.train_data or brought

    def _training_parameters(self, spec: MethodSpec, backbone: str) -> TrainingParameters:
        given = self.config.train if spec.name in self.asked else {}
        return training_parameters(spec, backbone, {"seed": self.config.seed, **given})

    def _plan_of_data(self) -> list[str]:
        whole, protocol, encoder = self.protocol, self.lost.available, self._encoder()
        lines = [
            f"protocol   {whole.name} ({whole.digest[:8]}): {len(protocol.queries)} of {len(whole.queries)} queries, "
            f"gallery {0 if protocol.gallery is None else len(protocol.gallery)}",
            f"backbone   {encoder.backbone.identity.name}, {encoder.backbone.identity.precision} on "
            f"{encoder.backbone.device}, weights {encoder.backbone.identity.weights[:12]}",
        ]
        if protocol.gallery is not None and protocol.gallery.images is not None:
            new = encoder.count_new(protocol.gallery.items)
            seconds = f", at least {new * encoder.seconds_per_image():.0f} s" if new else ""
            lines.append(
                f"features   {len(protocol.gallery) - new} gallery images are cached, {new} are to be encoded"
                f" ({new * encoder.backbone.dim * 4 / 1e6:.1f} MB{seconds})"
            )
        return lines

    def _plan_of_method(self, spec: MethodSpec) -> str:
        checkpoint = None if self.config.checkpoint is None or spec.trainer is None else Path(self.config.checkpoint)
        if spec.trainer is not None and checkpoint is None:
            request = self._training(spec)
            if not (request.folder / CARD).is_file():
                return f"{spec.name:<10} trains first, into {request.folder}; then encodes the gallery and evaluates"
            checkpoint = request.folder
        job = self._job(spec, checkpoint)
        return f"{spec.name:<10} {'finished, in' if job.done else 'evaluates, into'} {job.folder}"

    def _evaluate(self, job: Job) -> Run:
        encoder, config, whole, lost = self._encoder(), self.config, self.protocol, self.lost
        asked, rest = lost.protocol, lost.available
        console.say(f"{job.spec.name} on {whole.name}, {encoder.backbone.identity.name}")
        if (before := latest_otherwise_equal(job.identity, job.folder.parent)) is not None:
            console.say(f"{before[0]} is not reused: {'; '.join(before[1])}")
        method = build(job.spec, encoder, job.parameters, job.checkpoint)
        if _code_of(job.spec) != job.identity.code:
            raise UsageError(f"The code of {job.spec.name} was edited while it was being loaded.", hint="Run it again.")
        evaluation = evaluate(method, rest)
        if not get_context().is_main_process:  # this process has encoded its share; the first one keeps the run
            barrier()
            return load_run(job.folder)
        optimistic = {each.label: 100 * each.value for each in evaluation.measurements if lost.images}
        if lost.images:
            evaluation = count_missing_as_zero(evaluation, lost)
        result = Result(
            digest=job.identity.digest,
            method=_method_record(job),
            protocol=ProtocolRecord(
                name=whole.name, digest=whole.digest, fields=dict(whole.fields), licence=whole.licence
            ),
            backbone=_backbone_record(self.backbone.identity),
            counts=Counts(
                queries=len(rest.queries),
                queries_expected=len(whole.queries),
                gallery=0 if rest.gallery is None else len(rest.gallery),
                gallery_expected=0 if whole.gallery is None else len(whole.gallery),
                tied_relevant=evaluation.ranking.tied_relevant,
                truncated_texts=encoder.truncated_texts,
            ),
            metrics=_values(evaluation, asked, config.seed, optimistic),
            seed=config.seed,
            seconds={phase: round(seconds, 3) for phase, seconds in evaluation.seconds.items()},
            peak_memory_mb=round(peak_memory_mb(), 1),
            environment=environment(_device_name(self.backbone), " ".join(sys.argv) if sys.argv[0] else None),
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            lost=sorted(lost.images),
        )
        configuration = to_toml(self._configuration(job))
        run = save_run(job.folder, result, evaluation, asked, configuration, identity=job.identity)
        barrier()
        return run

    def _configuration(self, job: Job) -> RunConfig:
        """What to ask for to get this one run again."""
        return msgspec.structs.replace(
            self.config,
            method=(job.spec.name,),
            protocol=self.entry.id,
            backbone=self.backbone.identity.name,
            checkpoint=None if job.checkpoint is None else str(job.checkpoint),
            set=settings_of(job.parameters),
            train={},  # the checkpoint holds them
            train_data=None,
        )


def _code_of(spec: MethodSpec) -> Code:
    return current_code(spec.implementation, spec.parameters.__module__)


def _named_files(parameters: Parameters) -> dict[str, str]:
    """Sha256 of each file that a parameter names, so that a run on a changed file is another run."""
    texts = {name: value for name, value in msgspec.to_builtins(parameters).items() if isinstance(value, str)}
    # Not Path.is_file, which fails for texts that are too long for a path.
    return {name: sha256_of_file(Path(text)) for name, text in texts.items() if os.path.isfile(text)}  # noqa: PTH113


def _values(
    evaluation: Evaluation, protocol: EvaluationProtocol, seed: int, optimistic: Mapping[str, float]
) -> list[MetricValue]:
    found = intervals(evaluation.measurements, protocol.clusters, seed=seed)
    best = {each.label: 100 * each.value for each in ceilings(protocol)}
    return [
        MetricValue(
            label=measured.label,
            value=100 * measured.value,
            low=100 * interval.low,
            high=100 * interval.high,
            n=measured.count,
            at_most=best[measured.label],
            optimistic=optimistic.get(measured.label),
        )
        for measured, interval in zip(evaluation.measurements, found, strict=True)
    ]


def _method_record(job: Job) -> MethodRecord:
    spec = job.spec
    card = None if job.checkpoint is None else read_card(job.checkpoint)
    return MethodRecord(
        name=spec.name,
        title=spec.title,
        parameters=msgspec.to_builtins(job.parameters),
        code=job.identity.code.method_digest,
        supervision=spec.supervision,
        uses_shared_concept=spec.uses_shared_concept,
        uses_llm=spec.uses_llm,
        uses_triplets=spec.uses_triplets,
        checkpoint=None if card is None else card.weights,
        trained_on=None if card is None else card.data,
        selected_on=None if card is None else card.selected_on,
        training=None if card is None else card.training,
    )


def _backbone_record(identity: BackboneIdentity) -> BackboneRecord:
    return BackboneRecord(**dataclasses.asdict(identity), digest=identity.digest)


def _device_name(backbone: Backbone) -> str:
    device = backbone.device
    if device.type != "cuda":
        return device.type
    import torch

    return torch.cuda.get_device_name(device)


