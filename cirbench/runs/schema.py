"""A result: the numbers, how sure they are, and everything needed to check them; migrated from earlier schema versions.

A migration takes the plain content of a ``result.json`` and returns that of the next version. It invents nothing: what
an earlier version did not record becomes what the new one says where it is unknown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

import msgspec

from cirbench.artefacts.answers import ArtefactRecord
from cirbench.support.files import digest
from cirbench.training.interface import rename_parameters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cirbench.metrics import Measurement
    from cirbench.metrics.intervals import Interval
    from cirbench.protocol import EvaluationProtocol
    from cirbench.support.files import Migration

SCHEMA_VERSION = 6


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a result."""


class InPercent(TypedDict):
    """What every record of a number has: label, number and interval in percent, and over how many queries."""

    label: str
    value: float
    low: float
    high: float
    n: int


def in_percent(measured: Measurement, interval: Interval) -> InPercent:
    """Write a mean of fractions as records of numbers have it."""
    return InPercent(
        label=measured.label,
        value=100 * measured.value,
        low=100 * interval.low,
        high=100 * interval.high,
        n=measured.count,
    )


class MetricValue(Record, frozen=True):
    """One number with its interval.

    Attributes:
        label: For instance ``"mAP@5"``, ``"mAP@10[aspect=negation]"``.
        value: In percent.
        low: Lower end of the 95 % interval, in percent (`cirbench.metrics.intervals`).
        high: Upper end.
        n: How many queries it averages.
        at_most: What the best ranking would get, in percent.
        optimistic: Where images are missing, and lost queries count as misses: the number without those queries.
    """

    label: str
    value: float
    low: float
    high: float
    n: int
    at_most: float = 100.0
    optimistic: float | None = None

    @classmethod
    def of(
        cls, measured: Measurement, interval: Interval, *, at_most: float = 1.0, optimistic: float | None = None
    ) -> MetricValue:
        """Summarise a measurement; ``at_most`` is a fraction like the measurement, the rest in percent."""
        return cls(**in_percent(measured, interval), at_most=100 * at_most, optimistic=optimistic)


class AdditionalValue(Record, frozen=True):
    """A number that was asked for beside those of the protocol (`cirbench.runs.additional`).

    Attributes:
        label: For instance ``"Recall@100"``, ``"MRR"``, ``"MedR"``.
        value: In its unit.
        low: Lower end of the 95 % interval.
        high: Upper end.
        n: Over how many queries it is.
        unit: % for the mean of fractions; rank for a median of ranks.
    """

    label: str
    value: float
    low: float
    high: float
    n: int
    unit: str = "%"


class Counts(Record, frozen=True):
    """How much of the benchmark was scored: nothing is ever left out in silence.

    Attributes:
        queries: Scored.
        queries_expected: In the protocol.
        gallery: Ranked against.
        gallery_expected: In the protocol.
        tied_relevant: Ground truths that share their exact score with another candidate.
        truncated_texts: Texts longer than the text tower reads, cut at its end.
    """

    queries: int
    queries_expected: int
    gallery: int
    gallery_expected: int
    tied_relevant: int
    truncated_texts: int

    @property
    def partial(self) -> bool:
        """Whether anything of the protocol is missing."""
        return self.queries < self.queries_expected or self.gallery < self.gallery_expected


class MethodRecord(Record, frozen=True):
    """Which method, with which parameters and which code.

    Attributes:
        name: The method's name.
        title: Its title in tables.
        parameters: Every parameter, defaults included.
        code: Sha256 of the module that implements it.
        supervision: What the method is trained with.
        uses_shared_concept: Disclosure: yes, no or unknown.
        uses_llm: Disclosure.
        uses_triplets: Disclosure.
        transductive: Disclosure; ``None`` where it was not recorded yet, see `is_transductive`.
        checkpoint: Sha256 of the trained weights, or ``None``.
        trained_on: What the checkpoint's card says it was trained on, or ``None``.
        selected_on: What the checkpoint's card says it was selected on, or ``None``.
        training: The training parameters on the checkpoint's card, or ``None``.
        overlap: How many images of the protocol it was trained on; ``None`` for none that are known.
        oracle: True where it knows the ground truths, so that its numbers are upper bounds; else ``None``.
        stages_selected_on: What the weights of earlier stages were selected on that it rests on; ``None`` for nothing.
    """

    name: str
    title: str
    parameters: dict[str, str | int | float | bool | list[str | int | float] | None]
    code: str
    supervision: str
    uses_shared_concept: str
    uses_llm: str
    uses_triplets: str
    transductive: str | None = None
    checkpoint: str | None = None
    trained_on: str | None = None
    selected_on: str | None = None
    training: dict[str, Any] | None = None
    overlap: int | None = None
    oracle: bool | None = None
    stages_selected_on: list[str] | None = None

    @property
    def selections(self) -> list[str]:
        """What its weights were selected on, those of every stage."""
        last = [] if self.selected_on is None else [self.selected_on]
        return [*last, *(self.stages_selected_on or ())]


