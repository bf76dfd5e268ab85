"""Evaluation during training: an intermediate checkpoint on named protocols, by the method that is trained."""

from __future__ import annotations

import dataclasses
import shutil
from typing import TYPE_CHECKING

from cirbench.backbones import load_backbone
from cirbench.backbones.encoder import Encoder
from cirbench.backbones.store import FeatureStore, default_store
from cirbench.benchmarks.catalogue import load_protocol
from cirbench.benchmarks.images import require_images
from cirbench.errors import UsageError
from cirbench.methods.evaluate import evaluate
from cirbench.methods.interface import find_method, reference_baseline
from cirbench.methods.loading import build, parse_parameters
from cirbench.support import console
from cirbench.support.distributed import barrier, get_context
from cirbench.training.checkpoint import CheckpointScore, among, count_overlap, read_card, stages_of
from cirbench.training.data.triplets import HELD_OUT
from cirbench.training.state import ValidationConfig

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from cirbench.backbones.interface import Backbone
    from cirbench.methods.interface import Method, MethodSpec
    from cirbench.protocol import EvaluationProtocol
    from cirbench.training.train import Request


def validation_config(
    spec: MethodSpec | None,
    backbone: Backbone,
    protocols: Sequence[str],
    held_out: EvaluationProtocol | None = None,
    *,
    eval_every: int | None = None,
    monitor: str | None = None,
    keep_epochs: bool = False,
) -> ValidationConfig:
    """Plan what is evaluated while a method is trained.

    Args:
        spec: The method; ``None`` where a backbone is trained, which is evaluated by the sum of image and text.
        backbone: Where the training starts from.
        protocols: Ids of protocols to evaluate on; all are opened now, so that a mistake is found before the training.
        held_out: What `HELD_OUT` stands for among them.
        eval_every: Steps between two evaluations; ``None`` for the end of each epoch.
        monitor: The id of the protocol whose best checkpoint is kept; it need not be among ``protocols``.
        keep_epochs: Keep a checkpoint of each epoch.

    Raises:
        UnknownName: There is no such protocol.
        UsageError: A protocol's labels are hidden; there is nothing to evaluate on.
        MissingData: Its files or images are not there.
    """
    wanted = [*dict.fromkeys([*protocols, *([monitor] if monitor else [])])]
    if eval_every is not None and not wanted:
        raise UsageError(
            "--eval-every says when to evaluate, and --evaluate is missing.", hint="Add --evaluate PROTOCOL."
        )
    opened = {id: _held_out(held_out) if id == HELD_OUT else _opened(id) for id in wanted}
    return ValidationConfig(
        protocols=tuple(protocol.name for protocol in opened.values()),
        evaluate=_Evaluation(spec, backbone, tuple(opened.values())) if opened else None,
        eval_every=eval_every,
        monitor=opened[monitor].name if monitor else None,
        keep_epochs=keep_epochs,
    )


def evaluated_protocols(validation: ValidationConfig) -> tuple[EvaluationProtocol, ...]:
    """The protocols that a training is evaluated on."""
    return validation.evaluate.protocols if isinstance(validation.evaluate, _Evaluation) else ()


def _held_out(protocol: EvaluationProtocol | None) -> EvaluationProtocol:
    if protocol is None:
        raise UsageError(
            f"--evaluate or --monitor {HELD_OUT} is for a part of the triplets, and none is held out.",
            hint="Of a method that is trained on triplets, hold some out: --set held_out=0.1",
        )
    return protocol


def refuse_overlap(request: Request, protocols: Iterable[EvaluationProtocol], *, allowed: bool) -> dict[str, int]:
    """Count the images of protocols that a training on triplets or its earlier stages look at, by content.

    Args:
        request: The training; other sources than triplets are not looked at.
        protocols: What is to be evaluated.
        allowed: Whether it may be.

    Raises:
        CheckFailed: There are such images, and they are not allowed.
    """
    protocols = [protocol for protocol in protocols if protocol.id != HELD_OUT]
    if not protocols or request.seen is None:
        return {}
    stages = [str(stage) for stage in stages_of(request.parameters)]
    found = {
        protocol.name: count_overlap(
            among(request.seen),
            protocol,
            allowed=allowed,
            trained=f"those of {' and '.join([request.source.name, *stages])}",
            hint="Train on other triplets",
        )
        for protocol in protocols
    }
    return {name: count for name, count in found.items() if count}


def _opened(id: str) -> EvaluationProtocol:
    protocol = load_protocol(id)
    if protocol.labels is None:
        raise UsageError(f"The labels of {protocol.name} are hidden, so no training can be evaluated on it.")
    require_images(protocol)
    return protocol


@dataclasses.dataclass(frozen=True)
class _Evaluation:
    spec: MethodSpec | None
    backbone: Backbone
    protocols: tuple[EvaluationProtocol, ...]

    def __call__(self, checkpoint: Path) -> list[CheckpointScore]:
        """Evaluate a checkpoint on every protocol; the features of its weights are forgotten afterwards."""
        passing = FeatureStore(checkpoint / "features")  # beside the weights, so that all processes see it
        scores = [self._score(checkpoint, protocol, passing) for protocol in self.protocols]
        barrier()
        if get_context().is_main_process:
            shutil.rmtree(passing.root, ignore_errors=True)
        return scores

    def _score(self, checkpoint: Path, protocol: EvaluationProtocol, passing: FeatureStore) -> CheckpointScore:
        headline = evaluate(self._method(checkpoint, passing), protocol).measurements[0]
        score = CheckpointScore(
            step=read_card(checkpoint).steps,
            protocol=protocol.name,
            digest=protocol.digest,
            metric=headline.label,
            value=100 * headline.value,
        )
        console.say(f"step {score.step}: {score.protocol} {score.metric} {score.value:.2f} %")
        return score

    def _method(self, checkpoint: Path, passing: FeatureStore) -> Method:
        """The method with the weights of the moment, whose features pass; those of a frozen backbone stay."""
        if self.spec is None:
            trained = load_backbone(str(checkpoint), device=str(self.backbone.device))
            plain = find_method(reference_baseline())
            return build(plain, Encoder(trained, passing, progress=console.progress), parse_parameters(plain, {}))
        encoder = Encoder(self.backbone, default_store(), tuned=passing, progress=console.progress)
        return build(self.spec, encoder, parse_parameters(self.spec, {}, self.backbone.identity.name), checkpoint)
