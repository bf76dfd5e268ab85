"""What a run leaves on disk: its identity, by which it is recognised, its result, and its configuration."""

from __future__ import annotations

import dataclasses
import platform
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import msgspec

import cirbench
from cirbench.methods.evaluate import count_missing_as_zero
from cirbench.methods.loading import preset_for
from cirbench.metrics.intervals import intervals
from cirbench.metrics.measure import ceilings
from cirbench.runs.config import NONE, to_toml
from cirbench.runs.schema import (
    BackboneRecord,
    Counts,
    Environment,
    MethodRecord,
    MetricValue,
    ProtocolRecord,
    Result,
)
from cirbench.support.code import Code
from cirbench.support.files import digest, utc_now
from cirbench.support.needs import MODELS, versions
from cirbench.support.parameters import settings_of
from cirbench.training.checkpoint import read_card

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cirbench.backbones.interface import Backbone
    from cirbench.methods.evaluate import Evaluation
    from cirbench.metrics.measure import Measurement
    from cirbench.protocol import EvaluationProtocol
    from cirbench.runs.config import Entrant, Resolved
    from cirbench.runs.ground import Ground

IDENTITY = "identity.json"
RESULT = "result.json"


class Identity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that decides the numbers of a run.

    Attributes:
        schema_version: Of this form; runs of version 1 did not keep it.
        protocol: Digest of the protocol.
        method: Name.
        parameters: Every parameter, defaults included.
        backbone: Digest of the backbone's identity.
        checkpoint: Sha256 of the trained weights, or ``None``.
        limit: How many queries, where not all.
        seed: Random seed for training and intervals.
        code: The source code of the method and of the harness.
        files: Digest of each file and folder that a parameter names, by its path.
        lost: Ids of the images that were missing or broken, where that was allowed.
    """

    schema_version: Annotated[int, msgspec.Meta(ge=2, le=2)] = 2
    protocol: str
    method: str
    parameters: dict[str, Any]
    backbone: str
    checkpoint: str | None
    limit: int | None
    seed: int
    code: Code
    files: dict[str, str]
    lost: list[str]

    @property
    def digest(self) -> str:
        """Sha256 over all of it."""
        return digest(msgspec.to_builtins(self))

    def folder(self, output: str | Path, dataset: str) -> Path:
        """Return where the run goes, below the folder of all runs."""
        return Path(output) / dataset / f"{self.method}-{self.digest[:8]}"

    def changes_since(self, other: Identity) -> list[str] | None:
        """Say what differs in the code, where nothing else does; ``None`` where something else does too."""
        return self.code.changes_since(other.code) if msgspec.structs.replace(other, code=self.code) == self else None


@dataclasses.dataclass(frozen=True)
class Job:
    """One method to be evaluated in one configuration.

    Attributes:
        entrant: The method and its parameters.
        checkpoint: Folder of its checkpoint; ``None`` for a method without training.
        identity: What decides the numbers.
        folder: Where the run goes.
        overlap: How many images of the protocol the method was trained on.
    """

    entrant: Entrant
    checkpoint: Path | None
    identity: Identity
    folder: Path
    overlap: int = 0

    @property
    def done(self) -> bool:
        """Whether a finished run of exactly this configuration lies in the folder."""
        return (self.folder / RESULT).is_file()


def latest_otherwise_equal(identity: Identity, parent: Path) -> tuple[Path, list[str]] | None:
    """Find the newest run under ``parent`` that only other code keeps apart, and say what changed in it."""
    found = []
    for path in parent.glob(f"{identity.method}-*/{IDENTITY}"):
        try:
            other = msgspec.json.decode(path.read_bytes(), type=Identity)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):  # not a run that could have been taken instead
            continue
        if changes := identity.changes_since(other):
            found.append((path.stat().st_mtime_ns, path.parent, changes))
    return max(found)[1:] if found else None


NOT_STATED = "not stated"
"""What a result says of a backbone that an object brings along."""


def result_of(
    job: Job,
    ground: Ground,
    backbone: BackboneRecord,
    evaluation: Evaluation,
    truncated_texts: int,
    device: str = NOT_STATED,
) -> tuple[Evaluation, Result]:
    """Return the evaluation of the whole, in which lost queries count as misses, and the result that describes it.

    Args:
        job: What was evaluated.
        ground: The protocol.
        backbone: What is said of the backbone (`backbone_record`).
        evaluation: Of what is left of the protocol.
        truncated_texts: How many texts were longer than the text tower reads.
        device: On which it was made.
    """
    whole, lost, seed = ground.protocol, ground.lost, job.identity.seed
    rest = lost.available
    optimistic = {each.label: 100 * each.value for each in evaluation.measurements if lost.images}
    if lost.images:
        evaluation = count_missing_as_zero(evaluation, lost)
    result = Result(
        digest=job.identity.digest,
        method=_method_record(job),
        protocol=ProtocolRecord.of(whole),
        backbone=backbone,
        counts=Counts(
            queries=len(rest.queries),
            queries_expected=len(whole.queries),
            gallery=0 if rest.gallery is None else len(rest.gallery),
            gallery_expected=0 if whole.gallery is None else len(whole.gallery),
            tied_relevant=evaluation.ranking.tied_relevant,
            truncated_texts=truncated_texts,
        ),
        metrics=values_of(evaluation.measurements, lost.protocol, optimistic),
        seed=seed,
        seconds={phase: round(seconds, 3) for phase, seconds in evaluation.seconds.items()},
        **circumstances(device),
        lost=sorted(lost.images),
        artefacts=[*evaluation.artefacts],
    )
    return evaluation, result


def configuration_of(job: Job, resolved: Resolved, ground: Ground) -> str:
    """What to ask for to get this one run again, as TOML."""
    spec, backbone = job.entrant.spec, ground.backbone.identity.name if ground.has_backbone else NONE
    config = msgspec.structs.replace(
        resolved.config,
        method=(job.entrant.reference,),
        seed=job.identity.seed,
        seeds=(),
        protocol=resolved.entry.id,
        backbone=backbone,
        checkpoint=None if job.checkpoint is None else str(job.checkpoint),
        set=settings_of(job.entrant.parameters, preset_for(spec, backbone)),
        train={},  # the checkpoint holds them
        train_data=None,
    )
    return to_toml(config)


def values_of(
    measurements: Sequence[Measurement], protocol: EvaluationProtocol, optimistic: Mapping[str, float] | None = None
) -> list[MetricValue]:
    """Return measurements with their intervals, in percent; nothing where labels are hidden.

    Args:
        measurements: What was measured.
        protocol: On what.
        optimistic: By label, the number without the queries that are lost.
    """
    if not measurements:
        return []
    found = intervals(measurements, protocol.clusters)
    best = {each.label: each.value for each in ceilings(protocol)}
    return [
        MetricValue.of(
            measured, interval, at_most=best[measured.label], optimistic=(optimistic or {}).get(measured.label)
        )
        for measured, interval in zip(measurements, found, strict=True)
    ]


def _method_record(job: Job) -> MethodRecord:
    spec = job.entrant.spec
    card = None if job.checkpoint is None else read_card(job.checkpoint)
    return MethodRecord(
        name=spec.name,
        title=spec.title,
        parameters=msgspec.to_builtins(job.entrant.parameters),
        code=job.identity.code.method_digest,
        supervision=spec.supervision,
        uses_shared_concept=spec.uses_shared_concept_with(job.entrant.parameters),
        uses_llm=spec.uses_llm,
        uses_triplets=spec.uses_triplets,
        transductive=spec.transductive_with(job.entrant.parameters),
        checkpoint=None if card is None else card.weights,
        trained_on=None if card is None else card.data,
        selected_on=None if card is None else card.selected_on,
        training=None if card is None else card.training,
        overlap=job.overlap or None,
        oracle=spec.oracle_with(job.entrant.parameters) or None,
        stages_selected_on=None if card is None else card.stages_selected_on or None,
    )


def backbone_record(backbone: Backbone | None) -> BackboneRecord:
    """Describe a backbone by content; ``None`` is one that is not stated."""
    if backbone is None:
        return declared_backbone(None)
    return BackboneRecord(**dataclasses.asdict(backbone.identity), digest=backbone.identity.digest)


def declared_backbone(name: str | None) -> BackboneRecord:
    """Describe a backbone of which at most a name is known, in words."""
    fields = dict.fromkeys(("architecture", "activation", "weights", "preprocessing", "precision"), NOT_STATED)
    if name is not None:
        fields["architecture"] = f"{name} (declared)"
    return BackboneRecord(name=name or NOT_STATED, **fields, digest=digest(fields))


def device_name(backbone: Backbone | None) -> str:
    """Name the device that a backbone runs on."""
    if backbone is None:
        return NOT_STATED
    if backbone.device.type != "cuda":
        return str(backbone.device.type)
    import torch

    return torch.cuda.get_device_name(backbone.device)


class Circumstances(TypedDict):
    """What a result says of where, when and with what it was made."""

    peak_memory_mb: float
    environment: Environment
    created: str


def circumstances(device: str) -> Circumstances:
    """Describe this process and this moment."""
    return Circumstances(
        peak_memory_mb=round(_peak_memory_mb(), 1),
        environment=Environment(
            cirbench=code_version(),
            python=platform.python_version(),
            platform=f"{platform.system()} {platform.machine()}",
            device=device,
            packages=versions((*MODELS, "torchvision", "scipy")),
            command=" ".join(sys.argv) if sys.argv[0] else None,
        ),
        created=utc_now(),
    )


def code_version() -> str:
    """Return the version, and from a checkout the commit and whether the tree differs from it."""
    root = Path(cirbench.__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return cirbench.__version__
    commit = _git(root, "rev-parse", "--short=12", "HEAD")
    if not commit:
        return cirbench.__version__
    changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", "cirbench", "methods")
    return f"{cirbench.__version__}+g{commit}{'+changes' if changed else ''}"


def _peak_memory_mb() -> float:
    """Return the largest resident size of this process so far, in MiB."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