class ProtocolRecord(Record, frozen=True):
    """Which protocol, and a digest of each of its parts.

    Attributes:
        name: Id and version.
        digest: Of everything that fixes a number.
        fields: Digest or plain value of each part.
        licence: Of the annotations.
    """

    name: str
    digest: str
    fields: dict[str, str]
    licence: str

    @classmethod
    def of(cls, protocol: EvaluationProtocol) -> ProtocolRecord:
        """Describe a protocol."""
        return cls(name=protocol.name, digest=protocol.digest, fields=dict(protocol.fields), licence=protocol.licence)


class BackboneRecord(Record, frozen=True):
    """Which backbone, by content.

    Attributes:
        name: As asked for.
        architecture: The configuration, by name and digest.
        activation: Of both towers.
        weights: Sha256.
        preprocessing: As declared.
        precision: In which the towers ran.
        digest: Over everything but the name.
    """

    name: str
    architecture: str
    activation: str
    weights: str
    preprocessing: str
    precision: str
    digest: str


class Environment(Record, frozen=True):
    """Where the numbers were made.

    Attributes:
        cirbench: Version, with the git commit (and ``+changes``) where it runs from a checkout.
        python: Version.
        platform: Operating system and processor.
        device: ``"cpu"`` or the name of the GPU.
        packages: Versions of the packages that can move a number.
        command: The command line, or ``None`` from Python.
    """

    cirbench: str
    python: str
    platform: str
    device: str
    packages: dict[str, str]
    command: str | None = None


class ScoredFile(Record, frozen=True):
    """A file that a ranking was scored from.

    Attributes:
        role: ``"lists"``, ``"queries"``, ``"gallery"``, ``"ids of queries"`` or ``"ids of gallery"``.
        name: Without its folder; empty for what was in memory.
        sha256: Of its content.
        array: Which array of the file, where one was named.
    """

    role: str
    name: str
    sha256: str
    array: str = ""


class Scored(Record, frozen=True):
    """What was made elsewhere and scored here: nothing is known of what made it but what was declared.

    Attributes:
        files: What it was scored from.
        notes: How the files were understood, and what was done to them.
    """

    files: list[ScoredFile]
    notes: list[str] = []

    def __str__(self) -> str:
        kind = "lists" if any(file.role == "lists" for file in self.files) else "features"
        return f"scored from {kind} that were made elsewhere"


class Reranking(Record, frozen=True):
    """How the first items of another run were re-ordered.

    Attributes:
        reranker: Name of the re-ranker.
        k: How many items of each query it was shown.
        first_stage: Digest of the other run.
        recall: Recall@k of the first stage, in percent, which the new order cannot exceed; ``None`` without labels.
        at_most: The headline of the best order of the same items, in percent; ``None`` without labels.
        queries: For how many queries something was judged.
        calls: How many answers of a model that needed, those of groups included.
        recorded: How many of these were recorded before.
        seconds: The time that the others took.
        undecided: For how many queries all of several items got the same judgement, so that their order stayed.
    """

    reranker: str
    k: int
    first_stage: str
    recall: float | None
    at_most: float | None
    queries: int
    calls: int
    recorded: int
    seconds: float
    undecided: int

    def __str__(self) -> str:
        bounds = "" if self.recall is None else f" Recall@{self.k} before it {self.recall:.2f},"
        bounds += "" if self.at_most is None else f" headline after it at most {self.at_most:.2f},"
        seconds = self.seconds_per_query
        time = "recorded before" if seconds is None else f"{seconds:.3g} s"
        undecided = f"; {self.undecided} of {self.queries} queries left undecided" if self.undecided else ""
        return (
            f"the first {self.k} of each query re-ranked by {self.reranker};{bounds} {self.calls_per_query:.1f} "
            f"answers a query, {time}{undecided}"
        )

    @property
    def calls_per_query(self) -> float:
        """Answers that a query needs."""
        return self.calls / max(1, self.queries)

    @property
    def seconds_per_query(self) -> float | None:
        """The time of these, by that of the answers that were not recorded; ``None`` where all were."""
        new = self.calls - self.recorded
        return self.seconds / new * self.calls_per_query if new else None


