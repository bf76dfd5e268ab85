"""From what a user asks for to finished runs: resolve, recognise what is done, evaluate the rest, keep it."""

from __future__ import annotations

import dataclasses
import datetime
import sys
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from filelock import FileLock

from cirbench import console
from cirbench.datasets.catalogue import choose_protocol, datasets, load_protocol
from cirbench.errors import MissingData, UsageError
from cirbench.evaluation import evaluate
from cirbench.files import digest
from cirbench.methods.loading import build, parse_parameters
from cirbench.methods.registry import find_method, list_methods
from cirbench.results.config import RunConfig, to_toml
from cirbench.results.folder import RESULT, Run, load_run, save_run
from cirbench.results.provenance import code_of, environment, peak_memory_mb
from cirbench.results.schema import (
    SCHEMA_VERSION,
    BackboneRecord,
    Counts,
    MethodRecord,
    MetricValue,
    ProtocolRecord,
    Result,
)
from cirbench.statistics import intervals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cirbench.datasets.protocol import EvaluationProtocol
    from cirbench.evaluation import Evaluation
    from cirbench.features.encoder import Encoder
    from cirbench.methods.interface import MethodSpec, Parameters

BASELINES = ("image-only", "text-only", "image-text")
"""Evaluated beside whatever is asked for, on the same backbone: the first two are the unimodal ones."""


@dataclasses.dataclass(frozen=True)
class Job:
    """One method to be evaluated in one configuration."""

    spec: MethodSpec
    parameters: Parameters
    checkpoint: Path | None
    folder: Path
    digest: str

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
        self.asked = tuple(dict.fromkeys(find_method(name).name for name in config.method))
        specs = {find_method(name).name: find_method(name) for name in config.method}
        if self.entry.labelled:
            specs |= {name: find_method(name) for name in BASELINES if name in list_methods()}
        # The baselines come first: they are what everything else is read against.
        self._specs = sorted(specs.values(), key=lambda spec: BASELINES.index(spec.name) if spec.name in BASELINES else 9)
        self._parameters = {
            spec.name: parse_parameters(spec, config.set if spec.name in self.asked else {}) for spec in self._specs
        }

    @cached_property
    def protocol(self) -> EvaluationProtocol:
        """The protocol, loaded, whole."""
        root = self.config.data_root
        return load_protocol(self.entry.id, None if root is None else Path(root))

    @cached_property
    def encoder(self) -> Encoder:
        """The backbone with its memory."""
        from cirbench.backbones import load_backbone
        from cirbench.features.encoder import Encoder
        from cirbench.features.store import default_store

        config = self.config
        backbone = load_backbone(
            config.backbone or datasets()[self.entry.dataset].default_backbone,
            weights=None if config.weights is None else Path(config.weights),
            activation=config.activation,
            preprocessing=config.preprocessing,
            precision=config.precision,
            device=config.device,
        )
        return Encoder(
            backbone, default_store(), batch_size=config.batch_size or "auto", progress=console.progress
        )

    def run(self, *, force: bool = False) -> list[Run]:
        """Evaluate what is not finished yet, and return every run: the baselines, then what was asked for."""
        runs = []
        for spec in self._specs:
            job = self._job(spec, train=True)
            if job.done and not force:
                runs.append(load_run(job.folder))
                continue
            with FileLock(job.folder.parent / f".{job.folder.name}.lock"):
                runs.append(load_run(job.folder) if job.done and not force else self._evaluate(job))
        return runs

    def _job(self, spec: MethodSpec, *, train: bool) -> Job:
        parameters = self._parameters[spec.name]
        checkpoint = self._checkpoint(spec, train=train)
        identity = {
            "schema": SCHEMA_VERSION,
            "protocol": self.protocol.digest,
            "method": spec.name,
            "code": code_of(spec.implementation),
            "parameters": msgspec.to_builtins(parameters),
            "backbone": self.encoder.backbone.identity.digest,
            "checkpoint": None if checkpoint is None else read_card(checkpoint).weights,
            "limit": self.config.limit,
            "seed": self.config.seed,
        }
        name = digest(identity)
        folder = Path(self.config.output) / self.entry.dataset / f"{spec.name}-{name[:8]}"
        return Job(spec, parameters, checkpoint, folder, name)

    def _evaluate(self, job: Job) -> Run:
        encoder, config = self.encoder, self.config
        whole = self.protocol
        protocol = whole if config.limit is None else whole.first(config.limit)
        console.say(f"{job.spec.name} on {protocol.name}, {encoder.backbone.identity.name}")
        cut_before = encoder.truncated_texts
        evaluation = evaluate(build(job.spec, encoder, job.parameters, job.checkpoint), protocol)
        result = Result(
            digest=job.digest,
            method=_method_record(job),
            protocol=ProtocolRecord(
                name=whole.name, digest=whole.digest, fields=dict(whole.fields), licence=whole.licence
            ),
            backbone=_backbone_record(encoder),
            counts=Counts(
                queries=len(protocol.queries),
                queries_expected=len(whole.queries),
                gallery=0 if protocol.gallery is None else len(protocol.gallery),
                gallery_expected=self.entry.gallery,
                tied_relevant=evaluation.ranking.tied_relevant,
                truncated_texts=encoder.truncated_texts - cut_before,
            ),
            metrics=_values(evaluation, protocol, config.seed),
            seed=config.seed,
            seconds={phase: round(seconds, 3) for phase, seconds in evaluation.seconds.items()},
            peak_memory_mb=round(peak_memory_mb(), 1),
            environment=environment(_device_name(encoder), " ".join(sys.argv) if sys.argv[0] else None),
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )
        return save_run(job.folder, result, evaluation, protocol, to_toml(self._configuration(job)))

    def _configuration(self, job: Job) -> RunConfig:
        """What to ask for to get this one run again."""
        return msgspec.structs.replace(
            self.config,
            method=(job.spec.name,),
            protocol=self.entry.id,
            backbone=self.encoder.backbone.identity.name,
            checkpoint=None if job.checkpoint is None else str(job.checkpoint),
            set=msgspec.to_builtins(job.parameters),
        )


def _values(evaluation: Evaluation, protocol: EvaluationProtocol, seed: int) -> list[MetricValue]:
    found = intervals(evaluation.measurements, protocol.clusters, seed=seed)
    return [
        MetricValue(
            label=measured.label,
            value=100 * measured.value,
            low=100 * interval.low,
            high=100 * interval.high,
            n=measured.count,
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
        code=code_of(spec.implementation),
        supervision=spec.supervision,
        uses_shared_concept=spec.uses_shared_concept,
        uses_llm=spec.uses_llm,
        uses_triplets=spec.uses_triplets,
        checkpoint=None if card is None else card.weights,
        trained_on=None if card is None else card.data,
    )


def _backbone_record(encoder: Encoder) -> BackboneRecord:
    identity = encoder.backbone.identity
    return BackboneRecord(**dataclasses.asdict(identity), digest=identity.digest)


def _device_name(encoder: Encoder) -> str:
    device = encoder.backbone.device
    if device.type != "cuda":
        return device.type
    import torch

    return torch.cuda.get_device_name(device)