class Result(Record, frozen=True, kw_only=True):
    """What a run found, and everything needed to find it again.

    Attributes:
        schema_version: Of this form.
        digest: Of the configuration; names the run folder.
        method: See `MethodRecord`.
        protocol: See `ProtocolRecord`.
        backbone: See `BackboneRecord`.
        counts: See `Counts`.
        metrics: All numbers; the first one is the headline.
        seed: Of training where the run trained, and of the paired tests that compare it.
        seconds: Wall time by phase.
        peak_memory_mb: Largest resident size of the process, in MiB.
        environment: See `Environment`.
        created: UTC time, ISO 8601.
        lost: Ids of the images that were missing or broken, where that was allowed.
        scored: From what, where the ranking was made elsewhere; ``None`` where a method of this harness made it.
        reranking: Of what, where it is another run's ranking in a new order; ``None`` for a first stage.
        artefacts: What was used of the recorded answers of models.
        additional: Numbers beside those of the protocol, in no way part of what was run.
        files: Sha256 of each file beside this one.
        digests: Sha256 of each other field, so that an edited one is noticed and named; see `seal`.
    """

    schema_version: int = SCHEMA_VERSION
    digest: str
    method: MethodRecord
    protocol: ProtocolRecord
    backbone: BackboneRecord
    counts: Counts
    metrics: list[MetricValue]
    seed: int
    seconds: dict[str, float]
    peak_memory_mb: float
    environment: Environment
    created: str
    lost: list[str] = []
    scored: Scored | None = None
    reranking: Reranking | None = None
    artefacts: list[ArtefactRecord] = []
    additional: list[AdditionalValue] = []
    files: dict[str, str] = {}
    digests: dict[str, str] = {}

    def __getitem__(self, label: str) -> MetricValue:
        """Return one number by its label.

        Raises:
            KeyError: The protocol does not report it.
        """
        for metric in self.metrics:
            if metric.label == label:
                return metric
        raise KeyError(label)


def is_transductive(method: MethodRecord, scored: Scored | None) -> str:
    """Return whether a run's answers depend on other items or queries than their own: yes, no or unknown.

    Before it was recorded, no method of this harness could do so.
    """
    return method.transductive or ("no" if scored is None else "unknown")


def seal(result: Result) -> Result:
    """Return a result with the digests of its fields."""
    return msgspec.structs.replace(result, digests=_digests(msgspec.to_builtins(result)))


def edited_field(content: Mapping[str, Any]) -> str | None:
    """Name a field of a sealed ``result.json`` that is not what it was sealed with; ``None`` where all are.

    Args:
        content: What the file holds, before any migration; a file without digests counts as not edited.
    """
    sealed = content.get("digests")
    if not sealed:
        return None
    now = _digests(content)
    return next((name for name in {**now, **sealed} if now.get(name) != sealed.get(name)), None)


def _digests(content: Mapping[str, Any]) -> dict[str, str]:
    return {name: digest(value) for name, value in content.items() if name != "digests"}


def _selection_and_training(result: dict[str, Any]) -> dict[str, Any]:
    """1 to 2: a method records what its checkpoint was selected on, and by which parameters it was trained."""
    method = {**result["method"], "selected_on": None, "training": None}
    return {**result, "schema_version": 2, "method": method}


def _names_of_training_parameters(result: dict[str, Any]) -> dict[str, Any]:
    """2 to 3: training parameters have the names that trainings use today."""
    return {**result, "schema_version": 3, "method": rename_training(result["method"])}


def rename_training(method: dict[str, Any]) -> dict[str, Any]:
    """The content of a `MethodRecord` with the present names of its training parameters."""
    training = method.get("training")
    return method if training is None else {**method, "training": rename_parameters(training)}


def _other_intervals(result: dict[str, Any]) -> dict[str, Any]:
    """3 to 4: intervals are no longer a bootstrap's; NaN until `cirbench.runs.folder.load_run` computes them."""
    metrics = [{**metric, "low": float("nan"), "high": float("nan")} for metric in result["metrics"]]
    return {**result, "schema_version": 4, "metrics": metrics}


def _scored_elsewhere(result: dict[str, Any]) -> dict[str, Any]:
    """4 to 5: a result says whether its ranking was made elsewhere; up to then none was."""
    return {**result, "schema_version": 5, "scored": None}


def _one_stage(result: dict[str, Any]) -> dict[str, Any]:
    """5 to 6: a result says whether it is another run's ranking in a new order; up to then none was."""
    return {**result, "schema_version": 6, "reranking": None}


MIGRATIONS: Mapping[int, Migration] = {
    1: _selection_and_training,
    2: _names_of_training_parameters,
    3: _other_intervals,
    4: _scored_elsewhere,
    5: _one_stage,
}
"""By version, the way to the next one."""
